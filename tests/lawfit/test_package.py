"""The package as others import it: what is public, where it is documented, and that importing it is cheap."""

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import lawfit


def test_every_room_and_module_is_reached_by_its_name() -> None:
    names = [info.name for info in pkgutil.walk_packages(lawfit.__path__, "lawfit.")]
    for name in names:
        importlib.import_module(name)
    for name in names:
        found = lawfit
        for part in name.split(".")[1:]:
            found = getattr(found, part)
        assert isinstance(found, ModuleType), f"{name} is hidden by a function of this name"


def test_the_manual_lists_what_is_public(root: Path) -> None:
    section = (root / "docs" / "LAWFIT.md").read_text().split("\n## Python\n")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == sorted(lawfit.__all__)


def test_import_is_light() -> None:
    code = (
        "import sys, lawfit; heavy = {'mlflow', 'matplotlib', 'jinja2', 'torch', 'ray', 'varscale'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
