"""Rules from measurements to findings, as pure functions of the whole data set, in the order of `judge_labels`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from sweeper.core.records import Dataset
from sweeper.core.tasks import RULES
from sweeper.core.text import abbreviate, format_count, format_significant, replace_minus
from sweeper.fingerprint.label_checks.edges import MISFIT_AGREEMENT, is_better_fit
from sweeper.fingerprint.label_checks.finding import Finding, Severity
from sweeper.fingerprint.label_checks.measure import ImageFeatures
from sweeper.fingerprint.label_checks.near_duplicates import find_repeated_images, look_alike_findings

EDGE_AGREEMENT = 5.0
"""Least median agreement of a data set whose labels follow edges, so that misfits are meaningful."""
COMMON_SHIFT_SHARE = 0.3
"""Share of the images from which a displacement is a property of the data set, not of single images."""
KIND_SHARE = 0.1
"""Share of the images above which a property is common, not an error."""
USUAL_SHARE = 0.01
"""Least median share of a class that usually occurs; an image full of another class is a close-up, not a swap."""
APART_SHARE = 0.75
"""Share of a class from which an image is of the kind that is full of it."""
FEWEST_DRAWN = 8
"""Number of images with objects below which rare empty images are not suspicious."""


def judge_labels(dataset: Dataset, features: Sequence[ImageFeatures]) -> tuple[Finding, ...]:
    """Return all findings, the most severe first, from the images' measurements in the order of the data set."""
    foreign = list(_find_identical_masks(dataset, features))
    turned = [*_find_turned(dataset, features), *_find_quarter_turns(dataset, features)]
    explained = {stem for finding in (*foreign, *turned) for stem in finding.images}
    findings = [
        *foreign,
        *turned,
        *_find_misfits(dataset, features, explained),
        *find_repeated_images(dataset, features),
        *look_alike_findings(dataset, features),
        *_find_inverted(dataset),
        *_find_blank(dataset, features),
        *_find_empty(dataset),
    ]
    findings = [finding for finding in findings if finding.images]  # rules yield one without, too
    return tuple(sorted(findings, key=lambda finding: list(Severity).index(finding.severity)))


def _find_identical_masks(dataset: Dataset, features: Sequence[ImageFeatures]) -> Iterator[Finding]:
    """Yield findings of one drawn mask on different images, and, if edges decide, which images are wrong."""
    same: dict[str, list[int]] = defaultdict(list)
    for index, (one, image) in enumerate(zip(features, dataset.images, strict=True)):
        # Masks with a single label may be identical by chance; drawn ones are not.
        if not image.is_uniform:
            same[one.mask_digest].append(index)
    carried, wrong, doubtful, unknown = [], [], [], []
    for members in same.values():
        if len({features[i].image_digest for i in members}) < 2:
            continue
        fits = [(i, features[i].fit) for i in members]
        values = {i: fit.agreement for i, fit in fits if fit is not None}
        # The contour fits its own image far better than another.
        least = max(MISFIT_AGREEMENT, max(values.values(), default=0.0) / 2)
        right = [dataset.images[i].stem for i in members if values.get(i, 0.0) >= least]
        others = [dataset.images[i].stem for i in members if values.get(i, least) < least]
        if right and others:
            carried.append(f"{abbreviate(others)} carries the mask of {abbreviate(right)}")
            wrong += others
        else:
            stems = [dataset.images[i].stem for i in members]
            doubtful.append(" = ".join((*stems[:3], *("…",) * (len(stems) > 3))))
            unknown += stems
    yield Finding(
        kind="identical_masks",
        severity=Severity.ERROR,
        text=(
            f"{abbreviate(carried, 3)}: byte for byte, and the contours do not lie on the edges of an image that "
            "is named first. Label these images again, or leave them out."
        ),
        images=tuple(wrong),
    )
    yield Finding(
        kind="identical_masks",
        severity=Severity.WARNING,
        text=(
            f"{format_count(len(doubtful), 'mask is', 'masks are')} byte-identical on different images: "
            f"{abbreviate(doubtful, 3)}. Some labels are probably wrong, and edges do not show which; look at them."
        ),
        images=tuple(unknown),
    )


