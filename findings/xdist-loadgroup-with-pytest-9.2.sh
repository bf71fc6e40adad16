#!/usr/bin/env bash
# pytest-xdist 3.8.0 with pytest 9.2.0: --dist loadgroup scatters the tests of a group over all workers, without a word.
#
# Found by a fixture that ran twice. Expected, as xdist documents: tests of one xdist_group run in one worker.
# Seen (2026-11-30, Python 3.11): with 8.4.2 each group has one worker; with 9.2.0 every group has two. xdist's workers
# put the group behind item._nodeid, which that pytest no longer reads. --dist loadfile keeps files together with both.
# What it costs: a fixture that a module shares is made once per worker, and tests that must not overlap do.
# Here: `make test` gives out files (Makefile), not groups.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/test_groups.py" <<'PY'
import os
import time
from pathlib import Path

import pytest


def ran(group):
    time.sleep(0.1)
    Path(__file__).with_name(f"{group}-{os.environ['PYTEST_XDIST_WORKER']}").touch()


@pytest.mark.xdist_group("a")
@pytest.mark.parametrize("n", range(6))
def test_of_group_a(n):
    ran("a")


@pytest.mark.xdist_group("b")
@pytest.mark.parametrize("n", range(6))
def test_of_group_b(n):
    ran("b")
PY
workers_of_group_a() {
  rm -f "$folder"/[ab]-gw*
  "$folder/$1/bin/python" -m pytest -q -p no:cacheprovider -n 2 --dist loadgroup "$folder/test_groups.py" > /dev/null
  ls "$folder" | grep -c '^a-gw'
}
for version in 8.4.2 9.2.0; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install --quiet "pytest==$version" pytest-xdist==3.8.0 2> /dev/null
done
before=$(workers_of_group_a 8.4.2) now=$(workers_of_group_a 9.2.0)
echo "workers that ran group a: pytest 8.4.2: $before, pytest 9.2.0: $now"
[ "$before" = 1 ] && [ "$now" = 2 ] || { echo "this has changed"; exit 1; }
