"""The tokenizers trained here, from their records: price and quality on validation images.

    varscale tokenizer train studies/tokenizer-emoji32.yaml --set output=mine.safetensors     # and others
    python benchmarks/tokenizers.py

A row per file in ``studies/`` whose training is finished in the records (``VARSCALE_TRACKING_URI`` names others than
those of the usual store). CPU-minutes are those of the training's first worker.
"""

from __future__ import annotations

import os
import sys

from record import ROOT, print_table, recorded

import lawfit
from lawfit.records import schema
from varscale.spec.files import load_tokenizer_study
from varscale.spec.tokenizer import TokenizerStudy


def row(study: TokenizerStudy, uri: str) -> tuple[str, ...] | None:
    """What the newest finished training of a tokenizer recorded; None if there is none."""
    try:
        last = lawfit.load(f"{uri}#{study.name}").iloc[-1]
    except lawfit.RecordError as error:
        print(error, file=sys.stderr)
        return None
    tokens = sum(side * side for side in study.model.patch_nums)
    psnr, ssim, used = (last[schema.VAL + name] for name in (schema.PSNR, schema.SSIM, schema.CODES_USED))
    minutes = last.get(schema.CPU_SECONDS, float("nan")) / 60
    return (study.name, f"{tokens} × {study.model.vocab_size}", f"{int(last['recipe.steps']):,}", f"{minutes:.1f}",
            f"{psnr:.2f}", f"{ssim:.3f}", f"{used:.1f} %")  # fmt: skip


def main() -> None:
    """Read and print."""
    uri = os.environ.get("VARSCALE_TRACKING_URI", f"sqlite:///{ROOT}/.varscale/mlflow.db")
    studies = [load_tokenizer_study(path) for path in sorted((ROOT / "studies").glob("tokenizer-*.yaml"))]
    rows = [found for study in studies if (found := row(study, uri))]
    print_table(("tokenizer", "tokens × codes", "steps", "CPU-minutes", "PSNR dB", "SSIM", "codes used"), rows)


if __name__ == "__main__":
    with recorded(__file__):
        main()
