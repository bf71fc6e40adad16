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
    """One sentence for curves along which C/(6ND) changes: C, or D, is then no running total of that run.

    x, n, d: columns or expressions of compute, size and tokens; without n or d nothing is said. Raises RecordError for
    a run of several sizes, which is several runs under one name.
    """
    if n is None or d is None:
        return []
    columns = points(frame, x=x, n=n, d=d, run=run)
    sizes = columns.groupby("run")["n"].agg(["min", "max"])
    several = sizes[sizes["max"] > sizes["min"]]
    if len(several):
        low, high = several.iloc[0]
        raise RecordError(
            f"run {several.index[0]!r} has {n} from {low:g} to {high:g}: several runs share a name; give a column that"
            " tells them apart as the run"
        )
    begun = columns["d"] >= BEGUN * columns.groupby("run")["d"].transform("max")
    ratio = (columns["x"] / (6 * columns["n"] * columns["d"]))[begun].groupby(columns["run"]).agg(["min", "max"])
    moving = ratio[ratio["max"] > (1 + SLACK) * ratio["min"]]
    if moving.empty:
        return []
    low, high = moving.iloc[0]
    return [
        f"{x}/(6·{n}·{d}) goes from {low:.3g} to {high:.3g} along run {moving.index[0]!r}"
        + (f" and changes along {len(moving) - 1} more" if len(moving) > 1 else "")
        + f": {x} or {d} is no running total of the run, and N*(C), D*(C) are not to be trusted"
    ]


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
