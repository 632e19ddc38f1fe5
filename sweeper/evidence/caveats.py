"""What a reader of the intervals should know, in sentences."""

from __future__ import annotations

from sweeper.core.records import Contest, Evidence
from sweeper.core.text import count, listed
from sweeper.evidence.decision_rule import units

FEW_IMAGES = 40
"""Fewer test images (or groups) than this, and the intervals were seen to cover less than they say
(bench/verdict.md)."""


def caveats(evidence: Contest) -> tuple[str, ...]:
    """What limits these intervals, in sentences; () where nothing does."""
    found = []
    if 0 < units(evidence) < FEW_IMAGES:
        what = "test images" if evidence.test_groups is None else "groups of test images"
        found.append(
            f"{units(evidence):g} {what}, fewer than {FEW_IMAGES}: intervals from so few are themselves uncertain, and "
            "where single images weigh much they hold the truth less often than they say."
        )
    if evidence.test_groups is not None and evidence.few_groups is None:
        found.append(
            f"The {evidence.test_images:,} test images come in {evidence.test_groups:,} groups of related ones. "
            "The intervals take a group as one image."
        )
    if evidence.few_groups is not None:
        groups = count(evidence.few_groups, "group")
        found.append(
            f"The {evidence.test_images:,} test images come in only {groups} of related ones. The intervals take a "
            "group as one image, so that they are wide"
            + (
                "; the sentence about these groups alone takes the images as the sample, and says nothing of other "
                "groups (another video, another patient)."
                if isinstance(evidence, Evidence)
                else "."
            )
        )
    if not isinstance(evidence, Evidence):
        return tuple(found)
    if evidence.scarce:
        unit = "image" if evidence.test_groups is None else "group"
        where = listed([f"{name} ({count(images, unit)})" for name, images in evidence.scarce])
        found.append(
            f"Classes that occur in fewer than 5 test {unit}s: {where}. The intervals cannot know how another {unit} "
            "of such a class would be answered."
        )
    sound = [f.trainings for f in evidence.finalists if f.collapses == 0 and f.seeds]
    if sound:
        least = min(sound)
        what = "seeds" if evidence.folds is None else "trainings"
        found.append(
            f"That no training of a loss collapsed in {least} {what} excludes, at 95 %, only that it collapses in more "
            f"than {100 * (1 - 0.05 ** (1 / least)):.0f} % of trainings: no interval knows of what never happened."
        )
    return tuple(found)
