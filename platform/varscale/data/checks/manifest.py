"""What a manifest says, held against the files beside it and against what the shards were found to hold."""

from __future__ import annotations

import csv
import io

import numpy as np

from varscale.data.checks.problems import Problem, Problems
from varscale.data.checks.shard_files import ShardFacts
from varscale.data.fingerprint import content_fingerprint
from varscale.data.manifests import IMAGES, TOKENS
from varscale.data.schema import MANIFEST, REJECTS, ImageManifest, Shard, TokenManifest
from varscale.locations import TEMPORARY, Location


def check_manifest(dest: Location, manifest: ImageManifest | TokenManifest, problems: Problems) -> None:
    """Splits, the list of what was left out, and files that the manifest knows nothing of."""
    if not manifest.splits:
        problems.add(Problem("empty split", MANIFEST, "field 'splits' names none", "wanted at least one"))
    for split in manifest.splits:
        _check_split(manifest, split, problems)
    if isinstance(manifest, ImageManifest):
        _check_rejects(dest, manifest.rejected, problems)
    named = {shard.file for shards in manifest.splits.values() for shard in shards}
    for file in dest.files():
        if file.endswith((IMAGES, TOKENS, TEMPORARY)) and file not in named:
            problems.add(Problem("foreign file", file, "not in the manifest", "nothing reads it", warning=True))


def check_content(
    manifest: ImageManifest, parts: list[tuple[str, Shard]], facts: list[ShardFacts], problems: Problems
) -> None:
    """Counts by label and the fingerprint, made anew from all rows."""
    for split in manifest.splits:
        here = [found.counts for (of, _), found in zip(parts, facts, strict=True) if of == split]
        counts = tuple(np.sum(here, axis=0).tolist()) if here else ()
        said = manifest.counts.get(split, ())
        for label in range(max(len(counts), len(said))):
            found, named = (values[label] if label < len(values) else 0 for values in (counts, said))
            if found != named:
                what = f"field 'counts.{split}': {named:,} images of label {label}"
                problems.add(Problem("counts", MANIFEST, what, f"the shards hold {found:,}"))
    made = content_fingerprint(manifest.classes, sum(found.content for found in facts))
    if made != manifest.fingerprint:
        what = f"field 'fingerprint': {manifest.fingerprint}"
        problems.add(Problem("fingerprint", MANIFEST, what, f"that of the rows is {made}"))


def _check_split(manifest: ImageManifest | TokenManifest, split: str, problems: Problems) -> None:
    """A split has rows, but for one that was not encoded (0 views)."""
    views = manifest.views.get(split) if isinstance(manifest, TokenManifest) else 1
    if views is None:
        problems.add(Problem("views", MANIFEST, f"field 'views' lacks split '{split}'", "wanted a number"))
    if views != 0 and manifest.rows(split) == 0:
        problems.add(Problem("empty split", MANIFEST, f"split '{split}' holds no rows", "wanted at least one"))
    if views == 0 and manifest.rows(split) > 0:
        what = f"split '{split}' holds {manifest.rows(split):,} rows"
        problems.add(Problem("views", MANIFEST, what, "field 'views' says that it was not encoded"))


def _check_rejects(dest: Location, rejected: int, problems: Problems) -> None:
    """Every image that was left out has its line, below a line of names."""
    listed = 0
    if (dest / REJECTS).is_file():
        text = (dest / REJECTS).read_bytes().decode(errors="replace")
        listed = sum(1 for _ in csv.reader(io.StringIO(text))) - 1
    if listed != rejected:
        what = f"{listed:,} images are listed as left out"
        problems.add(Problem("rejects", REJECTS, what, f"the manifest counts {rejected:,}"))
