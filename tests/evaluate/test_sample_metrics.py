"""Metrics of samples: every registered one is measured, of the same images however they are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from crafted import TINY

from lawfit.records import schema
from varscale.data.encoder import TokeniseJob
from varscale.data.images import ViewRule
from varscale.data.manifests import ImageSet
from varscale.data.tokenise import tokenise
from varscale.evaluate import sample_metrics
from varscale.evaluate.assessment import assess
from varscale.evaluate.references import tokenizer_reference
from varscale.evaluate.sample import draw_images
from varscale.evaluate.sample_metrics import Mean, Setting, measure_samples
from varscale.locations import Location
from varscale.metrics.features import own_features
from varscale.metrics.frechet import Moments, frechet_distance
from varscale.models.sampling import SamplingConfig
from varscale.models.shapes import VARConfig
from varscale.models.store import load_model
from varscale.models.tokenizer_file import TokenizerFile
from varscale.models.var import VAR, init_weights
from varscale.models.vqvae import VQVAE

LABELS = np.array([0, 0, 0, 1])
SAMPLING = SamplingConfig(1.5, 0, 0.0, 3)


@pytest.fixture(scope="module")
def setting(image_set: Path, tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    threads = torch.get_num_threads()
    folder = Location.of(tmp_path_factory.mktemp("tokens") / "tokens")
    tokenise(
        TokeniseJob(ImageSet.read(image_set), TokenizerFile.read(tiny_tokenizer), ViewRule(16), views=0, seed=0),
        folder,
        assess,
    )
    torch.set_num_threads(threads)
    return Setting(load_model(tiny_tokenizer, VQVAE).model, folder)


@pytest.fixture(scope="module")
def model() -> VAR:
    torch.manual_seed(0)
    var = VAR(VARConfig(1, 8, 1, 2, TINY.vocab_size, TINY.z_channels, TINY.patch_nums))
    init_weights(var)
    return var.eval()


def test_the_distance_is_that_of_the_samples_whatever_the_batch(setting: Setting, model: VAR) -> None:
    drawn = draw_images(model, setting.tokenizer, [0, 0, 0, 0, 0, 0, 1, 1], range(8), SAMPLING)
    moments = Moments.of(own_features(setting.tokenizer).extract(drawn))
    wanted = frechet_distance(moments, tokenizer_reference(setting.tokens))
    for batch in (3, 8):
        found = measure_samples(model, setting, LABELS, 8, SAMPLING, batch)
        assert found == {"fd/tokenizer": pytest.approx(wanted, rel=1e-5)}


def test_a_metric_of_single_images_is_one_entry(setting: Setting, model: VAR, monkeypatch: pytest.MonkeyPatch) -> None:
    def brightness(images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3))

    monkeypatch.setitem(sample_metrics.SAMPLE_METRICS, "brightness", lambda _: Mean(brightness))
    found = measure_samples(model, setting, LABELS, 5, SAMPLING, batch=2)
    assert set(found) == {"fd/tokenizer", "brightness"}
    drawn = draw_images(model, setting.tokenizer, [0, 0, 0, 0, 1], range(5), SAMPLING)
    assert found["brightness"] == pytest.approx(brightness(drawn).mean().item(), rel=1e-5)


def test_what_is_measured_is_registered_as_of_samples() -> None:
    registered = {metric.name for metric in schema.METRICS if metric.of == "samples"}
    assert set(sample_metrics.SAMPLE_METRICS) <= registered
