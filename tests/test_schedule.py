"""Schedules against the reference's values."""

import json
from pathlib import Path

import pytest

from varscale.plan.schedule import lr_factor, weight_decay_at

REFERENCE = Path(__file__).parent / "data" / "sampling" / "schedules_phi.json"


@pytest.mark.parametrize("name", ["lin0", "lin", "lin00", "cos", "exp", "lin0.3"])
def test_learning_rate_and_weight_decay_match_the_reference(name: str) -> None:
    wanted = json.loads(REFERENCE.read_text())["schedules"][name]
    steps, warmup = wanted["max_it"], wanted["wp_it"]
    for step, (lr, decay) in enumerate(wanted["lr_wd"]):
        assert lr_factor(step, steps, warmup, name, wanted["wpe"]) == pytest.approx(lr, abs=1e-15)
        assert weight_decay_at(step, steps, wanted["wd"], wanted["wd_end"]) == pytest.approx(decay, abs=1e-15)
