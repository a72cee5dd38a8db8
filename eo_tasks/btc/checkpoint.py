"""Published BTC checkpoints, read as they are: ``config.json`` and ``model.safetensors``.

The files were written with the key names of transformers 4.48; the architecture is read from the tensors, so that
no layout of ``config.json`` matters. Nothing is unpickled.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eo_tasks.btc.network.published import POOL_SCALES, Architecture, BtcNetwork
from eo_tasks.errors import CheckpointError
from eo_tasks.files import sha256

WEIGHTS = "model.safetensors"
DERIVED = "relative_position_index"  # recomputed from the window size

# From the published names to those of transformers 5, in order.
_RENAMES = (
    (r"^dec\.", "decode_head."),
    (r"^enc\.backbone\.(embeddings|encoder)\.", r"backbone.swin.\1."),
    (r"^enc\.backbone\.hidden_states_norms\.", "backbone.hidden_states_norms."),
    (r"\.attention\.self\.(q|k|v)(uery|ey|alue)\.", r".attention.\1_proj."),
    (r"\.attention\.self\.(relative_position_bias_table)$", r".attention.relative_position_bias.\1"),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded network and where its weights come from.

    Attributes:
        tensors: Names of all tensors in the file.
    """

    network: BtcNetwork
    name: str
    revision: str
    weights_sha256: str
    tensors: tuple[str, ...] = ()


def load_checkpoint(name: str, revision: str = "main") -> Checkpoint:
    """Load a BTC network for inference.

    Args:
        name: A local folder with ``model.safetensors``, or a repository id on the Hugging Face hub.
        revision: Branch, tag or commit on the hub; the commit it stood for is recorded.

    Raises:
        CheckpointError: There is no such checkpoint, or its file is truncated or of another network.
    """
    weights, found = _locate(name, revision)
    tensors = _read(weights)
    network = network_from(tensors)
    return Checkpoint(network.eval(), name, found, sha256(weights), tuple(tensors))


def network_from(tensors: Mapping[str, Tensor]) -> BtcNetwork:
    """Build the network whose published tensors these are.

    Raises:
        CheckpointError: They are not a BTC network's, or not all of them are there.
    """
    network = BtcNetwork(architecture_of(tensors))
    renamed = {rename(key): tensor for key, tensor in tensors.items() if DERIVED not in key}
    expected = network.state_dict()
    missing, foreign = sorted(expected.keys() - renamed.keys()), sorted(renamed.keys() - expected.keys())
    misfits = sorted(key for key in expected.keys() & renamed.keys() if expected[key].shape != renamed[key].shape)
    for what, keys in (("lacks", missing), ("has foreign", foreign), ("has misshapen", misfits)):
        if keys:
            raise CheckpointError(
                f"checkpoint {what} tensors: {', '.join(keys[:3])} ({len(keys)} in all). "
                "It is not a BTC network's, or was saved by another version."
            )
    network.load_state_dict(renamed)
    return network


def architecture_of(tensors: Mapping[str, Tensor]) -> Architecture:
    """Read the sizes of a BTC network from its published tensors.

    Raises:
        CheckpointError: They are not a BTC network's.
    """
    layer = "enc.backbone.encoder.layers.{}.blocks.0."
    try:
        stages = range(1 + max(int(m[1]) for key in tensors if (m := re.search(r"\.layers\.(\d+)\.", key))))
        tables = [tensors[layer.format(i) + "attention.self.relative_position_bias_table"] for i in stages]
        embed_dim = tensors["enc.backbone.embeddings.patch_embeddings.projection.weight"].shape[0]
        widths = tensors[layer.format(0) + "intermediate.dense.weight"].shape
        depths = tuple(
            len({m[1] for key in tensors if (m := re.search(rf"\.layers\.{i}\.blocks\.(\d+)\.", key))}) for i in stages
        )
        pools = {m[1] for key in tensors if (m := re.match(r"dec\.psp_modules\.(\d+)\.", key))}
        hidden = tensors["dec.bottleneck.conv.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"not a BTC checkpoint: no tensor for {error}. Expected keys enc.backbone.*, dec.*"
        ) from None
    if len(stages) != 4 or len(pools) != len(POOL_SCALES):
        raise CheckpointError(
            f"not a BTC checkpoint: {len(stages)} stages and {len(pools)} pooling scales, not 4 and 4."
        )
    return Architecture(
        embed_dim=embed_dim,
        depths=depths,
        heads=tuple(table.shape[1] for table in tables),
        window=(math.isqrt(tables[0].shape[0]) + 1) // 2,  # a table has (2 window − 1)² rows
        hidden=hidden,
        mlp_ratio=widths[0] / widths[1],
    )


