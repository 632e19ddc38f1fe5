"""One problem of one kind is one line: what many files share is said once, with their number and two of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

ONE_BY_ONE = 3
"""Problems of one kind that are named one by one; more share a line."""
_LINE = re.compile(r"(?P<file>.+?): line (?P<number>\d+)(?P<colon>:?) (?P<text>.+)", re.DOTALL)
_FILE = re.compile(r"(?P<file>.+?): (?P<text>.+)", re.DOTALL)
_VARIES = re.compile(
    r"'(?:[^'\\]|\\.)*'|[^\s'(),;]+\.(?:png|jpe?g|bmp|tiff?|webp|gif|txt|json)\b|\d+(?:\.\d+)?", re.IGNORECASE
)


class _Problem(NamedTuple):
    file: str
    number: int | None
    """Of the line in that file."""
    colon: str
    """What stands after that number."""
    text: str
    """Rule, value found, next step."""


def grouped(problems: Sequence[str]) -> list[str]:
    """The problems, each once, in order of their text; more than `ONE_BY_ONE` of one kind as one line.

    Problems are of one kind where they differ in names of files, in numbers (that of a line among them) and in what
    stands in quotes. Such a line tells the first of them, with their number and two places.

    Args:
        problems: as readers collect them: `FILE: rule, value found; next step`, or `FILE: line N: …`.
    """
    kinds: dict[str, list[_Problem]] = defaultdict(list)
    for problem in set(problems):
        part = _parted(problem)
        kinds[f"{part.number is None}{_VARIES.sub('#', part.text)}"].append(part)
    lines: list[str] = []
    for found in kinds.values():
        found.sort(key=lambda part: (part.file, part.number or 0, part.text))
        lines += map(_line, found) if len(found) <= ONE_BY_ONE else [_one_line(found)]
    return sorted(lines)


def _parted(problem: str) -> _Problem:
    if (found := _LINE.fullmatch(problem)) is not None:
        return _Problem(found["file"], int(found["number"]), found["colon"], found["text"])
    found = _FILE.fullmatch(problem)
    return _Problem("", None, "", problem) if found is None else _Problem(found["file"], None, "", found["text"])


def _line(problem: _Problem) -> str:
    where = "" if problem.number is None else f" line {problem.number}{problem.colon}"
    return f"{problem.file}:{where} {problem.text}" if problem.file else problem.text


def _one_line(problems: list[_Problem]) -> str:
    """The line of several problems of one kind, which are in order."""
    number, files = len(problems), list(dict.fromkeys(problem.file for problem in problems))
    first, second = problems[0], next((one for one in problems if one.file != problems[0].file), problems[1])
    if len(files) > 1:
        if number == len(files):
            return f"{number} files, e.g. {first.file}, {second.file}: {first.text}"
        where = [one.file if one.number is None else f"{one.file} line {one.number}" for one in (first, second)]
        return f"{number} faults in {len(files)} files, e.g. {', '.join(where)}: {first.text}"
    if first.number is not None:
        return f"{first.file}: {number} lines, e.g. {first.number} and {second.number}: {first.text}"
    return f"{_line(first)} (and {number - 1} more like it)"
