"""Cluster files against Ray's own schema, and against the versions this project pins."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FILES = ["aws.yaml", "onprem.yaml"]


def load(root: Path, name: str) -> dict:
    return yaml.safe_load((root / "cluster" / name).read_text())


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_the_file(root: Path, name: str) -> None:
    validate_config(prepare_config(load(root, name)))


@pytest.mark.parametrize("name", FILES)
def test_ray_would_refuse_an_unknown_key(root: Path, name: str) -> None:
    with pytest.raises(Exception, match="initial_workers"):
        validate_config(prepare_config({**load(root, name), "initial_workers": 1}))


@pytest.mark.parametrize("name", FILES)
def test_nodes_install_the_pinned_versions(root: Path, name: str) -> None:
    pins = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    text = (root / "cluster" / name).read_text()
    ray = next(pin for pin in pins if pin.startswith("ray["))
    assert ray in text or f"rayproject/ray:{ray.split('==')[1]}-py311" in text
    assert set(re.findall(r'"([a-z0-9]+==[^"]+)"', text)) == {pin for pin in pins if not pin.startswith("ray[")}


@pytest.mark.parametrize("name", FILES)
def test_dashboards_stay_on_loopback_and_tokens_are_on(root: Path, name: str) -> None:
    text = (root / "cluster" / name).read_text()
    assert "--dashboard-host=127.0.0.1" in text
    assert "RAY_AUTH_MODE=token" in text
