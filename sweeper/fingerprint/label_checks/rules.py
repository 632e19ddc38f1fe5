"""From measurements to findings: pure rules, each over the whole set, in the order of `judge`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from sweeper.core.records import IGNORE, Dataset, ImageInfo
from sweeper.core.text import count
from sweeper.data.label_values import some
from sweeper.fingerprint.label_checks.finding import Finding, Severity, ranked
from sweeper.fingerprint.label_checks.fits import identical_masks, misfits
from sweeper.fingerprint.label_checks.measure import SPECK_PIXELS, ImageFeatures
from sweeper.fingerprint.label_checks.repeats import look_alike_findings, repeated_images

UNLABELLED = 0.5
"""Share of an image's pixels."""
SPECKS = 20
"""Fewer specks in a class, or in an image, are not worth a word."""
SPECKED = 0.05
"""Share of a class's pieces from which on specks are told."""
ODD_SIZE = 4.0
"""Factor in pixels by which an image must differ from the median to be remarkable."""
FEW = 0.1
"""What more of the images share is a kind of its own, not a slip."""
TAKES_OVER = 2.0
"""Factor by which a class must exceed what it has elsewhere, and another fall below it, to have taken its place."""
OCCURS = 0.01
"""Median share of a class that usually occurs; an image full of one that does not is a close-up, not a swap."""
LARGE = 0.25
"""Share of an image from which on a class is large."""
FEWEST_DRAWN = 8
"""With fewer images that have objects, a rare empty one says nothing."""
ALIKE = 0.97
"""Correlation of two shrunk images from which on they show the same."""

Floats = npt.NDArray[np.float64]


def judge(dataset: Dataset, features: Sequence[ImageFeatures]) -> tuple[Finding, ...]:
    """All findings, the weightiest first.

    Args:
        dataset: names, label counts, given splits and groups.
        features: the measurements of its images, in their order.

    Raises:
        ValueError: if there is not one measurement for each image.
    """
    if len(features) != len(dataset.images):
        raise ValueError(f"one measurement per image is needed, {len(dataset.images)}, got {len(features)}")
    foreign = list(identical_masks(dataset, features))
    explained = {stem for finding in foreign for stem in finding.images}
    return ranked(
        [
            *foreign,
            *misfits(dataset, features, explained),
            *repeated_images(dataset, features),
            *look_alike_findings(dataset, features),
            *_inverted(dataset),
            *_flat(dataset, features),
            *_sizes(dataset),
            *_absent(dataset),
            *_unlabelled(dataset),
            *_empty(dataset, features),
            *_specks(dataset, features),
        ]
    )


