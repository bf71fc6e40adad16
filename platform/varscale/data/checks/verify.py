"""``varscale data verify``: is a data set what its manifest says, and fit to train on.

Every shard is read whole, one task each; what only all shards together can tell (keys that occur twice, counts, the
fingerprint) is looked at afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from varscale.data.checks.images import ImageCheck, check_image_shard
from varscale.data.checks.manifest import check_content, check_manifest
from varscale.data.checks.problems import Problems
from varscale.data.checks.repeats import check_repeats
from varscale.data.checks.shard_files import ShardFacts
from varscale.data.checks.tokens import TokenCheck, check_token_shard
from varscale.data.manifests import read_manifest
from varscale.data.parallel import each
from varscale.data.schema import ImageManifest, Shard, TokenManifest
from varscale.locations import Location
from varscale.progress import Progress

SMALL_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Verdict:
    """What verifying a data set found."""

    problems: Problems
    shards: int
    rows: int
    """Rows the manifest names."""
    whole: bool
    """Every row could be read; else counts and fingerprint of the images were not compared."""

    @property
    def sound(self) -> bool:
        """Nothing but warnings."""
        return self.problems.total(warnings=False) == 0

    def to_json(self) -> dict[str, Any]:
        """Figures, and the problems themselves as far as they are kept."""
        return {"shards": self.shards, "rows": self.rows, "every_row_read": self.whole, **self.problems.to_json()}

    def summary(self) -> str:
        """The last line: what was read, and how many problems there are."""
        left_out = "" if self.whole else "; not every row could be read, so counts and fingerprint were not compared"
        errors, warnings = self.problems.total(warnings=False), self.problems.total(warnings=True)
        return f"{self.shards:,} shards, {self.rows:,} rows; errors: {errors:,}, warnings: {warnings:,}{left_out}"


def is_small(manifest: ImageManifest | TokenManifest) -> bool:
    """Whether the data set is read sooner than Ray starts."""
    return sum(shard.bytes for shards in manifest.splits.values() for shard in shards) < SMALL_BYTES


def verify(dest: Location) -> Verdict:
    """Hold a data set of images or tokens against its manifest; over the whole cluster where Ray is up.

    Raises:
        UserError: no data set is here, an unfinished one, or one of an unknown format.
        EnvironmentalError: the storage does not answer.
    """
    manifest = read_manifest(dest)
    parts = [(split, shard) for split, shards in manifest.splits.items() for shard in shards]
    facts = _facts(dest, manifest, parts)
    problems = Problems()
    check_manifest(dest, manifest, problems)
    for found in facts:
        problems.take(found.problems)
    whole = all(found.whole for found in facts)
    check_repeats(parts, facts, problems)
    if isinstance(manifest, ImageManifest) and whole:
        check_content(manifest, parts, facts, problems)
    return Verdict(problems, len(parts), sum(shard.rows for _, shard in parts), whole)


def _facts(dest: Location, manifest: ImageManifest | TokenManifest, parts: list[tuple[str, Shard]]) -> list[ShardFacts]:
    """What each shard holds, in the order of ``parts``."""
    progress = Progress("verify", sum(shard.rows for _, shard in parts), "rows")
    done: dict[str, ShardFacts] = {}
    if isinstance(manifest, ImageManifest):
        results = each(check_image_shard, ImageCheck(dest, len(manifest.classes)), parts)
    else:
        results = each(check_token_shard, TokenCheck(dest, manifest), parts)
    for (_, shard), facts in results:
        done[shard.file] = facts
        progress.advance(shard.rows)
    progress.close()
    return [done[shard.file] for _, shard in parts]
