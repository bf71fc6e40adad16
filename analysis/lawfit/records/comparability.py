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

SCHEDULE_COLUMNS = {
    "warm-up": ("warmup", "warmup_steps", "warmup_tokens", "warmup_fraction"),
    "decay": ("decay", "schedule", "lr_schedule"),
    "learning-rate tuning": ("base_lr", "tuned", "lr_tuned", "hparams"),
}
"""What is compared -> the columns that say it."""

SAMPLING_COLUMNS = ("sampler", "guidance", "cfg", "top_k", "top_p", "samples", "n_samples", "sampling_steps")

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
