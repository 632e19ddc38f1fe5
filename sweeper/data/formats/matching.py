"""Match masks with images by the words and numbers of their paths.

A path is a multiset of tokens. A mask belongs to the image whose tokens it has all, apart from those that no mask has;
of several such images to the one with most tokens. So the words that one side alone has, such as `img`, `mask`, a class
or a reader, need not be known, nor their order: `train/img/7.jpg` is matched by `masks/train/007_road.png`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

Tokens = frozenset[tuple[str, int]]
"""A multiset: each token with the number of equal ones before it."""

_CHUNK = re.compile(r"[^\W_]+")
_RUN = re.compile(r"\d+|[^\W\d]+")
_JOINT = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=(?i:annot|masks?|labels?|gt)$)|(?<=^(?i:mask))(?=[^sS])")
"""Joint of two words without a separator: `TrainImages`, `trainannot`, `maska`."""
_MOST_RUNS = 3
"""Most letters and numbers by turns that are taken apart; more are an id."""


class Word(NamedTuple):
    """A part of a path between separators."""

    text: str
    """As written, without leading zeros of a number."""
    token: str
    """In lower case; a number, or a single letter, may begin with `/` in folders and `.` in the name."""


class Reading(NamedTuple):
    """A way to take paths apart."""

    is_whole: bool
    """Whether all between two separators is one word: `p0` is not `p` and `0`."""
    is_bound: bool
    """Whether numbers and single letters of folders differ from those of names."""


READINGS = (Reading(True, True), Reading(True, False), Reading(False, True), Reading(False, False))
"""Ways to take paths apart, the safest first."""


@lru_cache(maxsize=1 << 12)
def _split_part(part: str, is_whole: bool) -> tuple[str, ...]:
    """Return the words of a folder or of a name without its extension."""
    words = _CHUNK.findall(part) or [*filter(None, [part])]
    if not is_whole:
        words = [word for chunk in words for word in _JOINT.split(chunk)]
        runs = [(_RUN.findall(word), word) for word in words]
        words = [run for found, word in runs for run in (found if len(found) <= _MOST_RUNS else [word])]
    return tuple(word.lstrip("0") or "0" if word.isdecimal() else word for word in words)


def list_words(path: str, reading: Reading = READINGS[0]) -> list[Word]:
    """Return the words of a path below the data folder, without its extension, in order."""
    folder, _, name = path.rpartition("/")
    stem = name.rpartition(".")[0] or name
    words = []
    for sign, part in (("/", folder), (".", stem)):
        for text in _split_part(part, reading.is_whole):
            is_bound = reading.is_bound and (text.isdecimal() or len(text) == 1)
            words.append(Word(text, f"{sign}{text.casefold()}" if is_bound else text.casefold()))
    return words


class TokenTable(dict[tuple[str, Reading], Tokens]):
    """Tokens of paths by reading; each is taken apart once, when it is first asked for."""

    def __missing__(self, key: tuple[str, Reading]) -> Tokens:
        """Return the multiset of a path's tokens."""
        times = Counter(word.token for word in list_words(*key))
        self[key] = frozenset((token, number) for token, most in times.items() for number in range(most))
        return self[key]

    def get_words(self, path: str) -> set[str]:
        """Return the words of a path in lower case, whole and, but for single letters, taken apart."""
        whole, parts = (
            {token.lstrip("/.") for token, _ in self[path, reading]} for reading in (READINGS[0], READINGS[2])
        )
        return whole | {word for word in parts if len(word) > 1}


def list_own_words(mask: str, image: str, reading: Reading = READINGS[0]) -> list[str]:
    """Return the words of a mask's path that its image's lacks, in order, as written, without numbers of folders."""
    left = Counter(word.text.casefold() for word in list_words(image, reading))
    own = []
    for word in list_words(mask, reading):
        if not (word.token.startswith("/") and word.text.isdecimal()):
            left[word.text.casefold()] -= 1
            own += [word.text] if left[word.text.casefold()] < 0 else []
    return own


def match_masks(images: Collection[str], masks: Collection[str], table: TokenTable) -> dict[str, list[str]]:
    """Return the images of each mask that has any, by their paths; several have equally good names.

    Paths are taken apart in the first way by which each image has a mask, or each mask an image, else in the best.
    """
    best: dict[str, list[str]] = {}
    for reading in READINGS:
        sides = ({path: table[path, reading] for path in side} for side in (images, masks))
        found = match_tokens(*sides)
        count = count_matched(found)
        if count > count_matched(best):
            best = found
        if count == len(images) or sum(len(one) == 1 for one in found.values()) == len(masks):
            break
    return best


def count_matched(owners: Mapping[str, Sequence[str]]) -> int:
    """Count the images that have a mask which is no other image's."""
    return len({images[0] for images in owners.values() if len(images) == 1})


def match_tokens(images: Mapping[str, Tokens], masks: Mapping[str, Tokens]) -> dict[str, list[str]]:
    """Return the images of each mask that has any; several if their tokens are equally good."""
    of_masks = frozenset[tuple[str, int]]().union(*masks.values())
    of_all = frozenset.intersection(*images.values()) if len(images) > 1 else frozenset()
    keys = {path: (tokens & of_masks) - of_all for path, tokens in images.items()}
    times = Counter(token for key in keys.values() for token in key)
    by_rarest: dict[tuple[str, int], list[str]] = defaultdict(list)
    for path, key in keys.items():
        if key:
            by_rarest[min(key, key=lambda token: (times[token], token))].append(path)
    owners = {}
    for mask, tokens in masks.items():
        found = [path for token in tokens for path in by_rarest.get(token, ()) if keys[path] <= tokens]
        # The image with most tokens in common; of these with fewest others; of these whose name is first in the mask's.
        ranks = {path: (-len(keys[path]), len(images[path]), _find_name(path, mask)) for path in found}
        if found:
            owners[mask] = sorted(path for path in found if ranks[path] == min(ranks.values()))
    return owners


def _find_name(image: str, mask: str) -> int:
    """Return the place of the words of an image's name among those of its mask's; beyond them if they are not there."""
    words, others = (_split_part(path.rpartition("/")[2].rpartition(".")[0], True) for path in (image, mask))
    places = range(len(others) - len(words) + 1)
    return next((place for place in places if others[place : place + len(words)] == words), len(others))
