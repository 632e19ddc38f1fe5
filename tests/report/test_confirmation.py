"""The report's tables and sentences about the confirmation, from literal records."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sweeper.core.records import RateRange, Recommendation, Regret, SweepRecord
from sweeper.evidence.recommendation import make_recommendation_json
from sweeper.evidence.verdict_predicates import has_beaten
from sweeper.report import confirmation
from sweeper.report.card import format_card_lines, make_card
from sweeper.report.facts import ReportFacts, collect_facts, find_difference, group_confirmations, list_seed_scores
from tests.report.test_markdown import CLEAR, drop_folded, recommend, render_text
from tests.support import builders

UI = "http://127.0.0.1:5000"


def make_facts(sweep: SweepRecord | None = None, answer: Recommendation | None = None, **evidence: Any) -> ReportFacts:
    answer = answer or recommend(builders.evidence(CLEAR, **evidence))
    return collect_facts(sweep or builders.sweep(), answer)


def write_text(facts: ReportFacts) -> str:
    return render_text(facts.sweep, facts.recommendation)


def split_rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()]


# --- Interim analyses and their level -----------------------------------------------------------------------


def test_the_report_has_one_level_and_the_statistics_list_all() -> None:
    """The interval of a finalist that was dropped early has the level of its interim analysis."""
    few, many = (101, 102, 103), (101, 102, 103, 104, 105)
    changed = {"dice_ce": {"seeds": few}, "dice_focal": {"seeds": many}, "cross_entropy": {"seeds": many}}
    facts = make_facts(analyses=builders.ANALYSES, analysis_index=1, finalists=changed)
    cells = {row[0]: row for row in split_rows(confirmation.make_finalists_table(facts))}
    column = cells["loss"].index("vs cross-entropy [95\u00a0%]")
    assert cells["**`dice_focal`**"][column] == "+0.060 [+0.040, +0.080]"
    assert cells["`dice_ce`"][column] == "+0.020 [0.000, +0.040]"
    gains = dict(format_card_lines(make_card(facts)))
    assert "test mIoU (95 % over all interim analyses)" in gains["Gain over tuned cross-entropy"]
    text = write_text(facts)
    assert "with intervals at 95 % over all interim analyses" in drop_folded(text)
    assert "over all planned interim analyses: each alone is at 98.5 % to 99 %; every share" in text
    assert not re.search(r"9[89](\.5)? %", drop_folded(text))
    assert "interim analyses: each alone" not in write_text(make_facts())


def test_the_matrix_of_pairs_has_the_verdicts_winners_in_bold() -> None:
    facts = make_facts()
    table = split_rows(confirmation.make_pairs_table(facts))
    names = [finalist.family for finalist in facts.finalists]
    assert table[0][1:] == [f"− `{name}`" for name in names] and len(names) > 2
    cells = [row[1:] for row in table[2:]]
    evidence = facts.recommendation.evidence
    assert evidence is not None
    for i, row in enumerate(cells):
        assert row[i] == "–"
        for j, cell in enumerate(row):
            pair = facts.finalists[i], facts.finalists[j]
            gap = find_difference(facts, *pair)
            assert gap is None or cell.strip("*") == facts.format_gain(gap, *pair)
            assert cell.startswith("**") == (i != j and has_beaten(evidence, i, j))
    assert "**+0.060 [+0.040, +0.080]**" in cells[0]
    assert "in bold where the row is better by the" in write_text(facts)
    two = make_facts(answer=recommend(builders.evidence({"dice": 0.7, "cross_entropy": 0.6})))
    assert confirmation.make_pairs_table(two) == ""


def test_interim_analyses_are_listed_with_their_error_and_outcome() -> None:
    sweep = builders.sweep(analyses_planned=builders.ANALYSES, analyses_taken=builders.ANALYSES_TAKEN)
    text = confirmation.make_analyses_table(make_facts(sweep))
    assert split_rows(text)[2:] == [
        ["3", "undecided", "Not settled: two more seeds.", "1\u00a0%", "99\u00a0%"],
        ["5", "clear winner", "Settled after 5 seeds.", "1.5\u00a0%", "98.5\u00a0%"],
        ["8", "–", "not taken", "2.5\u00a0%", "97.5\u00a0%"],
    ]
    assert "### Interim analyses" in write_text(make_facts(sweep)) and "### Interim analyses" not in write_text(
        make_facts()
    )


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


# --- The finalists, from the search to the test -------------------------------------------------------------


def test_the_most_that_a_finalist_can_cost_is_in_the_table_and_the_card() -> None:
    finalists = {
        "dice_focal": {"regret": Regret(expected=0.001, bound=0.0042, within_margin=0.99, best=0.973)},
        "dice_ce": {"regret": Regret(expected=0.02, bound=0.05, within_margin=0.1, best=0.004)},
    }
    facts = make_facts(finalists=finalists)
    card_rows = dict(format_card_lines(make_card(facts)))
    assert "costs at most 0.005 mIoU against the best of 3 finalists (95 %)" in card_rows["Confidence"]
    for table, column, values in (
        (confirmation.format_finalists_detail, "probability of being best", ["97 %", "< 1 %", "–"]),
        (confirmation.make_finalists_table, "costs at most (95 %)", ["0.005", "0.050", "–"]),
    ):
        cells = {row[0]: row for row in split_rows(table(facts))}
        position = cells["loss"].index(column)
        assert [cells[name][position] for name in ("**`dice_focal`**", "`dice_ce`", "`cross_entropy`")] == values
    bound = '"Costs at most" is a bound with a probability of 95 %, from a hierarchical model of all finalists'
    assert bound in write_text(facts) and "probability" not in write_text(make_facts())


def test_a_learning_rate_that_all_finalists_share_is_stated_once() -> None:
    shared = {name: {"rates": RateRange(best=0.002, low=0.001, high=0.0042, shared=True)} for name in CLEAR}
    table = confirmation.make_finalists_table
    assert "learning rate" not in table(make_facts(finalists=shared))
    text = write_text(make_facts(finalists=shared))
    assert (
        text.count("0.0042") == 1 and "Each seed drew one learning rate for all losses, from 0.001 to 0.0042." in text
    )
    assert "All have the learning rate 0.003." in write_text(make_facts())
    different = make_facts(finalists=shared | {"dice_ce": {"lr": 0.01}})
    assert split_rows(table(different))[0][2] == "learning rate" and "Each seed drew" not in write_text(different)


def test_finalists_are_listed_with_their_search_values_and_trials() -> None:
    finalists = {
        "dice_focal": {"search_value": 0.70, "trials_tried": 9, "trials_completed": 3},
        "dice_ce": {"search_value": 0.72, "trials_tried": 5, "trials_completed": 4},
    }
    table = split_rows(confirmation.format_finalists_detail(make_facts(builders.sweep(), finalists=finalists)))
    assert table[0][1:4] == ["trials (completed)", "search mIoU", "confirmation, validation"]
    assert table[2][:3] == ["**`dice_focal`**", "9 (3)", "0.700"] and table[3][1:3] == ["5 (4)", "0.720"]


def test_the_winners_curse_is_estimated_only_if_the_budgets_are_equal() -> None:
    assert confirmation.explain_winners_curse(make_facts()) == []
    equal_budgets = builders.sweep(conditions=builders.conditions(steps=200, confirm_steps=200))
    assert "scored 0.010 mIoU higher in the search" in confirmation.explain_winners_curse(make_facts(equal_budgets))[0]


# --- Other measures -----------------------------------------------------------------------------------------


def test_other_measures_have_one_interval_for_each_finalist_and_no_advice() -> None:
    facts = make_facts(others=(builders.other_measure("recall", (0.6, 0.7, 0.4)),))
    header, _, row = split_rows(confirmation.make_other_measures_table(facts))
    assert header == ["measure [95\u00a0%]", "**`dice_focal`**", "`dice_ce`", "`cross_entropy`"]
    assert row == ["recall", "0.600 [0.580, 0.620]", "0.700 [0.680, 0.720]", "0.400 [0.380, 0.420]"]
    text = write_text(facts)
    assert "Of the foreground, on the same images" in text and "If you care" not in text
    assert text.index("## Finalists in detail") < text.index("0.700 [0.680, 0.720]")
    assert confirmation.make_other_measures_table(make_facts()) == ""


# --- The plain operating point ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plain", "sentence"),
    [
        (
            {"dice_focal": 0.70, "cross_entropy": 0.69, "dice_ce": 0.60, "tversky": 0.6},
            "At threshold 0.5 `dice_focal` is ahead of `cross_entropy` (+0.010 [−0.010, +0.030] test mIoU, 95 %): the "
            "recommendation does not depend on the tuned threshold.",
        ),
        (
            {"dice_focal": 0.69, "cross_entropy": 0.69, "dice_ce": 0.60, "tversky": 0.6},
            "At threshold 0.5 `dice_focal` is level with `cross_entropy` (0.000 [−0.020, +0.020] test mIoU, 95 %): the "
            "recommendation depends on the tuned threshold.",
        ),
        (
            {"dice_focal": 0.65, "cross_entropy": 0.69, "dice_ce": 0.60, "tversky": 0.6},
            "At threshold 0.5 `dice_focal` is behind `cross_entropy` (−0.040 [−0.060, −0.020] test mIoU, 95 %): the "
            "recommendation depends on the tuned threshold.",
        ),
        (
            {"dice_focal": 0.70, "cross_entropy": 0.69, "dice_ce": 0.75, "tversky": 0.6},
            "At threshold 0.5 `dice_focal` is ahead of `cross_entropy` (+0.010 [−0.010, +0.030] test mIoU, 95 %), "
            "`dice_ce` scores highest: the recommendation depends on the tuned threshold.",
        ),
    ],
)
def test_report_and_json_say_if_the_answer_depends_on_the_threshold(plain: dict[str, float], sentence: str) -> None:
    tuned = builders.evidence(CLEAR)
    names = [finalist.family for finalist in tuned.finalists]
    comparisons = [
        c.model_copy(update={"difference": builders.interval(plain[names[c.first]] - plain[names[c.second]])})
        for c in tuned.comparisons
    ]
    finalists = [f.model_copy(update={"miou_at_default": plain[f.family]}) for f in tuned.finalists]
    answer = recommend(tuned.model_copy(update={"at_plain": tuple(comparisons), "finalists": tuple(finalists)}))
    facts = make_facts(answer=answer)
    text = write_text(facts).replace("\u00a0", " ")
    assert sentence in text and "All have the learning rate 0.003. At threshold" in text
    document = make_recommendation_json(facts.sweep, answer)["plain_point"]
    assert document["depends"] == ("does not depend" not in sentence) and document["against"] == "cross_entropy"
    assert document["difference"] == pytest.approx(plain["dice_focal"] - plain["cross_entropy"])
    worse = {f.family: plain[f.family] - f.score.estimate for f in tuned.finalists}
    worse = {family: by for family, by in worse.items() if by >= 0.001}
    assert document["worse"] == pytest.approx(worse)
    assert ("scores worse than 0.5 with" in text) == bool(worse)
    assert all(f"`{family}` (by {by:.3f})" in text for family, by in worse.items())


def test_the_plain_point_is_not_mentioned_if_no_threshold_was_tuned() -> None:
    facts = make_facts()
    assert "the recommendation does" not in write_text(facts)
    assert make_recommendation_json(facts.sweep, facts.recommendation)["plain_point"] is None
