"""From measurements to findings: pure rules, each over the whole set, in the order of `judge`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from sweeper.data.labels import some
from sweeper.doctor.finding import Finding, Severity, ranked
from sweeper.doctor.measure import SPECK_PIXELS, Signs
from sweeper.doctor.repeats import look_alike_findings, repeated_pictures
from sweeper.records import IGNORE, Dataset, Picture

MISFIT = 2.5
"""Edge agreement below which a mask does not fit. On three real sets 96 % of swapped masks lie below, no true one."""
FOLLOWS = 5.0
"""Median agreement of a set whose labels follow edges, so that a misfit means something."""
OFTEN = 0.3
"""Share of the pictures from which on a displacement is the set's, not the picture's."""
UNLABELLED = 0.5
"""Share of a picture's pixels."""
SPECKS = 20
"""Fewer specks in a class, or in a picture, are not worth a word."""
SPECKED = 0.05
"""Share of a class's pieces from which on specks are told."""
ODD_SIZE = 4.0
"""Factor in pixels by which a picture must differ from the median to be remarkable."""
FEW = 0.1
"""Sizes that more of the pictures share are a kind of their own, not a slip."""


def judge(dataset: Dataset, signs: Sequence[Signs]) -> tuple[Finding, ...]:
    """All findings, the weightiest first.

    Args:
        dataset: names, label counts, given splits and groups.
        signs: the measurements of its pictures, in their order.

    Raises:
        ValueError: if there is not one measurement for each picture.
    """
    if len(signs) != len(dataset.pictures):
        raise ValueError(f"one measurement per picture is needed, {len(dataset.pictures)}, got {len(signs)}")
    foreign = list(_identical_masks(dataset, signs))
    explained = {stem for finding in foreign for stem in finding.pictures}
    return ranked(
        [
            *foreign,
            *_misfits(dataset, signs, explained),
            *repeated_pictures(dataset, signs),
            *look_alike_findings(dataset, signs),
            *_inverted(dataset),
            *_flat(dataset, signs),
            *_sizes(dataset),
            *_absent(dataset),
            *_unlabelled(dataset),
            *_empty(dataset),
            *_specks(dataset, signs),
        ]
    )


def _identical_masks(dataset: Dataset, signs: Sequence[Signs]) -> Iterator[Finding]:
    """One drawn mask on pictures that differ; where edges tell, which of them is wrong."""
    same: dict[bytes, list[int]] = defaultdict(list)
    for index, (sign, picture) in enumerate(zip(signs, dataset.pictures, strict=True)):
        # A mask of one label repeats by nature; a drawn one does not.
        if np.count_nonzero((*picture.pixels, picture.ignored)) > 1:
            same[sign.mask_digest].append(index)
    for members in same.values():
        if len({signs[i].image_digest for i in members}) < 2:
            continue
        stems = [dataset.pictures[i].stem for i in members]
        values = {i: fit.agreement for i in members if (fit := signs[i].fit) is not None}
        # The same contour on each picture: one that is its own fits far better than one that is not.
        least = max(MISFIT, max(values.values(), default=0.0) / 2)
        fits = [i for i in members if values.get(i, 0.0) >= least]
        misfits = [i for i in members if i in values and values[i] < least]
        if fits and misfits:
            right, wrong = (some([dataset.pictures[i].stem for i in part]) for part in (fits, misfits))
            best, worst = max(values[i] for i in fits), max(values[i] for i in misfits)
            yield Finding(
                kind="identical_masks",
                severity=Severity.ERROR,
                text=(
                    f"{wrong} carries the mask of {right}: the two are byte-identical, and their contours lie on the "
                    f"edges of {right} (agreement {best:.1f}) but not of {wrong} ({worst:.1f}; a foreign mask scores "
                    f"about 0). Label {wrong} again, or leave it out with --exclude."
                ),
                pictures=tuple(dataset.pictures[i].stem for i in misfits),
            )
        else:
            why = "fits none of them" if misfits else "fits each" if fits else "has too little contour to tell"
            yield Finding(
                kind="identical_masks",
                severity=Severity.WARNING,
                text=(
                    f"{some(stems)} have byte-identical masks on different pictures: some label is probably wrong. "
                    f"The mask {why}, so edges cannot tell which; look at them."
                ),
                pictures=tuple(stems),
            )


