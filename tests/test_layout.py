"""The shape of the repository that other things rely on."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("folder", ["platform", "analysis"])
def test_plain_folders_never_become_packages(root: Path, folder: str) -> None:
    assert not (root / folder / "__init__.py").exists()


@pytest.mark.parametrize("path", ["", ".", "platform:analysis"])
def test_platform_is_the_standard_library_module_from_the_repository_root(root: Path, path: str) -> None:
    code = "import platform, varscale, lawfit; print(platform.python_version())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ".".join(map(str, sys.version_info[:3]))


def test_help_of_every_verb_explains_itself_without_heavy_imports(root: Path) -> None:
    code = (
        "import sys; from varscale.cli import app\n"
        "from typer.main import get_command\n"
        "command = get_command(app)\n"
        "assert all(c.help for c in command.commands.values()), 'a verb lacks help'\n"
        "print(' '.join(sorted(command.commands))); print('torch' in sys.modules, 'ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    verbs, heavy = done.stdout.splitlines()
    assert verbs == "convert data doctor evaluate ingest plan report run sample spec status tokenise tokenizer"
    assert heavy == "False False"
