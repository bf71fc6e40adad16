"""The pictures of a varscale study, of what `fit_study` found."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from lawfit.errors import RecordError
from lawfit.pictures import style
from lawfit.pictures.curves import draw_curves, draw_frontier
from lawfit.pictures.laws import draw_law
from lawfit.pictures.style import Panel, styled
from lawfit.questions.study_laws import LAWS, LawResult
from lawfit.records import schema
from lawfit.records.comparability import is_of_samples
from lawfit.records.study import Study


def law_of_study(study: Study, result: LawResult) -> Figure:
    """One law of a study with its residuals; points carry their depth, curves the colour of their size."""
    return _laws(study, [result])


def loss_by_size(study: Study, results: Sequence[LawResult]) -> Figure:
    """Both losses of the finished runs over N (VAR, Figure 5, above)."""
    return _laws(study, _of(results, "loss_by_n", "loss_last_by_n"))


def error_by_size(study: Study, results: Sequence[LawResult]) -> Figure:
    """Both error rates of the finished runs over N (VAR, Figure 5, below)."""
    return _laws(study, _of(results, "error_by_n", "error_last_by_n"))


def curves_and_frontier(study: Study, results: Sequence[LawResult]) -> Figure:
    """Losses and errors during training over compute, with the frontier and its fit (VAR, Figure 6)."""
    return _laws(study, _of(results, "loss_frontier", "loss_last_frontier", "error_frontier", "error_last_frontier"))


def distance_by_compute(study: Study, results: Sequence[LawResult]) -> Figure:
    """Each metric of samples that was fitted, such as a Fréchet distance, over training compute."""
    return _laws(study, _of(results, *(law.key for law in LAWS if is_of_samples(law.y))))


def _of(results: Sequence[LawResult], *keys: str) -> list[LawResult]:
    found = [result for result in results if result.law.key in keys]
    if not found:
        raise RecordError(f"none of the laws {', '.join(keys)} was fitted")
    return found


@styled()
def _laws(study: Study, results: Sequence[LawResult]) -> Figure:
    figure, panels = style.with_residuals(len(results))
    for panel, result in zip(panels, results, strict=True):
        if result.law.source == "frontier":
            _frontier(figure, panel, study, result)
        else:
            draw_law(panel, result.bootstrap, result.law.x, result.law.y, "finished run")
    style.finish(figure, panels[0].main)
    for panel, result in zip(panels, results, strict=True):
        if result.law.source == "final":
            style.label_points(figure, panel.main, result.x, result.y, _depths(study, result))
    return figure


def _frontier(figure: Figure, panel: Panel, study: Study, result: LawResult) -> None:
    x, y = result.law.x, result.law.y
    draw_curves(figure, panel, _curves(study, result), x, y, style.axis_label("n_paper"))
    draw_frontier(panel, result.x, result.y, result.fit, x, y, "frontier", result.bootstrap)


def _curves(study: Study, result: LawResult) -> pd.DataFrame:
    chosen = study.curves[study.curves["metric"] == result.law.y]
    sizes = study.runs.set_index("run_id")["n_paper"]
    columns = {"x": chosen[schema.FLOPS], "y": chosen["value"], "run": chosen["run_id"]}
    return pd.DataFrame({**columns, "n": chosen["run_id"].map(sizes).astype(float)})


def _depths(study: Study, result: LawResult) -> list[str]:
    depth = dict(zip(study.runs["run_name"], study.runs["depth"], strict=True))
    return [f"d{int(depth[run])}" for run in result.runs]
