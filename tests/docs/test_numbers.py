"""Figures are written by benchmarks: each has a section, and replaces it and nothing else."""

import re
import sys
from pathlib import Path

import pytest
import record
from record import markdown, recorded, replace_section


def test_every_benchmark_has_its_section_and_every_section_its_benchmark(root: Path) -> None:
    writers = {p.stem for p in (root / "benchmarks").glob("*.py") if "with recorded(__file__" in p.read_text()}
    pages = "".join((root / page).read_text() for page in ("docs/NUMBERS.md", "CONTRIBUTING.md"))
    sections = re.findall(r"^<!-- begin (\w+) -->$", pages, re.MULTILINE)
    assert len(writers) > 8
    assert sorted(sections) == sorted(writers)


def test_what_a_benchmark_prints_replaces_its_section_alone_and_says_where_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "NUMBERS.md"
    page.write_text("a\n<!-- begin one -->\nold\n<!-- end one -->\nb\n<!-- begin two -->\nkept\n<!-- end two -->\n")
    monkeypatch.setattr(record, "NUMBERS", page)
    for argv, written in ((["one.py", "--short"], False), (["one.py", "--short", "--write"], True)):
        monkeypatch.setattr(sys, "argv", argv)
        with recorded("/somewhere/one.py") as writing:
            assert writing == written
            assert sys.argv[1:] == ["--short"]
            print(r"new \1 figure")
        assert capsys.readouterr().out == "new \\1 figure\n"
        assert ("old" in page.read_text()) != written
    text = page.read_text()
    assert text.startswith("a\n<!-- begin one -->\n`python benchmarks/one.py --short`, commit ")
    assert re.search(r", \d{4}-\d\d-\d\d; .* cores, \d+ GiB, .*\.\n\nnew \\1 figure\n<!-- end one -->\nb\n", text)
    assert text.endswith("<!-- begin two -->\nkept\n<!-- end two -->\n")


def test_a_section_that_is_not_there_is_refused_and_the_page_kept(tmp_path: Path) -> None:
    page = tmp_path / "NUMBERS.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="wanted one section"):
        replace_section(page, "one", "new")
    assert page.read_text() == "nothing"


def test_a_table_reads_the_same_as_text_and_as_markdown() -> None:
    assert markdown(("part", "s"), [("a", "1.50"), ("longer", "12.25")]) == (
        "| part   |     s |\n| ------ | ----: |\n| a      |  1.50 |\n| longer | 12.25 |"
    )


def test_the_time_of_stages_is_read_from_what_a_study_prints(tmp_path: Path) -> None:
    import quickstart

    from varscale.study.run import Timing

    log = tmp_path / "log"
    timing = Timing({"start Ray": 10.0, "grid": 3642.0})
    log.write_text(f"grid: 6 sizes\ntime by stage (min:s)\n{timing.table()}\nreport: x\n")
    assert [stage for stage, _ in quickstart.stage_rows(log)] == ["start Ray", "grid", "total"]
    assert quickstart.stage_rows(log)[0][1] == "0:10"
    log.write_text("")
    with pytest.raises(SystemExit, match="no table"):
        quickstart.stage_rows(log)


def test_parts_name_tests_that_are_there(root: Path) -> None:
    from parts import PARTS

    named = [word for tests in PARTS.values() for word in tests.split() if not word.startswith("-")]
    assert not [name for name in named if not (root / name).exists()]