def _find_turned(dataset: Dataset, features: Sequence[ImageFeatures]) -> Iterator[Finding]:
    """Yield which orientation fits, for images with an EXIF orientation that sizes cannot check."""
    kinds = {
        "before": (Severity.ERROR, "take the tag from these images: exiftool -overwrite_original -Orientation= FILES"),
        "before or after": (Severity.WARNING, "edges fit both; look at them"),
        "after": (Severity.NOTE, "nothing is to be done"),
    }
    by_verdict: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for image, one in zip(dataset.images, features, strict=True):
        if one.fit is not None and one.before is not None:
            after, before = one.fit.agreement, one.before.agreement
            kind = "after" if is_better_fit(after, before) else "before or after"
            by_verdict["before" if is_better_fit(before, after) else kind].append(
                (
                    image.stem,
                    f"{image.stem} (tag {image.open_turn}: {_format_agreement(before)} before, "
                    f"{_format_agreement(after)} after)",
                )
            )
    for kind, (severity, step) in kinds.items():
        number = format_count(len(by_verdict[kind]), "mask is", "masks are")
        yield Finding(
            kind="turned",
            severity=severity,
            text=(
                f"{number} drawn {kind} the turn that EXIF asks of the image, by edges: "
                f"{abbreviate([words for _, words in by_verdict[kind]], 3)}. All are read as drawn after it; "
                f"{step}."
            ),
            images=tuple(stem for stem, _ in by_verdict[kind]),
        )


def _find_quarter_turns(dataset: Dataset, features: Sequence[ImageFeatures]) -> Iterator[Finding]:
    """Yield masks that fit their image only if they are turned by 90°."""
    turned = {image.stem: one.turn for image, one in zip(dataset.images, features, strict=True) if one.turn}
    number = format_count(len(turned), "mask fits", "masks fit")
    turns = [f"{stem} (to the {turn.side}: {turn.agreement:.1f})" for stem, turn in turned.items()]
    yield Finding(
        kind="turned",
        severity=Severity.ERROR,
        text=(
            f"{number} the edges of the image only if turned by 90°: {abbreviate(turns)}. Turn them: "
            "Image.open(path).rotate(90, expand=True).save(path) turns to the left, 270 to the right."
        ),
        images=tuple(turned),
    )


def _find_misfits(dataset: Dataset, features: Sequence[ImageFeatures], explained: set[str]) -> Iterator[Finding]:
    """Yield masks whose contours do not follow edges, and masks that are shifted."""
    fits = {image.stem: one.fit for image, one in zip(dataset.images, features, strict=True) if one.fit}
    if not fits:
        return
    middle = float(np.median([fit.agreement for fit in fits.values()]))
    shifts = {stem: fit.shift for stem, fit in fits.items() if stem not in explained}
    shifted = {stem: shift for stem, shift in shifts.items() if shift is not None}
    often = len(shifted) >= COMMON_SHIFT_SHARE * len(fits)
    moves = abbreviate([f"{stem} ({_format_shift(*shift)})" for stem, shift in shifted.items()])
    severity, step = Severity.WARNING, "Move them."
    if often:
        severity, step = Severity.ERROR, "Look for a crop or a scale that one of them has and the other has not."
    yield Finding(
        kind="displaced",
        severity=severity,
        text=f"{len(shifted)} of {len(fits)} masks fit their image far better somewhere else: {moves}. {step}",
        images=tuple(shifted),
    )
    if middle < EDGE_AGREEMENT:  # agreement does not separate foreign masks
        return
    worst = sorted((fit.agreement, stem) for stem, fit in fits.items() if fit.agreement < MISFIT_AGREEMENT)
    misfits = [(value, stem) for value, stem in worst if stem not in {*explained, *shifted}]
    named = abbreviate([f"{stem} ({_format_agreement(value)})" for value, stem in misfits])
    yield Finding(
        kind="misfit",
        severity=Severity.WARNING,
        text=(
            f"{format_count(len(misfits), 'mask does', 'masks do')} not fit the edges of the image: {named}; the "
            f"set's median is {middle:.1f}, a foreign mask scores about 0. Look at them."
        ),
        images=tuple(stem for _, stem in misfits),
    )


def _format_agreement(agreement: float) -> str:
    return replace_minus(f"{agreement:.1f}")


def _format_shift(down: int, right: int) -> str:
    """Format a displacement: `3 pixels down and 2 to the left`."""
    vertical, side = "up" if down < 0 else "down", "left" if right < 0 else "right"
    return f"{abs(down)} pixels {vertical} and {abs(right)} to the {side}"


