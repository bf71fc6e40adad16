"""Does this working tree train as another commit does, to the last bit? That is what a refactoring has to prove.

    python benchmarks/same.py main            # 12 minutes on 2 busy cores; or: make same BASE=main

Both trees run one small study in a store of their own: three sizes of the quickstart, one of them on two workers,
through Ray, DeepSpeed, MLflow and the report. Compared are every metric at every step but times, the laws, and the
weights. Prints how many, or the first differences, and then exits 1.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import ROOT
from safetensors.numpy import load_file

CHANGES = (
    "sizes.depths=[1,2,3]", "resources.by_depth={2: {workers: 2}}", "budget.images=2048", "data.views=1",
    "evaluation.images=64", "analysis.bootstrap=100",
)  # fmt: skip
SHOWN = 10
METRICS = """SELECT runs.name, metrics.key, metrics.step, metrics.value FROM metrics JOIN runs USING (run_uuid)
WHERE metrics.key NOT LIKE 'perf/%' AND runs.lifecycle_stage = 'active'"""


def results(tree: Path, store: Path) -> dict[tuple[Any, ...], Any]:
    """Run the study by the code of ``tree``; what came out, by what it is called."""
    command = [sys.executable, "-m", "varscale", "run", "studies/quickstart.yaml", "--set", f"store={store}"]
    command += [word for change in CHANGES for word in ("--set", change)]
    search = os.pathsep.join(str(tree / folder) for folder in ("platform", "analysis"))
    subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": search}, check=True)
    with sqlite3.connect(store / "mlflow.db") as database:
        found = {(run.split("@")[0], key, step): value for run, key, step, value in database.execute(METRICS)}
    for path in store.rglob("model.safetensors"):
        tensors = load_file(path).items()
        found |= {("weights", path.parent.name.split("-")[0], name): tensor.tobytes() for name, tensor in tensors}
    laws = json.loads(next((store / "reports").rglob("laws.json")).read_text())
    return found | {("law", law["key"], field): value for law in laws for field, value in law.items()}


def main(base: str) -> None:
    """Run both and compare."""
    with tempfile.TemporaryDirectory(prefix="same-") as name:
        tree = Path(name) / "base"
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", str(tree), base], check=True)
        try:
            theirs, ours = results(tree, Path(name) / "theirs"), results(ROOT, Path(name) / "ours")
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(tree)], check=True)
    different = [key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)]
    for key in sorted(different, key=str)[:SHOWN]:
        print("differs:", *key, *(f"{side.get(key)!r:.60}" for side in (theirs, ours)))
    print(f"{len(ours)} results compared with {base}: {len(different) or 'none'} differ")
    sys.exit(bool(different))


if __name__ == "__main__":
    main(sys.argv[1])
