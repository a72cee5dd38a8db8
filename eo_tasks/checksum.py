"""Fingerprints of pixels, whatever holds them: the same in a compressed file and in a database row."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class LayerHash:
    """The SHA-256 of one layer's bytes, little-endian and row by row, taken strip after strip."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, rows: NDArray[Any]) -> None:
        """Take the next rows, shape (row, x)."""
        self._hash.update(np.ascontiguousarray(rows, rows.dtype.newbyteorder("<")).data)

    def digest(self) -> bytes:
        """Of what was taken so far."""
        return self._hash.digest()


def pixels_sha256(layers: Iterable[NDArray[Any]]) -> str:
    """Fingerprint of an image's layers, each of shape (y, x)."""
    hashes = []
    for layer in layers:
        hashes.append(LayerHash())
        hashes[-1].add(layer)
    return joined_sha256(hashes)


def joined_sha256(layers: Iterable[LayerHash]) -> str:
    """The SHA-256 of the layers' digests, one after the other; hexadecimal."""
    return hashlib.sha256(b"".join(layer.digest() for layer in layers)).hexdigest()
