"""Published procedures by name: the options with which a verb does what a paper did.

Only those stand here whose published numbers come out of published measurements, see `tests/lawfit/test_published.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import typer

from lawfit.errors import RecordError


@dataclass(frozen=True)
class Procedure:
    """options: by name of the verb's parameters. said: what it does and whose it is, one line."""

    verb: str
    options: Mapping[str, Any]
    said: str


PROCEDURES = {
    "porian": Procedure(
        "isoflop", {"estimator": "akima", "seed_sd": 0.002, "weights": "variance"},
        "Porian et al. 2024: Akima interpolation, minima under 1,000 draws of .002 nats, weights 1/variance"),
    "besiroglu": Procedure(
        "fit", {"form": "chinchilla", "loss": "lad", "delta": None, "space": "log"},
        "Besiroglu et al. 2024: E + A/N^alpha + B/D^beta, least absolute residuals of log y, to which their Huber loss "
        "shrank"),
    "hoffmann3": Procedure(
        "fit", {"form": "chinchilla", "loss": "huber", "delta": 1e-3, "space": "log"},
        "Hoffmann et al. 2022, approach 3: E + A/N^alpha + B/D^beta, Huber loss of log y with delta 1e-3, summed"),
    "clark": Procedure(
        "fit", {"form": "power", "loss": "squared", "delta": None, "space": "log"},
        "Clark et al. 2022: least squares of log y over log x"),
    "gemstones": Procedure(
        "frontier", {"method": "hull"},
        "McLeish et al. 2025: lower convex hull of all recorded points in log-log, least squares of log N over log C"),
}  # fmt: skip
"""By name, as `--as` takes it."""

NOT_REDONE = {
    "hoffmann2": "--estimator parabola --seed-sd 0 --weights equal",
    "llama3": "--x tokens --estimator parabola --seed-sd 0 --weights equal",
    "gadre": "fit --form chinchilla_tied",
}
"""Asked for, but without public measurements here that give their published numbers: what comes closest."""


def applied(context: typer.Context, name: str | None, **options: Any) -> tuple[dict[str, Any], list[str]]:
    """The options as the procedure `name` of the running verb sets them, and the line that says so.

    Raises RecordError for an unknown name, one of another verb, and an option that was also given by hand.
    """
    if name is None:
        return options, []
    verb = str(context.command.name)
    known = [key for key, procedure in PROCEDURES.items() if procedure.verb == verb]
    if name in NOT_REDONE:
        raise RecordError(
            f"--as {name}: its published numbers do not come out of public measurements, so it has no name; closest is "
            f"{NOT_REDONE[name]}"
        )
    if name not in known:
        other = f"it is one of {PROCEDURES[name].verb}" if name in PROCEDURES else "unknown"
        raise RecordError(f"--as {name}: {other}; {verb} has {', '.join(known)}")
    procedure = PROCEDURES[name]
    for option in procedure.options:
        source = context.get_parameter_source(option)
        if source is not None and source.name == "COMMANDLINE":
            raise RecordError(f"--as {name} sets {option}: give it or --{option.replace('_', '-')}, not both")
    return {**options, **procedure.options}, [f"as {procedure.said}"]
