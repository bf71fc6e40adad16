"""The command line, for people with a CSV: one verb per question.

DATA is a .csv, .tsv or .parquet file, or MLflow runs: URI#EXPERIMENT, or an experiment's name with --tracking-uri.
Columns are named or computed ('6*n_params*tokens'). Results go to standard output, with --json as strict JSON;
errors are one line on standard error, exit code 2 for wrong input and 1 when a tracking server is away.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from lawfit.command import budget_verbs, law_verbs
from lawfit.command.budget_verbs import SliceQuestion
from lawfit.command.input import ColumnNames, Options, RecordsSource
from lawfit.command.procedures import PROCEDURES, applied
from lawfit.errors import RecordError, TrackingError
from lawfit.forms.catalogue import FORMS, simple
from lawfit.questions.study_laws import fit_study
from lawfit.records.study import load_study
from lawfit.records.table import address

MOST_REPLICATES = 100_000
"""Their parameters stay in memory; more would change no digit that is printed."""

app = typer.Typer(
    help="Fit scaling laws to a table or to MLflow runs and say how far they can be trusted.\n\n"
    "DATA is a .csv, .tsv or .parquet file, URI#EXPERIMENT, or an experiment with --tracking-uri. Columns are named or"
    " computed, such as '6*n_params*tokens'; --filter keeps rows, such as 'keep == 1'. With --debug, errors come"
    " with their traceback.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Data = Annotated[str, typer.Argument(metavar="DATA", help="Table or MLflow runs.")]
Uri = Annotated[
    str | None, typer.Option("--tracking-uri", help="MLflow tracking URI, when DATA is an experiment's name.")
]
Parent = Annotated[str | None, typer.Option(help="MLflow: only the children of this run.")]
Query = Annotated[str, typer.Option(help="MLflow: further condition in its filter language.")]
Filter = Annotated[str | None, typer.Option("--filter", help="Rows to keep, such as 'keep240 == 1'.")]
Json = Annotated[bool, typer.Option("--json", help="Print strict JSON.")]
Level = Annotated[float, typer.Option(min=0.5, max=0.999, help="Level of the intervals.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of resampling.")]
Replicates = Annotated[int, typer.Option(min=50, max=MOST_REPLICATES, help="Bootstrap resamples.")]
Form = Annotated[str, typer.Option(help=f"Form of the law: {', '.join(('auto', *FORMS))}.")]
X = Annotated[str | None, typer.Option("--x", help="Column of the variable, for a form of one variable.")]
N = Annotated[str | None, typer.Option("--n", help="Column of parameters, for a form in N and D.")]
D = Annotated[str | None, typer.Option("--d", help="Column of training tokens, for a form in N and D.")]
U = Annotated[str | None, typer.Option("--u", help="Column of the unique tokens in --d, where tokens repeat.")]
Y = Annotated[str, typer.Option("--y", help="Column that is fitted: loss in nats, FID, …")]
Run = Annotated[str | None, typer.Option(help="Column of run labels: points of one run are drawn together.")]
Loss = Annotated[str, typer.Option("--loss", help="Loss of the residuals: squared, huber or lad.")]
Delta = Annotated[float | None, typer.Option(help="Residual of log y at which Huber's loss turns linear.")]


def _picture(path: Path | None) -> Path | None:
    """Refuses a kind that cannot be written before seconds go into the answer."""
    if path:
        from lawfit.pictures.style import picture_kind

        picture_kind(path)
        if path.is_dir() or not next(parent for parent in path.absolute().parents if parent.exists()).is_dir():
            raise RecordError(f"{path}: the picture cannot be written there: give a file's name in a folder")
    return path


Figure = Annotated[
    Path | None, typer.Option("--figure", help="Write the picture: .png, .svg or .pdf.", callback=_picture)
]
As = Annotated[
    str | None,
    typer.Option("--as", help=", ".join(f"{name} ({p.verb})" for name, p in PROCEDURES.items()) + ": do as they did."),
]
Ceiling = Annotated[
    str | None,
    typer.Option(
        help="Where a y that rises ends, such as 100: its distance is fitted; none fits y itself. Rates: known."
    ),
]
Space = Annotated[str, typer.Option(help="Residuals of log y (log) or of y (linear).")]


@app.command()
def fit(
    context: typer.Context, data: Data, form: Form = "auto", x: X = None, n: N = None, d: D = None, u: U = None,
    y: Y = "loss", run: Run = None,
    loss: Loss = "squared", delta: Delta = None, space: Space = "log",
    ceiling: Ceiling = None, as_: As = None, figure: Figure = None,
    filter_: Filter = None, json: Json = False,
    level: Level = 0.95, replicates: Replicates = 1000, seed: Seed = 0,
    tracking_uri: Uri = None, parent: Parent = None, query: Query = "",
) -> None:  # fmt: skip
    """Fit one law: parameters, intervals, objective, certificate, and what other objectives would say."""
    source = RecordsSource(data, tracking_uri, parent, query, filter_)
    columns = ColumnNames(y=y, x=x, n=n, d=d, run=run, ceiling=ceiling, u=u)
    chosen, notes = applied(context, as_, form=form, loss=loss, delta=delta, space=space)
    options = Options(**chosen, level=level, replicates=replicates, seed=seed)
    _print(law_verbs.fit(source, columns, options, notes), json, figure)


@app.command()
def isoflop(
    context: typer.Context, data: Data,
    x: Annotated[str, typer.Option("--x", help="What varies along a slice: model size N, or tokens D.")] = "n_params",
    y: Y = "loss",
    budget: Annotated[str, typer.Option(help="The planned compute that runs of one slice share, FLOPs.")] = "flops",
    d: Annotated[
        str | None, typer.Option("--d", help="Tokens (N where --x is D); by default the table's, else C/6N.")
    ] = None,
    estimator: Annotated[str, typer.Option(help="Estimator of the minima: auto, akima, parabola or surface.")] = "auto",
    seed_sd: Annotated[float, typer.Option(min=0, help="Spread of the loss between seeds; 0 for none.")] = 0.002,
    ceiling: Ceiling = None,
    weights: Annotated[str, typer.Option(help="Of the minima in N*(C): variance or equal.")] = "variance",
    as_: As = None,
    at: Annotated[float | None, typer.Option(help="A further budget to split, FLOPs.")] = None,
    filter_: Filter = None, json: Json = False, figure: Figure = None, level: Level = 0.95, seed: Seed = 0,
    tracking_uri: Uri = None, parent: Parent = None, query: Query = "",
) -> None:  # fmt: skip
    """N*(C) and D*(C) from slices of equal compute; slices without a bracketed minimum are named."""
    source = RecordsSource(data, tracking_uri, parent, query, filter_)
    chosen, notes = applied(context, as_, estimator=estimator, seed_sd=seed_sd, weights=weights)
    ask = SliceQuestion(x=x, y=y, budget=budget, d=d, at=at, level=level, seed=seed, ceiling=ceiling, **chosen)
    _print(budget_verbs.isoflop(source, ask, notes), json, figure)


@app.command()
def frontier(
    context: typer.Context, data: Data,
    x: Annotated[str, typer.Option("--x", help="Compute, FLOPs.")] = "flops", y: Y = "loss",
    run: Annotated[str, typer.Option(help="Column of run labels.")] = "run", n: N = None, d: D = None,
    method: Annotated[str, typer.Option(help="Definition of the frontier: hull, binned or pareto.")] = "hull",
    as_: As = None, ceiling: Ceiling = None, figure: Figure = None, filter_: Filter = None, json: Json = False,
    level: Level = 0.95, replicates: Replicates = 200, seed: Seed = 0,
    tracking_uri: Uri = None, parent: Parent = None, query: Query = "",
) -> None:  # fmt: skip
    """The lowest loss for each compute from training curves: L(C), N*(C), D*(C), by a named definition."""
    source = RecordsSource(data, tracking_uri, parent, query, filter_, curves=True)
    chosen, notes = applied(context, as_, method=method)
    answer = budget_verbs.frontier(source, x, y, run, n, d, chosen["method"], level, replicates, seed, notes, ceiling)
    _print(answer, json, figure)


@app.command()
def forecast(
    data: Data,
    at: Annotated[str, typer.Option(help="Place to forecast: a number, or N=…,D=… for a form in N and D.")],
    form: Form = "auto", x: X = None, n: N = None, d: D = None, y: Y = "loss", run: Run = None,
    loss: Loss = "squared", delta: Delta = None, space: Space = "log",
    ceiling: Ceiling = None,
    seed_sd: Annotated[float, typer.Option(min=0, help="Further spread between seeds, sd of log y.")] = 0.0,
    filter_: Filter = None, json: Json = False, figure: Figure = None, level: Level = 0.95,
    tracking_uri: Uri = None, parent: Parent = None, query: Query = "",
) -> None:  # fmt: skip
    """y of a larger run with its interval, and what the same method would have said about the known runs."""
    source = RecordsSource(data, tracking_uri, parent, query, filter_)
    columns = ColumnNames(y=y, x=x, n=n, d=d, run=run, ceiling=ceiling)
    options = Options(form, loss, delta, space, level)
    _print(law_verbs.forecast(source, columns, options, at, seed_sd), json, figure)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Table or MLflow runs.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Table or MLflow runs.")],
    form: Form = "auto", x: X = None, n: N = None, d: D = None, y: Y = "loss", run: Run = None,
    loss: Loss = "squared", delta: Delta = None, space: Space = "log",
    ceiling: Ceiling = None, filter_: Filter = None, json: Json = False,
    level: Level = 0.95, replicates: Replicates = 4000, seed: Seed = 0, tracking_uri: Uri = None,
) -> None:  # fmt: skip
    """Do two studies scale differently? Difference of each parameter, its interval and p."""
    sources = [RecordsSource(data, tracking_uri, None, "", filter_) for data in (first, second)]
    columns = ColumnNames(y=y, x=x, n=n, d=d, run=run, ceiling=ceiling)
    options = Options(form, loss, delta, space, level, replicates, seed)
    _print(law_verbs.compare(sources[0], sources[1], columns, options), json)


@app.command("next-runs")
def next_runs(
    data: Data,
    at: Annotated[str, typer.Option(help="The run to forecast: a number, or N=…,D=….")],
    budget: Annotated[float, typer.Option(help="FLOPs for one run.")],
    cost: Annotated[str | None, typer.Option(help="Column with the FLOPs of the known runs.")] = None,
    form: Form = "auto", x: X = None, n: N = None, d: D = None, y: Y = "loss", run: Run = None,
    loss: Loss = "squared", delta: Delta = None, space: Space = "log",
    ceiling: Ceiling = None,
    count: Annotated[int, typer.Option(min=1, help="How many to list.")] = 5,
    filter_: Filter = None, json: Json = False, level: Level = 0.95,
    tracking_uri: Uri = None, parent: Parent = None, query: Query = "",
) -> None:  # fmt: skip
    """Which affordable runs would narrow a forecast most per FLOP."""
    source = RecordsSource(data, tracking_uri, parent, query, filter_)
    columns = ColumnNames(y=y, x=x, n=n, d=d, run=run, ceiling=ceiling)
    options = Options(form, loss, delta, space, level)
    _print(law_verbs.next_runs(source, columns, options, at, budget, cost, count), json)


@app.command("what-if")
def what_if(
    data: Data,
    target: Annotated[float, typer.Option(help="The loss or FID to reach.")],
    form: Form = "auto", x: X = None, n: N = None, d: D = None, y: Y = "loss", run: Run = None,
    loss: Loss = "squared", delta: Delta = None, space: Space = "log",
    ceiling: Ceiling = None, filter_: Filter = None, json: Json = False,
    level: Level = 0.95, replicates: Replicates = 2000, seed: Seed = 0,
    tracking_uri: Uri = None, parent: Parent = None, query: Query = "",
) -> None:  # fmt: skip
    """What a target takes: compute for a law in compute or in N and D, else whatever x is."""
    source = RecordsSource(data, tracking_uri, parent, query, filter_)
    columns = ColumnNames(y=y, x=x, n=n, d=d, run=run, ceiling=ceiling)
    options = Options(form, loss, delta, space, level, replicates, seed)
    _print(law_verbs.what_if(source, columns, options, target), json)


@app.command()
def report(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="URI#STUDY, or its name with --tracking-uri.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html and figures.")] = Path("report"),
    form: Annotated[str, typer.Option(help=f"auto or one of {', '.join(simple())}.")] = "auto",
    replicates: Replicates = 1000, seed: Seed = 0, parent: Parent = None, tracking_uri: Uri = None,
) -> None:  # fmt: skip
    """Laws, figures and one HTML file of a study that varscale recorded."""
    from lawfit.report.page import write_report

    uri, name = address(study, tracking_uri)
    records = load_study(uri, name, parent)
    results = fit_study(records, form=form, bootstrap=replicates, seed=seed)
    for result in results:
        if result.law.primary:
            print(f"{result.law.title}: {result.verdict}")
    print(write_report(records, results, out, samples={}, extra={}, pictures={}))


def _print(answer: law_verbs.Answer, as_json: bool, figure: Path | None = None) -> None:
    text = law_verbs.strict_json(answer) if as_json else "\n".join(answer.lines)
    written = _drawn(answer, figure)
    print(text)
    if written:
        print(written, file=sys.stderr)


def _drawn(answer: law_verbs.Answer, figure: Path | None) -> Path | None:
    """Where the picture was written, before anything is printed. RecordError for a place that takes none."""
    if not figure or not answer.draw:
        return None
    from lawfit.pictures.style import save

    try:
        return save(answer.draw(), figure)
    except OSError as error:
        raise RecordError(f"{figure}: the picture cannot be written: {error.strerror or error}") from error


def main() -> None:
    """Run the command line; errors are one line, without a traceback unless --debug."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        sys.exit(app(arguments, standalone_mode=False))
    except TyperException as mistyped:  # an unknown option, a value out of range; the help where nothing was given
        message = mistyped.format_message()
        print(message if "\n" in message else f"lawfit: {message} (--help lists what is allowed)", file=sys.stderr)
        sys.exit(mistyped.exit_code)
    except (RecordError, TrackingError) as error:
        if debug:
            raise
        print(f"lawfit: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, RecordError) else 1)
    except OSError as error:  # a report's folder that cannot be written, say
        if debug:
            raise
        print(f"lawfit: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
