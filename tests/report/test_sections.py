"""The report's tables, from literal records."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.cli.progress import PhaseProgress, format_outcome
from sweeper.core.records import Collapse, Evidence, OtherMeasure, Regret, Rung, SweepRecord
from sweeper.evidence.paired_comparisons import compute_evidence
from sweeper.report import sections
from sweeper.report.facts import ReportFacts, collect_facts, group_confirmations, list_seed_scores
from sweeper.report.tables import make_trials_frame
from sweeper.tracking.values import RunValues
from tests.support import builders
from tests.support.simulated_studies import conclude

CLEAR = {"dice_focal": 0.71, "dice_ce": 0.67, "cross_entropy": 0.65}


def make_facts(sweep: SweepRecord | None = None, record: Evidence | None = None, **changes: Any) -> ReportFacts:
    sweep, record = sweep or builders.sweep(), record or builders.evidence(CLEAR, **changes)
    return collect_facts(sweep, conclude(sweep, record), record)


def make_search_facts(sweep: SweepRecord) -> ReportFacts:
    return collect_facts(sweep, conclude(sweep, None), None)


def split_rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()]


# --- The losses ---------------------------------------------------------------------------------------------


def test_losses_are_listed_with_gain_and_score_at_the_plain_point_and_their_costs_apart() -> None:
    regret = Regret(expected=0.001, bound=0.0042, best=0.973)
    changes = {"dice_focal": {"regret": regret, "score_at_default": 0.6}, "dice_ce": {"seeds": (101,)}}
    facts = make_facts(finalists=changes)
    rows = split_rows(sections.make_finalists_table(facts))
    cells = [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
    assert [row["loss"] for row in cells] == ["**`dice_focal`**", "`dice_ce`", "`cross_entropy`"]
    assert [row["over `cross_entropy` [95 %]"] for row in cells] == [
        "+0.060 [+0.040, +0.080]",
        "+0.020 (one seed)",
        "present",
    ]
    costs = split_rows(sections.make_costs_table(facts))
    assert costs[0] == ["loss", "costs at most, mIoU (95 %)"]
    assert [row[1] for row in costs[2:]] == ["0.005", "–", "–"] and cells[0]["at 0.5"] == "0.600"
    assert cells[1]["test mIoU [95 %]"] == "0.670 (one seed)"


def test_classes_have_their_share_of_the_pixels_and_the_iou_of_two_losses() -> None:
    crack = builders.class_evidence("crack", (0.5, 0.4, 0.2), gains=(0.3, 0.2, 0.0))
    rows = split_rows(sections.make_classes_table(make_facts(per_class=(crack,)).document))
    assert rows[0] == ["class", "of the pixels", "IoU `cross_entropy`", "IoU `dice_focal`", "gain [95 %]"]
    assert rows[2] == ["crack", "5.00 %", "0.200", "0.500", "+0.300 [+0.280, +0.320]"]
    assert rows[3] == ["background", "95.0 %", "–", "–", "–"]  # no test image shows it
    many = [f"c{n}" for n in range(30)]
    sweep = builders.sweep(data=builders.dataset(many))
    evidence = builders.evidence(CLEAR, classes=many, per_class=[builders.class_evidence(n, (0.5,) * 3) for n in many])
    assert len(split_rows(sections.make_classes_table(make_facts(sweep, evidence).document))) == 2 + 12
    assert sections.make_classes_table(make_facts().document) == ""


def test_each_class_has_its_precision_and_recall_by_two_losses() -> None:
    changes = {"dice_focal": {"iou": (0.9, 0.5)}, "cross_entropy": {"iou": (0.9, None)}}
    rows = split_rows(sections.make_class_details(make_facts(finalists=changes)))
    assert rows[0][:4] == ["class", "IoU `dice_focal`", "IoU `cross_entropy`", "precision `dice_focal`"]
    assert rows[3][:3] == ["crack", "0.500", "–"]


def test_other_measures_have_a_row_each_with_one_interval_and_no_advice() -> None:
    scores = tuple(builders.interval(level, 0.01) for level in (0.7, 0.6, 0.5))
    others = (OtherMeasure(name="recall", scores=scores),)
    assert split_rows(sections.make_measures_table(make_facts(others=others)))[2] == [
        "recall",
        "0.700 [0.690, 0.710]",
        "0.600 [0.590, 0.610]",
        "0.500 [0.490, 0.510]",
    ]
    assert sections.make_measures_table(make_facts()) == ""


def test_trainings_at_other_budgets_or_seeds_are_not_the_finalists() -> None:
    sweep = builders.sweep()
    facts = make_facts(sweep)
    chosen = facts.finalists[0]
    runs = group_confirmations(facts, chosen)
    assert tuple(run.spec.seed for run in runs) == chosen.seeds
    first = runs[0]
    others = [
        first.model_copy(update={"value": 0.0, "spec": first.spec.model_copy(update={"number": 900 + i, **changes})})
        for i, changes in enumerate(({"steps": 7 * first.spec.steps}, {"seed": 999}))
    ]
    more_facts = make_facts(sweep.model_copy(update={"confirmations": (*sweep.confirmations, *others)}))
    assert group_confirmations(more_facts, chosen) == runs
    assert list_seed_scores(more_facts, chosen) == list_seed_scores(facts, chosen)


# --- The search ---------------------------------------------------------------------------------------------

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
    counted = (row["collapse"], row["collapse_at_default"], row["never_predicted"])
    assert counted == (kind, kind, "; ".join(not_predicted) or None)
    search = conclude(sweep, None).search
    assert search is not None
    assert search.collapses == ({"dice": {kind: 1}} if is_collapse else {})
    assert search.never_predicted == ({"dice": dict.fromkeys(not_predicted, 1)} if not_predicted else {})
    leaderboard = split_rows(sections.make_leaderboard(make_search_facts(sweep)))
    assert leaderboard[2][leaderboard[0].index("collapsed")] == str(int(is_collapse))
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
    def rung(steps: int, plain: float, other: float | None, missing: tuple[str, ...]) -> Rung:
        scores = {"cross_entropy": plain} | ({} if other is None else {"dice_ce": other})
        return Rung(steps=steps, scores=scores, iou={}, is_learned=True, learnable=2, not_learned=missing)

    rungs = (rung(100, 0.45, 0.475, ("crack",)), rung(1600, 0.5, None, ()))
    cells = split_rows(sections.make_ladder_table(make_search_facts(builders.sweep(rungs=rungs))))
    assert cells[0] == [
        "steps",
        "not learned, of the classes with enough pixels",
        "`cross_entropy`",
        "`dice_ce`",
        "gap",
    ]
    assert cells[2] == ["100", "crack", "0.450", "0.475", "+0.025"]
    assert cells[3] == ["1,600", "none", "0.500", "–", "–"]
    assert sections.make_ladder_table(make_search_facts(builders.sweep())) == ""


def test_the_reasons_of_failures_are_counted() -> None:
    trials = [builders.failed_trial("dice", n, reason="CUDA on fire") for n in range(2)]
    assert split_rows(sections.list_failures(make_search_facts(builders.sweep(trials, []))))[2] == [
        "`dice`",
        "CUDA on fire",
        "2",
    ]
    assert sections.list_failures(make_search_facts(builders.sweep([builders.trial()], []))) == ""
