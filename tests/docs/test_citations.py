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


def test_every_link_leads_somewhere(root: Path) -> None:
    for page in tracked(root, "*.md"):
        text = page.read_text()
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            if "://" in target:
                continue
            place = (page.parent / path).resolve() if path else page
            assert place.exists(), f"{page}: {target}"
            if anchor:
                heads = re.findall(r"^#+ (.+)$", place.read_text(), re.MULTILINE)
                slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
                assert anchor in slugs, f"{page}: {target}"


def test_every_file_that_a_page_names_is_there(root: Path) -> None:
    for page in tracked(root, "docs/*.md", "README.md", "CONTRIBUTING.md"):
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for name in re.findall(r"`((?:tests|benchmarks|studies|cluster|analysis|platform)/[\w./-]+)`", text):
            assert (root / name).exists(), f"{page}: {name}"
