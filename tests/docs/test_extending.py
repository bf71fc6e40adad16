"""docs/EXTENDING.md, followed to the letter: each recipe on a fresh copy of the code, block by block."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "EXTENDING.md"
BLOCK = re.compile(r"^```(?P<info>\S.*)\n(?P<content>(?:(?!```).*\n)*)```$", re.MULTILINE)
WAYS = ("new", "append", "after", "before", "replace")
SECONDS = 300


@dataclass(frozen=True)
class Block:
    """A fenced block: language, then words and ``name=value`` pairs, then its content."""

    language: str
    words: frozenset[str]
    values: dict[str, str]
    content: str

    @staticmethod
    def of(found: re.Match[str]) -> Block:
        language, *rest = shlex.split(found["info"])
        pairs = (word.split("=", 1) for word in rest if "=" in word)
        return Block(language, frozenset(w for w in rest if "=" not in w), dict(pairs), found["content"])


def recipes(page: str) -> dict[str, list[Block]]:
    """Blocks of each ``## `` section that has any."""
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    blocks = {text.splitlines()[0]: [Block.of(found) for found in BLOCK.finditer(text)] for text in sections}
    return {title: found for title, found in blocks.items() if found}


RECIPES = recipes(PAGE.read_text())


def apply(block: Block, copy: Path) -> None:
    """Change the file that the block names, in the one way that it names."""
    path, (way,) = copy / block.values["file"], [way for way in WAYS if way in block.words | block.values.keys()]
    assert path.exists() != (way == "new"), f"{path}: {'is there already' if way == 'new' else 'no such file'}"
    lines = [] if way == "new" else path.read_text().splitlines(keepends=True)
    if way in ("new", "append"):
        lines.append(block.content)
    else:
        wanted = block.values[way]
        found = [i for i, line in enumerate(lines) if wanted in line]
        assert len(found) == 1, f"{path}: {len(found)} lines contain {wanted!r}; wanted one"
        begin, end = {"after": (1, 1), "before": (0, 0), "replace": (0, 1)}[way]
        lines[found[0] + begin : found[0] + end] = [block.content]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))


def run(block: Block, copy: Path) -> str:
    """What a check prints, both streams together."""
    program = {"bash": ["bash", "-euo", "pipefail"], "python": [sys.executable]}[block.language]
    script = copy / "check"
    script.write_text(block.content)
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": search, "PYTHONPATH": f"{copy}/platform:{copy}/analysis"}
    done = subprocess.run(
        [*program, script], cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == int(block.values.get("exit", 0)), done.stdout
    return done.stdout


def check_stated(stated: str, printed: str) -> None:
    """Each stated line is in a printed one, in order; … stands for anything, and for the spaces beside it."""
    printed_lines = iter(printed.splitlines())
    for line in stated.splitlines():
        wanted = re.compile(".*".join(re.escape(part) for part in re.split(r"\s*…\s*", line)))
        assert any(wanted.search(found) for found in printed_lines), f"not printed (in order): {line}\n{printed}"


def follow(blocks: list[Block], copy: Path) -> int:
    """Apply and run all; return how many stated outputs appeared."""
    printed, stated = "", 0
    for block in blocks:
        if "file" in block.values:
            apply(block, copy)
        elif "run" in block.words:
            printed = run(block, copy)
        elif "output" in block.words:
            check_stated(block.content, printed)
            stated += 1
        else:
            raise AssertionError(f"a block that is neither file=, run nor output: {block}")
    return stated


def copied(root: Path, copy: Path) -> Path:
    for folder in ("platform", "analysis"):
        shutil.copytree(root / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", copy)
    for folder in ("studies", "tests"):
        (copy / folder).symlink_to(root / folder)
    return copy


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_followed_to_the_letter_does_what_it_says(title: str, root: Path, tmp_path: Path) -> None:
    copy = copied(root, tmp_path / "copy")
    assert follow(RECIPES[title], copy) > 0, "no stated output: nothing is proven"
    for tool in (["ruff", "check"], ["ruff", "format", "--check"], ["lint-imports", "--no-cache"]):
        program = Path(sys.executable).parent / tool[0]
        checked = [] if tool[0] == "lint-imports" else ["platform", "analysis"]
        environment = {**os.environ, "PYTHONPATH": f"{copy}/platform:{copy}/analysis"}
        done = subprocess.run(
            [program, *tool[1:], *checked], cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_blocks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    fence = "```"
    for info in ('file=a.py after="x = 1"', 'file=a.py after="y = 1"', "file=a.py new", "file=b.py append"):
        (blocks,) = recipes(f"## T\n{fence}python {info}\nz = 2\n{fence}\n").values()
        with pytest.raises(AssertionError):
            follow(blocks, tmp_path)
    with pytest.raises(AssertionError, match="not printed"):
        check_stated("one\ntwo", "two\none\n")
