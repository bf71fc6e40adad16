"""Which records are a study's. Its key follows from its images and tokenizer, so it is noted in the store when the
study runs: who only reads the records needs neither these nor torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from varscale.errors import UserError
from varscale.identity import digest, study_key
from varscale.spec.files import load_tokenizer_study
from varscale.spec.study import Study, TrainedTokenizer
from varscale.study.paths import StudyPaths
from varscale.tracking import find_study


def note_key(study: Study, paths: StudyPaths, key: str) -> None:
    """Note the study's key, beside those of the study's other wordings."""
    noted = _noted(paths)
    if noted.get(_wording(study)) != key:
        paths.keys.write_json({**noted, _wording(study): key})


def recorded_parent(study: Study, paths: StudyPaths) -> str:
    """MLflow run of the study as its file stands.

    Raises:
        UserError: it has none, or its experiment was deleted.
        EnvironmentalError: MLflow does not answer.
    """
    key = _noted(paths).get(_wording(study))
    if key is None:
        nothing = f"study {study.name}: no records of it as it stands: {paths.keys} notes no run of it"
        raise UserError(f"{nothing}; run it, which makes nothing twice")
    parent = find_study(paths.tracking_uri, study.name, key)
    if parent is None:
        raise UserError(f"study {study.name}: no records of it as it stands in {paths.records}; run it first")
    return parent


def _noted(paths: StudyPaths) -> dict[str, str]:
    """Key by wording."""
    return json.loads(paths.keys.read_bytes()) if paths.keys.is_file() else {}


def _wording(study: Study) -> str:
    """Digest of what decides the key, data and tokenizer as the study's file names them."""
    tokenizer: Any = study.tokenizer.model_dump(mode="json")
    if isinstance(study.tokenizer, TrainedTokenizer):
        tokenizer = load_tokenizer_study(Path(study.tokenizer.spec)).model_dump(mode="json")
    data = study.data.model_dump(mode="json", exclude={"cache_gib"})
    return digest([study_key(study, ""), data, tokenizer])
