"""The answer and its words: headlines and remarks on literal evidence, and no contradiction on drawn evidence."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sweeper
from sweeper.core.records import Answer, Evidence, FinalComparison, Outcome, Regret, Sure
from sweeper.core.records.training import THRESHOLDS
from sweeper.evidence.answer import compute_collapse_rate, make_answer
from sweeper.evidence.phrases import REMARKS, STEPS, format_head, format_headline, format_remark
from sweeper.evidence.verdict_predicates import get_difference
from tests.evidence.weighing import ANALYSES, change_pairs, set_errors
from tests.support.builders import CONFIRM_SEEDS, ORDER, evidence, final_comparison, interval

RESUME = "sweeper run --study x --resume"
PAIR = {"dice": 0.753, "cross_entropy": 0.7}
NEAR = {"dice_ce": 0.709, "dice": 0.704, "cross_entropy": 0.7}
GAIN = {"dice_ce": 0.88, "tversky": 0.872, "cross_entropy": 0.7}


def answer(record: Evidence | None, look: FinalComparison | None = None) -> Answer:
    return make_answer(record, ORDER, present="cross_entropy", final=look, resume=RESUME)[0]


def codes(made: Answer) -> list[str]:
    return [remark.code for remark in made.remarks]


def make_regrets(expected: float = 0.0, **bounds: float) -> dict[str, Any]:
    regrets = {f: Regret(expected=expected, bound=b, best=0.2) for f, b in bounds.items()}
    return {"finalists": {family: {"regret": regret} for family, regret in regrets.items()}}


@pytest.mark.parametrize(
    ("levels", "changes", "headline"),
    [
        (PAIR, {}, "Change to `dice`: at least +0.033, about +0.053 mIoU."),
        (GAIN, {"half": 0.0299}, "Change to `tversky`: at least +0.14, about +0.17 mIoU."),
        (NEAR, {"half": 0.0005} | make_regrets(dice_ce=0.2, dice=0.2, cross_entropy=0.0094),
         "Keep `cross_entropy`: no other loss gains more than 0.010 mIoU."),
        (NEAR, {"half": 0.026} | make_regrets(dice_ce=0.2, dice=0.2, cross_entropy=0.0096),
         "Keep `cross_entropy`: probably no other loss gains more than 0.010 mIoU."),
        (NEAR, {"half": 0.026} | make_regrets(dice_ce=0.2, dice=0.2, cross_entropy=0.0331),
         "Keep `cross_entropy` for now: another loss may gain up to 0.034 mIoU."),
        (NEAR, {"half": 0.026}, "Keep `cross_entropy` for now: what another loss gains is not known."),
        ({"dice": 0.75, "focal": 0.7}, make_regrets(dice=0.001, focal=0.06),
         "Take `dice`: no other loss gains more than 0.001 mIoU."),
        ({"dice": 0.7}, {}, "Take `dice` for now: what another loss gains is not known."),
        ({"dice": 0.4}, {}, "No loss can be recommended."),
    ],
)  # fmt: skip
def test_the_headline_says_what_to_do_and_what_it_gains_or_costs(
    levels: dict[str, float], changes: dict[str, Any], headline: str
) -> None:
    assert format_headline(answer(evidence(levels, **changes))) == headline


def test_the_head_of_a_change_has_the_gain_in_the_final_training() -> None:
    made = answer(evidence(PAIR), final_comparison("dice", before=0.053, after=0.048))
    assert format_head(made) == (
        "Change to `dice`: at least +0.033, about +0.053 mIoU. In the final training the gain is +0.048 (1 seed)."
    )


def test_a_faded_gain_is_said_with_what_it_was() -> None:
    """Ground: a change after 200 steps whose gain was +0.002 after 800 stayed the headline."""
    faded = final_comparison("dice", before=0.053, after=0.002)
    made = answer(evidence(PAIR), faded)
    assert (made.outcome, made.use.loss, made.gain) == (Outcome.KEEP, "cross_entropy", None)
    assert format_head(made).endswith(
        "The gain of `dice`, +0.053 in the search's trainings, is +0.002 [−0.038, +0.042] in the final training "
        "(1 seed)."
    )


def test_an_open_answer_names_the_best_bet_and_a_settled_one_none() -> None:
    def set_regret(better: float, gain: float, bound: float = 0.05) -> dict[str, Any]:
        return {"regret": Regret(expected=0.01, bound=bound, best=0.4, better=better, gain=gain)}

    def answer_near(**finalists: dict[str, Any]) -> Answer:
        return answer(evidence(NEAR, half=0.026, finalists={**leaning, **finalists}))

    leaning = {"dice_ce": set_regret(0.91, 0.031), "dice": set_regret(0.7, 0.02), "cross_entropy": set_regret(0, 0)}
    kept = answer_near()
    assert (kept.outcome, kept.sure) == (Outcome.KEEP, Sure.OPEN)
    words = "No reason to keep `cross_entropy`? `dice_ce` is better with odds of 10 to 1, about +0.031."
    assert words in format_head(kept)
    for better in (0.0, 0.5, 0.66):
        assert "BET" not in codes(answer_near(dice_ce=set_regret(better, 0.001), dice=set_regret(0.2, -0.01)))
    certain = answer_near(dice_ce=set_regret(1.0, 0.031)).find("BET")
    assert certain is not None and certain.values["odds"] == 99
    assert "BET" not in codes(answer_near(cross_entropy=set_regret(0, 0, bound=0.005))), "it costs little to keep it"
    assert "BET" not in codes(answer(evidence(PAIR)))


def test_a_gain_that_only_the_final_training_shows_is_said_and_changes_nothing() -> None:
    kept = answer(evidence(NEAR, half=0.026), final_comparison("dice_ce", before=0.009, after=0.06))
    assert kept.outcome is Outcome.KEEP
    assert "In the final training `dice_ce` gains +0.060 (1 seed)." in format_head(kept)
    assert "LATER" not in codes(answer(evidence(NEAR, half=0.026), final_comparison("dice_ce", after=0.03)))


def test_the_present_loss_gains_by_its_operating_point() -> None:
    tuned = {"finalists": {"cross_entropy": {"vs_plain": interval(0.019, 0.004)}}}
    assert "Tune its threshold: +0.019 [+0.015, +0.023] mIoU." in format_head(
        answer(evidence(NEAR, half=0.0005, **tuned))
    )
    for gain, half in ((0.004, 0.001), (0.019, 0.02)):
        tuned = {"finalists": {"cross_entropy": {"vs_plain": interval(gain, half)}}}
        assert "TUNE" not in codes(answer(evidence(NEAR, half=0.0005, **tuned)))


def test_who_keeps_the_plain_point_is_given_the_loss_that_is_ahead_there() -> None:
    """Ground: "at threshold 0.5 cross_entropy is behind dice" stood in a note under a table."""
    record = evidence(NEAR, half=0.0005)
    plain = evidence({"dice": 0.725, "dice_ce": 0.705, "cross_entropy": 0.7}, half=0.013).comparisons
    names = [f.family for f in record.finalists]
    order = [names.index(name) for name in ("dice", "dice_ce", "cross_entropy")]
    renamed = sorted(
        (pair.model_copy(update={"first": order[pair.first], "second": order[pair.second]}) for pair in plain),
        key=lambda pair: (pair.first, pair.second),
    )
    made = answer(record.model_copy(update={"at_plain": tuple(renamed)}))
    words = "With threshold 0.5, `dice` is better by +0.025 [+0.012, +0.038]: take it if that stays."
    assert words in format_head(made)
    assert "POINT" not in codes(answer(record))


def test_a_loss_that_may_gain_more_is_named_only_where_the_used_one_is_costly() -> None:
    levels, halves = (
        {"dice_ce": 0.78, "dice": 0.73, "cross_entropy": 0.7},
        {("dice_ce", "cross_entropy"): 0.09, ("dice_ce", "dice"): 0.09},
    )
    costly = answer(
        evidence(levels, half=0.01, halves=halves, **make_regrets(0.04, dice_ce=0.1, dice=0.1, cross_entropy=0.1))
    )
    assert format_head(costly).endswith("`dice_ce` may gain more (+0.080, not established).")
    cheap = answer(
        evidence(levels, half=0.01, halves=halves, **make_regrets(0.0, dice_ce=0.1, dice=0.1, cross_entropy=0.1))
    )
    assert "MORE" not in codes(cheap)


def test_a_change_gains_at_least_what_an_earlier_analysis_established() -> None:
    """The last interval is wider, and its estimate below what was shown before."""
    earlier = {"won": True, "at_least": 0.028, "at_most": 0.2}
    now = evidence({"dice": 0.72, "cross_entropy": 0.7}, half=0.07)
    later = change_pairs(now, lambda pair: earlier if pair.first == 0 else {})
    made = answer(later)
    assert made.gain.model_dump() == pytest.approx({"estimate": 0.028, "low": 0.028, "high": 0.09})
    assert format_headline(made) == "Change to `dice`: at least +0.028, about +0.028 mIoU."


def test_without_a_usable_present_loss_the_answer_says_so() -> None:
    assert "NO_PRESENT" in codes(answer(evidence({"dice": 0.75, "focal": 0.7})))
    collapsed = answer(evidence(NEAR, half=0.05, finalists={"cross_entropy": {"collapses": 1}}))
    assert collapsed.outcome is Outcome.TAKE and "FAILED_PRESENT" in codes(collapsed)
    assert "WINS" in codes(answer(evidence({"dice": 0.75, "focal": 0.7})))


def test_trainings_that_collapse_or_still_improve_are_remarks() -> None:
    at_end = answer(evidence(PAIR, finalists={"dice": {"points": (0.4, THRESHOLDS[-1], 0.5)}})).find("POINT_END")
    assert at_end is not None and at_end.values == {"losses": ("dice",)}
    rising = evidence(PAIR, finalists={"cross_entropy": {"still_rising": 0.03}})
    assert "RISING" in codes(answer(rising)) and "RISING" not in codes(answer(rising, final_comparison("dice")))
    once = answer(evidence(PAIR, finalists={"dice": {"collapses_in_search": 1, "trainings_in_search": 2}}))
    remark = once.find("COLLAPSED")
    assert remark is not None and format_remark(remark, once) == (
        "1 of 5 trainings of `dice` collapsed: a rate of 1 % to 72 % (95 %)."
    )
    weak = answer(evidence({"dice": 0.53, "cross_entropy": 0.5}, half=0.01))
    assert "the best scores 0.530 mIoU, the same answer everywhere 0.490" in format_head(weak)


def test_few_images_groups_and_rare_classes_are_remarks() -> None:
    assert codes(answer(evidence(PAIR, test_images=39)))[-1] == "FEW_IMAGES"
    assert not answer(evidence(PAIR, test_images=40)).remarks
    assert codes(answer(evidence(PAIR, test_images=90, test_groups=50))) == ["GROUPS"]
    assert codes(answer(evidence(PAIR, test_images=90, few_groups=3))) == ["GROUPS"]
    assert codes(answer(evidence(PAIR, test_images=90, scarce=("sign",)))) == ["SCARCE"]


def test_one_loss_or_one_function_is_no_comparison() -> None:
    assert codes(answer(evidence({"cross_entropy": 0.7}, test_images=50))) == ["ALONE"]
    same = answer(
        evidence({"cross_entropy": 0.7}, finalists={"cross_entropy": {"other_names": ("dice_ce", "weighted_ce")}})
    )
    assert (same.sure, same.cost) == (Sure.ESTABLISHED, 0.0)
    assert "On these data `dice_ce` and `weighted_ce` are `cross_entropy` under other names." in format_head(same)


# --- What would settle it -----------------------------------------------------------------------------------


def get_step(record: Evidence) -> tuple[str, dict[str, Any], str] | None:
    steps = answer(record).next
    return (steps[0].code, steps[0].values, steps[0].command) if steps else None


def open_record(levels: dict[str, float], **errors: float) -> Evidence:
    return set_errors(evidence(levels, half=0.05, analyses=ANALYSES, analysis_index=1), **errors)


def limit_seeds(number: int, *families: str) -> dict[str, dict[str, Any]]:
    return {family: {"seeds": CONFIRM_SEEDS[:number]} for family in families}


def test_seeds_or_images_that_would_settle_it_come_with_the_command() -> None:
    noisy = get_step(open_record({"dice": 0.73, "cross_entropy": 0.7}, se_seed=0.02, se_image=0.002))
    assert noisy is not None and noisy[0] == "SEEDS" and noisy[1]["now"] == 3 and noisy[1]["seeds"] > 8
    assert noisy[2] == f"{RESUME} --seeds {noisy[1]['seeds']}"
    few = open_record({"dice": 0.73, "cross_entropy": 0.7}, se_seed=0.0, se_image=0.03)
    step = get_step(few.model_copy(update={"test_images": 200, "test_groups": 9}))
    assert step[0] == "IMAGES" and step[1]["now"] == 9 < step[1]["images"] < 100  # a group counts as one
    # The plan ended before them as futile, and would only end again.
    fewer = get_step(open_record({"dice": 0.73, "cross_entropy": 0.7}, se_seed=0.011, se_image=0.002))
    assert 3 < fewer[1]["seeds"] < 8 and fewer[2] == f"{RESUME} --seeds {fewer[1]['seeds']}"


@pytest.mark.parametrize("number", [1, 2])
def test_too_few_seeds_ask_for_four_and_one_image_for_none(number: int) -> None:
    few = limit_seeds(number, *NEAR)
    assert get_step(evidence(NEAR, half=0.3, finalists=few))[1]["seeds"] == 4
    assert get_step(evidence(NEAR, half=0.3, finalists=few, test_images=1)) is None


@pytest.mark.parametrize(("dice", "error", "rivals"), [(0.74, 0.01, ("dice",)), (0.708, 0.0008, ("dice", "tversky"))])
def test_one_gain_or_bounds_of_all_gains_settle_the_answer(dice: float, error: float, rivals: tuple[str, ...]) -> None:
    step = get_step(open_record({"dice": dice, "tversky": 0.704, "cross_entropy": 0.7}, se_seed=error, se_image=0.0005))
    assert step is not None and step[1]["losses"] == rivals


def test_no_seeds_are_asked_for_a_dropped_loss_or_an_established_answer() -> None:
    levels = {"cross_entropy": 0.711, "tversky": 0.7, "dice": 0.66}
    gaps = evidence(levels, half=0.05, finalists=limit_seeds(2, "dice"), analyses=ANALYSES, analysis_index=1)
    record = set_errors(gaps, se_seed=0.02, se_image=0.001)
    assert get_step(record)[1]["losses"] == ("tversky",)
    bounded = change_pairs(
        record, lambda pair: {"at_most_one_sided": 0.005} if {pair.first, pair.second} == {0, 1} else {}
    )
    assert get_step(bounded) is None and get_step(evidence(PAIR)) is None


# --- No contradiction ---------------------------------------------------------------------------------------

FINITE = {"allow_nan": False, "allow_infinity": False}


@st.composite
def draw_evidence(draw: st.DrawFn) -> tuple[Evidence, FinalComparison | None]:
    """Draw evidence of one to four losses with any gaps, errors, seeds, collapses, and perhaps a final training."""
    names = draw(st.lists(st.sampled_from(ORDER), min_size=1, max_size=4, unique=True))
    levels = {name: draw(st.floats(0.45, 0.95, **FINITE)) for name in names}
    finalists = {
        name: {
            "collapses": draw(st.sampled_from([0, 0, 0, 1, 3])),
            "seeds": CONFIRM_SEEDS[: draw(st.sampled_from([1, 2, 3, 3, 3]))],
            "still_rising": draw(st.floats(-0.02, 0.05, **FINITE)),
            "vs_plain": draw(
                st.none() | st.builds(interval, st.floats(-0.02, 0.1, **FINITE), st.floats(0, 0.05, **FINITE))
            ),
            "lr_at_edge": draw(st.booleans()),
        }
        for name in names
    }
    expected = st.floats(0, 0.03, **FINITE)
    if len(names) > 1 and draw(st.booleans()):
        for name in names:
            low = draw(expected)
            finalists[name]["regret"] = Regret(expected=low, bound=low + draw(expected), best=0.5)
    more: dict[str, Any] = {
        "test_images": draw(st.sampled_from([1, 24, 90])),
        "few_groups": draw(st.sampled_from([None, None, 3])),
    }
    record = evidence(levels, half=draw(st.floats(0, 0.1, **FINITE)), finalists=finalists, **more)
    if draw(st.booleans()):
        halves = draw(st.floats(0, 0.1, **FINITE))
        at_plain = tuple(
            pair.model_copy(update={"difference": interval(draw(st.floats(-0.1, 0.1, **FINITE)), halves)})
            for pair in record.comparisons
        )
        record = record.model_copy(update={"at_plain": at_plain})
    look = None
    if "cross_entropy" in names and len(names) > 1 and draw(st.booleans()):
        first = draw(st.sampled_from([name for name in names if name != "cross_entropy"]))
        look = final_comparison(first, before=0.02, after=draw(st.floats(-0.05, 0.2, **FINITE)))
    return record, look


def list_numbers(value: Any) -> list[float]:
    """Return all numbers in a document."""
    if isinstance(value, dict | list | tuple):
        return [n for part in (value.values() if isinstance(value, dict) else value) for n in list_numbers(part)]
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


@settings(max_examples=400, deadline=None)
@given(draw_evidence())
def test_no_answer_contradicts_its_evidence_or_itself(drawn: tuple[Evidence, FinalComparison | None]) -> None:
    record, look = drawn
    made, choice = make_answer(record, ORDER, present="cross_entropy", final=look, resume=RESUME)
    names = [f.family for f in record.finalists]
    assert (made.use is None) == (made.outcome is Outcome.NONE)
    assert made.cost is None or made.cost >= 0
    if made.outcome is Outcome.CHANGE:
        assert made.sure is Sure.ESTABLISHED and made.use.loss != "cross_entropy"
        gap = get_difference(record, names.index(made.use.loss), names.index("cross_entropy"))
        assert made.gain is not None and made.gain.estimate == gap.estimate
        rivals = [
            get_difference(record, i, names.index("cross_entropy"))
            for i in range(len(names))
            if names[i] != "cross_entropy"
        ]
        assert any(rival.low > 0 and rival.estimate >= record.margin for rival in rivals)
    if made.outcome is Outcome.KEEP:
        assert made.use.loss == "cross_entropy" and made.gain is None
        assert made.sure is not Sure.ESTABLISHED or made.cost <= record.margin + 1e-9
    assert made.sure is not Sure.PROBABLE or made.cost <= record.margin + 1e-9
    words = format_head(made)
    others = [format_remark(remark, made) for remark in made.remarks] + [
        format_remark(s, made, STEPS) for s in made.next
    ]
    assert not (made.outcome is Outcome.KEEP and "Change to" in " ".join([words, *others]))
    assert not (made.outcome is Outcome.CHANGE and "Keep" in " ".join([words, *others]))
    if (point := made.find("POINT")) is not None:
        assert point.values["low"] > 0
    numbers = list_numbers(made.model_dump())
    for sentence in [format_headline(made), *others]:
        for text in re.findall(r"(?<![\w`.])[+−]?\d[\d,]*\.?\d*", re.sub(r"`[^`]*`", "", sentence)):
            printed = float(text.replace("−", "-").replace(",", "").removesuffix("."))
            size = 10.0 ** -len(text.partition(".")[2])
            in_phrase = text in {"95", "0", "0.5"}
            near = any(abs(abs(printed) - abs(n)) <= size * 1.001 or abs(printed - 100 * n) <= 0.51 for n in numbers)
            assert in_phrase or near, (text, sentence, numbers)
    assert choice.use is None or names[choice.use] == made.use.loss


@pytest.mark.parametrize(
    ("collapses", "trainings", "low", "high"),
    [(0, 8, 0.0, 0.3694), (1, 8, 0.0032, 0.5265), (8, 8, 0.6306, 1.0), (2, 10, 0.0252, 0.5561), (0, 0, 0.0, 1.0)],
)
def test_the_rate_of_collapses_has_the_exact_interval(collapses: int, trainings: int, low: float, high: float) -> None:
    """Values of R's binom.test."""
    changes = {"collapses": collapses, "points": (0.5,) * trainings}
    finalist = evidence({"dice": 0.75}, finalists={"dice": changes}).finalists[0]
    assert compute_collapse_rate(finalist) == pytest.approx((low, high), abs=1e-4)


def test_every_code_has_one_sentence_and_a_place() -> None:
    assert not REMARKS.keys() & STEPS.keys()
    assert all(not phrase.text.endswith(".") and math.isfinite(len(phrase.text)) for phrase in REMARKS.values())


def test_each_code_of_the_table_is_said_by_something() -> None:
    """A phrase that nothing says is a warning that was lost."""
    source = "".join(path.read_text("utf-8") for path in Path(sweeper.__file__).parent.rglob("*.py"))
    assert not [code for code in (*REMARKS, *STEPS) if source.count(f'"{code}"') < 2]
