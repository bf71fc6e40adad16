"""Before the first token of a study, each input is looked at once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from varscale.data.schema import read_image_manifest
from varscale.data.sources import open_source
from varscale.locations import Location
from varscale.models.store import load_model
from varscale.spec.files import load_study
from varscale.spec.study import Study
from varscale.study.paths import StudyPaths
from varscale.study.run import prepare


@pytest.fixture(scope="module", autouse=True)
def two_cpus() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Calls in this process of what reads an input whole, by name. What actors read for their work does not count."""
    counted: Counter[str] = Counter()

    def counting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return real(*args, **kwargs)

        return call

    for real in (load_model, open_source, read_image_manifest):
        counter = counting(real.__name__, real)
        users = [module for name, module in sys.modules.items() if name.startswith("varscale.")]
        for module in users:
            if getattr(module, real.__name__, None) is real:
                monkeypatch.setattr(module, real.__name__, counter)
    monkeypatch.setattr(Location, "sha256", counting("sha256", Location.sha256))
    return counted


def small(root: Path, source: Path, tokenizer: Path, store: Path) -> Study:
    fields = {"source": source, "image_size": 16, "views": 1, "flip": "false"}
    own = [f"data.{name}={value}" for name, value in fields.items()]
    given = f"tokenizer={{kind: pretrained, path: {tokenizer}}}"
    return load_study(root / "studies" / "quickstart.yaml", [*own, given, f"store={store}", "budget.images=4096"])


def test_images_tokenizer_and_source_are_read_once(
    root: Path, picture_folder: Path, tiny_tokenizer: Path, tmp_path: Path, calls: Counter[str]
) -> None:
    study = small(root, picture_folder, tiny_tokenizer, tmp_path)
    first = prepare(study, StudyPaths.of(study), "commit")
    assert calls == {"open_source": 1, "load_model": 1, "sha256": 1}  # the manifest is known: it was just written
    calls.clear()
    again = prepare(study, StudyPaths.of(study), "commit")
    assert calls == {"open_source": 1, "load_model": 1, "sha256": 1, "read_image_manifest": 1}
    assert (again.inputs, again.manifest) == (first.inputs, first.manifest)


def test_shards_as_source_are_not_even_listed(
    root: Path, image_set: Path, tiny_tokenizer: Path, tmp_path: Path, calls: Counter[str]
) -> None:
    study = small(root, image_set, tiny_tokenizer, tmp_path)
    prepare(study, StudyPaths.of(study), "commit")
    assert calls == {"load_model": 1, "sha256": 1, "read_image_manifest": 1}