def rename(key: str) -> str:
    """The name in ``BtcNetwork`` of a tensor's published name."""
    for pattern, replacement in _RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def published_name(key: str) -> str:
    """The published name of a tensor of ``BtcNetwork``; the inverse of ``rename``."""
    key = re.sub(r"^decode_head\.", "dec.", key)
    key = re.sub(r"^backbone\.swin\.", "enc.backbone.", key)
    key = re.sub(r"^backbone\.", "enc.backbone.", key)
    key = re.sub(r"\.mlp\.fc1\.", ".intermediate.dense.", key)
    key = re.sub(r"\.mlp\.fc2\.", ".output.dense.", key)
    key = re.sub(r"\.attention\.o_proj\.", ".attention.output.dense.", key)
    key = re.sub(r"\.attention\.relative_position_bias\.", ".attention.self.", key)
    for letter, word in (("q", "query"), ("k", "key"), ("v", "value")):
        key = key.replace(f".attention.{letter}_proj.", f".attention.self.{word}.")
    return key


def save_checkpoint(network: BtcNetwork, folder: Path) -> None:
    """Write a network in the published layout, so that it loads as the published ones do."""
    from safetensors.torch import save_file

    from eo_tasks.files import write_json, written_aside

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {published_name(key): tensor.detach().contiguous() for key, tensor in network.state_dict().items()}
    with written_aside(folder / WEIGHTS) as aside:
        save_file(tensors, aside, metadata={"format": "pt"})
    write_json(folder / "config.json", {"config": {"config_tag": "BTC", "data": {"img_size": 256}}})


def _read(weights: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {key: _float32(tensor) for key, tensor in load_file(weights, device="cpu").items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{weights}: not a whole safetensors file ({error}). Download it again.") from error


def _float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32) if tensor.is_floating_point() else tensor


def _locate(name: str, revision: str) -> tuple[Path, str]:
    """The weights file, and the commit or fingerprint of its revision."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / WEIGHTS).is_file():
            raise CheckpointError(f"BTC_MODEL_CHECKPOINT={name}: that folder has no {WEIGHTS}.")
        return folder / WEIGHTS, "local"
    if folder.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise CheckpointError(
            f"BTC_MODEL_CHECKPOINT={name}: no such folder, and not a hub id such as blaz-r/BTC-B_oscd96."
        )
    return _from_hub(name, revision)


def _from_hub(name: str, revision: str) -> tuple[Path, str]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        path = Path(hf_hub_download(name, WEIGHTS, revision=revision))
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"BTC_MODEL_CHECKPOINT={name}: the hub does not answer and the checkpoint is not in the local cache. "
            "Connect once, or download it elsewhere and set BTC_MODEL_CHECKPOINT to its folder."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"BTC_MODEL_REVISION={revision}: {name} has no such revision.") from error
    except EntryNotFoundError as error:
        raise CheckpointError(f"BTC_MODEL_CHECKPOINT={name}: has no {WEIGHTS}; only safetensors are read.") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"BTC_MODEL_CHECKPOINT={name}: the hub has no such repository.") from error
    except Exception as error:  # the hub's client raises errors of several HTTP libraries
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"BTC_MODEL_CHECKPOINT={name}: cannot be downloaded ({reason}).") from error
    return path, path.parent.name  # the cache keeps a snapshot in a folder named after its commit