def _inverted(dataset: Dataset) -> Iterator[Finding]:
    """Images in which the set's commonest class is nearly gone and a rare one has its place: labels swapped."""
    shown = [p for p in dataset.images if sum(p.pixels)]
    if not shown:
        return
    shares = np.array([p.pixels for p in shown], dtype=np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    middle = np.median(shares, axis=0)
    common = int(middle.argmax())
    gone = _gone(shares[:, common])
    found: dict[int, list[int]] = {}
    for index in np.flatnonzero(gone):
        c, share = int(shares[index].argmax()), float(shares[index].max())
        usual = float(np.quantile(shares[:, c], 1 - FEW))
        least = min(0.5 if middle[c] < 0.2 else 1.0, TAKES_OVER * usual)
        usually = len(dataset.classes) == 2 or middle[c] >= OCCURS
        if c != common and usually and share > max(LARGE, TAKES_OVER * middle[c], least):
            found.setdefault(c, []).append(int(index))
    if sum(map(len, found.values())) > FEW * len(shown):
        return
    for c, indices in sorted(found.items()):
        stems = [shown[i].stem for i in indices]
        yield Finding(
            kind="inverted",
            severity=Severity.WARNING,
            text=(
                f"{count(len(stems), 'image is', 'images are')} mostly {dataset.classes[c]} in a set whose "
                f"median is {100 * middle[c]:.2g} %, and {dataset.classes[common]}, {100 * middle[common]:.2g} % "
                f"by the median, is nearly gone: {some(stems)}. The two labels may be swapped there; look at them."
            ),
            images=tuple(stems),
        )


def _gone(share: Floats) -> npt.NDArray[np.bool_]:
    """Where the commonest class takes far less than it does elsewhere: (N,) shares → (N,)."""
    middle = float(np.median(share))
    rest = 2 * (1 - middle) if middle > 0.8 else 0.0  # so little as all else usually has, twice
    found: npt.NDArray[np.bool_] = (share < rest) | (share < np.quantile(share, FEW) / TAKES_OVER)
    return found


def _flat(dataset: Dataset, features: Sequence[ImageFeatures]) -> Iterator[Finding]:
    found = [p.stem for p, one in zip(dataset.images, features, strict=True) if one.flat]
    if found:
        yield Finding(
            kind="blank",
            severity=Severity.WARNING,
            text=(
                f"{count(len(found), 'image has', 'images have')} one colour all over: {some(found)}. An export "
                "that failed, or a blank tile; leave them out with --exclude unless they are meant."
            ),
            images=tuple(found),
        )


def _sizes(dataset: Dataset) -> Iterator[Finding]:
    areas = np.array([p.height * p.width for p in dataset.images], dtype=np.float64)
    middle = float(np.median(areas))
    for word, odd in (("smaller", areas * ODD_SIZE <= middle), ("larger", areas >= ODD_SIZE * middle)):
        found = [p for p, is_odd in zip(dataset.images, odd, strict=True) if is_odd]
        if found and len(found) <= FEW * len(areas):
            named = some([f"{p.stem} ({p.width}×{p.height})" for p in found])
            yield Finding(
                kind="size",
                severity=Severity.WARNING,
                text=(
                    f"{count(len(found), 'image is', 'images are')} much {word} than the others: {named}; the "
                    f"median has {middle:,.0f} pixels. A preview, or another scale? Things have other sizes there."
                ),
                images=tuple(p.stem for p in found),
            )


def _absent(dataset: Dataset) -> Iterator[Finding]:
    found = [name for name, pixels in zip(dataset.classes, dataset.class_pixels(), strict=True) if not pixels]
    if found:
        yield Finding(
            kind="absent_class",
            severity=Severity.WARNING,
            text=(
                f"{len(found)} of {len(dataset.classes)} declared classes never occur: {some(found)}. Nothing can be "
                "learned or measured for them; correct the list of classes, or add images."
            ),
        )


def _unlabelled(dataset: Dataset) -> Iterator[Finding]:
    bare = [p.stem for p in dataset.images if not any(p.pixels)]
    if bare:
        yield Finding(
            kind="unlabelled",
            severity=Severity.WARNING,
            text=(
                f"{count(len(bare), 'image has', 'images have')} no labelled pixel at all (every pixel is "
                f"{IGNORE}): {some(bare)}. They teach nothing; label them, or leave them out with --exclude."
            ),
            images=tuple(bare),
        )

    def share(image: ImageInfo) -> float:
        return image.ignored / (image.height * image.width)

    partly = sorted((p for p in dataset.images if any(p.pixels) and share(p) > UNLABELLED), key=lambda p: -share(p))
    if partly:
        named = some([f"{p.stem} ({100 * share(p):.0f} %)" for p in partly])
        yield Finding(
            kind="unlabelled",
            severity=Severity.NOTE,
            text=f"{count(len(partly), 'image is', 'images are')} unlabelled for the most part: {named}.",
            images=tuple(p.stem for p in partly),
        )


def _empty(dataset: Dataset, features: Sequence[ImageFeatures]) -> Iterator[Finding]:
    """Masks without objects: suspects where they are rare, where most are so, or beside a look-alike that has some."""
    images = dataset.images
    empty = [i for i, p in enumerate(images) if p.pixels[0] and not any(p.pixels[1:])]
    drawn = [i for i, p in enumerate(images) if any(p.pixels[1:])]
    if not empty:
        return
    total = len(images)
    found = [images[i].stem for i in empty]
    rare, most = len(empty) <= max(1, FEW * total) and len(drawn) >= FEWEST_DRAWN, len(empty) > total / 2
    alike = _alike(features, empty, drawn)
    text = f"{len(found)} of {total} images show nothing but {dataset.classes[0]}: {some(found)}. "
    if alike:
        pairs = some([f"{images[i].stem} looks like {images[j].stem}" for i, j in alike], 3)
        text += f"Probably not labelled yet: {pairs}, in which objects are drawn; look at them."
    elif rare:
        text += (
            "Nearly all others have objects, so these may not be labelled yet, or their mask failed to export: look at "
            "them, and leave them out with --exclude if so. What is left unlabelled is learned as background."
        )
    else:
        text += "Right if there is nothing in them; wrong if nobody has labelled them yet."
    yield Finding(
        kind="empty",
        severity=Severity.WARNING if rare or most or alike else Severity.NOTE,
        text=text,
        images=tuple(found),
    )


def _alike(features: Sequence[ImageFeatures], empty: Sequence[int], drawn: Sequence[int]) -> list[tuple[int, int]]:
    """(empty, drawn) images that look the same, the best partner of each."""
    if not drawn:
        return []
    views = np.stack([features[i].thumbnail.astype(np.float32).ravel() for i in drawn])
    pairs = []
    for i in empty:
        likeness = views @ features[i].thumbnail.astype(np.float32).ravel()
        best = int(likeness.argmax())
        if likeness[best] >= ALIKE:
            pairs.append((i, drawn[best]))
    return pairs


def _specks(dataset: Dataset, features: Sequence[ImageFeatures]) -> Iterator[Finding]:
    """One finding for all classes with many specks, and the images that have far more than the others."""
    specks = np.array([one.specks for one in features])
    pieces = np.array([one.pieces for one in features]).sum(axis=0)
    total = specks.sum(axis=0)
    many = np.flatnonzero((total >= SPECKS) & (total >= SPECKED * pieces))
    if not many.size:
        return
    of_image = specks[:, many].sum(axis=1)
    usual = float(np.median(of_image[of_image > 0]))
    order = np.argsort(-of_image, kind="stable")
    outliers = [int(i) for i in order if of_image[i] >= max(SPECKS, 6 * usual)]
    classes = some(
        [
            f"{dataset.classes[i]} {total[i]:,} of {pieces[i]:,} pieces"
            for i in many[np.argsort(-total[many] / pieces[many], kind="stable")]
        ]
    )
    named = some([f"{dataset.images[i].stem} ({of_image[i]})" for i in outliers], 3)
    yield Finding(
        kind="specks",
        severity=Severity.NOTE,
        text=(
            f"Specks of at most {SPECK_PIXELS} pixels, slips of the brush or of resizing: {classes}. They cost IoU "
            f"per object and fray boundaries, whatever the loss." + (f" Most in {named}." if outliers else "")
        ),
        images=tuple(dataset.images[i].stem for i in outliers),
    )


def counts(findings: Iterable[Finding]) -> dict[Severity, int]:
    """How many there are of each severity, zeros included."""
    severities = [finding.severity for finding in findings]
    return {severity: severities.count(severity) for severity in Severity}
