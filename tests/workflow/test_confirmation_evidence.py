"""The evidence on finalists from before their confirmation."""

from __future__ import annotations

import pytest

from sweeper.workflow.conclude import draw_conclusion
from tests.support import builders
from tests.support.builders import CONFIRM_SEEDS, confirmation, counts_from_iou, trial


@pytest.mark.parametrize(
    ("family", "params", "expected"),
    [
        ("dice", {}, True),
        ("tversky", {"fn_weight": 0.7}, True),
        ("tversky", {"fn_weight": 0.71}, False),
        ("focal", {"gamma": 2.0, "alpha": 0.3}, False),
        ("weighted_ce", {"pos_weight": 3.0}, False),
    ],
)
def test_a_finalist_is_at_the_defaults_of_the_literature_or_tuned(
    monkeypatch: pytest.MonkeyPatch, family: str, params: dict[str, float], expected: bool
) -> None:
    monkeypatch.setitem(builders.PARAMS, family, params)
    trials = [trial(family, 0.8, 0), trial("cross_entropy", 0.6, 1)]
    runs = [
        confirmation(name, seed, counts_from_iou([level] * 6), 3 * f + s)
        for f, (name, level) in enumerate(((family, 0.6), ("cross_entropy", 0.5)))
        for s, seed in enumerate(CONFIRM_SEEDS)
    ]
    finalists = draw_conclusion(builders.sweep(trials, runs)).evidence.finalists
    assert {f.family: f.at_defaults for f in finalists} == {family: expected, "cross_entropy": True}
