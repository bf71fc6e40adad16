"""What a metric of any project is, by its name: does it rise as models get better, and where does it end?

A rate that rises ends at 1, or 100 in %; a power law of the rate itself passes that, while the distance from it falls
as a loss does. Metrics of the contract say their direction there (`schema.METRICS`), others are told by their words.
"""

import itertools
import re
from typing import Literal

import numpy as np

from lawfit.arrays import Array
from lawfit.records.schema import COLUMNS, Metric

Direction = Literal["falls", "rises"]

FALLING = {
    "loss", "fid", "fd", "fdd", "kid", "err", "error", "errors", "wer", "cer", "ppl", "perplexity", "nll", "ce", "bpb",
    "bpt", "bpc", "mse", "rmse", "mae", "lpips",
}  # fmt: skip
RATES = {
    "acc", "accuracy", "accuracies", "top1", "top5", "acc1", "acc5", "recall", "precision", "f1", "auc", "auroc", "map",
    "pass", "passrate", "winrate", "success", "solved", "exact", "em", "iou", "miou", "dice", "ssim", "bleu",
    "rouge", "mmlu", "hellaswag", "arc", "piqa", "gsm8k", "humaneval", "mbpp", "winogrande", "boolq", "triviaqa",
    "correct",
}  # fmt: skip
"""Rates that rise, as shares or in %."""

SCORES = {"is", "inception", "psnr", "reward", "elo", "clip", "clipscore", "score", "snr"}
"""What rises without an end that the name tells."""

ENDS = (1.0, 100.0)
"""Where a rate ends, as a share and in %."""


def direction(name: str) -> Direction | None:
    """What a metric does as models get better; None where its name does not tell."""
    if isinstance(known := COLUMNS.get(name), Metric):
        return known.direction
    words = _words(name)
    if words & FALLING:
        return "falls"
    return "rises" if words & (RATES | SCORES) else None


def ceiling(name: str, values: Array) -> float | None:
    """Where a rate that rises ends, by its values [n]: 1 where none is above it, else 100; None for another metric."""
    if direction(name) != "rises" or not _words(name) & RATES:
        return None
    return next((end for end in ENDS if np.nanmax(values) <= end and np.nanmin(values) >= 0), None)


def _words(name: str) -> set[str]:
    """The words of a name, without numbers after them: pass@10 is pass, top-5 is top and top5."""
    parts = re.findall(r"[a-z]+\d*[a-z]*|\d+", re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name).lower())
    letters = (re.sub(r"\d.*", "", part) for part in parts)
    return {*parts, *letters, *map("".join, itertools.pairwise(parts))}
