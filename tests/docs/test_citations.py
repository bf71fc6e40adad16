"""What code and documents cite is there."""

import re
import subprocess
from pathlib import Path

CITATION = re.compile(r"docs/MODEL\.md\s+((?:\d+(?:\.\d+)?)(?: and \d+(?:\.\d+)?)*)")


def tracked(root: Path, *patterns: str) -> list[Path]:
    listing = subprocess.run(["git", "ls-files", *patterns], cwd=root, capture_output=True, text=True, check=True)
    return [root / name for name in listing.stdout.splitlines() if (root / name).is_file()]


def test_every_citation_of_the_model_page_names_a_section_of_it(root: Path) -> None:
    sections = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", (root / "docs" / "MODEL.md").read_text(), re.MULTILINE))
    cited = {
        (path.name, section)
        for path in tracked(root, "platform/*.py", "analysis/*.py", "docs/*.md")
        for found in CITATION.findall(path.read_text())
        for section in found.split(" and ")
    }
    assert len(cited) > 10
    assert not {(name, section) for name, section in cited if section not in sections}


def test_no_file_cites_a_page_that_is_not_here(root: Path) -> None:
    for path in tracked(root, "*.py", "*.md", "*.yaml"):
        for name in re.findall(r"docs/[A-Z]+\.md", path.read_text()):
            assert (root / name).is_file(), f"{path}: {name}"
