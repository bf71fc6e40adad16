"""docs/STUDY.md says of every field what the code says."""

from pathlib import Path

from varscale.spec.reference import FILES, reference


def test_the_page_is_what_the_command_prints(root: Path) -> None:
    page = (root / "docs" / "STUDY.md").read_text()
    assert page == reference() + "\n", "out of date: varscale spec > docs/STUDY.md"


def test_every_field_has_a_meaning_and_a_kind_of_value() -> None:
    rows = [line.split(" | ") for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert not [row[0] for row in rows if len(row) != 5 or not all(cell.strip(" |") for cell in row)]


def test_the_page_tells_identity_as_the_keys_take_it() -> None:
    rows = [line.strip("| ").split(" | ") for line in reference().splitlines() if line.startswith("| `")]
    told = {row[0].strip("`"): row[3] for row in rows}
    assert told["budget.images"] == told["engine.precision"] == "yes"
    assert told["resources.workers"] == told["store"] == "where"
    assert told["recipe.muon.lr"] == "yes"


def test_a_json_schema_of_each_kind_of_file_names_its_sections() -> None:
    properties = {name: set(kind.model_json_schema()["properties"]) for name, kind in FILES.items()}
    assert {"data", "sizes", "optimizer"} <= properties["study"]
    assert {"data", "model", "recipe"} <= properties["tokenizer"]