def _misfits(dataset: Dataset, signs: Sequence[Signs], explained: set[str]) -> Iterator[Finding]:
    """Masks whose contours do not lie on edges, and masks that lie beside their place."""
    fits = {picture.stem: sign.fit for picture, sign in zip(dataset.pictures, signs, strict=True) if sign.fit}
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
                f"{len(shifted)} of {len(fits)} masks fit their picture far better somewhere else, by the median "
                f"{down} pixels further down and {right} to the right: labels and pictures are out of register "
                f"({some(list(shifted))}). Look for a crop or a scale that one of them has and the other has not."
            ),
            pictures=tuple(shifted),
        )
    else:
        for stem, (down, right) in shifted.items():
            yield Finding(
                kind="displaced",
                severity=Severity.WARNING,
                text=(
                    f"The mask of {stem} fits far better moved by {down} pixels down and {right} to the right; "
                    "move it, or label the picture again."
                ),
                pictures=(stem,),
            )
    if middle < FOLLOWS:
        yield Finding(
            kind="edges_not_followed",
            severity=Severity.NOTE,
            text=(
                f"Labels of this set hardly follow edges (median agreement {middle:.1f}, {FOLLOWS:.0f} and more is "
                "usual), so masks that belong to other pictures cannot be told by it."
            ),
        )
        return
    worst = sorted((fit.agreement, stem) for stem, fit in fits.items() if fit.agreement < MISFIT)
    found = [(value, stem) for value, stem in worst if stem not in explained and stem not in shifted]
    if found:
        named = some([f"{stem} ({value:.1f})" for value, stem in found])
        yield Finding(
            kind="misfit",
            severity=Severity.WARNING,
            text=(
                f"{_count(len(found), 'mask does', 'masks do')} not fit the edges of the picture: {named}; the set's "
                f"median is {middle:.1f}, a foreign mask scores about 0. Look at them."
            ),
            pictures=tuple(stem for _, stem in found),
        )


def _inverted(dataset: Dataset) -> Iterator[Finding]:
    """Binary: pictures that are nearly all foreground in a set where foreground is rare."""
    if dataset.task != "binary":
        return
    shares = {p.stem: p.pixels[1] / sum(p.pixels) for p in dataset.pictures if sum(p.pixels)}
    middle = float(np.median(list(shares.values()))) if shares else 1.0
    found = [stem for stem, share in shares.items() if share > 0.5 and share > 1 - 2 * middle]
    if middle < 0.2 and found and len(found) <= FEW * len(shares):
        yield Finding(
            kind="inverted",
            severity=Severity.WARNING,
            text=(
                f"{_count(len(found), 'picture is', 'pictures are')} mostly {dataset.classes[1]} in a set whose median "
                f"is {100 * middle:.2g} %: {some(found)}. The two labels may be swapped there; look at them."
            ),
            pictures=tuple(found),
        )


def _flat(dataset: Dataset, signs: Sequence[Signs]) -> Iterator[Finding]:
    found = [p.stem for p, sign in zip(dataset.pictures, signs, strict=True) if sign.flat]
    if found:
        yield Finding(
            kind="blank",
            severity=Severity.WARNING,
            text=(
                f"{_count(len(found), 'picture has', 'pictures have')} one colour all over: {some(found)}. An export "
                "that failed, or a blank tile; leave them out with --exclude unless they are meant."
            ),
            pictures=tuple(found),
        )


def _sizes(dataset: Dataset) -> Iterator[Finding]:
    areas = np.array([p.height * p.width for p in dataset.pictures], dtype=np.float64)
    middle = float(np.median(areas))
    for word, odd in (("smaller", areas * ODD_SIZE <= middle), ("larger", areas >= ODD_SIZE * middle)):
        found = [p for p, is_odd in zip(dataset.pictures, odd, strict=True) if is_odd]
        if found and len(found) <= FEW * len(areas):
            named = some([f"{p.stem} ({p.width}×{p.height})" for p in found])
            yield Finding(
                kind="size",
                severity=Severity.WARNING,
                text=(
                    f"{_count(len(found), 'picture is', 'pictures are')} much {word} than the others: {named}; the "
                    f"median has {middle:,.0f} pixels. A preview, or another scale? Things have other sizes there."
                ),
                pictures=tuple(p.stem for p in found),
            )


