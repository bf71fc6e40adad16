"""What every family of the catalogue must keep, so that a study can be made of it: real engine, files and samples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from crafted import TINY

from varscale.data.batches import TokenBatches
from varscale.errors import UserError
from varscale.evaluate.loss import validation_metrics
from varscale.evaluate.sample import draw_images
from varscale.families.catalogue import FAMILIES, family_named, load_any
from varscale.families.family import AnyFamily
from varscale.models.sampling import SamplingConfig
from varscale.models.store import StoredModel, load_model, save_model
from varscale.models.vqvae import VQVAE
from varscale.plan.cells import Cell, Inputs, make_plan
from varscale.spec.files import load_study
from varscale.train.cell import loop
from varscale.train.peers import Rank

ROOT = Path(__file__).resolve().parents[2]
LENGTH = sum(side * side for side in TINY.patch_nums)
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


class Tokens:
    """Token shards in memory: 64 images of 3 classes, whose tokens say their class."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.labels = rng.integers(0, 3, 64)
        self._tokens = (rng.integers(0, 4, (64, LENGTH)) + 4 * self.labels[:, None]).astype(np.uint16)

    def __len__(self) -> int:
        return 64

    def batch(self, rows: np.ndarray, epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._tokens[rows].astype(np.int64), self.labels[rows]

    def first_views(self) -> np.ndarray:
        return self._tokens


class Silent:
    """Keeps the last of each figure."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        self.figures |= metrics

    def on_checkpoint(self, step: int) -> None:
        pass


def planned(family: AnyFamily) -> Cell:
    study = load_study(
        ROOT / "studies" / "quickstart.yaml",
        [
            f"sizes={{family: {family.name}, depths: [2], aspect: 8}}",
            "budget.images=512",
            "evaluation.points=3",
            "optimizer={batch: 16, peak_lr: 0.02, reference_batch: 16, adaln_gamma: 0.5}",
            "resources={workers: 1}",
        ],
    )
    return make_plan(study, Inputs(3, TINY.vocab_size, TINY.z_channels, TINY.patch_nums, "t"))[0]


def model_of(cell: Cell) -> StoredModel:
    torch.manual_seed(0)
    return cell.family.new_model(cell.shape, cell.optimizer, False)


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer: Path) -> VQVAE:
    return load_model(tiny_tokenizer, VQVAE).model.requires_grad_(False)


@every_family
def test_costs_and_groups_name_every_trained_parameter(family: AnyFamily) -> None:
    cell = planned(family)
    model = model_of(cell)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert cell.costs.n_params == sum(parameter.numel() for parameter in trained)
    assert 0 < cell.costs.executed_flops_per_image <= cell.costs.flops_per_image
    grouped = [id(parameter) for group in family.parameter_groups(model) for parameter in group["params"]]
    assert sorted(grouped) == sorted(map(id, trained))
    assert {"model.depth", "model.width", "model.heads"} <= family.params(cell.shape).keys()  # lawfit reads these


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens int64 [4, L] and labels int64 [4]."""
    tokens, labels = Tokens().batch(np.arange(4), np.zeros(4, dtype=int))
    return torch.from_numpy(tokens), torch.from_numpy(labels)


@every_family
def test_the_loss_is_that_of_the_logits_and_moves_every_parameter(
    family: AnyFamily, tokenizer: VQVAE, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    model, tokens = model_of(planned(family)).eval(), batch[0]
    loss, logits = (part(model, tokenizer.quantize, *batch) for part in (family.loss, family.logits))
    assert logits.shape == (4, LENGTH, TINY.vocab_size)
    assert loss.item() == pytest.approx(F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).item(), rel=1e-5)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


@every_family
def test_no_logit_knows_the_token_that_it_is_of(
    family: AnyFamily, tokenizer: VQVAE, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    model, (tokens, labels) = model_of(planned(family)).eval(), batch
    before = family.logits(model, tokenizer.quantize, tokens, labels)
    for index in (0, 3, LENGTH - 1):
        changed = tokens.clone()
        changed[:, index] = 31
        after = family.logits(model, tokenizer.quantize, changed, labels)
        assert torch.allclose(before[:, index], after[:, index], atol=1e-5)


@every_family
def test_a_sample_depends_on_its_index_and_not_on_its_batch(family: AnyFamily, tokenizer: VQVAE) -> None:
    model, labels, sampling = model_of(planned(family)).eval(), torch.tensor([0, 1, 2]), SamplingConfig(1.5, seed=3)
    together = family.sample_tokens(model, tokenizer.quantize, labels, [5, 6, 7], sampling)
    assert together.shape == (3, LENGTH)
    assert torch.equal(together[1:2], family.sample_tokens(model, tokenizer.quantize, labels[1:2], [6], sampling))
    assert not torch.equal(together, family.sample_tokens(model, tokenizer.quantize, labels, [8, 9, 10], sampling))


@every_family
def test_a_cell_goes_the_whole_way(family: AnyFamily, tokenizer: VQVAE, alone: Rank, tmp_path: Path) -> None:
    cell, log, data = planned(family), Silent(), Tokens()
    model = model_of(cell)
    start = validation_metrics(model, tokenizer.quantize, data.first_views(), data.labels, batch=16)
    engine = loop.new_engine(cell, model, alone)
    batches = TokenBatches(data, cell.seed, cell.batch, cell.split(1).share, 0)  # type: ignore[arg-type]
    loop.train(cell, loop.TrainingData(batches, data, tokenizer.quantize, 16), engine, alone, log, 0)  # type: ignore[arg-type]
    save_model(tmp_path / "model.safetensors", model, engine.full_state_dict(), {"seed": 0})
    loaded = load_any(tmp_path / "model.safetensors").model
    assert (type(loaded), loaded.cfg) == (family.model_class(), cell.shape)
    found = validation_metrics(loaded, tokenizer.quantize, data.first_views(), data.labels, batch=16)
    assert found == pytest.approx({name: log.figures[name] for name in found}, rel=1e-5)
    assert found["val/loss"] < start["val/loss"] - 0.5
    images = draw_images(loaded, tokenizer, [0, 1], [0, 1], SamplingConfig())
    assert images.shape == (2, 3, TINY.image_size, TINY.image_size)


def test_a_family_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"sizes\.family: 'none'; allowed: var"):
        family_named("none")


def test_planning_loads_no_torch() -> None:
    code = "import sys, varscale.plan.cells, varscale.plan.tokenizer; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
