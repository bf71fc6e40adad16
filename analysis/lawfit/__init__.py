"""lawfit: fit scaling laws to the records of runs and say how far they can be trusted.

The path: `load` (a table, MLflow) -> `fit`, `bootstrap`; a varscale study: `load_study` -> `fit_study` -> `figures`,
`report`. `figures` and `report` are imported where they are needed, so that `import lawfit` stays light.
"""

from lawfit.fitting import Fit, fit
from lawfit.frontier import frontier
from lawfit.laws import LawResult, fit_study
from lawfit.records import load, load_table
from lawfit.schema import RecordError, TrackingError
from lawfit.study import Study, load_study
from lawfit.uncertainty import bootstrap

__all__ = [
    "Fit",
    "LawResult",
    "RecordError",
    "Study",
    "TrackingError",
    "bootstrap",
    "fit",
    "fit_study",
    "frontier",
    "load",
    "load_study",
    "load_table",
]
