"""Training that encodes at every step, against training on tokens made before; real images, tokenizer and engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from crafted import TINY
from training_log import Log

from lawfit.records import schema
from varscale.data import views as views_module
from varscale.data.batches import TokenBatches
from varscale.data.encoded import EncodedBatches
from varscale.data.encoder import TokeniseJob
from varscale.data.images import ViewRule
from varscale.data.loader import ImageShards, TokenShards
from varscale.data.manifests import ImageSet
from varscale.data.tokenise import tokenise
from varscale.data.views import TrainingViews
from varscale.evaluate.assessment import assess
from varscale.locations import Location
from varscale.models.store import load_model
from varscale.models.tokenizer_file import TokenizerFile
from varscale.models.vqvae import VQVAE
from varscale.plan.cells import Cell, Inputs, make_plan
from varscale.spec.files import load_study
from varscale.train.cell import loop
from varscale.train.peers import Rank

ROOT = Path(__file__).resolve().parents[2]
RULE = ViewRule(16, flip=True)
EPOCHS, BATCH, SAVED = 3, 16, 5


@pytest.fixture(scope="module")
def cell(image_set: Path) -> Cell:
    """Three epochs and a little, with dropped labels and paths: noise must not depend on where tokens come from."""
    seen = EPOCHS * len(ImageShards(image_set, "train"))
    study = load_study(
        ROOT / "studies" / "quickstart.yaml",
        [
            "sizes={depths: [2], aspect: 8}",
            f"budget.images={seen - seen % BATCH}",
            f"optimizer={{batch: {BATCH}, peak_lr: 0.01, reference_batch: 8, adaln_gamma: 0.5}}",
            "engine={micro_batch: 8}",
            "resources={workers: 1}",
            f"checkpoints.every_steps={SAVED}",
            "evaluation.points=3",
        ],
    )
    planned = make_plan(study, Inputs(2, TINY.vocab_size, TINY.z_channels, TINY.patch_nums, "t"))[0]
    return dataclasses.replace(planned, seed=5)


@pytest.fixture(scope="module")
def tokens(image_set: Path, tiny_tokenizer: Path, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many views as epochs."""
    folder, threads = tmp_path_factory.mktemp("tokens") / "tokens", torch.get_num_threads()
    tokenise(
        TokeniseJob(ImageSet.read(image_set), TokenizerFile.read(tiny_tokenizer), RULE, EPOCHS, cell.seed),
        Location.of(folder),
        assess,
    )
    torch.set_num_threads(threads)
    return folder


@contextmanager
def fresh(cell: Cell, image_set: Path, tiny_tokenizer: Path, rank: int = 0, ranks: int = 1) -> Iterator[EncodedBatches]:
    shards, model = ImageShards(image_set, "train"), load_model(tiny_tokenizer, VQVAE).model
    with TrainingViews(shards, RULE, cell.seed, cell.batch, cell.batch // ranks, rank, cpus=2) as views:
        yield EncodedBatches(views, shards.labels, model)


def train(
    cell: Cell,
    batches: loop.Batches,
    tokens: Path,
    tiny_tokenizer: Path,
    rank: Rank,
    start: Path | None = None,
    save: Path | None = None,
) -> tuple[Log, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = cell.family.new_model(cell.shape, cell.optimizer, False)
    quantizer = load_model(tiny_tokenizer, VQVAE).model.requires_grad_(False).quantize
    engine = loop.new_engine(cell, model, rank)
    if start:
        engine.load(start)
    log = Log(lambda step: engine.save(save) if save and step == SAVED else None)
    data = loop.TrainingData(batches, TokenShards(tokens, "val"), quantizer, 16)
    loop.train(cell, data, engine, rank, log, SAVED if start else 0)
    return log, {name: value.clone() for name, value in engine.full_state_dict().items()}


def losses(log: Log) -> list[tuple[int, dict[str, float]]]:
    timed = (schema.IMAGES_PER_S, schema.FLOPS_PER_S)
    return [(step, {k: v for k, v in m.items() if k not in timed}) for step, m in log.metrics]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kept", [True, False])
def test_fresh_crops_train_as_their_tokens_do_to_the_last_bit(
    alone: Rank,
    cell: Cell,
    image_set: Path,
    tiny_tokenizer: Path,
    tokens: Path,
    tmp_path: Path,
    kept: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(views_module, "KEPT_BYTES", 2**30 if kept else 0)  # threads, or processes
    once = TokenBatches(TokenShards(tokens, "train"), cell.seed, cell.batch, cell.batch, 0)
    cached_log, cached = train(cell, once, tokens, tiny_tokenizer, alone)
    with fresh(cell, image_set, tiny_tokenizer) as batches:
        log, weights = train(cell, batches, tokens, tiny_tokenizer, alone, save=tmp_path)
    with fresh(cell, image_set, tiny_tokenizer) as batches:
        resumed_log, resumed = train(cell, batches, tokens, tiny_tokenizer, alone, start=tmp_path)
    assert losses(log) == losses(cached_log)
    assert losses(resumed_log)[-1] == losses(log)[-1]
    assert same(weights, cached)
    assert same(weights, resumed)


def test_fresh_crops_go_on_where_cached_views_begin_again(
    cell: Cell, image_set: Path, tiny_tokenizer: Path, tokens: Path
) -> None:
    shards = TokenShards(tokens, "train")
    once = TokenBatches(shards, cell.seed, cell.batch, cell.batch, 0)
    first_of_epoch_3 = -(-EPOCHS * len(shards) // BATCH)
    with fresh(cell, image_set, tiny_tokenizer) as batches:
        tokens_of = [(batches.take(step), once.take(step)) for step in (0, first_of_epoch_3)]
    assert all(torch.equal(ours[1], theirs[1]) for ours, theirs in tokens_of)
    assert torch.equal(tokens_of[0][0][0], tokens_of[0][1][0])
    assert not torch.equal(tokens_of[1][0][0], tokens_of[1][1][0])


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_encode_slices_of_the_same_batch(cell: Cell, image_set: Path, tiny_tokenizer: Path, ranks: int) -> None:
    with fresh(cell, image_set, tiny_tokenizer) as batches:
        tokens, labels = batches.take(7)
    assert (tokens.dtype, labels.dtype) == (torch.int64, torch.int64)
    assert not tokens.is_inference()
    share = BATCH // ranks
    for rank in range(ranks):
        with fresh(cell, image_set, tiny_tokenizer, rank, ranks) as batches:
            ours = batches.take(7)
        part = slice(rank * share, (rank + 1) * share)
        assert np.array_equal(ours[0], tokens[part])
        assert np.array_equal(ours[1], labels[part])
