"""One rule of identity: every field of a specification decides a key or says why not; the first stores stay valid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pytest
from crafted import image_manifest
from pydantic import BaseModel

from varscale.data.ingest import IngestOptions
from varscale.data.manifests import ImageSet
from varscale.data.schema import ImageManifest
from varscale.families import catalogue
from varscale.families.var import VARFamily
from varscale.identity import digest, facts, former_study_key, image_key, study_key
from varscale.locations import Location
from varscale.models.shapes import VARConfig, VQVAEConfig
from varscale.models.tokenizer_file import TokenizerFile
from varscale.plan.cells import Inputs, make_plan
from varscale.plan.tokenizer import make_run
from varscale.spec.field_errors import models_in
from varscale.spec.files import load_study, load_tokenizer_study
from varscale.spec.marks import Later, Outside
from varscale.spec.study import Optimizer, Study
from varscale.spec.tokenizer import TokenizerStudy
from varscale.study.stages import resolve

IMAGES = "004fee99c39776ab14fae00d7a2c9521828be6ed2603fee60c52681cd2a9575a"
TOKENIZER = "3e98ca42ba17cd8633fdaa0a4b09298755144dc54df9af4970945c1d2e3f6b56"
"""Fingerprints of the quickstart's images and tokenizer."""
PATCH_NUMS = (1, 2, 4, 8)
M = TypeVar("M", bound=BaseModel)
CHANGES: dict[str, Any] = {
    "sizes.depths": (1, 2, 3, 4, 5, 6, 7),
    "sizes.family": "other",
    "optimizer.by_depth": {3: {"peak_lr": 1e-3}},
    "optimizer.schedule": "cos",
    "optimizer.betas": (0.8, 0.95),
    "optimizer.final_weight_decay": 0.1,
    "engine.by_depth": {3: {"precision": "bf16"}},
    "engine.precision": "bf16",
    "engine.zero_stage": 2,
    "engine.micro_batch": 4,
    "resources.by_depth": {4: {"workers": 1}},
    "data.encoding": "every_step",
    "tracking.uri": "sqlite:///other.db",
    "analysis.form": "power",
}
"""Another value for the fields of a study of which no other can be guessed."""


def leaves(kind: type[BaseModel], path: str = "", why: str = "") -> Iterator[tuple[str, str]]:
    """Every field of every section, dotted, and why it is no identity: as it or a section around it is marked."""
    for name, field in kind.model_fields.items():
        own = next((mark.why for mark in field.metadata if isinstance(mark, Outside)), why)
        sections = models_in(field.annotation)
        for section in sections:
            yield from leaves(section, f"{path}{name}.", own)
        if not sections:
            yield f"{path}{name}", own


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return 2 * value or 1
    if isinstance(value, float):
        return value / 2 or 0.25
    assert isinstance(value, str), f"name another value than {value!r} in CHANGES"
    return f"{value}x"


def changed(spec: M, path: str, value: Any = None) -> M:
    """The specification with another value of the field at ``path``, unchecked."""
    name, _, rest = path.partition(".")
    here = getattr(spec, name)
    return spec.model_copy(update={name: changed(here, rest, value) if rest else value or another(here)})


@pytest.fixture(autouse=True)
def other_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second family for studies to choose, of the same shapes."""
    monkeypatch.setattr(catalogue, "FAMILIES", [*catalogue.FAMILIES, VARFamily("other")])


@pytest.fixture(scope="module")
def study(root: Path) -> Study:
    return load_study(root / "studies" / "quickstart.yaml")


def keys(study: Study) -> dict[str, str]:
    """Keys of a study on the quickstart's images and tokenizer, of its tokens, and of its cells by depth."""
    images = ImageSet(Location.of("anywhere"), image_manifest({}, fingerprint=IMAGES))
    cfg = VQVAEConfig(128, 8, patch_nums=PATCH_NUMS)
    tokens = resolve(study, images, TokenizerFile(Path("anywhere"), cfg, TOKENIZER, {}), None).inputs.tokens_key
    cells = make_plan(study, Inputs(9, 128, 8, PATCH_NUMS, tokens))
    return {"study": study_key(study, tokens), "tokens": tokens, **{f"cell {c.depth}": c.run_key for c in cells}}


