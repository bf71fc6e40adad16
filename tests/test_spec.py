"""A wrong study is refused in one line that names place, field, fault and what is allowed."""

from pathlib import Path

import pytest

from varscale.errors import UserError
from varscale.spec.files import load_study, load_tokenizer_study
from varscale.spec.study import Study


@pytest.fixture
def quickstart(root: Path) -> Path:
    return root / "studies" / "quickstart.yaml"


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_study(path, list(overrides))
    message = str(caught.value)
    assert "\n" not in message
    return message


def edited(path: Path, old: str, new: str, tmp_path: Path) -> Path:
    text = path.read_text()
    assert old in text
    copy = tmp_path / "study.yaml"
    copy.write_text(text.replace(old, new))
    return copy


def test_every_study_in_the_repository_loads(root: Path) -> None:
    for path in (root / "studies").glob("*.yaml"):
        (load_tokenizer_study if path.name.startswith("tokenizer-") else load_study)(path)


def test_unknown_field_names_line_and_nearest_key(quickstart: Path, tmp_path: Path) -> None:
    path = edited(quickstart, "peak_lr:", "peak_rl:", tmp_path)
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "peak_rl" in text)
    message = refusal(path)
    assert message.startswith(f"{path}:{line}: optimizer.peak_rl: unknown field; did you mean 'peak_lr'? allowed: ")


def test_missing_field_names_its_section(quickstart: Path, tmp_path: Path) -> None:
    message = refusal(edited(quickstart, "budget: {images: 49152}", "budget: {}", tmp_path))
    assert "budget.images: missing" in message


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ("budget.images=-1", "greater than 0 (got -1)"),
        ("evaluation.points=2", "greater than or equal to 3 (got 2)"),
        ("data.views=two", "valid integer"),
        ("tokenizer.spec=x", "unknown field; allowed: kind, path"),
        ("tokenizer.kind=guess", "'pretrained', 'train'"),
        ("sizes.depths=[1, 1]", "each may stand once"),
        ("resources.by_depth.4.worker=1", "by_depth.4.worker: unknown field; did you mean 'workers'?"),
        ("resources.by_depth.9={workers: 2}", "depth 9 is not in sizes.depths"),
        ("name=A B", "match pattern"),
        ("engine=3", "valid dictionary"),
        ("evaluation.cfg", "wanted section.field=value"),
        ("name.x=1", "'name' is no section"),
    ],
)
def test_wrong_overrides_are_refused(quickstart: Path, override: str, fragment: str) -> None:
    message = refusal(quickstart, override)
    assert fragment in message


@pytest.mark.parametrize(("text", "fragment"), [("a: [1", "not YAML"), ("- 1", "not a mapping"), ("", "not a mapping")])
def test_files_that_are_no_study_are_refused(tmp_path: Path, text: str, fragment: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    assert fragment in refusal(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert "wanted a YAML file" in refusal(tmp_path / "none.yaml")


def test_by_depth_changes_one_size_only(quickstart: Path) -> None:
    study: Study = load_study(quickstart, ["optimizer.by_depth={3: {batch: 32}}"])
    assert [study.optimizer.at(depth).batch for depth in (2, 3)] == [16, 32]


def test_tokenizer_whose_scales_do_not_make_the_image_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"data\.image_size: 64, but patch_nums ending in 8 and 3 levels make 32"):
        load_tokenizer_study(root / "studies" / "tokenizer-emoji32.yaml", ["data.image_size=64"])


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ("recipe.perceptual={vgg16: x.pth}", "name both files or neither"),
        ("recipe={steps: 1, batch: 1, lr: 1, l1_weight: 0, l2_weight: 0}", "reconstruction needs one of them"),
        ("recipe.adversarial={layers: 4}", "4 leave no patch of 32 px images"),
        ("recipe.schedule=linear", "'cosine' or 'constant'"),
        ("recipe.lrr=1", "unknown field; did you mean 'lr'?"),
        ("resources.workers=0", "greater than or equal to 1"),
    ],
)
def test_wrong_tokenizer_fields_are_refused(root: Path, override: str, fragment: str) -> None:
    with pytest.raises(UserError) as caught:
        load_tokenizer_study(root / "studies" / "tokenizer-emoji32.yaml", [override])
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)
