"""lawfit: fit scaling laws to the records of a study and say how far they can be trusted.

The path: MLflow -> `load_study` -> `fit_study` -> `figures`, `report`. Any table of x and y works as well:
`load_table` -> `fit`, `bootstrap`. `figures` and `report` are imported where they are needed, so that
`import lawfit` stays light.
"""

from lawfit.fitting import Fit, fit
from lawfit.frontier import frontier
from lawfit.laws import LawResult, fit_study
from lawfit.records import Study, load_study, load_table
from lawfit.schema import RecordError
from lawfit.uncertainty import bootstrap

__all__ = [
    "Fit",
    "LawResult",
    "RecordError",
    "Study",
    "bootstrap",
    "fit",
    "fit_study",
    "frontier",
    "load_study",
    "load_table",
]
