"""Infer what the numbers in masks mean, by hypotheses that are scored by the numbers of the whole set.

The numbers are class indices with 255 for no label, 0 and 255 for background and foreground, or two levels with numbers
between them, as JPEG or smooth resizing leaves them. The best is read. If none fits, as where numbers are grey levels,
the class maps that would make classes of them are proposed, the best first. Numbers of objects are recognised by the
pixels of their images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sweeper.core.label_parts import label_components
from sweeper.core.records import IGNORE
from sweeper.core.text import abbreviate
from sweeper.data.store import Pixels, PixelStore
from sweeper.data.text_tables import MAX_CLASSES

MAX_LINES = 8
"""Most lines of a class map in a message."""
MAX_UNNAMED = 64
"""Most classes without `classes.txt`: a higher label is more often a mistake."""
READ = 0.5
"""Least score of a meaning that is read."""

_APART = 8
"""Least distance between grey levels; class indices are consecutive."""
_FEW_BETWEEN = 0.01
"""Share of the foreground pixels below which levels between the first and the last are considered artefacts."""
_MOSTLY = 2 / 3
"""Share of the pixels from which a level is taken for the background, whatever its number."""
_BETWEEN = slice(32, 224)
"""Numbers that belong to neither level of a 0/255 mask that was compressed or resized smoothly."""

OBJECTS_STEP = "echo 'object: any' > objects.yaml, then --class-map objects.yaml makes them one class"
"""Next step for masks of instances."""
SAMPLED_IMAGES = 48
"""Images whose masks are examined for objects; of more every n-th, fewer than twice this number."""
MIN_OBJECT_NUMBERS = 5
"""Fewest numbers of objects; fewer may be classes of one component each."""
_MOST = 0.9
"""Least share of numbers that are one connected object, and of images that are numbered like instances."""
_EXPLAINED, _CHANCE = 0.4, 1e-4
"""Least share of the variance between objects that classes explain, and largest p-value."""

Counts = npt.NDArray[np.int64]
AS_STORED = np.arange(256, dtype=np.uint8)


class Meaning(NamedTuple):
    """What the numbers in a set's masks may mean."""

    score: float
    """0 to 1; at least `READ` if it is read."""
    labels: Pixels
    """(256,), the label of each number."""
    sentence: str = ""
    """A warning if it is read; else why not: rule, value found, next step."""


@dataclass
class MaskNumbers:
    """The numbers in the masks of a set."""

    counts: Counts
    """Pixels of each number in each mask, (n, 256)."""
    files: Sequence[str]
    """Names of the masks."""
    lossy: Sequence[str] = ()
    """Masks in a lossy format (JPEG)."""
    is_known: bool = False
    """Whether 255 is known to mean no label."""
    is_named: bool = False
    """Whether names or a class map say which numbers are classes."""
    may_be_binary: bool = True
    """Whether no more than two classes are declared."""

    def __post_init__(self) -> None:
        self.total: Counts = np.asarray(self.counts.sum(axis=0))
        """Pixels of each number, (256,)."""
        self.used = np.flatnonzero(self.total)
        """Numbers that occur, ascending."""
        is_bright = bool(self.lossy) or (self.used >= 128).sum() > 2
        self.peaks = find_levels(self.total) if is_bright else []
        """Numbers around which pixels gather, if the masks may have been compressed or resized smoothly."""
        is_smeared = bool(self.lossy) or len(self.used) >= 3 * len(self.peaks) > 3
        is_open = self.may_be_binary and not self.is_known
        self.may_be_halves = is_smeared and is_open
        """Whether there may be two classes, and numbers between them, as after compression or smooth resizing."""
        is_spread = len(self.used) <= MAX_LINES and bool((np.diff(self.used) >= _APART).all())
        self.last = IGNORE - 1 + bool(self.total[IGNORE] if is_spread else is_smeared or self.total[IGNORE - 1])
        """Highest number of a class: 255 if that is a level like the others, as where few are spaced (0, 128, 255)."""
        has_few = (self.used <= self.last).sum() <= MAX_LINES and not is_smeared
        self._are_few = is_spread or has_few

    def list_class_levels(self) -> list[int]:
        """Return numbers that may be classes, ascending: the only ones, or those around which pixels gather."""
        if self._are_few:
            return [*map(int, self.used[self.used <= self.last])]
        return find_levels(self.total * (np.arange(256) <= self.last))

    def find_holders(self, are_wanted: npt.NDArray[np.bool_]) -> str:
        """Return the first of the masks that are wanted, (n,), for messages."""
        return abbreviate([self.files[int(i)] for i in np.flatnonzero(are_wanted)])


def find_levels(total: Counts) -> list[int]:
    """Return the numbers, ascending, around which pixels gather, from the pixels of each number, (256,)."""
    from scipy.signal import find_peaks

    bins = total.reshape(16, 16).sum(axis=1)
    height = np.log1p(max(20.0, 1e-4 * total.sum()))
    places, _ = find_peaks(np.log1p(np.pad(bins, 1)), height=height, prominence=np.log(3))
    return [int(16 * (p - 1) + total[16 * (p - 1) : 16 * p].argmax()) for p in places]


