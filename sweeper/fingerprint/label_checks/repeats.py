"""Images that occur more than once: the same pixels, or the same view."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from sweeper.core.records import Dataset
from sweeper.data.label_values import some
from sweeper.fingerprint.label_checks.finding import Finding, Severity
from sweeper.fingerprint.label_checks.measure import ImageFeatures
from sweeper.fingerprint.label_checks.near_duplicates import Pair, clusters, look_alikes

SHOWN = 5
"""Sets of look-alikes that a text names."""


def repeated_images(dataset: Dataset, features: Sequence[ImageFeatures]) -> Iterator[Finding]:
    """Images with the same pixels; worst where their labels differ or they lie on two sides of a given split."""
    same: dict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(features):
        if not one.flat:
            same[one.image_digest].append(index)
    for members in same.values():
        if len(members) < 2:
            continue
        stems = tuple(dataset.images[i].stem for i in members)
        labels = len({features[i].mask_digest for i in members})
        sides = _sides(dataset, members)
        if labels > 1:
            severity, what = Severity.ERROR, f"but {labels} different masks: keep the right one"
        elif len(sides) > 1:
            severity = Severity.ERROR
            what = (
                f"on {len(sides)} sides of the given split ({', '.join(sides)}), so that scores are too high: keep one"
            )
        elif sides or _one_group(dataset, members):
            severity, what = Severity.NOTE, "and stay on one side of the split; they count more than others"
        else:
            severity = Severity.WARNING
            what = "and may come to lie on two sides of a split: keep one, or give them one group in split.csv"
        yield Finding(
            kind="repeated_image",
            severity=severity,
            text=f"{some(stems)} have the same pixels {what}.",
            images=stems,
        )


def look_alike_findings(dataset: Dataset, features: Sequence[ImageFeatures]) -> Iterator[Finding]:
    """Near-duplicates, summarised: across given sides, loose (no side, no common group), and where they do no harm."""
    pairs = [
        pair
        for pair in look_alikes([one.thumbnail for one in features])
        if features[pair.first].image_digest != features[pair.second].image_digest
    ]
    kinds: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        members = (pair.first, pair.second)
        given = [dataset.images[i].split for i in members]
        if None not in given and given[0] != given[1]:
            kinds["across"].append(pair)
        elif _one_group(dataset, members) or (None not in given):
            kinds["kept"].append(pair)
        else:
            kinds["loose"].append(pair)
    for kind, severity, begin, end in (
        (
            "across",
            Severity.WARNING,
            "look alike on different sides of the given split",
            "Scores on these are too high; put each set on one side.",
        ),
        (
            "loose",
            Severity.WARNING,
            "look alike and have no common group",
            "They may come to lie on two sides of a split, and scores would be too high; give each set one group in "
            "split.csv.",
        ),
        (
            "kept",
            Severity.NOTE,
            "look alike but stay on one side of the split",
            "They do not leak, but teach less than their number says.",
        ),
    ):
        if found := kinds[kind]:
            yield _summary(dataset, found, severity, begin, end)


def _summary(dataset: Dataset, pairs: Sequence[Pair], severity: Severity, begin: str, end: str) -> Finding:
    """One finding for any number of pairs: sets of images, the largest few by name."""
    sets = sorted(clusters(pairs), key=lambda members: -len(members))
    turned = Counter(pair.how for pair in pairs if pair.how)
    named = "; ".join(some([dataset.images[i].stem for i in members], 3) for members in sets[:SHOWN])
    more = f" and {len(sets) - SHOWN} more sets" if len(sets) > SHOWN else ""
    flipped = "".join(f"; {number} of the pairs {how}" for how, number in turned.most_common())
    stems = tuple(sorted({dataset.images[i].stem for members in sets for i in members}))
    in_sets = "1 set" if len(sets) == 1 else f"{len(sets)} sets"
    return Finding(
        kind="look_alike",
        severity=severity,
        text=f"{len(stems)} images in {in_sets} {begin}: {named}{more}{flipped}. {end}",
        images=stems,
    )


def _sides(dataset: Dataset, members: Sequence[int]) -> list[str]:
    return sorted({side for i in members if (side := dataset.images[i].split) is not None})


def _one_group(dataset: Dataset, members: Sequence[int]) -> bool:
    groups = {dataset.images[i].group for i in members}
    return len(groups) == 1 and None not in groups
