"""What the sweep's run in MLflow says of the answer: the numbers of its document, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.evidence.phrases import format_head
from sweeper.report.markdown import format_note
from sweeper.workflow.mlflow_sync import summarise_answer
from tests.support import builders
from tests.support.simulated_studies import conclude

CHANGE = {"dice_focal": 0.71, "dice_ce": 0.67, "cross_entropy": 0.65}
KEEP = {"cross_entropy": 0.7, "dice": 0.695}


@pytest.mark.parametrize(("levels", "outcome"), [(CHANGE, "change"), (KEEP, "keep"), ({"dice": 0.7}, "take")])
def test_the_sweeps_run_has_outcome_gain_and_cost(levels: dict[str, float], outcome: str) -> None:
    document = conclude(builders.sweep(), builders.evidence(levels, half=0.003))
    summary = summarise_answer(document, Path("x"))
    assert document.outcome == outcome == summary.tags["sweeper.outcome"]
    assert summary.tags["sweeper.use"] == document.used and "`" not in summary.tags["sweeper.answer"]
    assert (summary.note, summary.head) == (format_note(document), format_head(document))
    assert summary.values.get("cost") == document.cost and summary.values["test/miou"] == document.losses[0].mean
    gain = [summary.values.get(f"gain{end}") for end in ("", "_ci_low", "_ci_high")]
    if document.gain is not None:
        assert gain == [document.gain.estimate, document.gain.low, document.gain.high]
    else:
        assert gain == ([0.0, 0.0, 0.0] if outcome == "keep" else [None] * 3)
    assert set(summary.compared) == {run_id for row in document.losses for run_id in row.mlflow_run_ids}


def test_no_answer_has_no_numbers() -> None:
    summary = summarise_answer(conclude(builders.sweep([builders.failed_trial()], []), None), Path("x"))
    assert summary.values == {} and not summary.compared and "sweeper.use" not in summary.tags
    assert summary.tags["sweeper.answer"] == "No loss can be recommended."
