"""No surface says what another one denies: the contradictions that users met, each on literal values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sweeper.core.paths import ReportPaths
from sweeper.core.records import Evidence, FinalComparison, Regret, Rung, SweepRecord
from sweeper.evidence.answer_text import format_answer
from sweeper.evidence.interim_analyses import plan_analyses
from sweeper.report.facts import collect_facts
from sweeper.report.markdown import format_note, render_report
from sweeper.workflow.conclude import Conclusion, ReportedStudy
from sweeper.workflow.mlflow_sync import make_mlflow_summary
from sweeper.workflow.options import resolve_request
from tests.report.test_markdown import CLEAR, NO_FIGURES, get_head
from tests.support import builders
from tests.support.simulated_studies import conclude

LESS = r"undecided|clear.winner|safe.choice|equivalent|for now|probabl|\bopen\b|\bkeep\b"
"""Words that say less than "change"."""


def list_surfaces(
    evidence: Evidence, look: FinalComparison | None = None, sweep: SweepRecord | None = None
) -> dict[str, str]:
    """Return all that a study prints, by surface."""
    sweep = sweep or builders.sweep()
    document = conclude(sweep, evidence, look)
    facts = collect_facts(sweep, document, evidence)
    summary = make_mlflow_summary(
        ReportedStudy(sweep, Conclusion(document, evidence, look), document, ReportPaths(Path("x"), "y"))
    )
    return {
        "report": render_report(facts, NO_FIGURES).replace("\u00a0", " ").split("<summary>Words")[0],
        "terminal": format_answer(document, 500),
        "MLflow": summary.note + str(summary.tags),
        "note": format_note(document),
    }


@pytest.mark.parametrize("halves", [0.005, 0.03])
def test_a_change_is_never_next_to_a_word_that_says_less(halves: float) -> None:
    """It was: "Change to dice_ce", in LaTeX "undecided", in MLflow "safe choice"."""
    for surface, text in list_surfaces(builders.evidence(CLEAR, half=halves)).items():
        assert "Change to" in text.replace("`", ""), surface
        assert not re.search(LESS, text, re.IGNORECASE), surface


def test_one_bound_of_a_cost_is_printed() -> None:
    """It was: "costs at most 0.012" next to "no other loss gains more than 0.000"."""
    levels = {"cross_entropy": 0.7, "dice": 0.695}
    large = Regret(expected=0.004, bound=0.012, best=0.6)
    evidence = builders.evidence(levels, half=0.003, finalists={"cross_entropy": {"regret": large}})
    texts = list_surfaces(evidence)
    assert "Keep `cross_entropy`: no other loss gains more than 0.001 mIoU." in texts["report"]
    assert "0.012" not in "".join(texts.values())


def test_a_final_training_prints_gains_and_no_error_of_a_change() -> None:
    """It was: "−0.017 in place of −0.002 … within its error (± 0.016)"."""
    gap = builders.final_comparison("dice_focal", before=0.06, after=0.02)
    text = "".join(list_surfaces(builders.evidence(CLEAR), gap).values())
    assert "In the final training the gain is +0.020 (1 seed)." in text
    assert not re.search("within its error|in place of|±|shrinks|keeps", text)


def test_another_winner_at_the_plain_threshold_is_in_the_head() -> None:
    """It was in a note below a table: who keeps 0.5 got the wrong loss."""
    evidence = builders.evidence({"cross_entropy": 0.7, "dice": 0.69}, half=0.005)
    there = builders.evidence({"dice": 0.725, "cross_entropy": 0.7}, half=0.013).comparisons
    swapped = [pair.model_copy(update={"first": 1 - pair.first, "second": 1 - pair.second}) for pair in there]
    at_plain = tuple(sorted(swapped, key=lambda pair: pair.first))
    head = get_head(list_surfaces(evidence.model_copy(update={"at_plain": at_plain}))["report"])
    assert "With threshold 0.5, `dice` is better by +0.025 [+0.012, +0.038]: take it if that stays." in head


def test_a_class_is_unlearned_or_it_is_not() -> None:
    """It was: "Classes not learned: none", and of the same training "does not predict sign"."""
    for text in list_surfaces(builders.evidence(CLEAR)).values():
        assert "not learned: none" not in text.lower() and "does not predict" not in text


def test_nothing_is_said_of_the_form_of_curves() -> None:
    """It was: "the typical curve had flattened", and a test of 0.754 at 4 times the steps in place of 0.632."""
    for text in list_surfaces(builders.evidence(CLEAR), builders.final_comparison()).values():
        assert not re.search("flatten|converge|plateau", text)


def test_trials_are_counted_once() -> None:
    """It was: 9 (4) trials of dice_ce in one table, 8 (3) in another."""
    trials = [builders.trial("dice", 0.6 + i / 100, i) for i in range(4)]
    trials += [builders.trial("cross_entropy", 0.6, 4), builders.trial("dice", 0.3, 5, state="pruned")]
    text = list_surfaces(builders.evidence(CLEAR), sweep=builders.sweep(trials))["report"]
    rows = [line for line in text.splitlines() if line.startswith("| `dice` |") and "0.630" in line]
    assert [cell.strip() for cell in rows[0].split("|")[-6:-1]] == ["5", "4", "1", "0", "0"] and len(rows) == 1


def test_the_first_answer_can_be_a_change() -> None:
    """It was: "First tested answer in …" of two seeds, which establish nothing."""
    assert resolve_request({"steps": 100}).analyses == plan_analyses(3, 8)
    assert resolve_request({}).analyses[0].seeds == 3


def test_a_set_where_nothing_is_learned_is_described_once() -> None:
    """It was: five classes in the head and three in the table; tried losses "not tried"; "the cheapest first"."""
    classes = ("road", "person", "pole", "sign")
    rungs = tuple(
        Rung(
            steps=steps,
            scores={"cross_entropy": 0.2, "dice_ce": 0.2},
            iou={},
            is_learned=True,
            learnable=4,
            not_learned=("pole", "sign"),
        )
        for steps in (100, 200)
    )
    probes = [builders.trial(name, 0.3, i, 4) for i, name in enumerate(("cross_entropy", "dice_ce"))]
    sweep = builders.sweep([], [], builders.dataset(classes), learned=False, rungs=rungs, probes=tuple(probes))
    document = conclude(sweep, None)
    text = render_report(collect_facts(sweep, document, None), NO_FIGURES)
    assert document.outcome == "none" and "cheapest" not in text and "not tried" not in text.lower()
    assert "not learned, of the classes with enough pixels" in text and text.count("pole, sign") == 2
    assert [step.code for step in document.next][:2] == ["CHECK", "STEPS"]


def test_no_address_of_this_machine_is_committed_with_a_report() -> None:
    """It was: 17 to 23 links to 127.0.0.1."""
    root = Path(__file__).resolve().parents[2] / "reports"
    for path in root.glob("example*/report.md"):
        assert "127.0.0.1" not in path.read_text("utf-8")
