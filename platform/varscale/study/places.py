"""Where a study keeps things: one store folder, absolute, for workers do not share the driver's working folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from varscale.errors import EnvironmentalError, UserError
from varscale.plan.cells import Cell
from varscale.spec.study import Study
from varscale.spec.tokenizer import TokenizerStudy
from varscale.storage import check_writable
from varscale.tracking import SQLITE


@dataclass(frozen=True)
class Places:
    """Absolute folders and addresses of one study."""

    store: Path
    study: str
    tracking_uri: str
    artifact_root: str | None
    """Where artifacts of a new experiment go; None where a tracking server decides."""

    @staticmethod
    def of(study: Study | TokenizerStudy, make_store: bool = True) -> Places:
        """The places of a study; the store is made unless ``make_store`` is off.

        Raises:
            UserError: a file is where the store or the output's folder should be; a relative place inside a submitted
                job, whose working folder vanishes with it.
            EnvironmentalError: the store cannot be made, or the output written.
        """
        store = Path(study.store).resolve()
        uri = study.tracking.uri or f"sqlite:///{store}/mlflow.db"
        kept = {"store": study.store, "tracking.uri": uri.removeprefix("sqlite:///") if uri.startswith(SQLITE) else "/"}
        if isinstance(study, TokenizerStudy):
            kept["output"] = study.output
        for field, path in kept.items():
            if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and not Path(path).is_absolute():
                raise UserError(
                    f"{field}: '{path}' is relative, and a submitted job runs in a temporary folder; give a place that"
                    f" every node sees, e.g. --set {field}=/shared/place"
                )
        _check_store(store, make_store)
        if isinstance(study, TokenizerStudy) and make_store:
            check_writable(Path(study.output))
        served = uri.startswith(("http://", "https://", "databricks"))
        return Places(store, study.name, uri, None if served else (store / "artifacts" / study.name).as_uri())

    @contextmanager
    def locked(self, part: str = "") -> Iterator[None]:
        """The study, or a named part of the store's work, for this process alone.

        Raises:
            EnvironmentalError: another process has it, or the store cannot be written.
        """
        try:
            handle = (self.store / f".{part or self.study}.lock").open("w")
        except OSError as error:
            raise _unwritable(self.store, error) from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise EnvironmentalError(f"{handle.name}: another run is at this in the same store") from error
            yield

    def recorder(self, part: str = "") -> str:
        """Name, on a cluster, of the process that writes the records; of one run at a time, as :meth:`locked`."""
        return f"{part or self.study}@{self.store}"

    def tokens(self, key: str) -> Path:
        """Folder of the tokens with this key."""
        return self.store / "tokens" / key[:16]

    def cell(self, cell: Cell) -> Path:
        """Folder of a cell's exported model and samples."""
        return self.store / "runs" / self.study / f"{cell.name}-{cell.run_key[:8]}"

    @property
    def keys(self) -> Path:
        """File of the keys under which the study, in each of its wordings, was run."""
        return self.store / "studies" / f"{self.study}.json"

    @property
    def checkpoints(self) -> Path:
        """Ray Train's storage: one folder per run key, with ``step_…`` folders inside."""
        return self.store / "checkpoints" / self.study

    def tokenizer_checkpoints(self, output: Path) -> Path:
        """Ray Train's storage for the training of a tokenizer whose weights go to ``output``."""
        return self.store / "checkpoints" / "tokenizers" / output.stem

    @property
    def trials(self) -> Path:
        """Ray Tune's own notes."""
        return self.store / "trials"

    @property
    def report(self) -> Path:
        """Folder of figures and ``report.html``."""
        return self.store / "reports" / self.study


def _check_store(store: Path, make: bool) -> None:
    """Refuse a store that no folder can be at; make its folder if so told."""
    try:
        taken = next((path for path in (store, *store.parents) if path.exists() and not path.is_dir()), None)
        if taken:
            raise UserError(f"store: {store}: {taken} is a file; wanted a folder, there or to be made")
        if make:
            store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(store, error) from error


def _unwritable(store: Path, error: OSError) -> EnvironmentalError:
    return EnvironmentalError(f"store: {store}: cannot be written ({error.strerror}); name another with --set store=…")
