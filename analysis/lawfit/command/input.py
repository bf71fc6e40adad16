"""What a command line gives -> checked columns and the fit asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lawfit.arrays import Array
from lawfit.command.metric import Metric, check_law, check_varies, read_metric
from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.fitting.result import Fit
from lawfit.forms.catalogue import FORMS, named, simple
from lawfit.records.comparability import check_sampling, is_of_samples
from lawfit.records.table import load, points
from lawfit.records.units import check_role


@dataclass(frozen=True)
class RecordsSource:
    """DATA of a command line, see `lawfit.load`."""

    data: str
    tracking_uri: str | None = None
    parent: str | None = None
    query: str = ""
    where: str | None = None
    curves: bool = False

    def read(self) -> pd.DataFrame:
        """The table. Raises RecordError and TrackingError."""
        return load(
            self.data, tracking_uri=self.tracking_uri, parent=self.parent, query=self.query, curves=self.curves,
            where=self.where,
        )  # fmt: skip


@dataclass(frozen=True)
class ColumnNames:
    """Which columns play which part; x for a form of one variable, n and d for one in N and D, u for unique tokens."""

    y: str
    x: str | None
    n: str | None
    d: str | None
    run: str | None
    u: str | None = None
    ceiling: str | None = None


@dataclass(frozen=True)
class Options:
    """How a law is fitted and how its intervals are made."""

    form: str
    loss: str
    delta: float | None
    space: str
    level: float = 0.95
    replicates: int = 1000
    seed: int = 0

    @property
    def of_fit(self) -> dict[str, Any]:
        """The keywords of `lawfit.fit`."""
        return {"loss": self.loss, "delta": self.delta, "space": self.space}


@dataclass(frozen=True, eq=False)
class Task:
    """The points of a law: x [n] by variable, y [n], run labels [n] (None: each point its own), and their table."""

    x: Mapping[str, Array]
    y: Array
    run: Array | None
    table: pd.DataFrame
    metric: Metric

    @property
    def independent(self) -> int | None:
        """How many runs stand behind the points."""
        return None if self.run is None else len(set(self.run))

    @property
    def names(self) -> list[str]:
        """What to call each point: its run, or its row in the table."""
        return [f"row {row}" for row in self.table.index] if self.run is None else list(map(str, self.run))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reading of the table, and of y, assumed."""
        return (*self.table.attrs.get("notes", ()), *self.metric.assumptions)

    def fit(self, options: Options, one_exponent: bool = False) -> Fit:
        """The law. one_exponent: `auto` chooses among forms with one power of each variable."""
        form: Any = options.form
        if form == "auto" and one_exponent:
            form = simple(self.x.keys())
        law = fit(self.x, self.y, form, independent=self.independent, **options.of_fit)
        return check_law(law, self.metric)


def read_task(source: RecordsSource, columns: ColumnNames, options: Options) -> Task:
    """The points that a command asks about. Raises RecordError for columns that cannot be used."""
    if options.form != "auto":
        named(options.form)
    frame = source.read()
    roles = _roles(columns, options.form, frame)
    run = columns.run or next((name for name in ("run", "run_id") if name in frame), None)
    metric = read_metric(frame, columns.y, columns.ceiling, roles)
    chosen = points(frame, **roles, y=metric.text, **({"run": run} if run else {}))
    for role, text in {**roles, "y": metric.text}.items():
        if text in frame:
            check_role(role, text, chosen[role])
    if is_of_samples(columns.y):
        check_sampling(frame, columns.y)
    check_varies(metric.text, chosen["y"].to_numpy(float))
    x = {role if role == "x" else role.upper(): chosen[role].to_numpy(float) for role in roles}
    return Task(x, chosen["y"].to_numpy(float), chosen["run"].astype(str).to_numpy() if run else None, frame, metric)


def read_place(text: str, variables: Mapping[str, Array]) -> dict[str, float]:
    """A place on the axes: "1e12" for one variable, "N=7e10,D=1.4e12" for several. RecordError otherwise.

    variables: columns [n] by name, of which only the names count.
    """
    wanted = ",".join(f"{name}=NUMBER" for name in variables)
    pairs = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    if not pairs and len(variables) == 1:
        pairs = {next(iter(variables)): text}
    try:
        place = {name.strip(): float(value) for name, value in pairs.items()}
    except ValueError as error:
        raise RecordError(f"place {text!r} is not understood: write {wanted}") from error
    if set(place) != set(variables) or not all(np.isfinite(v) and v > 0 for v in place.values()):
        raise RecordError(f"place {text!r} is not understood: write {wanted}")
    return place


def check_positive(option: str, value: float) -> None:
    """RecordError for a value of an option that is not a positive, finite number."""
    if not (np.isfinite(value) and value > 0):
        raise RecordError(f"{option} is {value}: expected a positive, finite number")


def _roles(columns: ColumnNames, form: str, frame: pd.DataFrame) -> dict[str, str]:
    """Role -> column: x alone, or n and d, with u where tokens are repeated."""
    surface = columns.n is not None or columns.d is not None or (form in FORMS and "N" in FORMS[form].variables)
    if columns.x is not None and surface:
        raise RecordError("--x is for a form of one variable, --n and --d for one in N and D: give one or the other")
    if not surface and columns.x is None:
        raise RecordError(f"give --x COLUMN, or --n and --d: the table has {', '.join(map(str, frame))}")
    if not surface:
        return {"x": str(columns.x)}
    if form in FORMS and "N" not in FORMS[form].variables:
        raise RecordError(f"form {form!r} takes one variable: give it as --x")
    roles = {"n": columns.n or "n_params", "d": columns.d or "tokens"}
    if form in FORMS and "U" in FORMS[form].variables and columns.u is None:
        raise RecordError(f"form {form!r} needs --u COLUMN, the unique tokens among those of --d")
    return {**roles, "u": columns.u} if columns.u else roles
