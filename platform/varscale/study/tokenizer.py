"""The training of a tokenizer from the outside: checks, records, workers, and the file that comes of it."""

from __future__ import annotations

import json
from typing import Any

from lawfit.records import schema
from varscale.data.images import ViewRule
from varscale.data.loader import check_sides
from varscale.data.manifests import ImageSet
from varscale.errors import EnvironmentalError, UserError
from varscale.identity import difference
from varscale.interruption import stage
from varscale.locations import Location
from varscale.models.lpips import load_lpips
from varscale.models.tokenizer_file import TokenizerFile
from varscale.plan.tokenizer import TokenizerRun, make_run
from varscale.progress import Progress, say
from varscale.records import Records, recording
from varscale.spec.tokenizer import TokenizerStudy
from varscale.study.paths import StudyPaths, absolute
from varscale.study.placement import check_workers, cluster_resources, largest_node_cpus
from varscale.study.watch import Ticker, run_stands
from varscale.train.launch import Workers, launch
from varscale.train.tokenizer.worker import TokenizerJob, run_tokenizer_rank

SETTINGS_FILE = "settings.json"
WEIGHTS_FILE = "tokenizer.safetensors"


def train_tokenizer(study: TokenizerStudy, images: ImageSet, paths: StudyPaths, git_commit: str) -> TokenizerFile:
    """Train a tokenizer on image shards, record it, and write its weights to ``study.output`` with a picture beside.

    An interrupted training goes on from its last checkpoint; a finished one is not repeated. Ray must be initialised.

    Returns:
        The file; its facts hold the figures of the last validation under ``validation``.

    Raises:
        UserError: unusable images or weights; a finished or unfinished training with other settings at the output; one
            that diverged.
        EnvironmentalError: the workers failed.
    """
    output = absolute(study.output)
    run = make_run(_with_absolute_paths(study), images.manifest.fingerprint, largest_node_cpus())
    if finished := _finished(output, run):
        say(f"tokenizer {run.name}: {output} was trained so before; nothing to do")
        return finished
    check_workers(run.name, run.workers, run.cpus_per_worker, run.gpus_per_worker, cluster_resources())
    _check_inputs(run, images)
    folder = paths.tokenizer_checkpoints(output)
    part = f"tokenizer-{folder.name}"
    with paths.locked(part):
        _claim(folder, run)
        with recording(paths.recorder(part), paths.tracking_uri, run.name, paths.artifact_root) as records:
            _train(study, run, images, output, folder, git_commit, records)
    return TokenizerFile.read(output)


def _with_absolute_paths(study: TokenizerStudy) -> TokenizerStudy:
    """Workers do not share the driver's working folder."""
    perceptual = study.recipe.perceptual
    if perceptual is None or perceptual.vgg16 is None or perceptual.heads is None:
        return study
    paths = {"vgg16": str(absolute(perceptual.vgg16)), "heads": str(absolute(perceptual.heads))}
    recipe = study.recipe.model_copy(update={"perceptual": perceptual.model_copy(update=paths)})
    return study.model_copy(update={"recipe": recipe})


def _finished(output: Location, run: TokenizerRun) -> TokenizerFile | None:
    """The weights at ``output``, if there are any; those of another run are refused, not replaced."""
    if not output.is_file():
        return None
    found = TokenizerFile.read(output)
    if found.facts.get("run_key") == run.run_key:
        return found
    differs = difference(run.settings, {name: found.facts.get(name) for name in run.settings})
    raise UserError(f"{output}: holds another tokenizer ({differs or 'another run'}); name another output or remove it")


def _check_inputs(run: TokenizerRun, images: ImageSet) -> None:
    for split in ("train", "val"):
        check_sides(images, split, run.vqvae.image_size)
        if (rows := images.manifest.rows(split)) < run.workers:
            raise UserError(f"{images.folder}: split '{split}' has {rows} images for {run.workers} workers")
    perceptual = run.recipe.perceptual
    if perceptual and perceptual.vgg16 and perceptual.heads:
        load_lpips(perceptual.vgg16, perceptual.heads)
    if run.perceptual_is_off:
        say("LPIPS is off: recipe.perceptual names no weights (vgg16, heads); the loss goes without it")


