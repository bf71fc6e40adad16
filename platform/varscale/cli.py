"""The command line: one verb per thing people do; heavy imports wait until a verb runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.exceptions import TyperException

from varscale.errors import EnvironmentalError, UserError
from varscale.interruption import interruptible, stage
from varscale.logs import log_to_user

app = typer.Typer(
    help="Find out how a VAR image generator scales before you spend the money.\n\n"
    "A study is a YAML file: images, a tokenizer, a grid of sizes, what is measured. 'varscale run' takes it from"
    " images to a fitted scaling law; every other verb does one part of that. With --debug, errors come with their"
    " traceback and Ray's workers are heard.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
tokenizer_app = typer.Typer(help="Train the multi-scale tokenizer, and measure it.", no_args_is_help=True)
app.add_typer(tokenizer_app, name="tokenizer")
data_app = typer.Typer(help="Look at a data set, and check that it is whole.", no_args_is_help=True)
app.add_typer(data_app, name="data")

StudyFile = Annotated[Path, typer.Argument(help="The study, a YAML file such as studies/quickstart.yaml.")]
TokenizerStudyFile = Annotated[Path, typer.Argument(help="A YAML file such as studies/tokenizer-emoji32.yaml.")]
ReleasedScales = Annotated[
    str, typer.Option(help="Scales of a released tokenizer, e.g. 1,2,3,4,6,9,13,18,24,32 for 512 px; else 256 px.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the file, e.g. --set budget.images=4096."),
]


@app.command()
def ingest(
    source: Annotated[
        str,
        typer.Argument(
            help="Labelled images, a path or URL: a folder of class folders, a tar of one, a folder with the ILSVRC"
            " tars, Parquet tables with image and label, or image shards."
        ),
    ],
    dest: Annotated[str, typer.Argument(help="Path or URL of the new folder for the shards.")],
    size: Annotated[
        int | None, typer.Option(min=1, help="Scale the shorter side to this many pixels; by default bytes are kept.")
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="With --size: quality of what was a JPEG.")] = 95,
    shard_mib: Annotated[int, typer.Option(min=1, help="Target size of a shard in MiB.")] = 256,
    val_fraction: Annotated[
        float, typer.Option(min=0.001, max=0.9, help="Validation share, if the source has no splits.")
    ] = 0.1,
    strict: Annotated[bool, typer.Option(help="Stop at the first unusable image.")] = False,
) -> None:
    """Turn labelled images into Parquet shards; run again, an interrupted ingest goes on."""
    from contextlib import nullcontext

    from varscale.data.ingest import IngestOptions, begin_ingest, finish_ingest
    from varscale.ray_session import connected

    job = begin_ingest(source, dest, IngestOptions(size, quality, shard_mib, val_fraction, strict))
    with nullcontext() if job.is_small else connected(_debug()):
        manifest = finish_ingest(job)
    rows = ", ".join(f"{manifest.rows(split):,} {split}" for split in manifest.splits)
    print(f"{dest}: {rows} images of {len(manifest.classes):,} classes, {manifest.rejected:,} left out")
    print(f"fingerprint {manifest.fingerprint}")


DataSet = Annotated[str, typer.Argument(help="A data set of images or tokens: its folder, or a URL of it.")]


@data_app.command("verify")
def data_verify(
    dest: DataSet,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Read a data set whole and name every row that is not as it should be; exit code 2 if there is any."""
    import json
    from contextlib import nullcontext

    from varscale.data.checks.verify import is_small, verify
    from varscale.data.manifests import read_manifest
    from varscale.locations import Location
    from varscale.ray_session import connected

    place = Location.of(dest)
    with nullcontext() if is_small(read_manifest(place)) else connected(_debug()):
        verdict = verify(place)
    if as_json:
        print(json.dumps(verdict.to_json()))
    else:
        print("\n".join([*verdict.problems.lines(), verdict.summary()]))
    if not verdict.sound:
        raise typer.Exit(UserError.exit_code)


