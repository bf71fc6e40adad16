"""Where a study keeps things: one store folder, absolute, for workers do not share the driver's working folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from varscale.errors import UserError
from varscale.plan import Cell
from varscale.spec import Study, TokenizerStudy


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
            UserError: a relative store inside a submitted job, whose working folder vanishes with it.
        """
        if not Path(study.store).is_absolute() and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
            raise UserError(
                f"store: '{study.store}' is relative, and a submitted job runs in a temporary folder; give a folder"
                " that every node sees: --set store=/shared/folder"
            )
        store = Path(study.store).resolve()
        uri = study.tracking.uri or f"sqlite:///{store}/mlflow.db"
        if make_store:
            store.mkdir(parents=True, exist_ok=True)
        local = uri.startswith("sqlite:")
        return Places(store, study.name, uri, (store / "artifacts" / study.name).as_uri() if local else None)

    def tokens(self, key: str) -> Path:
        """Folder of the tokens with this key."""
        return self.store / "tokens" / key[:16]

    def cell(self, cell: Cell) -> Path:
        """Folder of a cell's exported model and samples."""
        return self.store / "runs" / self.study / f"{cell.name}-{cell.run_key[:8]}"

    @property
    def checkpoints(self) -> Path:
        """Ray Train's storage: a folder a run key, with ``step_…`` folders inside."""
        return self.store / "checkpoints" / self.study

    @property
    def trials(self) -> Path:
        """Ray Tune's own notes."""
        return self.store / "trials"

    @property
    def report(self) -> Path:
        """Folder of figures and ``report.html``."""
        return self.store / "reports" / self.study