def test_the_first_stores_have_these_keys(study: Study, root: Path) -> None:
    assert keys(study) == {
        "study": "b0c019af3f7b3816bb5aa55f624d3681486e1ad1e667186660f30abf7eaec86e",
        "tokens": "89a72ad40471a907498819734e4fc6167a8b022cccbdc7ec8b1934b8ae30b574",
        "cell 1": "f93eae0f7c59841105967ea1ec1a1b365fa56673720e2517d46770566c66e401",
        "cell 2": "71ea056ead66941d257314961a35a37e604b3f1d6c1effabce914eba67bcf738",
        "cell 3": "451b5859921eef6ef0dd2b5e35939edc98ae4ec34fde05262b96acac715bb30a",
        "cell 4": "62dbe83fdccb994092ddda939224b7ec72e78109e6c5778be2ddb6743b05f92d",
        "cell 5": "ffe4044931cf660a7d2b6d94aa0a4d9b95c4f5eb9ec39fbed524c9e7ded0f5c2",
        "cell 6": "833c4f62186d4289c93436134f4d48b89f2ad86e74833dcc8a25b943414d9537",
    }
    wide = changed(study, "sizes.depths", (2, 9, 16))
    wide = changed(wide, "engine.by_depth", {9: {"precision": "bf16"}})
    wide = changed(wide, "optimizer.by_depth", {16: {"peak_lr": 1e-3, "betas": [0.9, 0.99]}, 9: {"batch": 32}})
    wide = changed(changed(wide, "data.encoding", "every_step"), "optimizer.final_weight_decay", 0.1)
    assert keys(wide.model_copy(update={"resources": study.resources.model_copy(update={"by_depth": {}})})) == {
        "study": "b2391e49eba283606d5cd2fd89eaaccd8d7a76d323f2a5519229a7f14f23a5a2",
        "tokens": "d9dbb0ce4141eb6b83f43b7be8006561acb6ee909581de6662a9f80a8d59f423",
        "cell 2": "0be43583588c06cd89a7ea7a22ba66df999fd88a6439bbced71bb686b3d31f7d",
        "cell 9": "88ab0797ed289315aa2ba0c27461e9e51718cbe1e832f99271176df76f3913cf",
        "cell 16": "3a1b9222279176b063bc234047f08712a6f8f0f178c6797b8b9d3702ac7c5fb6",
    }


def test_a_study_s_own_files_give_its_keys(study: Study, root: Path) -> None:
    images, tokenizer = root / "studies" / "data" / "emoji32", root / "studies" / "tokenizers" / "emoji32.safetensors"
    resolved = resolve(study, ImageSet.read(images), TokenizerFile.read(tokenizer), None)
    assert resolved.inputs == Inputs(9, 128, 8, PATCH_NUMS, keys(study)["tokens"])


def test_the_first_tokenizers_and_images_have_these_keys(root: Path) -> None:
    runs = {
        "emoji32": "11c53501061b570b670f191dd5733cd5a4ed451647aa1007d124d08c9cf4ad08",
        "emoji32-fine": "58c1f037f3fb99483d4c4d2a6c194a5e0cc46073a045e3d203a1fba250f3f50b",
        "emoji64": "4dc30d9e8eb7703ca88b7e567a30eb2394975ba902a469db0ac924b95d225fd0",
        "imagenet256": "99e131e2f3c66028cca41d35902360715e37436b3606dab738fdba504531703d",
    }
    for name, key in runs.items():
        assert make_run(load_tokenizer_study(root / "studies" / f"tokenizer-{name}.yaml"), IMAGES).run_key == key
    layout = ImageManifest.model_fields["format"].default
    resized = IngestOptions(size=36, val_fraction=0.2)
    first = "ee09c8c8dc12fac89da4f7ee7d130345ca51df590c6be69156875be9055d9838"
    assert image_key(IngestOptions().recorded(), layout, "listing") == first
    assert image_key(resized.recorded(), layout, "listing") == (
        "e91d6207955190258c584f6b4044cb459dfc85bdd6e276619fb13b2bdc64027a"
    )
    same = [IngestOptions(strict=True), IngestOptions(quality=90)]  # no image is encoded again
    assert {image_key(options.recorded(), layout, "listing") for options in same} == {first}
    other = [replace(resized, size=40), replace(resized, quality=90), replace(resized, shard_mib=1)]
    assert len({digest(options.recorded()) for options in (resized, *other)}) == 4


