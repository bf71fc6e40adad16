"""How often a default call of `fit` reaches the global optimum of random synthetic curves and surfaces.

    python benchmarks/lawfit_optimum.py [--problems 2000] [--restarts 100] [--seed 0] [--only FORM[:NUMBER] ...]

Each problem draws a form's parameters, a design (6 to 60 points; N in 1e3..1e12, D in 1e6..1e14, losses 0.1..20),
noise (0.1 to 10 %, in one of five problems with outliers) and a loss (squared, Huber, absolute). The reference is
the best objective of: the fit itself, a start at the truth, and `--restarts` random starts, each refined by the
same solver with twice as many steps. A fit counts when its objective is within 1e-6 (relative) of the reference.
BNSL and M4 have no claim: their surfaces have many minima, and they are listed apart. Misses are listed as
FORM:NUMBER, and `--only` runs single problems, or all of a form, again.
"""

import argparse
import sys
import time
from collections import Counter

import numpy as np
from record import print_table, recorded

from lawfit.arrays import Array
from lawfit.fitting.fitting import fit
from lawfit.fitting.newton import minimise
from lawfit.fitting.result import Fit
from lawfit.forms.catalogue import FORMS

CLAIMED = ("power", "power_floor", "chinchilla", "chinchilla_tied", "kaplan")
EXTRA = ("m4", "bnsl")
SHARES = (0.05, 0.4, 0.4, 0.1, 0.05)
LOSSES = ("squared", "huber", "lad")
SAME = 1e-6


def design(generator: np.random.Generator, variables: tuple[str, ...], n: int) -> dict[str, Array]:
    """A grid or a scatter of sizes over one to four decades."""
    low = {"x": 3.0, "N": 3.0, "D": 6.0}
    columns = {}
    for name in variables:
        decades = generator.uniform(1, 4)
        start = low[name] + generator.uniform(0, 8 - decades)
        even = np.linspace(0, decades, n) if len(variables) == 1 else generator.uniform(0, decades, n)
        columns[name] = 10.0 ** (start + (even if generator.random() < 0.7 else generator.uniform(0, decades, n)))
    return columns


def law(generator: np.random.Generator, name: str, x: dict[str, Array]) -> Array:
    """Published parameters [p] of a random law whose terms matter in the middle of the data."""
    middle = {key: float(np.exp(np.log(column).mean())) for key, column in x.items()}
    floor, level = generator.uniform(0, 3), np.exp(generator.uniform(np.log(0.1), np.log(10)))
    alpha, beta = generator.uniform(0.03, 1.0, 2)
    share = generator.uniform(0.1, 0.9)
    if name == "power":
        return np.array([level * middle["x"] ** alpha, alpha])
    if name == "power_floor":
        return np.array([floor, level * middle["x"] ** alpha, alpha])
    if name == "chinchilla":
        return np.array([
            floor, share * level * middle["N"] ** alpha, (1 - share) * level * middle["D"] ** beta, alpha, beta
        ])  # fmt: skip
    if name == "chinchilla_tied":
        return np.array([
            floor, share * level * middle["N"] ** alpha, (1 - share) * level * middle["D"] ** alpha, alpha
        ])  # fmt: skip
    if name == "kaplan":
        far = np.exp(generator.uniform(0, 8, 2))
        return np.array([middle["N"] * far[0] ** (0.1 / alpha), middle["D"] * far[1] ** (0.1 / beta), alpha, beta])
    if name == "m4":
        span = level
        amplitude = middle["x"] ** alpha * span ** (1 - beta)
        return np.array([floor, floor + span, amplitude, beta, alpha])
    place = middle["x"] * np.exp(generator.uniform(-1, 1))
    return np.array([floor, level * middle["x"] ** alpha, alpha, generator.uniform(-0.5, 0.8), place, 0.3])


