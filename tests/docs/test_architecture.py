"""docs/ARCHITECTURE.md names every room, on the floor that the import contracts give it."""

import re
import tomllib
from pathlib import Path

import pytest

FILES = ("py", "md", "toml", "json", "yaml")
PACKAGES = {"varscale": "platform", "lawfit": "analysis"}


def floors(root: Path, package: str) -> list[set[str]]:
    """Rooms by floor, the highest first, as import-linter reads them."""
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [c for c in contracts if c["type"] == "layers" and c["containers"] == [package]]
    return [set(layer.split(" | ")) for layer in contract["layers"]]


def table(root: Path, package: str) -> list[set[str]]:
    """The same as the page has it: one row per floor, rooms in its first column."""
    page = (root / "docs" / "ARCHITECTURE.md").read_text()
    section = page.split(f"## Rooms of {package}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [set(re.findall(r"`(\w+)`", row)) for row in rows]


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_stand_on_the_floors_of_the_contract(root: Path, package: str) -> None:
    assert table(root, package) == floors(root, package)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_is_named(root: Path, package: str) -> None:
    page = (root / "docs" / "ARCHITECTURE.md").read_text()
    top = root / PACKAGES[package] / package
    folders = [path.parent.relative_to(top).as_posix().replace("/", ".") for path in top.rglob("*/__init__.py")]
    assert len(folders) > 6
    assert not [name for name in folders if f"`{name}`" not in page]


def test_every_module_that_the_page_names_is_there(root: Path) -> None:
    page = (root / "docs" / "ARCHITECTURE.md").read_text()
    for name in re.findall(r"`(\w+(?:\.\w+)+)`", page):
        path = name.split(".")
        tops = {package: root / folder / package for package, folder in PACKAGES.items()}
        top, path = ([tops[path[0]]], path[1:]) if path[0] in tops else (list(tops.values()), path)
        assert path[-1] in FILES or any(leads_somewhere(folder, path) for folder in top), name


def leads_somewhere(top: Path, path: list[str]) -> bool:
    """Whether a dotted path is a folder, a module, or a name that its module's text holds."""
    for depth in range(len(path), 0, -1):
        place = top.joinpath(*path[:depth])
        if place.is_dir():
            return depth == len(path)
        if place.with_suffix(".py").is_file():
            text = place.with_suffix(".py").read_text()
            return all(re.search(rf"\b{name}\b", text) for name in path[depth:])
    return False