@pytest.mark.parametrize(("path", "why"), list(leaves(Study)))
def test_every_field_of_a_study_decides_a_key_or_says_why_not(study: Study, path: str, why: str) -> None:
    if path == "data.tokens" or path.startswith("tokenizer."):
        assert why.startswith("says where files are")
        return
    before, after = keys(study), keys(changed(study, path, CHANGES.get(path)))
    differ = {name for name in before if before[name] != after[name]}
    if why:
        assert not differ, f"{path} {why}, and changes the keys of {differ}"
    else:
        assert "study" in differ, f"{path} is identity, unless it has a mark of varscale.spec.marks"
        assert len(differ) > 1 or path == "name", f"{path} changes no cell's key"


def test_every_field_of_a_tokenizer_decides_its_key_or_says_why_not(root: Path) -> None:
    sections = ["recipe.muon={lr: 1.0e-3}", "recipe.perceptual={vgg16: a, heads: b}", "recipe.adversarial.lr=1.0e-4"]
    full = load_tokenizer_study(root / "studies" / "tokenizer-imagenet256.yaml", sections)
    changes = CHANGES | {
        "model.ch_mult": (1, 2),
        "model.patch_nums": (1, 2),
        "recipe.betas": (0.8, 0.95),
        "recipe.adversarial.betas": (0.8, 0.95),
        "engine.precision": "fp32",
        "data.tokens": "tokens",
        "resources.cpus_per_worker": 3,
    }
    unused = ("data.views", "data.encoding")
    before = make_run(full, "images").run_key
    for path, why in leaves(TokenizerStudy):
        after = make_run(changed(full, path, changes.get(path)), "images").run_key
        assert (after == before) is (bool(why) or path in unused), path
    without = load_tokenizer_study(root / "studies" / "tokenizer-imagenet256.yaml", sections[::2])
    assert make_run(without, "images").run_key != before
    assert make_run(full, "other images").run_key != before


class LaterOptimizer(Optimizer):
    """An optimizer of days to come, with two more fields."""

    warm_restarts: Annotated[int, Later(0)] = 3
    """Comes with a default that is not what studies had before."""
    forgotten: int = 0
    """Comes without a mark."""


class LaterStudy(Study):
    """A study of days to come."""

    optimizer: LaterOptimizer


def later(study: Study, **fields: int) -> LaterStudy:
    raw = study.model_dump()
    return LaterStudy.model_validate({**raw, "optimizer": {**raw["optimizer"], **fields}})


def test_a_field_that_comes_later_leaves_old_keys_alone_at_its_old_meaning(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = study_key(study, "t")
    assert study_key(later(study), "t") != old, "an unmarked field is identity at once"
    monkeypatch.setattr(LaterOptimizer.model_fields["forgotten"], "metadata", [Later(0)])
    assert study_key(later(study, warm_restarts=0), "t") == old
    assert len({old, study_key(later(study), "t"), study_key(later(study, warm_restarts=1), "t")}) == 3
    assert study_key(later(study, warm_restarts=0, forgotten=1), "t") != old
    back = changed(later(study), "optimizer.by_depth", {3: {"warm_restarts": 0}})
    assert study_key(back, "t") != study_key(later(study), "t")


def test_where_a_depth_runs_is_no_identity_and_the_former_key_is_known(study: Study) -> None:
    placed = changed(study, "engine.by_depth", {4: {"micro_batch": 4, "zero_stage": 2}})
    assert study_key(placed, "t") == study_key(study, "t") == former_study_key(study, "t")
    assert former_study_key(placed, "t") != study_key(study, "t")
    mixed = changed(study, "engine.by_depth", {4: {"precision": "bf16", "zero_stage": 2}})
    assert study_key(mixed, "t") == former_study_key(mixed, "t")


def test_facts_are_of_dataclasses_too() -> None:
    shape = VARConfig.of_depth(2, num_classes=3, vocab_size=4, z_channels=5, patch_nums=(1, 2))
    assert facts(shape) == vars(shape)
    assert facts(IngestOptions()) == {"size": None, "quality": 95, "shard_mib": 256, "val_fraction": 0.1}
