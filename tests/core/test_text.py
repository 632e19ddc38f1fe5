"""Words that several rooms write alike."""

from __future__ import annotations

import pytest

from sweeper.core.text import at_most, count


@pytest.mark.parametrize(
    ("n", "forms", "said"),
    [
        (0, ("trial",), "0 trials"),
        (1, ("trial",), "1 trial"),
        (2, ("trial",), "2 trials"),
        (1_200, ("trial",), "1,200 trials"),
        (1, ("family",), "1 family"),
        (2, ("family",), "2 families"),
        (1, ("class",), "1 class"),
        (2, ("class",), "2 classes"),
        (0, ("image has", "images have"), "0 images have"),
        (1, ("image has", "images have"), "1 image has"),
        (3, ("image has", "images have"), "3 images have"),
    ],
)
def test_a_number_and_its_noun_agree(n: int, forms: tuple[str, ...], said: str) -> None:
    assert count(n, *forms) == said


@pytest.mark.parametrize(
    ("bound", "margin", "said"),
    [
        (0.0, 0.01, "0.001"),
        (0.0061, 0.01, "0.007"),
        (0.01, 0.01, "0.010"),
        (0.0094, 0.0095, "0.0094"),
        (2e-4, 0.1, "0.001"),
    ],
)
def test_a_bound_is_rounded_up_and_never_past_the_margin_that_it_keeps(bound: float, margin: float, said: str) -> None:
    assert at_most(bound, margin) == said
