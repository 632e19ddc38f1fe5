"""Rules about masks and the edges of their images: masks of other images, misfits, masks beside their place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sweeper.core.records import Dataset
from sweeper.core.text import count, minus
from sweeper.data.label_values import some
from sweeper.fingerprint.label_checks.finding import Finding, Severity
from sweeper.fingerprint.label_checks.measure import ImageFeatures

MISFIT = 2.5
"""Edge agreement below which a mask does not fit. On three real sets 96 % of swapped masks lie below, no true one."""
FOLLOWS = 5.0
"""Median agreement of a set whose labels follow edges, so that a misfit means something."""
OFTEN = 0.3
"""Share of the images from which on a displacement is the set's, not the image's."""
ONE_BY_ONE = 3
"""Sets of identical masks that are told one by one; more share a sentence."""


class _Shared(NamedTuple):
    """Images that share a drawn mask, and how well its contours fit each."""

    stems: tuple[str, ...]
    fits: tuple[str, ...]
    misfits: tuple[str, ...]
    best: float
    worst: float

    @property
    def told(self) -> bool:
        """Whether the edges tell which of them is wrong."""
        return bool(self.fits and self.misfits)


def identical_masks(dataset: Dataset, features: Sequence[ImageFeatures]) -> Iterator[Finding]:
    """One drawn mask on images that differ; where edges tell, which of them is wrong."""
    sets = list(_shared(dataset, features))
    told, untold = [s for s in sets if s.told], [s for s in sets if not s.told]
    if len(told) > ONE_BY_ONE:
        pairs = some([f"{some(s.misfits)} that of {some(s.fits)}" for s in told], ONE_BY_ONE)
        yield Finding(
            kind="identical_masks",
            severity=Severity.ERROR,
            text=(
                f"{len(told)} masks are carried by other images too, byte for byte, on whose edges their contours do "
                f"not lie: {pairs}. Label these images again, or leave them out with --exclude."
            ),
            images=tuple(stem for s in told for stem in s.misfits),
        )
    else:
        yield from map(_wrong, told)
    if len(untold) > ONE_BY_ONE:
        named = some([" = ".join((*s.stems[:3], *("…",) * (len(s.stems) > 3))) for s in untold], ONE_BY_ONE)
        yield Finding(
            kind="identical_masks",
            severity=Severity.WARNING,
            text=(
                f"{len(untold)} masks are byte-identical on different images: {named}. Some labels are probably "
                "wrong, and edges cannot tell which; look at them."
            ),
            images=tuple(stem for s in untold for stem in s.stems),
        )
    else:
        yield from map(_doubtful, untold)


def _shared(dataset: Dataset, features: Sequence[ImageFeatures]) -> Iterator[_Shared]:
    same: dict[str, list[int]] = defaultdict(list)
    for index, (one, image) in enumerate(zip(features, dataset.images, strict=True)):
        # A mask of one label repeats by nature; a drawn one does not.
        if np.count_nonzero((*image.pixels, image.ignored)) > 1:
            same[one.mask_digest].append(index)
    for members in same.values():
        if len({features[i].image_digest for i in members}) < 2:
            continue
        values = {i: fit.agreement for i in members if (fit := features[i].fit) is not None}
        # The same contour on each image: one that is its own fits far better than one that is not.
        least = max(MISFIT, max(values.values(), default=0.0) / 2)
        fits = [i for i in members if values.get(i, 0.0) >= least]
        misfits = [i for i in members if i in values and values[i] < least]
        stems, right, wrong = (tuple(dataset.images[i].stem for i in part) for part in (members, fits, misfits))
        best, worst = (max((values[i] for i in part), default=0.0) for part in (fits, misfits))
        yield _Shared(stems, right, wrong, best, worst)


def _wrong(found: _Shared) -> Finding:
    right, wrong = some(found.fits), some(found.misfits)
    return Finding(
        kind="identical_masks",
        severity=Severity.ERROR,
        text=(
            f"{wrong} carries the mask of {right}: the two are byte-identical, and their contours lie on the "
            f"edges of {right} (agreement {_shown(found.best)}) but not of {wrong} ({_shown(found.worst)}; a foreign "
            f"mask scores about 0). Label {wrong} again, or leave it out with --exclude."
        ),
        images=found.misfits,
    )


def _doubtful(found: _Shared) -> Finding:
    why = "fits none of them" if found.misfits else "fits each" if found.fits else "has too little contour to tell"
    return Finding(
        kind="identical_masks",
        severity=Severity.WARNING,
        text=(
            f"{some(found.stems)} have byte-identical masks on different images: some label is probably wrong. "
            f"The mask {why}, so edges cannot tell which; look at them."
        ),
        images=found.stems,
    )


def misfits(dataset: Dataset, features: Sequence[ImageFeatures], explained: set[str]) -> Iterator[Finding]:
    """Masks whose contours do not lie on edges, and masks that lie beside their place."""
    fits = {image.stem: one.fit for image, one in zip(dataset.images, features, strict=True) if one.fit}
    if not fits:
        return
    middle = float(np.median([fit.agreement for fit in fits.values()]))
    shifted = {stem: fit.shift for stem, fit in fits.items() if fit.shift is not None and stem not in explained}
    if shifted and len(shifted) >= OFTEN * len(fits):
        down, right = (int(v) for v in np.median(list(shifted.values()), axis=0))
        yield Finding(
            kind="displaced",
            severity=Severity.ERROR,
            text=(
                f"{len(shifted)} of {len(fits)} masks fit their image far better somewhere else, by the median "
                f"{_moved(down, right)}: labels and images are out of register "
                f"({some(list(shifted))}). Look for a crop or a scale that one of them has and the other has not."
            ),
            images=tuple(shifted),
        )
    else:
        for stem, (down, right) in shifted.items():
            yield Finding(
                kind="displaced",
                severity=Severity.WARNING,
                text=(
                    f"The mask of {stem} fits far better moved {_moved(down, right)}; "
                    "move it, or label the image again."
                ),
                images=(stem,),
            )
    if middle < FOLLOWS:
        yield Finding(
            kind="edges_not_followed",
            severity=Severity.NOTE,
            text=(
                f"Labels of this set hardly follow edges (median agreement {_shown(middle)}, {FOLLOWS:.0f} and more is "
                "usual), so masks that belong to other images cannot be told by it."
            ),
        )
        return
    worst = sorted((fit.agreement, stem) for stem, fit in fits.items() if fit.agreement < MISFIT)
    found = [(value, stem) for value, stem in worst if stem not in explained and stem not in shifted]
    if found:
        named = some([f"{stem} ({_shown(value)})" for value, stem in found])
        yield Finding(
            kind="misfit",
            severity=Severity.WARNING,
            text=(
                f"{count(len(found), 'mask does', 'masks do')} not fit the edges of the image: {named}; the set's "
                f"median is {middle:.1f}, a foreign mask scores about 0. Look at them."
            ),
            images=tuple(stem for _, stem in found),
        )


def _shown(agreement: float) -> str:
    return minus(f"{agreement:.1f}")


def _moved(down: int, right: int) -> str:
    """`3 pixels down and 2 to the left`."""
    return (
        f"{abs(down)} pixels {'up' if down < 0 else 'down'} and {abs(right)} to the {'left' if right < 0 else 'right'}"
    )
