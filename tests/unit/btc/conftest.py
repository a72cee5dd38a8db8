"""A tiny network with random weights, and what the authors' code makes of it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from eo_tasks.btc.checkpoint import Checkpoint, load_checkpoint
from eo_tasks.btc.network.published import BtcNetwork
from tests.networks import ARCHITECTURES, random_network

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """The checkpoint folder of the tiny network."""
    return ROOT / "tests" / "data" / "golden"


@pytest.fixture(scope="session")
def golden(golden_folder: Path) -> dict[str, NDArray]:
    """One pair of years, and the authors' results on it."""
    with np.load(golden_folder / "golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def checkpoint(golden_folder: Path) -> Checkpoint:
    """The tiny network, loaded."""
    return load_checkpoint(str(golden_folder))


@pytest.fixture(scope="session", params=list(ARCHITECTURES))
def network(request: pytest.FixtureRequest) -> BtcNetwork:
    """A network of random weights, of each kind of architecture."""
    return random_network(ARCHITECTURES[request.param])


@pytest.fixture
def full_set() -> Path:
    """All golden pairs with features, and the key maps, kept beside the repository."""
    folder = ROOT.parent / "shared" / "golden"
    if not (folder / "golden.npz").is_file():
        pytest.skip("the full golden set is not beside this repository")
    return folder


@pytest.fixture
def full_golden(full_set: Path) -> dict[str, NDArray]:
    """All golden pairs, and the authors' results on them."""
    with np.load(full_set / "golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(autouse=True)
def single(one_thread: None) -> None:
    """Run every test of the network on one thread."""