@data_app.command("show")
def data_show(
    dest: DataSet,
    picture: Annotated[
        Path | None, typer.Option(help="PNG to write, some images of some classes; default: its name .png, here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print what a data set holds, by class, size and shape or by use of codes, and write a picture of its images."""
    from varscale.data.cards.show import show
    from varscale.locations import Location

    print(show(Location.of(dest), picture, as_json))


@tokenizer_app.command("plan")
def tokenizer_plan(spec: TokenizerStudyFile, overrides: Overrides = None) -> None:
    """Print what training a tokenizer will do and cost. Trains nothing."""
    from varscale.spec.files import load_tokenizer_study

    study = load_tokenizer_study(spec, overrides)
    from varscale.study.tokenizer_plan_table import tokenizer_table

    print(tokenizer_table(study))


@tokenizer_app.command("train")
def tokenizer_train(spec: TokenizerStudyFile, overrides: Overrides = None) -> None:
    """Train a tokenizer and write its weights and picture; run again, an interrupted training goes on."""
    from varscale.spec.files import load_tokenizer_study

    study = load_tokenizer_study(spec, overrides)
    from varscale.ray_session import connected
    from varscale.study.paths import StudyPaths
    from varscale.study.stages import find_images, ingest_if_missing
    from varscale.study.tokenizer import train_tokenizer

    paths = StudyPaths.of(study)
    with connected(_debug()):
        images = ingest_if_missing(study.data, find_images(study.data, paths.store))
        quality = train_tokenizer(study, images, paths, _git_commit()).facts["validation"]
    print(f"{study.output}: validation PSNR {quality['psnr_db']:.2f} dB")
    for name, value in quality.items():
        print(f"  {name:<32} {value:.4g}")
    print(f"pictures: {Path(study.output).with_suffix('.png')}")


@tokenizer_app.command("evaluate")
def tokenizer_evaluate(
    tokenizer: Annotated[str, typer.Argument(help="A tokenizer's weights (.safetensors).")],
    shards: Annotated[str, typer.Argument(help="Image shards, as 'varscale ingest' makes them.")],
    split: Annotated[str, typer.Option(help="Split of the shards.")] = "val",
    features: Annotated[
        str,
        typer.Option(
            help="Space of the Fréchet distance: tokenizer (its own encoder: circular), vgg16, or inception (rFID)."
        ),
    ] = "tokenizer",
    weights: Annotated[str | None, typer.Option(help="Weights of vgg16 or inception (.pth, .safetensors).")] = None,
    images: Annotated[int | None, typer.Option(min=2, help="Only the first so many images.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 64,
    resize_ratio: Annotated[
        float | None, typer.Option(min=1, help="Shorter side before the centre crop, times the tokenizer's side.")
    ] = None,
    picture: Annotated[str | None, typer.Option(help="PNG to write: originals, then what each scale adds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure PSNR, SSIM, Fréchet distance and use of codes by scale on any split of image shards."""
    import json

    from varscale.evaluate.tokenizer import Question, evaluate_tokenizer
    from varscale.progress import say

    question = Question(split, features, weights, images, batch, resize_ratio, picture)
    answer = evaluate_tokenizer(tokenizer, shards, question)
    for caveat in answer.caveats():
        say(caveat)
    print(json.dumps(answer.to_json()) if as_json else answer.table())


@app.command()
def tokenise(
    shards: Annotated[str, typer.Argument(help="Image shards, as 'varscale ingest' makes them: a folder or a URL.")],
    tokenizer: Annotated[str, typer.Argument(help="A tokenizer's weights (.safetensors, or a released .pth).")],
    dest: Annotated[str, typer.Argument(help="Folder or URL for the token shards.")],
    views: Annotated[int, typer.Option(min=1, help="Augmented views of each training image.")] = 1,
    resize_ratio: Annotated[
        float, typer.Option(min=1, max=4, help="Shorter side before the crop, times the tokenizer's side.")
    ] = 1.125,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror half of the training views.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="View j of an image depends on (seed, its key, j).")] = 0,
    patch_nums: ReleasedScales = "",
    gpus: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of a GPU per actor; default: 1 where the cluster has any, else 0."),
    ] = None,
    cpus: Annotated[int, typer.Option(min=1, help="CPUs per actor, for decoding and, without GPU, encoding.")] = 1,
) -> None:
    """Encode image shards once, in several views, into token shards; run again, an interrupted one goes on."""
    from dataclasses import replace

    from varscale.data.assembly import check_apart
    from varscale.data.encoder import TokeniseJob
    from varscale.data.images import ViewRule
    from varscale.data.manifests import ImageSet
    from varscale.data.tokenise import begin_tokens, finish_tokens
    from varscale.evaluate.assessment import assess
    from varscale.locations import Location
    from varscale.models.tokenizer_file import TokenizerFile
    from varscale.progress import say
    from varscale.ray_session import connected
    from varscale.study.placement import cluster_resources

    images, target = Location.of(shards), Location.of(dest)
    check_apart(images, target)
    loaded = TokenizerFile.read(tokenizer, _released_scales(tokenizer, patch_nums))
    rule = ViewRule(loaded.cfg.image_size, resize_ratio, flip)
    job = TokeniseJob(ImageSet.read(images), loaded, rule, views, seed, cpus)
    begun = begin_tokens(job, target)  # what is wrong with them is said before Ray starts
    if begun.finished:
        say(f"{target}: holds just these tokens already; nothing to do")
        manifest = begun.finished
    else:
        with connected(_debug()):
            share = float(cluster_resources()["GPU"] > 0) if gpus is None else gpus
            manifest = finish_tokens(replace(begun, job=replace(job, gpus_per_actor=share)), assess)
    rows = ", ".join(f"{manifest.rows(split):,} {split}" for split in manifest.splits)
    print(f"{dest}: {rows} rows of {manifest.length} tokens")
    print(f"key {manifest.key}")


@app.command()
def plan(study_file: StudyFile, overrides: Overrides = None) -> None:
    """Print the grid of a study: sizes, tokens, FLOPs, predicted time. Trains nothing."""
    study, paths = _study(study_file, overrides, make_store=False)
    from varscale.study.plan_table import plan_table

    print(plan_table(study, paths))


@app.command()
def run(study_file: StudyFile, overrides: Overrides = None) -> None:
    """Run a study to its report; run again, it finishes what is missing and repeats nothing."""
    study, paths = _study(study_file, overrides)
    from varscale.study.run import Timing

    timing = Timing()
    from varscale.ray_session import connected
    from varscale.study.run import run_study

    with stage(f"study {study.name}", timing.standing), paths.locked(), connected(_debug()):
        timing.ended("start Ray")
        outcome = run_study(study, paths, _git_commit(), timing)
    timing.ended("stop Ray")
    print(f"time by stage (min:s)\n{timing.table()}", file=sys.stderr)
    print(f"report: {outcome.report}")
    print(f"records: mlflow ui --backend-store-uri {paths.records}    then open http://127.0.0.1:5000")
    if outcome.failed:
        raise EnvironmentalError(f"{len(outcome.failed)} of the study's sizes failed; run again to retry them")


@app.command()
def status(study_file: StudyFile, overrides: Overrides = None) -> None:
    """Show what a study's records hold so far."""
    study, paths = _study(study_file, overrides, make_store=False)
    from varscale.study.status import status_table

    print(status_table(study, paths))


@app.command()
def sample(
    checkpoint: Annotated[str, typer.Argument(help="An exported model.safetensors.")],
    tokenizer: Annotated[str, typer.Argument(help="The tokenizer it was trained with.")],
    out: Annotated[str, typer.Argument(help="PNG to write.")],
    classes: Annotated[str, typer.Option(help="Class indices, e.g. 0,3,5; default: one row per class.")] = "",
    per_class: Annotated[int, typer.Option(min=1, help="Images per class.")] = 8,
    cfg: Annotated[float, typer.Option(min=0, help="Guidance at the last scale.")] = 1.5,
    top_k: Annotated[int, typer.Option(min=0, help="Keep the k likeliest tokens; 0 keeps all.")] = 0,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Keep this probability mass; 0 keeps all.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, max=2**32, help="Image i draws from (seed, i).")] = 0,
    bf16: Annotated[bool, typer.Option("--bf16", help="Decode in bf16: faster, not for measurements.")] = False,
) -> None:
    """Draw images from a trained model into one PNG."""
    from varscale.evaluate.sample import write_samples
    from varscale.models.sampling import SamplingConfig

    count = write_samples(
        checkpoint,
        tokenizer,
        out,
        _numbers("--classes", classes),
        per_class,
        SamplingConfig(cfg, top_k, top_p, seed),
        bf16,
    )
    print(f"{out}: {count} images")


@app.command()
def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="An exported model.safetensors.")],
    tokenizer: Annotated[str, typer.Argument(help="The tokenizer it was trained with.")],
    tokens: Annotated[str, typer.Argument(help="The token folder it was trained on.")],
) -> None:
    """Recompute a model's validation losses from its file."""
    from varscale.data.loader import TokenShards
    from varscale.evaluate.loss import validation_metrics
    from varscale.evaluate.sample import check_pair
    from varscale.families.catalogue import load_any
    from varscale.models.store import load_model
    from varscale.models.vqvae import VQVAE

    shards, model = TokenShards(tokens, "val"), load_any(checkpoint).model
    vqvae = load_model(tokenizer, VQVAE, model.cfg.patch_nums)
    check_pair(model, vqvae.model, checkpoint, tokenizer)
    if shards.manifest.tokenizer_fingerprint != vqvae.fingerprint:
        raise UserError(f"{tokens}: made by another tokenizer than {tokenizer}")
    shards.finish_checks()
    quantizer = vqvae.model.quantize
    for name, value in validation_metrics(model, quantizer, shards.first_views(), shards.labels, batch=128).items():
        print(f"{name:<16} {value:.6f}")


