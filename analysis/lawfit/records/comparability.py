"""What the points of one law must have in common, beyond their units.

Runs that differ in warm-up, decay or tuning are flagged: between such settings the exponent of N*(C) moved from .84
to .50 (Porian et al. 2024). A Fréchet distance under another sampler, guidance or sample count is another quantity,
so a law refuses to mix them.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lawfit.errors import RecordError
from lawfit.records.schema import COLUMNS, Metric
from lawfit.records.table import points

SCHEDULE_COLUMNS = {
    "warm-up": ("warmup", "warmup_steps", "warmup_tokens", "warmup_fraction"),
    "decay": ("decay", "schedule", "lr_schedule"),
    "learning-rate tuning": ("base_lr", "tuned", "lr_tuned", "hparams"),
}
"""What is compared -> the columns that say it."""

SAMPLING_COLUMNS = ("sampler", "guidance", "cfg", "top_k", "top_p", "samples", "n_samples", "sampling_steps")

BEGUN = 0.1
"""First part of a run's tokens in which a step more or less still changes C/(6ND)."""
SLACK = 0.05
"""How far C/(6ND) may move along a run."""

SHOWN = 3
"""Values named in one sentence."""


def schedule_flags(frame: pd.DataFrame) -> list[str]:
    """One sentence for each of warm-up, decay and tuning in which the runs differ, and one for unfinished
    schedules (column schedule_complete)."""
    flags = []
    for what, columns in SCHEDULE_COLUMNS.items():
        for column in columns:
            values = _values(frame, column)
            if len(values) > 1:
                flags.append(f"the runs differ in {what} ({column}: {_listed(values)}): exponents mix with its effect")
    if "schedule_complete" in frame and not frame["schedule_complete"].astype(bool).all():
        unfinished = int((~frame["schedule_complete"].astype(bool)).sum())
        flags.append(f"{unfinished} of {len(frame)} points are from before the end of their learning-rate schedule")
    return flags


def compute_flags(frame: pd.DataFrame, *, x: str, run: str, n: str | None = None, d: str | None = None) -> list[str]:
    """One sentence for runs of several sizes, which are several under one name, and one for those along which C/(6ND)
    changes: C, or D, is then no running total of the run.

    x, n, d: columns or expressions of compute, size and tokens; without n or d nothing is said.
    """
    if n is None or d is None:
        return []
    columns = points(frame, x=x, n=n, d=d, run=run)
    begun = columns["d"] >= BEGUN * columns.groupby("run")["d"].transform("max")
    ratio = columns["x"] / (6 * columns["n"] * columns["d"])
    sizes, ratios = (
        values.groupby(columns["run"]).agg(["min", "max"]) for values in (columns["n"], ratio[begun])
    )  # fmt: skip
    several = sizes[sizes["max"] > sizes["min"]]
    moving = ratios[ratios["max"] > (1 + SLACK) * ratios["min"]].drop(several.index, errors="ignore")
    return [
        *_ranges(several, n, "several runs share a name and count as one; name a column that tells them apart"),
        *_ranges(moving, f"{x}/(6·{n}·{d})", f"{x} or {d} is no running total of the run: N*(C), D*(C) are wrong"),
    ]


def _ranges(runs: pd.DataFrame, what: str, so: str) -> list[str]:
    """A sentence on the first of the runs, by their lowest and highest value; none for none."""
    if runs.empty:
        return []
    low, high = runs.iloc[0]
    more = f" and changes along {len(runs) - 1} more" if len(runs) > 1 else ""
    return [f"{what} goes from {low:.3g} to {high:.3g} along run {runs.index[0]!r}{more}: {so}"]


def check_sampling(frame: pd.DataFrame, metric: str) -> None:
    """RecordError when the points of a metric of samples come from more than one way of sampling."""
    for column in SAMPLING_COLUMNS:
        values = _values(frame[frame[metric].notna()] if metric in frame else frame, column)
        if len(values) > 1:
            raise RecordError(
                f"{metric!r} mixes {column} ({_listed(values)}): a law needs one sampler, guidance and number of "
                f"samples; keep one, such as with the filter {column} == {np.asarray(values[0]).item()!r}"
            )


def is_of_samples(metric: str) -> bool:
    """Whether a metric depends on how samples are drawn: registered as one, or named like a Fréchet distance."""
    if isinstance(known := COLUMNS.get(metric), Metric):
        return known.of == "samples"
    name = metric.lower()
    return name.startswith(("fid", "fd/", "fdd")) or name.endswith("fid")


def _values(frame: pd.DataFrame, column: str) -> list[object]:
    return list(frame[column].dropna().unique()) if column in frame else []


def _listed(values: Sequence[object]) -> str:
    shown = ", ".join(map(str, values[:SHOWN]))
    return shown if len(values) <= SHOWN else f"{shown}, …"