def infer_meaning(numbers: MaskNumbers) -> Meaning:
    """Return the best hypothesis about the numbers of at least one mask.

    Its score is below `READ` if none fits. Then its sentence is the problem, with the class maps that would fit.
    """
    doubts = (weigh(numbers) for weigh in (_weigh_storage, _weigh_ignored, _weigh_gaps))
    indices = min(doubts, key=lambda one: one.score)
    best = max(indices, _weigh_halves(numbers), _weigh_foreground(numbers), key=lambda one: one.score)
    if best.score >= READ:
        return best._replace(sentence="" if best is indices else best.sentence)
    maps = sorted((_propose_two(numbers), _propose_levels(numbers)), reverse=True)
    return indices._replace(sentence="; ".join([indices.sentence, *(s for _, s in maps if s)]))


def _weigh_storage(numbers: MaskNumbers) -> Meaning:
    """Return whether class indices could have been stored so: without loss, and unlike two levels that were smeared."""
    is_doubtful = bool(numbers.lossy) or numbers.may_be_halves
    is_sound = not is_doubtful or not numbers.used.any()
    may_be = not numbers.lossy and len(numbers.used) <= MAX_UNNAMED
    holders = numbers.find_holders(numbers.counts[:, _BETWEEN].sum(axis=1) > 0) or abbreviate(numbers.files)
    score = 1.0 if is_sound else READ * may_be
    return Meaning(
        score,
        AS_STORED,
        "masks of more than two classes must be lossless, found numbers that gather near "
        f"{abbreviate([*map(str, numbers.peaks)], 8)} in "
        f"{abbreviate(numbers.lossy) or holders}; save class indices as PNG",
    )


def _weigh_ignored(numbers: MaskNumbers) -> Meaning:
    """Return whether 255 means no label: by the share of masks with 255 that have other labels, too.

    One stray pixel must not turn the foreground of a whole set into no label.
    """
    has_255, has_other = numbers.counts[:, IGNORE] > 0, numbers.counts[:, 1:IGNORE].sum(axis=1) > 0
    bare = has_255 & ~has_other
    score = 1.0 if numbers.is_known else 1 - bare.sum() / max(1, has_255.sum())
    return Meaning(
        score,
        AS_STORED,
        f"255 must mean the same in all masks, found 0 and 255 alone in {bare.sum()} ({numbers.find_holders(bare)}) "
        f"and other labels in {has_other.sum()} ({numbers.find_holders(has_other)}); save all as class indices "
        "(0, 1, …)",
    )


def _weigh_gaps(numbers: MaskNumbers) -> Meaning:
    """Return whether numbers without names count classes: by the share of those up to the highest that occur."""
    used = numbers.used[numbers.used < IGNORE]
    size = int(used.max(initial=0)) + 1
    score = len(used) / size if size <= MAX_UNNAMED else 0.0
    if numbers.is_named or size <= 2:
        score = 1.0
    shown = numbers.used[numbers.used <= numbers.last]
    highest = shown.max(initial=0)
    return Meaning(
        score,
        AS_STORED,
        f"without classes.txt labels must be 0, 1, 2, … with few gaps, {MAX_UNNAMED} classes at most, found "
        f"{abbreviate([*map(str, shown)], 8)} ({highest} in {numbers.find_holders(numbers.counts[:, highest] > 0)}); "
        "number the classes from 0, or write classes.txt in the data folder, one name per line, "
        f"{MAX_CLASSES} at most (`seq -f class_%g 0 {size - 1} > classes.txt`)",
    )


def _weigh_foreground(numbers: MaskNumbers) -> Meaning:
    """Return whether 255 is the foreground: there is nothing else but 0, stored without loss."""
    may_be = not numbers.is_known and not numbers.lossy
    is_alone = may_be and numbers.used.tolist() in ([0, IGNORE], [IGNORE])
    return Meaning(float(is_alone), np.where(np.arange(256) == IGNORE, 1, np.arange(256)).astype(np.uint8))


