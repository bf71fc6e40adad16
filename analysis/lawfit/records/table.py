"""Tables and MLflow runs -> one checked frame.

`load` reads, `points` picks and checks the columns of a law. What a law would silently get wrong (a missing column, N
in millions, a loss in bits, a run twice) stops here with a RecordError of one line that says what to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd

from lawfit.arrays import Array
from lawfit.errors import RecordError
from lawfit.records import mlflow_runs, schema
from lawfit.records.addresses import shown
from lawfit.records.delimited import COMPRESSED, DECIMAL_COMMA, DELIMITED, kind_of, read_delimited
from lawfit.records.expressions import evaluate, matching, quoted, unknown_column
from lawfit.records.units import check_units

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    **dict.fromkeys(DELIMITED, read_delimited), ".parquet": pd.read_parquet
}  # fmt: skip
KINDS = ".csv, .tsv (also .gz) or .parquet"
ID_SHOWN = 8
"""Characters of a run's id beside its name, where others share it."""


def load(
    source: str | Path | pd.DataFrame,
    *,
    tracking_uri: str | None = None,
    parent: str | None = None,
    query: str = "",
    curves: bool = False,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
) -> pd.DataFrame:
    """Records as one frame, checked, one row per point.

    source: a frame, a `.csv` or `.tsv` (also `.gz`) or `.parquet` file, or MLflow runs: "URI#experiment" or, with
    `tracking_uri` (else the environment's MLFLOW_TRACKING_URI), the experiment's name. parent: only the children of
    this run; for a study of varscale the newest parent is the default. query: further condition in MLflow's filter
    language. curves: one row per recorded step instead of one per finished run, NaN for metrics not recorded there.
    columns: canonical name -> column or expression, {"n_params": "1e6*params_M", "loss": "log(perplexity)"}; these
    are taken as meant, their unit is not judged. where: rows to keep, "keep == 1".

    Canonical columns, where the source has them: n_params, tokens, flops (FLOPs of the training, see
    `flop_conventions`), loss (nats per token), fid, seed, run (name), run_id, study, step, schedule_complete (whether a
    row is the end of its schedule); all other columns keep their name. `frame.attrs` has "source" and, for
    MLflow, "left_out": (run, state) of the runs that did not finish; of text, "notes": what its reading assumed;
    of curves, "flags": steps that are no count of training.

    Raises RecordError for a missing file, column or run, a number in the wrong unit, a run recorded twice;
    TrackingError when MLflow does not answer.
    """
    if isinstance(source, pd.DataFrame):
        frame, name = _checked_names(source.reset_index(drop=True), "frame"), "frame"
    elif kind_of(path := Path(source)) in READERS:
        frame, name = _read_table(path), str(source)
    else:
        uri, experiment = address(str(source), tracking_uri)
        frame, name = mlflow_runs.read_runs(uri, experiment, parent, query, curves), f"{shown(uri)}#{experiment}"
    attributes = {**frame.attrs, "source": name}
    frame = _as_logged(frame)
    if where is not None:
        frame = matching(frame, where)
    frame = told_apart(frame)
    frame = frame.assign(**{key: evaluate(frame, text) for key, text in (columns or {}).items()})
    check_units(frame, [key for key in frame if key not in (columns or {})])
    _check_repeats(frame)
    frame.attrs = attributes
    return frame


def _as_logged(frame: pd.DataFrame) -> pd.DataFrame:
    numbers = frame.select_dtypes("floating")
    infinite = numbers.columns[(numbers.abs() > schema.LARGEST).any()]
    return frame.assign(**{name: schema.as_logged(frame[name].to_numpy(float)) for name in infinite})