def random_starts(generator: np.random.Generator, found: Fit, count: int) -> Array:
    """Starts [count, p] spread over all that could be a law of these data."""
    low, high = found.form.bounds(found.problem().logs)
    wide = 6.0 / np.array([max(np.abs(log).max() for log in found.problem().logs)])
    spread = generator.standard_normal((count, len(low))) * np.exp(generator.uniform(-3, 1.5, (count, 1)))
    for i, name in enumerate(found.form.parameters):
        if name.startswith(("alpha", "beta", "b", "c0")):
            spread[:, i] = generator.uniform(-1, 1, count) * wide
    return np.clip(np.where(generator.random((count, 1)) < 0.5, found.theta + spread, spread), low, high)


def reference(generator: np.random.Generator, found: Fit, truth: Array, restarts: int) -> float:
    """The best objective known, in the solver's unit."""
    problem = found.problem()
    starts = random_starts(generator, found, restarts)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = found.form.encode(truth, found.centre)
    starts = np.concatenate([found.theta[None], np.clip(own, *found.form.bounds(problem.logs))[None], starts])
    coarse = starts
    for factor in (1e6, 1e4, 1e2) if found.loss == "lad" else ():
        coarse = minimise(problem.with_delta(problem.delta * factor), coarse).theta
    return float(min(minimise(problem, coarse, 400).objective.min(), problem.objective(found.theta[None])[0]))


def attempt(generator: np.random.Generator, name: str, restarts: int) -> tuple[bool, str, float]:
    """Whether the default call reached the optimum of one problem, its status, and the excess of its objective."""
    form = FORMS[name]
    n = int(generator.integers(max(6, 2 * len(form.parameters)), 61))
    x = design(generator, form.variables, n)
    truth = law(generator, name, x)
    clean = form.predict(truth, x)
    noise = np.exp(generator.uniform(np.log(1e-3), np.log(0.1))) * generator.standard_normal(n)
    if generator.random() < 0.2:
        noise = np.where(generator.random(n) < 0.1, 5 * noise, noise)
    found = fit(x, clean * np.exp(noise), name, loss=LOSSES[generator.integers(3)])  # type: ignore[arg-type]
    best = reference(generator, found, truth, restarts)
    excess = float(found.problem().objective(found.theta[None])[0]) / best - 1
    return excess <= SAME, found.certificate.status, excess


def chosen(only: list[str], problems: int) -> dict[str, list[int]]:
    """The numbers of the problems to run, by form."""
    numbers = {name: range(round(share * problems)) for name, share in zip(CLAIMED, SHARES, strict=True)}
    numbers |= {name: range(problems // 20) for name in EXTRA}
    if not only:
        return {name: list(every) for name, every in numbers.items()}
    picked: dict[str, list[int]] = {}
    for item in only:
        name, _, number = item.partition(":")
        picked.setdefault(name, []).extend([int(number)] if number else numbers[name])
    return picked


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--restarts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], metavar="FORM[:NUMBER]")
    options = parser.parse_args()
    rows, total = [], Counter[str]()
    began = time.perf_counter()
    for name, numbers in chosen(options.only, options.problems).items():
        seeds = [[options.seed, list(FORMS).index(name), number] for number in numbers]
        results = [attempt(np.random.default_rng(seed), name, options.restarts) for seed in seeds]
        reached = sum(good for good, _, _ in results)
        if name in CLAIMED:
            total.update(problems=len(results), reached=reached)
        statuses = ", ".join(f"{status} {k}" for status, k in Counter(status for _, status, _ in results).items())
        misses = ", ".join(
            f"{name}:{number} {excess:.1e} ({status})"
            for number, (good, status, excess) in zip(numbers, results, strict=True)
            if not good
        )
        rows.append((name, str(len(results)), f"{reached / len(results):.2%}", statuses, misses[:400]))
        print(f"{name}: {reached} of {len(results)}", file=sys.stderr)
    share = total["reached"] / max(total["problems"], 1)
    rows.append(("all but m4, bnsl", str(total["problems"]), f"{share:.2%}", "", ""))
    print_table(("form", "problems", "at optimum", "statuses of the fits", "misses (excess)"), rows)
    print(f"\n{time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    with recorded(__file__):
        main()