def _find_inverted(dataset: Dataset) -> Iterator[Finding]:
    """Yield images whose shares become usual if the data set's most common class and another are swapped.

    They are at most `KIND_SHARE` of the images, else unusual shares are usual; of two classes they may be up to half of
    the images, if the shares of hardly any image are between those of the two kinds.
    """
    labelled = [p for p in dataset.images if sum(p.pixels)]
    if dataset.planes:  # classes that overlap cannot be swapped by one number
        return
    shares = np.array([p.pixels for p in labelled], dtype=np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    low, middle, high = np.quantile(shares, (KIND_SHARE, 0.5, 1 - KIND_SHARE), axis=0)
    common = int(middle.argmax())
    least = low[common] / 2
    inverted = []
    for index, share in enumerate(shares):
        top, most = int(share.argmax()), 2 * high[share.argmax()]
        usual = len(dataset.classes) == 2 or middle[top] >= USUAL_SHARE
        is_swapped = share[common] < least <= share[top] and share[common] <= most < share[top]
        if usual and is_swapped:
            inverted.append(index)
    if len(inverted) > KIND_SHARE * len(labelled):
        inverted = []
    if not inverted and len(dataset.classes) == 2:
        inverted = _find_opposite_side(shares[:, common])
    if inverted:
        names = [f"{labelled[i].stem} (mostly {dataset.classes[int(shares[i].argmax())]})" for i in inverted]
        median = np.median(np.delete(shares[:, common], inverted))
        yield Finding(
            kind="inverted",
            severity=Severity.WARNING,
            text=(
                f"{format_count(len(inverted), 'image has', 'images have')} hardly any {dataset.classes[common]}, "
                f"which is {format_significant(100 * median, 2)} % of another image by the median: "
                f"{abbreviate(names)}. The two labels may be swapped there; look at them."
            ),
            images=tuple(labelled[i].stem for i in inverted),
        )


def _find_opposite_side(share: npt.NDArray[np.float64]) -> list[int]:
    """Return the images of the rarer of two kinds: with much, and with as little, of one of two classes.

    Args:
        share: (N,) share of the class in each image, 0–1; its median is at least 0.5.
    """
    opposite = share < 1 - APART_SHARE
    usual = share > APART_SHARE
    between = len(share) - opposite.sum() - usual.sum()
    if not opposite.any() or between > KIND_SHARE * opposite.sum():
        return []
    low, high = np.quantile(share[usual], (0, 1))
    return np.flatnonzero(opposite).tolist() if low <= 1 - np.median(share[opposite]) <= high else []


def _find_blank(dataset: Dataset, features: Sequence[ImageFeatures]) -> Iterator[Finding]:
    """Yield images of one colour."""
    flat = tuple(p.stem for p, one in zip(dataset.images, features, strict=True) if one.flat)
    yield Finding(
        kind="blank",
        severity=Severity.WARNING,
        text=(
            f"{format_count(len(flat), 'image has', 'images have')} one colour all over: {abbreviate(flat)}. An "
            "export that failed, or a blank tile; leave them out unless they are meant."
        ),
        images=flat,
    )


def _find_empty(dataset: Dataset) -> Iterator[Finding]:
    """Yield masks without objects, as suspects if they are rare, or the majority."""
    images = dataset.images
    first = RULES[dataset.task].first_object
    empty = [p.stem for p in images if p.labelled and not any(p.pixels[first:])]
    total, drawn = len(images), sum(any(p.pixels[first:]) for p in images)
    rare, most = len(empty) <= max(1, KIND_SHARE * total) and drawn >= FEWEST_DRAWN, len(empty) > total / 2
    text = f"{len(empty)} of {total} images show nothing but {dataset.label_names[0]}: {abbreviate(empty)}. "
    if rare:
        text += (
            "Nearly all others have objects, so these may not be labelled yet, or their mask failed to export: look at "
            "them, and leave them out if so. What is left unlabelled is learned as background."
        )
    else:
        text += "Right if there is nothing in them; wrong if nobody has labelled them yet."
    is_unusual = rare or most
    severity = Severity.WARNING if is_unusual else Severity.NOTE
    yield Finding(kind="empty", severity=severity, text=text, images=tuple(empty))


def format_totals(findings: Iterable[Finding]) -> str:
    """Return the sentence that counts the findings of each severity, including zeros, without a full stop."""
    severities = [finding.severity for finding in findings]
    totals = (format_count(severities.count(severity), severity) for severity in Severity)
    return f"The label doctor found {', '.join(totals)}"
