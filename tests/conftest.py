"""What several tests share: where reference data lie, small models, a folder of labelled pictures."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from varscale.train.peers import Rank

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """End-to-end tests first: they take as long as all others."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository; tests that need it skip in a user's clone."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the reference data in {SHARED.name}/ beside the repository, which a plain clone lacks")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test writes into the user's cache folder; processes that tests start inherit this."""
    os.environ["VARSCALE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def alone() -> Iterator[Rank]:
    """A process group of one, for the whole session: DeepSpeed keeps hold of the first it sees."""
    import torch
    import torch.distributed as dist

    from varscale.train.peers import Rank

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    dist.init_process_group("gloo", rank=0, world_size=1)
    yield Rank(0, 1, torch.device("cpu"))
    dist.destroy_process_group()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables take seconds to make, and a moment to copy."""
    import mlflow

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 40 pictures each, PNG and JPEG, of several shapes; no train and val folders."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for label, colour in (("blue", (40, 60, 220)), ("red", (220, 60, 40))):
        (folder / label).mkdir()
        for i in range(40):
            pixels = np.full((40 + i % 3 * 5, 40, 3), 255, dtype=np.uint8)
            top, left = rng.integers(0, 20, 2)
            pixels[top : top + 18, left : left + 18] = colour
            suffix = "jpg" if i % 2 else "png"
            Image.fromarray(pixels).save(folder / label / f"{i:03d}.{suffix}")
    return folder


@pytest.fixture(scope="session")
def image_set(picture_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures as image shards, their shorter side 18 px. Not to be changed: take a copy."""
    from varscale.data.ingest import IngestOptions, ingest

    folder = tmp_path_factory.mktemp("image_set") / "images"
    ingest(picture_folder, folder, IngestOptions(size=18))
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an untrained tokenizer of shape TINY."""
    import torch
    from crafted import TINY

    from varscale.models.store import save_model
    from varscale.models.vqvae import VQVAE

    torch.manual_seed(0)
    model = VQVAE(TINY)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.safetensors"
    save_model(path, model, model.state_dict(), {})
    return path