def _absent(dataset: Dataset) -> Iterator[Finding]:
    found = [name for name, pixels in zip(dataset.classes, dataset.class_pixels(), strict=True) if not pixels]
    if found:
        yield Finding(
            kind="absent_class",
            severity=Severity.WARNING,
            text=(
                f"{len(found)} of {len(dataset.classes)} declared classes never occur: {some(found)}. Nothing can be "
                "learned or measured for them; correct the list of classes, or add pictures."
            ),
        )


def _unlabelled(dataset: Dataset) -> Iterator[Finding]:
    bare = [p.stem for p in dataset.pictures if not any(p.pixels)]
    if bare:
        yield Finding(
            kind="unlabelled",
            severity=Severity.WARNING,
            text=(
                f"{_count(len(bare), 'picture has', 'pictures have')} no labelled pixel at all (every pixel is "
                f"{IGNORE}): {some(bare)}. They teach nothing; label them, or leave them out with --exclude."
            ),
            pictures=tuple(bare),
        )

    def share(picture: Picture) -> float:
        return picture.ignored / (picture.height * picture.width)

    partly = sorted((p for p in dataset.pictures if any(p.pixels) and share(p) > UNLABELLED), key=lambda p: -share(p))
    if partly:
        named = some([f"{p.stem} ({100 * share(p):.0f} %)" for p in partly])
        yield Finding(
            kind="unlabelled",
            severity=Severity.NOTE,
            text=f"{_count(len(partly), 'picture is', 'pictures are')} unlabelled for the most part: {named}.",
            pictures=tuple(p.stem for p in partly),
        )


def _empty(dataset: Dataset) -> Iterator[Finding]:
    found = [p.stem for p in dataset.pictures if p.pixels[0] and not any(p.pixels[1:])]
    if found:
        total = len(dataset.pictures)
        yield Finding(
            kind="empty",
            severity=Severity.WARNING if len(found) > total / 2 else Severity.NOTE,
            text=(
                f"{len(found)} of {total} pictures show nothing but {dataset.classes[0]}: {some(found)}. Right if "
                "there is nothing in them; wrong if nobody has labelled them yet."
            ),
            pictures=tuple(found),
        )


def _specks(dataset: Dataset, signs: Sequence[Signs]) -> Iterator[Finding]:
    """One finding for all classes with many specks, and the pictures that have far more than the others."""
    specks = np.array([sign.specks for sign in signs])
    pieces = np.array([sign.pieces for sign in signs]).sum(axis=0)
    total = specks.sum(axis=0)
    many = np.flatnonzero((total >= SPECKS) & (total >= SPECKED * pieces))
    if not many.size:
        return
    of_picture = specks[:, many].sum(axis=1)
    usual = float(np.median(of_picture[of_picture > 0]))
    order = np.argsort(-of_picture, kind="stable")
    outliers = [int(i) for i in order if of_picture[i] >= max(SPECKS, 6 * usual)]
    classes = some(
        [
            f"{dataset.classes[i]} {total[i]:,} of {pieces[i]:,} pieces"
            for i in many[np.argsort(-total[many] / pieces[many], kind="stable")]
        ]
    )
    named = some([f"{dataset.pictures[i].stem} ({of_picture[i]})" for i in outliers], 3)
    yield Finding(
        kind="specks",
        severity=Severity.NOTE,
        text=(
            f"Specks of at most {SPECK_PIXELS} pixels, slips of the brush or of resizing: {classes}. They cost IoU "
            f"per object and fray boundaries, whatever the loss." + (f" Most in {named}." if outliers else "")
        ),
        pictures=tuple(dataset.pictures[i].stem for i in outliers),
    )


def _count(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"


def counts(findings: Iterable[Finding]) -> dict[Severity, int]:
    """How many there are of each severity, zeros included."""
    severities = [finding.severity for finding in findings]
    return {severity: severities.count(severity) for severity in Severity}
