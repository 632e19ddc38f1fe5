"""The answer card: one short record for the report, the terminal and MLflow, in agreement with the evidence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bench.report_words import count_words
from sweeper.cli.answer import format_answer
from sweeper.core.paths import ReportPaths
from sweeper.core.records import Evidence, Recommendation, Regret, Rung, SweepRecord, TrialResult, Verdict
from sweeper.evidence.recommendation import make_recommendation_json
from sweeper.report.card import AnswerCard, format_card_lines, format_card_markdown, make_card
from sweeper.report.facts import collect_facts
from sweeper.report.figures import FIGURES, DrawnFigure
from sweeper.report.markdown import render_report, render_summary
from sweeper.study.budget_ladder import find_unlearned_classes
from sweeper.workflow.conclude import Outcome, draw_conclusion
from sweeper.workflow.mlflow_sync import make_mlflow_summary
from tests.report.test_markdown import CLEAR, NEAR, NO_FIGURES, get_head, recommend, render_text
from tests.support import builders
from tests.support.simulated_studies import cracks, street

WORDS, OPEN_WORDS, LONG_SENTENCES = 120, 900, 15
"""At most so many in the card before the code, and in what is not folded."""


def write_card(answer: Recommendation, sweep: SweepRecord | None = None) -> tuple[AnswerCard, dict[str, str]]:
    card = make_card(collect_facts(sweep or builders.sweep(), answer))
    return card, {label: text.replace("\u00a0", " ") for label, text in format_card_lines(card)}


def make_regrets(**probabilities: float) -> dict[str, dict[str, Any]]:
    return {
        name: {"regret": Regret(expected=0.02 * (1 - probability), bound=0.006, within_margin=probability, best=0.6)}
        for name, probability in probabilities.items()
    }


def test_the_card_of_a_clear_winner_has_settings_gains_and_scope() -> None:
    plain = {"dice_focal": {"vs_plain": builders.interval(0.09)}}
    card, rows = write_card(recommend(builders.evidence(CLEAR, finalists=plain)))
    assert card.headline == "Change to dice_focal: +0.060 mIoU."
    assert rows["Use"] == "dice_focal · mix 0.41 · gamma 2.2 · learning rate 0.003 · threshold 0.47"
    assert rows["Gain over cross-entropy as usual (threshold 0.5)"] == "+0.090 [+0.070, +0.110] test mIoU (95 %)"
    assert rows["Gain over tuned cross-entropy"] == "+0.060 [+0.040, +0.080] test mIoU (95 %), from 0.650 to 0.710"
    assert rows["Confidence"] == "clear winner"
    assert "U-Net/ResNet-18" in rows["Holds for"] and "24 unseen synthetic test images, 3 seeds" in rows["Holds for"]
    assert card.snippet.startswith("from sweeper.losses import build_loss")
    levels = {"dice_focal": 0.7204, "cross_entropy": 0.6596}  # 0.061 apart, as 0.720 and 0.660 are not
    _, rows = write_card(recommend(builders.evidence(levels, few_groups=2)))
    assert rows["Gain over tuned cross-entropy"].endswith("test mIoU (95 %)")
    assert "all test images come from 2 groups of related ones" in rows["Confidence"]


def test_the_first_line_says_if_no_network_can_do_the_task() -> None:
    levels = {"weighted_ce": 0.53, "cross_entropy": 0.51}
    evidence = builders.evidence(levels).model_copy(update={"constant_miou": 0.49})
    card, _ = write_card(recommend(evidence))
    start = "None of these networks can do the task yet: the best scores 0.530 mIoU, the same answer everywhere 0.490. "
    assert card.headline == start + "Change to weighted_ce: +0.020 mIoU."
    other_card, _ = write_card(recommend(evidence.model_copy(update={"constant_miou": 0.46})))
    assert other_card.headline == "Change to weighted_ce: +0.020 mIoU."


LEVELS = {"tversky": 0.704, "focal": 0.7005, "dice": 0.7}
KEEP_CE = {"dice_ce": 0.709, "dice": 0.704, "cross_entropy": 0.7}
NO_CE = {"dice_focal": 0.71, "dice_ce": 0.705, "tversky": 0.65}
CASES: dict[str, tuple[Evidence, Verdict, str, str]] = {
    "provisional": (
        builders.evidence(CLEAR, finalists={"cross_entropy": {"still_rising": 0.034}}),
        Verdict.CLEAR_WINNER,
        "Change to dice_focal: +0.060 mIoU.",
        "provisional at this budget, as cross-entropy was still improving (+0.034 in its last quarter)",
    ),
    "change": (
        builders.evidence(NEAR, half=0.05),
        Verdict.UNDECIDED,
        "Change to dice_ce: +0.055 mIoU.",
        "gain established, undecided between dice_focal and dice_ce",
    ),
    "change, and the best itself does not beat cross-entropy": (
        builders.evidence(NEAR, half=0.05, halves={("dice_focal", "cross_entropy"): 0.08}),
        Verdict.UNDECIDED,
        "Change to dice_ce: +0.055 mIoU.",
        "gain established, undecided between dice_focal and dice_ce",
    ),
    "change, probably": (
        builders.evidence(NEAR, half=0.05, finalists=make_regrets(dice_ce=0.972, dice_focal=0.3, cross_entropy=0.0)),
        Verdict.UNDECIDED,
        "Change to dice_ce: +0.055 mIoU.",
        "gain established: probably within 0.01 mIoU of the best; costs at most 0.006 mIoU against the best of 3",
    ),
    "keep": (
        builders.evidence(KEEP_CE, half=0.003),
        Verdict.UNDECIDED,
        "Keep cross-entropy for now: dice_ce may gain up to 0.012.",
        "undecided between dice_ce, dice and cross_entropy",
    ),
    "keep, probably": (
        builders.evidence(KEEP_CE, half=0.026, finalists=make_regrets(dice_ce=0.9, dice=0.3, cross_entropy=0.972)),
        Verdict.UNDECIDED,
        "Keep cross-entropy: probably no other finalist gains more than 0.01 mIoU.",
        "undecided: probably within 0.01 mIoU of the best; costs at most 0.006 mIoU against the best of 3 "
        "finalists (95 %)",
    ),
    "open": (
        builders.evidence(NO_CE, half=0.05),
        Verdict.UNDECIDED,
        "No loss is clearly the best: meanwhile train with `dice_ce`.",
        "undecided between dice_focal and dice_ce",
    ),
    "probable": (
        builders.evidence(NO_CE, half=0.05, finalists=make_regrets(dice_focal=0.972, dice_ce=0.3, tversky=0.3)),
        Verdict.UNDECIDED,
        "No clear winner. Train with `dice_focal`: it is probably within 0.01 mIoU of the best.",
        "undecided: probably within 0.01 mIoU of the best; costs at most 0.006 mIoU against the best of 3 "
        "finalists (95 %)",
    ),
    "clear": (
        builders.evidence({"dice": 0.75, "tversky": 0.7}),
        Verdict.CLEAR_WINNER,
        "Train with `dice`: it beats every other finalist.",
        "clear winner",
    ),
    "equivalent": (
        builders.evidence({"dice": 0.701, "tversky": 0.7, "focal": 0.6}, half=0.005),
        Verdict.EQUIVALENT,
        "Train with `dice`: the best finalists differ by less than 0.01 mIoU.",
        "equivalent: dice and tversky differ by less than 0.01 mIoU",
    ),
    "safe": (
        builders.evidence(LEVELS, half=0.005, halves={("tversky", "dice"): 0.02}),
        Verdict.SAFE_CHOICE,
        "Train with `focal`: no finalist is better by more than 0.01 mIoU.",
        "safe choice",
    ),
    "single finalist": (
        builders.evidence({"dice": 0.7}),
        Verdict.UNDECIDED,
        "Nothing was compared: `dice` alone was confirmed.",
        "undecided, nothing was compared",
    ),
    "one function": (
        builders.evidence({"dice": 0.7}, finalists={"dice": {"other_names": ("dice_ce", "dice_focal")}}),
        Verdict.EQUIVALENT,
        "Train with `dice`: all that was tried is `dice` here.",
        "equivalent: one function, other names",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_verdict_has_its_headline_and_confidence(name: str) -> None:
    evidence, verdict, headline, confidence = CASES[name]
    answer = recommend(evidence)
    assert answer.verdict is verdict
    card, rows = write_card(answer)
    assert card.headline == headline
    assert confidence in rows["Confidence"]


def test_the_gain_says_how_much_is_due_to_the_threshold() -> None:
    """Where cross-entropy would gain as much by its threshold, that is no merit of the loss."""
    plain = {
        "dice_focal": {"vs_plain": builders.interval(0.09)},
        "cross_entropy": {"vs_plain": builders.interval(0.03)},
    }
    _, rows = write_card(recommend(builders.evidence(CLEAR, finalists=plain)))
    usual = rows["Gain over cross-entropy as usual (threshold 0.5)"]
    assert usual == "+0.090 [+0.070, +0.110] test mIoU (95 %); tuning cross-entropy's threshold gives +0.030"
    plain["cross_entropy"] = {"vs_plain": builders.interval(0.002)}
    _, rows = write_card(recommend(builders.evidence(CLEAR, finalists=plain)))
    assert rows["Gain over cross-entropy as usual (threshold 0.5)"].endswith("(95 %)")
    tuned = {"cross_entropy": {"vs_plain": builders.interval(0.03), "seeds": (1, 2)}}
    _, rows = write_card(recommend(builders.evidence({"cross_entropy": 0.7, "dice_focal": 0.65}, finalists=tuned)))
    assert rows["Gain over cross-entropy as usual (threshold 0.5)"].endswith("(95 %), from tuning its threshold")
    assert rows["Best other"] == "dice_focal: −0.050 (one seed) test mIoU"
    _, near_rows = write_card(recommend(builders.evidence(KEEP_CE, half=0.026)))
    assert near_rows["Best other"] == "dice_ce: +0.009 [−0.017, +0.035] test mIoU (95 %)"
    levels, halves = {"dice_ce": 0.702, "cross_entropy": 0.7, "dice": 0.695}, {("dice", "cross_entropy"): 0.03}
    _, open_rows = write_card(recommend(builders.evidence(levels, half=0.003, halves=halves)))
    assert open_rows["Least settled other"].startswith("dice: −0.005 [") and "Best other" not in open_rows
    only_cross_entropy = {"cross_entropy": {"other_names": ("dice_ce",)}}
    _, single_rows = write_card(recommend(builders.evidence({"cross_entropy": 0.7}, finalists=only_cross_entropy)))
    assert single_rows["Gain over tuned cross-entropy"] == "none: it is tuned cross-entropy"
    assert rows["Holds for"].endswith(", 2 to 3 seeds")


def test_no_interval_is_printed_for_a_single_seed() -> None:
    one_seed = {name: {"seeds": (101,), "points": (0.47,)} for name in CLEAR}
    answer = recommend(builders.evidence(CLEAR, half=0.4, finalists=one_seed))
    sweep = builders.sweep()
    text = render_text(sweep, answer)
    assert "(one seed)" in get_head(text)
    assert not re.search(r"\[[+−]?\d\.\d+, ", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    drawn = FIGURES["gain"].draw(collect_facts(sweep, answer))
    assert isinstance(drawn, DrawnFigure) and "A single seed has no interval" in drawn.caption
    assert "[" not in format_answer(Outcome(sweep, answer, ReportPaths(Path("reports"), "toy")), width=100)


def test_if_nothing_was_learned_the_card_states_the_budget_and_a_command() -> None:
    flat = [builders.trial(f, 0.49, i, collapse="no_better_than_constant") for i, f in enumerate(builders.ORDER)]
    sweep = builders.sweep(flat, [], command="sweeper run 'my masks' --steps=100 --study old --trials 50")
    answer = draw_conclusion(sweep)
    card, rows = write_card(answer, sweep)
    assert "100 steps" in rows["Tried with"]
    assert card.headline == "Budget too small: no loss learned this data."
    assert card.snippet == "sweeper run 'my masks' --trials 50 --steps 400"
    assert card.snippet in format_answer(Outcome(sweep, answer, ReportPaths(Path("reports"), "toy")), width=60)
    failed = builders.sweep([builders.failed_trial()], [])
    assert write_card(draw_conclusion(failed), failed)[0].headline == "No recommendation: no loss was confirmed."


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        (("pole",), "1 of 5 classes are not learned by any loss"),
        (("pole", "a_b"), "2 of 5 classes are not learned by any loss"),
        (("`x`", "[2]", "no. 3"), "3 of 5 classes are not learned by any loss"),
    ],
)
def test_classes_not_learned_at_the_largest_budget_are_counted(missing: tuple[str, ...], text: str) -> None:
    rung = Rung(steps=800, scores={"dice": 0.3}, iou={}, is_learned=True, learnable=5, not_learned=missing)
    sentence = f"after 800 steps some ({', '.join(missing)}), so that no search was begun. What may help: a GPU"
    sweep = builders.sweep([], [], budget=sentence, learned=False, rungs=(rung,))
    answer = draw_conclusion(sweep)
    card = make_card(collect_facts(sweep, answer))
    assert card.headline == f"Budget too small: no loss learned {len(missing)} of 5 classes."
    assert card.rows[0].text == text and "at most" not in format_card_markdown(card, frozenset())
    assert answer.reasons == ("A" + sentence.partition(". What")[0][1:] + ".",)
    assert answer.next_steps == ("What may help: a GPU.",)


def test_terminal_report_and_note_agree() -> None:
    sweep, answer = builders.sweep(), recommend(builders.evidence(CLEAR))
    card = make_card(collect_facts(sweep, answer))
    note = render_summary(collect_facts(sweep, answer))
    report = render_report(collect_facts(sweep, answer), NO_FIGURES, "http://127.0.0.1:5000")
    head, _, code = note.strip().partition("\n\n```")
    assert "\u00a0" in note and head in report and f"</summary>\n\n```{code}\n\n</details>" in report
    output = " ".join(format_answer(Outcome(sweep, answer, ReportPaths(Path("reports"), "toy")), width=60).split())
    for label, text in format_card_lines(card):
        assert " ".join(f"{label}: {text}".removeprefix(": ").split()) in output
        assert text.split(" · ")[0] in note.replace("`", "").replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("evidence", "action", "headline"),
    [
        (builders.evidence(CLEAR), "change", "Change to dice_focal: +0.060 mIoU."),
        (
            builders.evidence(KEEP_CE, half=0.0005),
            "keep",
            "Keep cross-entropy: no other finalist gains more than 0.01 mIoU.",
        ),
        (builders.evidence(NO_CE, half=0.05), None, "No loss is clearly the best: meanwhile train with dice_ce."),
    ],
)
def test_mlflows_note_and_tags_state_the_action_of_the_card(
    evidence: Evidence, action: str | None, headline: str
) -> None:
    summary = make_mlflow_summary(Outcome(builders.sweep(), recommend(evidence), ReportPaths(Path("reports"), "toy")))
    assert summary.tags.get("sweeper.action") == action
    assert headline in summary.note.replace("`", "").replace("\u00a0", " ")


def test_the_terminal_output_ends_with_the_next_steps() -> None:
    paths = ReportPaths(Path("reports"), "toy")
    for evidence in (builders.evidence(CLEAR), CASES["provisional"][0]):
        answer = recommend(evidence)
        last_lines = (
            format_answer(Outcome(builders.sweep(), answer, paths), width=300).split("\nNext:\n")[1].splitlines()
        )
        assert [line.strip() for line in last_lines[:-6]] == [*answer.next_steps]
        assert last_lines[-6::2] == [
            "  sweeper export toy-20261120T0700",
            '  sweeper confirm toy-20261120T0700 --command "python train.py"',
            "  sweeper ui",
        ]
    places = {
        "storage": "postgresql://ann:secret@db/x",
        "tracking_uri": "http://mlflow:5000",
    }
    other_places = format_answer(Outcome(builders.sweep(), answer, paths), **places).splitlines()
    assert other_places[-4].endswith('--command "python train.py" --storage "$SWEEPER_STORAGE"')
    assert other_places[-6] == '  sweeper export toy-20261120T0700 --storage "$SWEEPER_STORAGE"'
    assert other_places[-2] == "  sweeper ui --tracking-uri http://mlflow:5000"
    command = "`sweeper run --study toy --resume --seeds 2..13`"
    long = answer.model_copy(
        update={"next_steps": (f"`dice` against `focal`: some 13 seeds ({command}) up to 0.035.",)}
    )
    assert f"({command})" in format_answer(Outcome(builders.sweep(), long, paths), width=60)
    nothing = format_answer(Outcome(builders.sweep([], []), recommend(None), paths), width=100)
    assert "sweeper export" not in nothing


def make_wordy_study() -> Recommendation:
    """Make a study with as much to say as possible: four open finalists, few groups."""
    levels = {"dice_focal": 0.71, "dice_ce": 0.705, "tversky": 0.70, "cross_entropy": 0.695}
    fields = {
        "regret": Regret(expected=0.01, bound=0.02, within_margin=0.5, best=0.3),
        "vs_plain": builders.interval(0.05),
    }
    evidence = builders.evidence(
        levels,
        half=0.05,
        analyses=builders.ANALYSES,
        finalists={name: {**fields, "still_rising": 0.03, "collapses": 1} for name in levels},
        few_groups=3,
    )
    return recommend(evidence)


@pytest.mark.slow
def test_the_card_and_the_unfolded_part_are_short_in_every_study() -> None:
    """Simulated studies, one of each verdict, and one with as many remarks as possible."""
    studies = [(study.sweep, study.recommendation) for study in (cracks(), street())]
    studies += [(builders.sweep(), recommend(evidence)) for evidence, *_ in CASES.values()]
    for sweep, answer in (*studies, (builders.sweep(), make_wordy_study())):
        counts = count_words(render_report(collect_facts(sweep, answer), NO_FIGURES, "http://127.0.0.1:5000"))
        assert counts.card <= WORDS, f"{answer.verdict}: {counts}"
        assert counts.unfolded <= OPEN_WORDS and counts.long_sentences <= LONG_SENTENCES, f"{answer.verdict}: {counts}"


@pytest.mark.parametrize(
    ("gap", "text"),
    [
        ({}, "+0.170 in place of +0.184, keeps (1 seed, ± 0.040)"),
        ({"after": 0.3, "trend": "grows"}, "+0.300 in place of +0.184, grows (1 seed, ± 0.040)"),
        (
            {"after": 0.3, "trend": "grows", "learned": ("crack",)},
            "+0.300 in place of +0.184, grows: only now learned: crack (1 seed, ± 0.040)",
        ),
        (
            {"before": 0.007, "after": -0.007},
            "−0.007 in place of +0.007, no clear change: it is within its error (1 seed, ± 0.040)",
        ),
        (
            {"before": 0.019, "after": 0.05},
            "+0.050 in place of +0.019, no clear change: it is within its error (1 seed, ± 0.040)",
        ),
        (
            {"before": 0.03, "after": 0.017},
            "+0.017 in place of +0.030, no clear change: it is within its error (1 seed, ± 0.040)",
        ),
        (
            {"before": -0.008, "after": -0.028, "trend": "shrinks"},
            "−0.028 in place of −0.008, falls further behind (1 seed, ± 0.040)",
        ),
        (
            {"before": -0.05, "after": -0.01, "trend": "grows"},
            "−0.010 in place of −0.050, catches up (1 seed, ± 0.040)",
        ),
        (
            {"before": -0.05, "after": 0.02, "trend": "grows"},
            "+0.020 in place of −0.050, moves ahead (1 seed, ± 0.040)",
        ),
        ({"after": 0.03, "trend": "shrinks", "seeds": 2}, "+0.030 in place of +0.184, shrinks (2 seeds, ± 0.040)"),
        (
            {"after": -0.002, "trend": "gone", "seeds": 3},
            "−0.002 in place of +0.184, is gone: cross-entropy catches up (3 seeds, ± 0.040)",
        ),
        (
            {"trend": "open", "change": builders.interval(0, 2)},
            "+0.170 in place of +0.184, no clear change: it is within its error (1 seed)",
        ),
    ],
)
def test_the_effect_of_more_steps_replaces_the_provisional_warning(gap: dict[str, Any], text: str) -> None:
    evidence = builders.evidence(CLEAR, finalists={"cross_entropy": {"still_rising": 0.03}})
    plain, sweep = recommend(evidence), builders.sweep()
    gaps = (builders.longer_gap("dice_focal", **{"before": 0.184, "after": 0.17} | gap),)
    look = builders.longer_look(*gaps, catches_up=gap.get("trend") == "gone")
    answer = plain.model_copy(update={"longer": look})
    card, rows = write_card(answer, sweep)
    assert rows["At 4 times the steps"] == text
    plain_card, plain_rows = write_card(plain, sweep)
    assert "At 4 times the steps" not in plain_rows and card.headline.startswith(plain_card.headline)
    assert "provisional" in plain_rows["Confidence"] and "provisional" not in rows["Confidence"]
    warning = "is a short training"
    assert warning in render_text(sweep, plain) and warning not in render_text(sweep, answer)
    document = make_recommendation_json(sweep, answer)
    assert document["longer"]["gaps"][0]["trend"] == gap.get("trend", "keeps")
    assert make_recommendation_json(sweep, plain)["longer"] is None


def test_the_longer_look_lists_all_pairs_and_draws_those_with_cross_entropy() -> None:
    pairs = (("dice_focal", "cross_entropy"), ("dice_ce", "cross_entropy"), ("dice_focal", "dice_ce"))
    look = builders.longer_look(*(builders.longer_gap(*pair) for pair in pairs))
    answer = recommend(builders.evidence(CLEAR), longer=look)
    row = write_card(answer)[1]["At 4 times the steps"]
    assert "; dice_ce over cross_entropy +0.090" in row and "; dice_focal over dice_ce +0.090" in row
    drawn = FIGURES["longer"].draw(collect_facts(builders.sweep(), answer))
    assert isinstance(drawn, DrawnFigure) and drawn.caption.count("in place of") == 2
    axes = drawn.figure.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["200 steps", "400 steps"]
    assert (
        FIGURES["longer"].draw(collect_facts(builders.sweep(), recommend(None))) == "no longer training was looked at"
    )


def test_no_label_of_the_longer_look_crosses_the_zero_line() -> None:
    look = builders.longer_look(builders.longer_gap(before=0.121, after=-0.002))
    drawn = FIGURES["longer"].draw(collect_facts(builders.sweep(), recommend(builders.evidence(CLEAR), longer=look)))
    assert not isinstance(drawn, str)
    axes = drawn.figure.axes[0]
    drawn.figure.draw_without_rendering()
    zero = axes.transData.transform((0, 0))[1]
    extents = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert set(extents) == {"+0.121", "−0.002"}
    assert extents["+0.121"].y0 > zero and extents["−0.002"].y1 < zero


def make_multiclass_study(learned: dict[str, float]) -> SweepRecord:
    """Return a study of these classes, whose trainings all have these IoUs on validation."""
    data = builders.dataset(tuple(learned), images=10)
    ious = tuple(learned.values())

    def run(family: str, seed: int) -> TrialResult:
        counts = builders.point_counts([[[iou * 900, 50, 50] for iou in ious]] * 2)
        scores = builders.scores(0.5, len(ious)).model_copy(update={"iou": ious})
        evaluations = tuple(
            builders.evaluation(step, 0.5, 0.0, len(ious), chosen=scores, default=scores)
            for step in (50, 100, 150, 200)
        )
        return builders.confirmation(family, seed, counts, evaluations=evaluations)

    runs = [run(family, seed) for family in ("dice", "cross_entropy") for seed in builders.CONFIRM_SEEDS]
    return builders.sweep(confirmations=runs, conditions=builders.conditions(data))


def test_classes_that_only_some_trainings_predict_are_listed_with_the_losses() -> None:
    name = builders.evidence(CLEAR).classes[1]
    missed = {"dice_focal": {"missed_classes": {name: 1}}, "cross_entropy": {"missed_classes": {name: 3}}}
    record = builders.evidence(CLEAR, finalists=missed)
    _, rows = write_card(recommend(record))
    assert rows["Never predicted"] == (
        f"{name} by 1 of 3 trainings of dice_focal and 3 of 3 trainings of cross_entropy"
    )
    _, rows = write_card(recommend(record, not_learned=(name,)))
    assert "Never predicted" not in rows


@pytest.mark.parametrize(
    ("learned", "row"),
    [
        ({"road": 0.9, "car": 0.6, "sign": 0.5}, None),
        ({"road": 0.9, "car": 0.6, "sign": 0.04}, "sign"),
        ({"road": 0.9, "traffic_light": 0.01, "sign": 0.0}, "traffic_light, sign"),
        ({"c0": 0.9} | {f"c{i}": 0.0 for i in range(1, 14)}, "c1, c2, c3, c4, c5, c6, c7, c8 and 5 others"),
    ],
)
def test_classes_that_no_loss_learned_are_listed(learned: dict[str, float], row: str | None) -> None:
    sweep = make_multiclass_study(learned)
    runs = sweep.confirmations
    missing = find_unlearned_classes(runs, sweep.conditions)
    _, rows = write_card(recommend(builders.evidence(CLEAR), not_learned=missing), sweep)
    assert rows.get("Not learned by any loss") == row
    assert ("on what was learned against" in rows["Confidence"]) == (
        row is not None and "at most" in rows["Confidence"]
    )
    assert draw_conclusion(builders.sweep([], [], sweep.conditions.dataset, probes=runs)).not_learned == missing
