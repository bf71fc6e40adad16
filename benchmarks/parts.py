"""What the tests of each part take: CPU seconds, imports included, and the command that runs them.

    python benchmarks/parts.py            # 7 minutes of CPU

With ``--write`` the table goes into CONTRIBUTING.md.
"""

from __future__ import annotations

import resource
import subprocess
import sys

from record import ROOT, print_table, recorded

PARTS = {
    "study files, plans": "tests/test_spec.py tests/test_plan.py tests/test_schedule.py tests/test_accounting.py",
    "models": "tests/models",
    "metrics": "tests/evaluate",
    "sources of images": "tests/data/test_sources.py tests/data/test_tar_members.py",
    "ingest": "tests/data/test_ingest.py",
    "reading shards": "tests/data/test_loader.py tests/data/test_loader_order.py",
    "checks of data sets": "tests/data/test_verify.py",
    "a training step": "tests/train/test_engine.py",
    "tokenizer training": "tests/train/test_codebook.py tests/train/test_tokenizer_loss.py",
    "records, identity": "tests/test_tracking.py tests/test_identity.py",
    "lawfit: forms, fits": "tests/lawfit/forms tests/lawfit/fitting",
    "lawfit: approaches, questions": "tests/lawfit/approaches tests/lawfit/questions",
    "lawfit: the command": "tests/lawfit/command",
    "pages, but recipes": "tests/docs --ignore tests/docs/test_extending.py",
}


def cpu_seconds(tests: str) -> float:
    """CPU seconds of one part, all its processes together."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests.split()]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run each part once and print."""
    rows = [(part, f"`pytest {tests}`", f"{cpu_seconds(tests):.0f}") for part, tests in PARTS.items()]
    print_table(("part", "command", "CPU s"), rows)


if __name__ == "__main__":
    with recorded(__file__, ROOT / "CONTRIBUTING.md"):
        main()