@app.command()
def convert(
    model: Annotated[str, typer.Argument(help="A model or tokenizer: ours (.safetensors) or a released one (.pth).")],
    out: Annotated[str, typer.Argument(help="The file to write, of the other kind.")],
    patch_nums: ReleasedScales = "",
) -> None:
    """Turn a released checkpoint into a file of ours, or ours into one that the authors' code loads."""
    from varscale.models.convert import convert as convert_file

    print(f"{out}: {convert_file(model, out, _released_scales(model, patch_nums))}")


@app.command()
def report(study_file: StudyFile, overrides: Overrides = None) -> None:
    """Fit the laws again from the MLflow records, and write figures and report."""
    study, paths = _study(study_file, overrides, make_store=False)
    from varscale.study.recorded import recorded_parent
    from varscale.study.report import write_study_report

    print(f"report: {write_study_report(study, paths, recorded_parent(study, paths))}")


@app.command()
def spec(
    schema: Annotated[
        Literal["study", "tokenizer"] | None, typer.Option(help="Print the JSON Schema of such files instead.")
    ] = None,
) -> None:
    """Print every field of study files and tokenizer files: what is allowed, default, meaning."""
    import json

    from varscale.spec.reference import FILES, reference

    print(json.dumps(FILES[schema].model_json_schema(), indent=1) if schema else reference())


