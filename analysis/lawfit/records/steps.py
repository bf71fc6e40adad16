"""Steps of a run's history: which of several records of one counts, and whether they rise with time.

An attempt that resumes from a checkpoint records some steps again, and the last record counts. A counter that starts
again, though training goes on, looks the same to a reader; so does a run whose later steps are older. Both are named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lawfit.arrays import Mask

SHOWN = 3
"""Runs named in one sentence."""


def last_values(histories: pd.DataFrame) -> pd.DataFrame:
    """One value per (run, metric, step) of `Store.histories`: a resumed run logs some steps again, the last counts."""
    return histories[_last(_table(histories))]


def step_notes(histories: pd.DataFrame, names: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence per way in which steps of `Store.histories` are no count of training. names: by run id."""
    table = _table(histories)
    last = _last(table)
    group = np.cumsum(np.diff(table[:2], axis=1, prepend=table[:2, :1]).any(axis=0))  # of one run and metric
    time, kept = histories["timestamp"].to_numpy(np.int64)[last], group[last]
    older = kept[1:][(time[1:] < time[:-1]) & (kept[1:] == kept[:-1])]
    suspects = np.isin(group, np.union1d(group[~last], older))
    runs = histories["run_id"].astype(str)
    started, stuck = _started_again(histories[suspects].assign(run_id=runs[suspects], group=group[suspects]))
    backwards = runs[np.isin(group, older)].unique()
    sentences = {
        "the step counter starts again, and of a step recorded twice the last counts; if training went on, its first"
        " part is lost": started,
        "time runs backwards along the steps: two stretches of training may share one counter": [
            run for run in backwards if run not in started
        ],
        "a metric is recorded many times at one step, and only the last counts: log it with its step": stuck,
    }
    return tuple(f"{_listed(runs, names)}: {sentence}" for sentence, runs in sentences.items() if len(runs))


def _started_again(rows: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Runs of which a metric, in the order of time, goes back to its first step or before; those that stay at one."""
    rows = rows.sort_values(["group", "timestamp", "step"], kind="stable")
    steps = rows.groupby("group")["step"]
    back = (steps.diff() < 0) & (rows["step"] <= steps.transform("first"))
    stuck = (steps.transform("nunique") == 1) & (steps.transform("size") > 2)
    return list(rows["run_id"][back].unique()), list(rows["run_id"][stuck].unique())


def _table(histories: pd.DataFrame) -> np.ndarray:
    """Run, metric and step of each value, [3, values]."""
    keys = [histories["run_id"].cat.codes, histories["metric"].cat.codes, histories["step"]]
    return np.stack([np.asarray(key, np.int64) for key in keys])


def _last(table: np.ndarray) -> Mask:
    """Which value of each step was recorded last; the table is in the order of `Store.histories`."""
    last = np.ones(table.shape[1], bool)
    last[:-1] = (table[:, 1:] != table[:, :-1]).any(axis=0)
    return last


def _listed(runs: Sequence[str], names: Mapping[str, str]) -> str:
    shown = ", ".join(names.get(run) or run for run in runs[:SHOWN])
    more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
    return f"run{'s' if len(runs) > 1 else ''} {shown}{more}"
