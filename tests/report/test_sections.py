"""The tables of the search."""

from __future__ import annotations

import pytest

from sweeper.cli.progress import PhaseProgress, format_outcome
from sweeper.core.records import Collapse, Rung
from sweeper.evidence.paired_comparisons import compute_evidence
from sweeper.evidence.recommendation import make_recommendation_json
from sweeper.report import sections
from sweeper.report.facts import collect_facts
from sweeper.report.tables import make_trials_frame
from sweeper.tracking.values import RunValues
from tests.report.test_confirmation import UI, split_rows
from tests.report.test_markdown import recommend
from tests.support import builders


def test_the_time_of_a_step_is_the_median_of_the_familys_trainings() -> None:
    timed = (("dice", 0.10), ("dice", 0.11), ("dice", 0.13), ("cross_entropy", 0.1), ("focal", None))
    trials = [builders.trial(f, 0.6, i, seconds_per_step=s) for i, (f, s) in enumerate(timed)]
    table = split_rows(sections.make_leaderboard(collect_facts(builders.sweep(trials, []), recommend(None)), UI))
    column = table[0].index("ms per step")
    assert {row[0]: row[column] for row in table[2:]} == {"`dice`": "110", "`cross_entropy`": "100", "`focal`": "–"}


ENDS = [
    ("complete", Collapse.NONE, (), False),
    ("complete", Collapse.ALL_BACKGROUND, ("crack",), True),
    ("complete", Collapse.NO_BETTER_THAN_CONSTANT, (), True),
    ("complete", Collapse.DIVERGED, (), True),
    ("complete", Collapse.CLASS_NEVER_PREDICTED, ("crack",), False),
    ("pruned", Collapse.NONE, (), False),
    ("pruned", Collapse.ALL_BACKGROUND, ("crack",), False),  # it may have learned more later
    ("pruned", Collapse.CLASS_NEVER_PREDICTED, ("crack",), False),
    ("failed", Collapse.NONE, (), False),
]
"""State, answer at its last step, classes that it does not predict there, and whether it collapsed."""


@pytest.mark.parametrize(("state", "answer", "absent", "is_collapse"), ENDS)
def test_every_output_counts_the_same_trainings_as_collapsed(
    state: str, answer: Collapse, absent: tuple[str, ...], is_collapse: bool
) -> None:
    fields = {"state": state, "collapse": answer, "collapse_at_default": answer, "never_predicted": absent}
    trial = builders.trial("dice", 0.5, 0, **fields)
    confirmed = builders.confirmation("dice", **{**fields, "state": "complete"})
    sweep, not_predicted = builders.sweep([trial], []), absent if state == "complete" else ()
    row = make_trials_frame(sweep).iloc[0]
    kind = answer.value if is_collapse else "none"
    assert (row["collapse"], row["collapse_at_default"], row["never_predicted"]) == (
        kind,
        kind,
        "; ".join(not_predicted) or None,
    )
    document = make_recommendation_json(sweep, recommend(None))
    assert document["collapses"] == ({"dice": 1} if is_collapse else {})
    assert document["collapse_kinds"] == ({"dice": {kind: 1}} if is_collapse else {})
    assert document["never_predicted"] == ({"dice": dict.fromkeys(not_predicted, 1)} if not_predicted else {})
    facts = collect_facts(sweep, recommend(None))
    leaderboard = split_rows(sections.make_leaderboard(facts, UI))
    assert leaderboard[2][leaderboard[0].index("collapsed")] == str(int(is_collapse))
    table = split_rows(sections.explain_collapse_rates(facts))
    assert [line[3] for line in table[2:]] == ([f"{int(is_collapse)} of 1"] if is_collapse or not_predicted else [])
    assert [line[2] for line in table[2:] if not_predicted] == [f"{name} in 1" for name in not_predicted]
    tags = RunValues(sweep.conditions).make_result_metrics(trial)[1]
    assert (tags.get("sweeper.collapse"), tags.get("sweeper.never_predicted")) == (
        kind if is_collapse else None,
        ", ".join(not_predicted) or None,
    )
    progress = PhaseProgress("search")
    progress.count_ended(trial)
    assert progress.families["dice"].collapsed == is_collapse
    assert ("collapsed" in format_outcome(trial), "does not predict" in format_outcome(trial)) == (
        is_collapse,
        bool(not_predicted) and not is_collapse,
    )
    evidence = compute_evidence([confirmed], {"dice": builders.trial("dice")}, classes=builders.BINARY)
    assert evidence.finalists[0].collapses == int(not answer.learned)


def test_the_tried_budgets_are_a_table() -> None:
    def rung(steps: int, plain: float, other: float | None, missing: tuple[str, ...], rare: float) -> Rung:
        scores = {"cross_entropy": plain} | ({} if other is None else {"dice_ce": other})
        iou = {name: (0.9, rare if name == "dice_ce" else 0.0) for name in scores}
        return Rung(steps=steps, scores=scores, iou=iou, is_learned=True, learnable=2, not_learned=missing)

    rungs = (rung(100, 0.45, 0.475, ("crack",), 0.02), rung(1600, 0.5, None, (), 0.0))
    table = sections.make_ladder_table(collect_facts(builders.sweep(rungs=rungs), recommend(None)))
    cells = split_rows(table)
    assert cells[0] == ["steps", "classes not learned, with their IoU", "`cross_entropy`", "`dice_ce`", "gap"]
    assert cells[2] == ["100", "crack 0.02", "0.450", "0.475", "+0.025"]
    assert cells[3] == ["1,600", "none", "0.500", "–", "–"]
    assert sections.make_ladder_table(collect_facts(builders.sweep(), recommend(None))) == ""