@app.command()
def doctor() -> None:
    """Check this machine: versions, Ray, DeepSpeed, MLflow, disk."""
    from varscale.doctor import examine

    if not examine():
        raise EnvironmentalError("something above needs mending")


def _study(path: Path, overrides: list[str] | None, make_store: bool = True) -> tuple[Any, Any]:
    from varscale.spec.files import load_study
    from varscale.study.paths import StudyPaths

    study = load_study(path, overrides)
    return study, StudyPaths.of(study, make_store)


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part]
    except ValueError:
        raise UserError(f"{option} {text}: wanted whole numbers with commas, e.g. 0,3,5") from None


def _released_scales(model: str, text: str) -> tuple[int, ...] | None:
    """What ``--patch-nums`` says, if anything."""
    scales = tuple(_numbers("--patch-nums", text)) or None
    if scales and model.endswith(".safetensors"):
        raise UserError(f"--patch-nums {text}: only for a released .pth; {model} holds its own scales")
    return scales


def _git_commit() -> str:
    """Commit of the code; a shipped working folder has no .git and may name it in VARSCALE_GIT_COMMIT."""
    import os
    import subprocess

    root = Path(__file__).resolve().parent
    found = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else os.environ.get("VARSCALE_GIT_COMMIT", "unknown")


def _debug() -> bool:
    return "--debug" in sys.argv


def main(command: Callable[..., Any] = app) -> None:
    """Run the command line; errors meant for users become one line on stderr and their exit code."""
    log_to_user()
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        sys.exit(interruptible(lambda: command(arguments, standalone_mode=False), hush=not _debug()))
    except TyperException as mistyped:  # an unknown option, a value out of range; the help where nothing was given
        message = mistyped.format_message()
        print(message if "\n" in message else f"varscale: {message} (--help lists what is allowed)", file=sys.stderr)
        sys.exit(mistyped.exit_code)
    except Exception as raised:
        # What went wrong in a Ray task arrives wrapped; MLflow's and Ray's own errors mean a server or a cluster.
        error = getattr(raised, "cause", None) or raised
        known = isinstance(error, UserError | EnvironmentalError | OSError)
        outside = type(error).__module__.split(".")[0] in ("mlflow", "ray", "sqlalchemy")
        if _debug() or not (known or outside):
            raise
        print(f"varscale: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", EnvironmentalError.exit_code))
