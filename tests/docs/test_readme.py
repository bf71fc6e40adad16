"""The README and the pages it leads to: short, whole, and with commands that exist."""

import re
import shlex
from pathlib import Path

import pytest

MOST_LINES = 120
PROGRAMS = ("varscale", "lawfit")


def commands(page: Path) -> list[list[str]]:
    """The calls of our programs in a page's code blocks, continued lines joined, comments dropped."""
    blocks = re.findall(r"^```(?:bash)?\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    calls = [shlex.split(re.sub(r"(^|\s)#.*", "", line)) for line in lines]
    return [[Path(call[0]).name, *call[1:]] for call in calls if call and Path(call[0]).name in PROGRAMS]


def check(call: list[str]) -> None:
    """Parse a call as the program would; nothing runs."""
    from typer.main import get_command

    from lawfit.command.cli import app as lawfit
    from varscale.cli import app as varscale

    command, arguments = get_command({"varscale": varscale, "lawfit": lawfit}[call[0]]), call[1:]
    while hasattr(command, "commands"):
        name, arguments = arguments[0], arguments[1:]
        assert name in command.commands, call
        command = command.commands[name]
    command.make_context(call[0], list(arguments))


def test_the_readme_is_short(root: Path) -> None:
    assert len((root / "README.md").read_text().splitlines()) < MOST_LINES


@pytest.mark.parametrize("name", ["README.md", "docs/DATA.md", "docs/LAWFIT.md"])
def test_every_command_of_a_page_is_one_that_its_program_takes(root: Path, name: str) -> None:
    found = commands(root / name)
    assert found
    for call in found:
        check(call)


def test_a_command_with_an_option_that_is_not_there_would_be_seen() -> None:
    with pytest.raises(Exception, match=r"[Nn]o such option"):
        check(["varscale", "plan", "studies/quickstart.yaml", "--sett", "x"])


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_of_a_page_exists(root: Path, name: str) -> None:
    targets = set(re.findall(r"^(\w+):", (root / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^ *|`)make (\w+)", (root / name).read_text(), re.MULTILINE)
    assert named
    assert set(named) <= targets
