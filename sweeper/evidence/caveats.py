"""What a reader of the intervals should know, in sentences."""

from __future__ import annotations

from sweeper.evidence.rule import units
from sweeper.records import Evidence

FEW_PICTURES = 40
"""Fewer test pictures (or groups) than this, and the intervals were seen to cover less than they say
(docs/verdict.md)."""


def caveats(evidence: Evidence) -> tuple[str, ...]:
    """What limits these intervals, for whoever prints them; () where nothing does."""
    found = []
    if 0 < units(evidence) < FEW_PICTURES:
        what = "test pictures" if evidence.test_groups is None else "groups of test pictures"
        found.append(
            f"{units(evidence)} {what}, fewer than {FEW_PICTURES}: intervals from so few are themselves uncertain, and "
            "where single pictures weigh much they hold the truth less often than they say."
        )
    if evidence.test_groups is not None:
        found.append(
            f"The {evidence.test_pictures:,} test pictures come in {evidence.test_groups:,} groups of related ones. "
            "The intervals take a group as one picture."
        )
    if evidence.few_groups is not None:
        count = evidence.few_groups
        found.append(
            f"The {evidence.test_pictures:,} test pictures come in only {count} group{'' if count == 1 else 's'} of "
            "related ones, too few to stand for others. The intervals take the pictures as the sample: they hold for "
            "more pictures of these very groups, and say nothing of other ones (another video, another patient)."
        )
    sound = [f.trainings for f in evidence.finalists if f.collapses == 0 and f.seeds]
    if sound:
        count = min(sound)
        what = "seeds" if evidence.folds is None else "trainings"
        found.append(
            f"That no training of a loss collapsed in {count} {what} excludes, at 95 %, only that it collapses in more "
            f"than {100 * (1 - 0.05 ** (1 / count)):.0f} % of trainings: no interval knows of what never happened."
        )
    return tuple(found)
