"""Errors that are lists: one heading, which agrees with the number of problems."""

from __future__ import annotations

import pytest

from sweeper.core.errors import ClassMapError, DataError, ProblemListError, RequestError, SpaceError
from sweeper.judging.rows import ScoresError

HEADINGS = [
    (ProblemListError, "1 problem:", "2 problems:"),
    (
        DataError,
        "1 problem in the data set a; nothing was trained:",
        "2 problems in the data set a; nothing was trained:",
    ),
    (
        ClassMapError,
        "1 problem in the class map a; nothing was trained:",
        "2 problems in the class map a; nothing was trained:",
    ),
    (
        SpaceError,
        "1 problem in the search space a; nothing was trained:",
        "2 problems in the search space a; nothing was trained:",
    ),
    (
        RequestError,
        "a cannot be begun, 1 problem; nothing was trained:",
        "a cannot be begun, 2 problems; nothing was trained:",
    ),
    (
        ScoresError,
        "1 problem in the scores of a; nothing was judged:",
        "2 problems in the scores of a; nothing was judged:",
    ),
]


@pytest.mark.parametrize(("kind", "one", "two"), HEADINGS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_heading_counts_its_problems(kind: type[ProblemListError], one: str, two: str) -> None:
    assert str(kind("a", ["first"])) == f"{one}\n  - first"
    assert str(kind("a", ["first", "second"])) == f"{two}\n  - first\n  - second"


def test_every_list_of_problems_is_tried() -> None:
    assert {kind for kind, _, _ in HEADINGS} == {ProblemListError, *ProblemListError.__subclasses__()}