def _claim(folder: Location, run: TokenizerRun) -> None:
    """Make the checkpoint folder this run's, unless it holds a checkpoint with other settings."""
    settings = folder / SETTINGS_FILE
    begun = any(name.startswith("step_") for name in folder.files(recursive=True))
    theirs = json.loads(settings.read_bytes()) if begun else run.settings
    if differs := difference(run.settings, theirs):
        raise UserError(
            f"{folder}: holds an unfinished training with other settings ({differs}); finish it with those, name"
            " another output, or remove that folder"
        )
    settings.write_json(run.settings)


def _train(
    study: TokenizerStudy,
    run: TokenizerRun,
    images: ImageSet,
    output: Location,
    folder: Location,
    git_commit: str,
    records: Records,
) -> None:
    tags = {schema.TAG_GIT_COMMIT: git_commit, schema.TAG_CHECKPOINT: str(folder)}
    run_id = records.open_tokenizer(run.run_key, run.name, _params(run), tags)
    made = folder / WEIGHTS_FILE
    facts = {"name": run.name, "run_key": run.run_key, "git_commit": git_commit, **run.settings}
    job = TokenizerJob(
        run=run,
        rule=ViewRule.of(study.data),
        evaluation=study.evaluation,
        images=images.folder,
        output=made,
        facts=facts,
        run_id=run_id,
        name=run.name,
        run_key=run.run_key,
        checkpoints=folder,
        records=records,
        cache_bytes=study.data.cache_bytes,
    )
    workers = Workers(run.workers, run.cpus_per_worker, run.gpus_per_worker)
    line = _Line(run, records, folder)
    with stage("tokenizer", line.standing), Ticker(records, line.print):
        failure = launch(run_tokenizer_rank, job, workers, study.checkpoints)
    if failure:
        raise EnvironmentalError(f"tokenizer {run.name}: {failure}")
    if not made.is_file():
        reason = "diverged: the loss is not finite; a lower recipe.lr may help"
        records.fail(run_id, reason)
        folder.remove()  # its checkpoints lead to the same end
        raise UserError(f"tokenizer {run.name}: {reason}")
    output.with_suffix(".png").write_bytes(made.with_suffix(".png").read_bytes())
    output.write_bytes(made.read_bytes())  # last: it says that all is there
    records.log_files(run_id, [output, output.with_suffix(".png")])
    records.close(run_id, schema.STATE_FINISHED)
    folder.remove()


def _params(run: TokenizerRun) -> dict[str, Any]:
    """What MLflow records of a tokenizer's training, constant over the run: every setting, flat."""
    flat: dict[str, Any] = {
        schema.SEED: run.seed,
        schema.DATA_FINGERPRINT: run.settings["data_fingerprint"],
        schema.ENGINE_PRECISION: run.precision,
    }
    for section in ("data", "model", "recipe"):
        for key, value in run.settings[section].items():
            inner = value if isinstance(value, dict) else {"": value}
            flat |= {f"{section}.{key}.{name}".rstrip("."): each for name, each in inner.items()}
    return flat


class _Line:
    """The progress line: steps, rate, time left, latest loss and PSNR."""

    def __init__(self, run: TokenizerRun, records: Records, checkpoints: Location) -> None:
        self._run, self._records, self._checkpoints = run, records, checkpoints
        self._progress: Progress | None = None

    def standing(self) -> str:
        """Where the run stands, for who interrupts it."""
        at = self._records.progress().get(self._run.name)
        return run_stands(self._run.name, self._run.steps, at, self._checkpoints)

    def print(self) -> None:
        """Tell where the run stands."""
        state = self._records.progress().get(self._run.name)
        if state is None:
            return
        if self._progress is None:
            self._progress = Progress(f"tokenizer {self._run.name}", self._run.steps, "steps", state.step)
        shown = {"loss": schema.TRAIN_LOSS, "val PSNR": schema.VAL + schema.PSNR}
        note = ", ".join(f"{label} {state.metrics[name]:.4g}" for label, name in shown.items() if name in state.metrics)
        self._progress.advance(state.step - self._progress.done, note)
