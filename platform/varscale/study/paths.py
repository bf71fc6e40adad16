"""Where a study keeps things: below one store, a folder that every worker sees or a URL of object storage."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lawfit.records.addresses import shown
from varscale.data.cache import cache_folder
from varscale.errors import EnvironmentalError, UserError
from varscale.identity import digest
from varscale.locations import Location
from varscale.plan.cells import Cell
from varscale.spec.study import Study
from varscale.spec.tokenizer import TokenizerStudy
from varscale.tracking import SQLITE


@dataclass(frozen=True)
class StudyPaths:
    """Folders and addresses of one study, absolute: workers do not share the driver's working folder."""

    store: Location
    study: str
    tracking_uri: str
    artifact_root: str | None
    """Where artifacts of a new experiment go; None where a tracking server decides."""

    @staticmethod
    def of(study: Study | TokenizerStudy, make_store: bool = True) -> StudyPaths:
        """The paths of a study; a local store is made unless ``make_store`` is off.

        Raises:
            UserError: a file is where the store or the output's folder should be; a relative path inside a submitted
                job, whose working folder vanishes with it; a store in object storage without a tracking server.
            EnvironmentalError: the store cannot be made, or the output written.
        """
        store = absolute(study.store)
        uri = study.tracking.uri or _own_database(store)
        kept = {"store": study.store, "tracking.uri": uri.removeprefix(SQLITE) if uri.startswith(SQLITE) else "/"}
        if isinstance(study, TokenizerStudy):
            kept["output"] = study.output
        for field, path in kept.items():
            if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and "://" not in path and not Path(path).is_absolute():
                raise UserError(
                    f"{field}: '{path}' is relative, and a submitted job runs in a temporary folder; give a path that"
                    f" every node sees, e.g. --set {field}=/shared/path"
                )
        _check_store(store, make_store)
        if isinstance(study, TokenizerStudy) and make_store:
            Location.of(study.output).check_writable()
        served = uri.startswith(("http://", "https://", "databricks"))
        artifacts = store / "artifacts" / study.name
        root = artifacts.local.as_uri() if artifacts.local else str(artifacts)
        return StudyPaths(store, study.name, uri, None if served else root)

    @property
    def records(self) -> str:
        """The tracking URI without its user and password, for screens and records."""
        return shown(self.tracking_uri)

    @contextmanager
    def locked(self, part: str = "") -> Iterator[None]:
        """The study, or a named part of the store's work, for this process alone.

        Object storage knows no locks: there, only other processes of this machine are kept out.

        Raises:
            EnvironmentalError: another process has it, or the store cannot be written.
        """
        folder = self.store.local or cache_folder() / "stores" / digest(str(self.store))[:16]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = (folder / f".{part or self.study}.lock").open("w")
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

    def tokens(self, key: str) -> Location:
        """Folder of the tokens with this key."""
        return self.store / "tokens" / key[:16]

    def cell(self, cell: Cell) -> Location:
        """Folder of a cell's exported model and samples."""
        return self.store / "runs" / self.study / f"{cell.name}-{cell.run_key[:8]}"

    @property
    def keys(self) -> Location:
        """File of the keys under which the study, in each of its wordings, was run."""
        return self.store / "studies" / f"{self.study}.json"

    @property
    def checkpoints(self) -> Location:
        """Ray Train's storage: one folder per run key, with ``step_…`` folders inside."""
        return self.store / "checkpoints" / self.study

    def cell_checkpoints(self, cell: Cell) -> Location:
        """Ray Train's storage for a cell."""
        return self.checkpoints / cell.run_key[:16]

    def tokenizer_checkpoints(self, output: Location) -> Location:
        """Ray Train's storage for the training of a tokenizer whose weights go to ``output``."""
        return self.store / "checkpoints" / "tokenizers" / output.with_suffix("").name

    @property
    def trials(self) -> Location:
        """Ray Tune's own notes."""
        return self.store / "trials"

    @property
    def report(self) -> Location:
        """Folder of figures and ``report.html``."""
        return self.store / "reports" / self.study


def absolute(path: str) -> Location:
    """The location that a study's field names; a path is shown as an absolute one from here on."""
    return Location.of(path if "://" in path else Path(path).resolve())


def _own_database(store: Location) -> str:
    """Records beside everything else, where that is a folder."""
    if store.local is None:
        raise UserError(f"store: {store}: records in SQLite need a folder; name an MLflow server, --set tracking.uri=…")
    return f"{SQLITE}{store.local}/mlflow.db"


def _check_store(store: Location, make: bool) -> None:
    """Refuse a store that no folder can be at; make its folder if so told."""
    if store.local is None:
        return
    try:
        around = (store.local, *store.local.parents)
        taken = next((path for path in around if path.exists() and not path.is_dir()), None)
        if taken:
            raise UserError(f"store: {store}: {taken} is a file; wanted a folder, there or to be made")
        if make:
            store.local.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(store, error) from error


def _unwritable(store: Location, error: OSError) -> EnvironmentalError:
    return EnvironmentalError(f"store: {store}: cannot be written ({error.strerror}); name another with --set store=…")
