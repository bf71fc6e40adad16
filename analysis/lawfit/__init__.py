"""lawfit: fit scaling laws to the records of runs and say how far they can be trusted.

`load` (a table, MLflow) -> `fit`, `bootstrap`, or a frontier or isoFLOP slices -> `forecast`, `compare`, `next_runs`,
`what_if`. A study of varscale: `load_study` -> `fit_study` -> `pictures.study`, `report.page`, which are imported where
they are needed, so that `import lawfit` stays light. docs/LAWFIT.md has a line for each name.
"""

from lawfit.approaches.allocation import Allocation, by_frontier, by_isoflop, by_surface, cross_check
from lawfit.approaches.frontier import frontier
from lawfit.approaches.isoflop import isoflop
from lawfit.errors import RecordError, TrackingError
from lawfit.fitting.fitting import fit
from lawfit.fitting.result import Fit
from lawfit.intervals.bootstrap import bootstrap
from lawfit.intervals.prediction import predict_interval
from lawfit.questions.compare import compare
from lawfit.questions.forecast import forecast
from lawfit.questions.next_runs import next_runs, what_if
from lawfit.questions.study_laws import LawResult, fit_study
from lawfit.records.flop_conventions import convert_flops, training_flops
from lawfit.records.study import Study, load_study
from lawfit.records.table import load, load_table

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
