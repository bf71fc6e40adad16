"""lawfit: fit scaling laws to the records of runs and say how far they can be trusted.

The path: `load` (a table, MLflow) -> `fit`, `bootstrap`, or a frontier or isoFLOP slices -> `forecast`, `compare`,
`next_runs`, `what_if`. A study of varscale: `load_study` -> `fit_study` -> `figures`, `report`, which are imported
where they are needed, so that `import lawfit` stays light.
"""

from lawfit.allocation import Allocation, by_frontier, by_isoflop, by_surface, cross_check
from lawfit.compare import compare
from lawfit.conventions import convert_flops, training_flops
from lawfit.design import next_runs, what_if
from lawfit.fitting import fit
from lawfit.forecast import forecast
from lawfit.frontier import frontier
from lawfit.isoflop import isoflop
from lawfit.laws import LawResult, fit_study
from lawfit.prediction import predict_interval
from lawfit.records import load, load_table
from lawfit.result import Fit
from lawfit.schema import RecordError, TrackingError
from lawfit.study import Study, load_study
from lawfit.uncertainty import bootstrap

__all__ = [
    "Allocation",
    "Fit",
    "LawResult",
    "RecordError",
    "Study",
    "TrackingError",
    "bootstrap",
    "by_frontier",
    "by_isoflop",
    "by_surface",
    "compare",
    "convert_flops",
    "cross_check",
    "fit",
    "fit_study",
    "forecast",
    "frontier",
    "isoflop",
    "load",
    "load_study",
    "load_table",
    "next_runs",
    "predict_interval",
    "training_flops",
    "what_if",
]
