"""CPU time of bootstraps, in one table: lawfit in fresh processes against a plain scipy loop of the same run.

    python benchmarks/lawfit_speed.py DATA.csv [--replicates 4000] [--baseline 60]

DATA.csv has the columns n_params, tokens, loss and keep240 (1 for the points that take part): Chinchilla's 240
points. `cold` is a fresh process from its first line to the result, imports included; `warm` is the second call
in it. The baseline minimises the same objective (sum of Huber's loss, delta = 1e-3, log space) with scipy's
L-BFGS-B, analytic gradient, tight tolerances, from the full fit, for `--baseline` replicates and is scaled up.
All times are of the process's CPU, all threads together.
"""

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path

from record import print_table, recorded

COLD = """
import time; began = time.process_time()
import csv, json, sys
import numpy as np
from lawfit.fitting.fitting import fit
from lawfit.intervals.bootstrap import bootstrap
imported = time.process_time()
rows = [row for row in csv.DictReader(open(sys.argv[1])) if row["keep240"] == "1"]
n, d, y = (np.array([float(row[key]) for row in rows]) for key in ("n_params", "tokens", "loss"))
law = fit({"N": n, "D": d}, y, "chinchilla", loss="huber", delta=1e-3)
fitted = time.process_time()
result = bootstrap(law, by="point", replicates=int(sys.argv[2]))
done = time.process_time()
bootstrap(law, by="point", replicates=int(sys.argv[2]), seed=1)
warm = time.process_time()
heavy = [m for m in ("matplotlib", "mlflow", "scipy.optimize", "pandas") if m in sys.modules]
print(json.dumps({"import": imported - began, "fit": fitted - imported, "cold": done - began,
                  "bootstrap": done - fitted, "warm": warm - done, "failed": result.failed, "loaded": heavy}))
"""

CURVES = """
import time
import json
import numpy as np
from lawfit.fitting.fitting import fit
from lawfit.intervals.bootstrap import bootstrap
x = np.geomspace(1e6, 1e10, 12)
generator = np.random.default_rng(0)
times = {}
for form in ("power", "power_floor"):
    laws = [fit(x, (1.7 + 40 * x**-0.25) * np.exp(0.01 * generator.standard_normal(12)), form) for _ in range(24)]
    bootstrap(laws[0])
    began = time.process_time()
    for law in laws:
        bootstrap(law, replicates=1000)
    times[form] = time.process_time() - began
print(json.dumps(times))
"""

IMPORT = """
import time; began = time.process_time()
import lawfit
import json, sys
heavy = [m for m in ("matplotlib", "mlflow", "scipy.optimize", "pandas") if m in sys.modules]
print(json.dumps({"import": time.process_time() - began, "loaded": heavy}))
"""


def measure(script: str, *arguments: str, repeats: int = 3) -> dict[str, float]:
    """The fastest of several fresh processes, by the sum of its times."""
    command = [sys.executable, "-c", script, *arguments]
    texts = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(repeats)]
    times = [json.loads(text) for text in texts]
    return min(times, key=lambda run: sum(value for value in run.values() if isinstance(value, float)))


def baseline(path: Path, replicates: int) -> float:
    """CPU seconds of one replicate of the plain loop."""
    import numpy as np
    from scipy.optimize import minimize

    rows = [row for row in csv.DictReader(path.open()) if row["keep240"] == "1"]
    n, d, y = (np.log([float(row[key]) for row in rows]) for key in ("n_params", "tokens", "loss"))

    def objective(theta: "np.ndarray", n: "np.ndarray", d: "np.ndarray", y: "np.ndarray") -> "tuple[float, np.ndarray]":
        a, b, e, alpha, beta = theta
        terms = np.stack([a - alpha * n, b - beta * d, np.full_like(n, e)])
        highest = terms.max(axis=0)
        weights = np.exp(terms - highest)
        total = weights.sum(axis=0)
        residual = y - highest - np.log(total)
        slope = np.clip(residual, -1e-3, 1e-3)
        pulled = -slope * weights / total
        gradient = np.array([pulled[0].sum(), pulled[1].sum(), pulled[2].sum(), -(pulled[0] @ n), -(pulled[1] @ d)])
        return float((slope * (residual - slope / 2)).sum()), gradient

    full = np.array([np.log(477.83), np.log(2143.4), np.log(1.81722), 0.34731, 0.36717])
    generator = np.random.default_rng(0)
    began = time.process_time()
    for _ in range(replicates):
        drawn = generator.integers(0, len(n), len(n))
        minimize(objective, full, (n[drawn], d[drawn], y[drawn]), "L-BFGS-B", jac=True,
                 options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 2000, "maxfun": 5000})  # fmt: skip
    return (time.process_time() - began) / replicates


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--replicates", type=int, default=4000)
    parser.add_argument("--baseline", type=int, default=60)
    options = parser.parse_args()
    surface = measure(COLD, str(options.data), str(options.replicates))
    curves = measure(CURVES)
    package = measure(IMPORT)
    slow = baseline(options.data, options.baseline) * options.replicates
    rows = [
        (f"{options.replicates} refits of the surface, cold with imports and fit", surface["cold"]),
        ("  of which imports of lawfit.fitting.fitting, lawfit.intervals.bootstrap", surface["import"]),
        ("  of which the fit itself (all starts)", surface["fit"]),
        ("  of which the bootstrap", surface["bootstrap"]),
        (f"{options.replicates} refits of the surface, warm", surface["warm"]),
        (f"plain scipy L-BFGS-B loop, extrapolated from {options.baseline} refits", slow),
        ("24 power laws x 1,000 refits, warm", curves["power"]),
        ("24 laws with floor x 1,000 refits, warm", curves["power_floor"]),
        ("import lawfit", package["import"]),
    ]
    lines = [
        (name, f"{seconds:.3f}", f"{slow / seconds:.0f}" if "refits of the surface" in name else "")
        for name, seconds in rows
    ]
    print_table(("what", "CPU s", "loop / this"), lines)
    print(f"\nreplicates not converged: {surface['failed']}")
    print(f"heavy modules after `import lawfit`: {package['loaded'] or 'none'}")


if __name__ == "__main__":
    with recorded(__file__):
        main()