def _weigh_halves(numbers: MaskNumbers) -> Meaning:
    """Return whether numbers from 128 on are the foreground: they gather at both ends, and few are between them."""
    each, total = numbers.counts[:, _BETWEEN].sum(axis=1), numbers.total.sum()
    may_be = numbers.may_be_halves and [level // _BETWEEN.start for level in numbers.peaks] == [0, 7]
    shares = 5 * each.sum() / total, (each / numbers.counts.sum(axis=1)).max() / 0.6
    return Meaning(
        may_be * (1 - max(shares)),
        (np.arange(256) >= 128).astype(np.uint8),
        "Masks hold numbers between 0 and 255, as JPEG or smooth resizing leaves them, and are read by half range "
        f"(128 and above is foreground): {each.sum():,} of {total:,} pixels ({100 * each.sum() / total:.2g} %) lie "
        f"between {_BETWEEN.start} and {_BETWEEN.stop - 1}, in {numbers.find_holders(each > 0) or 'no mask'}.",
    )


def _propose_two(numbers: MaskNumbers) -> tuple[float, str]:
    """Return a score, and the step that makes two classes of numbers that were resized smoothly, or are shares."""
    levels, last = numbers.list_class_levels(), numbers.last
    if max(levels, default=0) < _BETWEEN.stop:
        return 0.0, ""
    first, *others = [(a + b) // 2 for a, b in pairwise(levels)] or [0]
    rest = numbers.total[first + 1 : last + 1].sum()
    between = numbers.total[first + 1 : others[-1] + 1].sum() if others else rest
    score = float(1 - READ * between / (_FEW_BETWEEN * rest))
    command = r"`printf 'background: 0-127\nobject: 128-255\n' > two.yaml`"
    why = f"{100 * between / rest:.2g} % of what is no background is between"
    return score, f"of two classes ({why}) {command}, then --class-map two.yaml"


def _propose_levels(numbers: MaskNumbers) -> tuple[float, str]:
    """Return a score, and the step that makes a class of each level."""
    levels, last = numbers.list_class_levels(), numbers.last
    ends = [*((a + b) // 2 for a, b in pairwise(levels)), last]
    is_two = len(levels) == 2 and levels[0] < 128 and levels[1] >= _BETWEEN.stop
    if is_two or not 2 <= len(levels) <= MAX_LINES:
        return 0.0, ""
    spans = [*zip([0, *(end + 1 for end in ends)], ends, strict=False)]
    sizes = [numbers.total[first : end + 1].sum() for first, end in spans]
    ground = int(np.argmax(sizes)) if max(sizes) > _MOSTLY * sum(sizes) else 0
    names = ["background" if i == ground else f"class_{i + (i < ground)}" for i in range(len(spans))]
    lines = [
        f"{name}: {first if first == end else f'{first}-{end}'}\\n"
        for name, (first, end) in zip(names, spans, strict=True)
    ]
    step = f"or part the numbers: `printf '{''.join(lines)}' > classes.yaml`, then --class-map classes.yaml"
    if len(levels) > 2 and levels[-1] == IGNORE:
        step += " (where 255 means no label, write ignore for the name of its line)"
    return READ, step


def number_objects(counts: Counts, store: PixelStore) -> int:
    """Return the highest number if masks, with these counts (n, 256), number their objects; 0 if they may be classes.

    Images and masks of some are read from their store.
    """
    from scipy.ndimage import find_objects  # not at the top: workers should start soon

    present = counts[:, 1:IGNORE] > 0
    number, highest = present.sum(axis=1), (present * np.arange(1, IGNORE)).max(axis=1, initial=0)
    some = np.flatnonzero(number)
    if highest.max(initial=0) < 3:
        return 0
    again = float(np.mean(number[some] >= 0.8 * highest[some]))
    once = float(np.mean(present.sum(axis=0)[present.any(axis=0)] == 1))
    if max(again, once * (np.median(number[some]) > 1)) < _MOST:
        return 0
    labels: list[int] = []
    looks, whole, ranked = [], [], []
    for index in some[:: max(1, len(some) // SAMPLED_IMAGES)]:
        image, mask = store.get_view(int(index)), store.get_mask(int(index))
        rows = []
        boxes = find_objects(mask, max_label=IGNORE - 1)
        for label in np.flatnonzero(present[index]) + 1:
            box = boxes[label - 1]
            inside = mask[box] == label
            size = int(inside.sum())
            whole.append(np.bincount(label_components(inside)[0].ravel())[1:].max() > _MOST * size)
            place = [(box[axis].start + box[axis].stop) / mask.shape[axis] for axis in (0, 1)]
            rows.append((*image[box][inside].mean(axis=0), np.log(size), *place))
        labels += [*np.flatnonzero(present[index])]
        steps = np.diff([row[-3] for row in rows])
        ranked.append((steps <= 0).all() or (steps >= 0).all())
        looks.append(np.array(rows) - np.mean(rows, axis=0))  # relative to the image's other objects
        if len(whole) > 20 and np.mean(whole) < _MOST / 2:
            return 0
    if np.mean(whole) < _MOST:
        return 0
    *look, large, down, right = (_follows(np.array(labels), values) for values in np.concatenate(looks).T)
    # Numbers often follow the rows, or the columns; only classes follow both. Numbers may also rank by size.
    is_ranked = np.mean(ranked) >= _MOST and highest.max() >= MIN_OBJECT_NUMBERS
    large &= bool(not is_ranked or np.ptp(number[some]) == 0)
    follows_both = down and right
    return 0 if any((*look, large, follows_both)) else int(highest.max())


def _follows(labels: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> bool:
    """Return whether labels explain a good share of the variance of the values' ranks (Kruskal-Wallis, η²)."""
    from scipy.stats import kruskal

    groups = [values[labels == label] for label in np.unique(labels)]
    groups = [group for group in groups if len(group) > 1]
    if len(groups) < 2 or np.ptp(values) < 1e-6:
        return len(groups) > 1
    test, free = kruskal(*groups), sum(map(len, groups)) - len(groups)
    return bool(test.pvalue < _CHANCE and (test.statistic - len(groups) + 1) / free >= _EXPLAINED)
