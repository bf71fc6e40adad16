"""The first study's numbers, from its records: sizes, losses, laws; and the time of each stage, from what it printed.

    make quickstart 2>&1 | tee quickstart.log
    python benchmarks/quickstart.py quickstart.log            # half a minute, most of it bootstraps

Reads the MLflow records alone (``VARSCALE_TRACKING_URI`` names others). With ``--write`` the table of laws goes into
README.md too.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from record import ROOT, markdown, print_table, recorded, replace_section

import lawfit
from lawfit.records import schema

STUDY = "emoji-quick"


def size_rows(study: lawfit.Study) -> list[tuple[str, ...]]:
    """One row per finished size."""
    return [
        (
            f"{run['depth']}", f"{run['n_paper']:,}", f"{run['n_params']:,}", f"{run[schema.FLOPS]:.1e}",
            f"{run[schema.IMAGES_PER_S]:,.0f}", f"{run[schema.VAL_LOSS]:.3f}", f"{run[schema.VAL_LOSS_LAST]:.3f}",
            f"{run[schema.FD_TOKENIZER]:.4f}",
        )
        for _, run in study.finished.iterrows()
    ]  # fmt: skip


def law_rows(results: list[lawfit.LawResult]) -> list[tuple[str, ...]]:
    """One row per primary law: exponent, its 95 % interval and what that is, fit, error at the held-out largest."""
    rows = []
    for result in results:
        kind, (low, high) = ("t", result.t_interval) if result.t_interval else ("bootstrap", _bootstrap(result))
        if result.law.primary:
            hold_out = "" if result.hold_out is None else f"{100 * result.hold_out:+.2f} %"
            ends = f"{-high:.4f} to {-low:.4f} ({kind})"
            rows.append((result.law.title, f"{-result.alpha:.4f}", ends, f"{result.fit.r2_log:.3f}", hold_out))
    return rows


def _bootstrap(result: lawfit.LawResult) -> tuple[float, float]:
    return result.bootstrap.intervals["alpha"]


def stage_rows(log: Path) -> list[tuple[str, str]]:
    """Stages and their times (min:s) from the table that a study prints at its end."""
    _, found, table = log.read_text().partition("time by stage (min:s)\n")
    rows = re.findall(r"^  (\S.*?) +([\d:]+)$", table, re.MULTILINE)
    if not found or not rows:
        raise SystemExit(f"{log}: no table 'time by stage' in it; wanted what 'make quickstart' printed")
    return rows


def main(write: bool) -> None:
    """Read and print."""
    uri = os.environ.get("VARSCALE_TRACKING_URI", f"sqlite:///{ROOT}/.varscale/mlflow.db")
    study = lawfit.load_study(uri, STUDY)
    if len(sys.argv) > 1:
        print_table(("stage", "min:s"), stage_rows(Path(sys.argv[1])))
        print()
    head = ("depth", "N = 18·d·w²", "exact N", "FLOPs", "images/s", "loss, all scales", "loss, last scale",
            "fd/tokenizer")  # fmt: skip
    print_table(head, size_rows(study))
    print()
    head = ("law", "exponent", "95 % interval", "R² (log)", "error at the held-out largest")
    laws = markdown(head, law_rows(lawfit.fit_study(study)))
    print(laws)
    if write:
        replace_section(ROOT / "README.md", "laws", laws)


if __name__ == "__main__":
    with recorded(__file__) as writing:
        main(writing)