def told_apart(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with run names that tell runs apart: what a run is, its `run_id` says, and several may share a name."""
    if not {"run", "run_id"} <= set(frame):
        return frame
    named = frame["run"].notna() & (frame["run"].astype(str) != "")
    shared = frame.groupby("run")["run_id"].transform("nunique") > 1
    whole = frame["run_id"].astype(str)
    names = frame["run"].astype(object).where(~shared, frame["run"].astype(str) + " (" + whole.str[:ID_SHOWN] + ")")
    return frame.assign(run=names.where(named, whole)) if shared.any() or not named.all() else frame


def points(frame: pd.DataFrame, **roles: str) -> pd.DataFrame:
    """The columns of a law under the names of their `roles`: points(frame, n="n_params", y="loss").

    A role takes a column or an expression; `run` takes labels, every other one positive, finite numbers. Raises
    RecordError naming the row and the column.
    """
    chosen = {role: evaluate(frame, text) for role, text in roles.items()}
    numbers = {role: text for role, text in roles.items() if role != "run"}
    return pd.DataFrame(
        {**chosen, **{role: _positive(chosen[role], text, text in frame) for role, text in numbers.items()}}
    )


def load_table(source: str | Path | pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Read a file of one of `READERS` or a frame and check `columns`: there, numeric, positive and finite.

    Raises RecordError naming the column and the row (the first data row is 0).
    """
    frame = source.reset_index(drop=True) if isinstance(source, pd.DataFrame) else _read_table(Path(source))
    for name in columns:
        if name not in frame:
            raise RecordError(unknown_column(name, frame))
    return frame.assign(**{name: _positive(frame[name], name, True) for name in columns})


def _positive(values: pd.Series, name: str, recorded: bool) -> Array:
    """values as floats. recorded: `name` is a column, not an expression."""
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(float, na_value=np.nan)
    bad = np.flatnonzero(~((numbers > 0) & (numbers <= schema.LARGEST)))
    if bad.size:
        found, kept = values.tolist()[bad[0]], quoted(name) if recorded else name
        if isinstance(found, str) and DECIMAL_COMMA.fullmatch(found):
            raise RecordError(
                f"row {values.index[bad[0]]}, column {name!r}: {found!r} holds a comma: write numbers with a decimal "
                "point and thousands together"
            )
        hint = f"0 < {kept} < {schema.LARGEST:g}" if (numbers[bad] > 0).any() else f"{kept} > 0"
        raise RecordError(
            f"row {values.index[bad[0]]}, column {name!r}: {found!r} is not a positive, finite number"
            f" ({bad.size} such row{'s' if bad.size > 1 else ''}; leave them out with a filter such as '{hint}')"
        )
    return numbers


def _read_table(path: Path) -> pd.DataFrame:
    kind = kind_of(path)
    if kind not in READERS:
        raise RecordError(f"{path}: unknown kind of table {path.suffix!r}, expected {KINDS}")
    if not path.is_file():
        raise RecordError(f"{path}: no such file")
    if kind not in DELIMITED and path.name.lower().endswith(COMPRESSED):
        raise RecordError(f"{path}: a {kind[1:]} table is compressed inside: decompress the file")
    try:
        frame = READERS[kind](path)
    except RecordError:
        raise
    except (ValueError, OSError) as error:  # pandas' and pyarrow's errors are of these kinds
        raise RecordError(f"{path}: not a readable {kind[1:]} table: {str(error).splitlines()[0]}") from error
    if frame.empty:
        raise RecordError(f"{path}: the table has no rows")
    return _checked_names(frame, str(path))


def _checked_names(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """The frame with decimals as floats. RecordError for a name that is there twice."""
    if len(again := frame.columns[frame.columns.duplicated()]):
        raise RecordError(f"{source}: two columns are named {again[0]!r}: rename one")
    decimals = [name for name in frame if _is_decimal(frame[name])]
    return frame.astype(dict.fromkeys(decimals, float)) if decimals else frame


def _is_decimal(values: pd.Series) -> bool:
    """Whether a column holds exact decimals, as Parquet's decimal128 and 256 are read."""
    if isinstance(values.dtype, pd.ArrowDtype):
        return "decimal" in str(values.dtype)
    if values.dtype != object:
        return False
    known = values.dropna()
    return len(known) > 0 and all(isinstance(value, Decimal) for value in known)


def address(source: str, tracking_uri: str | None) -> tuple[str, str]:
    """Tracking URI and experiment of "URI#EXPERIMENT", or of an experiment's name and a URI given apart.

    Raises RecordError for a name without URI.
    """
    uri, mark, experiment = source.rpartition("#")
    if mark and uri and experiment:
        return uri, experiment
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise RecordError(
            f"{source!r} is neither a {KINDS} file nor URI#EXPERIMENT; for an experiment's name alone"
            " give the tracking URI"
        )
    return uri, source


def _check_repeats(frame: pd.DataFrame) -> None:
    """A run that is there twice, or has two values at one place, would count twice."""
    place = [name for name in ("run_id", "run", "seed", "step", "flops", "tokens", "n_params") if name in frame]
    if not place:
        return
    same = frame.duplicated(keep=False) & (frame.notna().sum(axis=1) > 1)
    if {"run_id", "run"} & set(place) and {"step", "flops", "tokens"} & set(place):
        same |= frame.duplicated(place, keep=False)
    if not same.any():
        return
    first = frame[same].iloc[0]
    twins = frame.index[same & (frame[place] == first[place]).all(axis=1)]
    who = f"run {first['run']!r}" if "run" in frame else "a run"
    raise RecordError(
        f"rows {', '.join(map(str, twins[:4]))}: {who} is recorded more than once ({_where(first, place)});"
        " drop the repeats, since a run must count once"
    )


def _where(row: pd.Series, place: Sequence[str]) -> str:
    return ", ".join(f"{name} = {row[name]}" for name in place if name not in ("run", "run_id"))
