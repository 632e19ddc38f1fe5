"""What a study adds to its answer: remarks that follow from its records, and commands that can be pasted."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.core.records import Answer, Remark, Scale, SweepRecord
from sweeper.evidence.answer import make_answer
from sweeper.evidence.phrases import REMARKS, STEPS, format_remark
from sweeper.workflow.study_remarks import list_study_remarks, list_study_steps
from tests.support import builders

CLEAR = {"dice_focal": 0.71, "dice_ce": 0.67, "cross_entropy": 0.65}


def list_remarks(
    sweep: SweepRecord | None = None, levels: dict[str, float] | None = None, **changes: Any
) -> list[Remark]:
    evidence = builders.evidence(levels or CLEAR, **changes)
    return [*list_study_remarks(sweep or builders.sweep(), evidence, None, ())]


def find(code: str, remarks: list[Remark]) -> dict[str, Any] | None:
    return next((remark.values for remark in remarks if remark.code == code), None)


def list_steps(
    sweep: SweepRecord, levels: dict[str, float] | None = None, *, in_final: bool = False, **changes: Any
) -> list[tuple[str, str]]:
    evidence = builders.evidence(CLEAR if levels is None else levels, **changes) if levels != {} else None
    answer, _ = make_answer(evidence, builders.ORDER, present="cross_entropy", resume=sweep.resume_command)
    return [(step.code, step.command) for step in list_study_steps(sweep, answer, evidence, in_final=in_final)]


# --- Remarks ------------------------------------------------------------------------------------------------


def test_remarks_follow_from_the_study() -> None:
    plain = {remark.code for remark in list_remarks()}
    assert "SYNTHETIC" in plain and not plain & {"AGAIN", "EDGE", "CUT", "UNFINISHED", "VERSIONS", "DATA"}
    assert find("AGAIN", list_remarks(builders.sweep(conclusions=3))) == {"times": 3}
    edge = list_remarks(
        builders.sweep(space=builders.space()), finalists={"dice_focal": {"lr": 0.0099, "lr_at_edge": True}}
    )
    assert find("EDGE", edge) == {"loss": "dice_focal", "rate": 0.0099, "edge": "high"}
    real = list_remarks(builders.sweep(data=builders.dataset(synthetic=False, warnings=("masks of a.png are small.",))))
    assert find("SYNTHETIC", real) is None and find("DATA", real) == {"text": "Masks of a.png are small"}
    assert find("CUT", list_remarks(builders.sweep(cut=("the search ended",)))) == {"parts": "the search ended"}
    unfinished = find("UNFINISHED", list_remarks(builders.sweep(concluded=False, trials_asked=50)))
    assert unfinished == {"trials": 7, "total": 50, "trainings": 12}


def test_a_side_of_the_split_that_lacks_a_class_is_a_remark() -> None:
    data = builders.dataset()
    images = [
        image.model_copy(update={"split": split, "pixels": (400, 0) if split == "val" else image.pixels})
        for image, split in zip(data.images, ["train"] * 4 + ["val"] * 3 + ["test"] * 3, strict=True)
    ]
    lacking = find("DATA", list_remarks(builders.sweep(data=builders.dataset(images=images))))
    assert lacking is not None and "validation split (3 images) has no pixel of: crack" in lacking["text"]


def test_trainings_on_two_machines_are_a_remark() -> None:
    trials = [builders.trial("dice_focal", 0.7, 0), builders.trial("focal", 0.6, 1)]
    assert find("VERSIONS", list_remarks(builders.sweep(trials))) is None
    trials[1] = trials[1].model_copy(update={"device": "another processor"})
    assert find("VERSIONS", list_remarks(builders.sweep(trials))) == {"n": 2}


@pytest.mark.parametrize(("state", "is_listed"), [("complete", False), ("pruned", False), ("failed", True)])
def test_losses_with_few_trials_are_listed(state: str, is_listed: bool) -> None:
    trials = [builders.trial("dice_focal", 0.7, 0), builders.trial("dice_focal", 0.6, 1)]
    trials += [builders.trial("dice_focal", 0.5, 2, state=state)]
    trials += [builders.trial("cross_entropy", 0.6, 3)]  # has nothing to tune
    hardly = find("HARDLY_TUNED", list_remarks(builders.sweep(trials)))
    assert hardly is not None and ("dice_focal" in hardly["losses"]) == is_listed
    assert "focal" in hardly["losses"] and "cross_entropy" not in hardly["losses"]


def test_where_nothing_is_tested_the_best_guess_is_said_apart_from_the_answer() -> None:
    """Ground: on industrial defects nothing was said, and the atlas's first guess gains 0.042 there."""
    profile = builders.profile()
    crack = profile.classes[1].model_copy(update={"component_pixels": (50.0, 112.0, 300.0)})
    like_measured = profile.model_copy(update={"classes": (profile.classes[0], crack)})
    sweep = builders.sweep([builders.trial("dice", 0.4, 0)], [], profile=like_measured)
    guess = next(remark for remark in list_study_remarks(sweep, None, None, ()) if remark.code == "GUESS")
    sentence = format_remark(guess, Answer(outcome="none"))
    assert sentence.startswith("Not tested here, a guess: on ") and f"`{guess.values['loss']}`" in sentence
    assert find("GUESS", list_remarks()) is None
    unlike = builders.sweep([builders.trial("dice", 0.4, 0)], [])
    assert find("GUESS", [*list_study_remarks(unlike, None, None, ())]) is None


@pytest.mark.parametrize(("gap", "place"), [(-0.2, "below"), (0.003, "within"), (0.3, "above")])
def test_whether_the_study_agrees_with_similar_sets_is_said(gap: float, place: str) -> None:
    """Ground: the report had not one word of what is known for data as imbalanced as these."""
    profile = builders.profile()
    crack = profile.classes[1].model_copy(update={"component_pixels": (50.0, 112.0, 300.0)})
    sweep = builders.sweep(profile=profile.model_copy(update={"classes": (profile.classes[0], crack)}))
    known = find("KNOWN", list_remarks(sweep, {"dice_focal": 0.6 + gap, "cross_entropy": 0.6}))
    assert known is not None and (known["loss"], known["place"]) == ("dice_focal", place)
    assert known["here"] == pytest.approx(gap) and known["lowest"] < known["gain"] < known["highest"]
    assert 1 <= known["least"] <= known["most"]
    assert find("KNOWN", list_remarks(sweep, {"dice_focal": 0.6, "focal": 0.5})) is None  # known over cross-entropy
    assert find("KNOWN", list_remarks(sweep, CLEAR, scale=Scale(score="mean Dice"))) is None
    assert find("KNOWN", list_remarks()) is None  # unlike any measured set


def test_the_imbalance_is_said_with_the_rarest_class() -> None:
    data = builders.dataset(builders.STREET)
    known = find("IMBALANCE", list_remarks(builders.sweep([], [], data)))
    assert known == {"rarest": "sign", "share": 0.005, "ratio": pytest.approx(189)}


def test_every_remark_of_a_study_has_a_phrase() -> None:
    sweep = builders.sweep(concluded=False, conclusions=2, cut=("x",))
    answer, _ = make_answer(builders.evidence(CLEAR), builders.ORDER, present="cross_entropy")
    for remark in list_study_remarks(sweep, builders.evidence(CLEAR), None, ()):
        assert remark.code in REMARKS and format_remark(remark, answer).endswith(".")


# --- What to do next ----------------------------------------------------------------------------------------


def test_an_established_answer_begins_with_its_use_and_an_open_one_with_what_settles_it() -> None:
    sweep = builders.sweep(study="toy")
    assert [code for code, _ in list_steps(sweep)] == ["LOOK", "TRAIN", "PREDICT", "EXPORT", "CONFIRM", "UI"]
    few = {family: {"seeds": builders.CONFIRM_SEEDS[:2]} for family in CLEAR}
    open_ = list_steps(sweep, half=0.3, finalists=few)
    assert open_[0][0] == "SEEDS" and open_[0][1].startswith("sweeper run --study toy --resume --seeds 4")
    unfinished = list_steps(builders.sweep(study="toy", concluded=False))
    assert unfinished[0] == ("FINISH", "sweeper run --study toy --resume")


def test_more_steps_are_proposed_with_their_number() -> None:
    rising = {"cross_entropy": {"still_rising": 0.03}}
    commands = dict(list_steps(builders.sweep(study="toy"), finalists=rising))
    assert commands["STEPS"] == "sweeper run --study toy --resume --confirm-steps 400"
    last = builders.trial(spec=builders.spec("dice").model_copy(update={"purpose": "final", "steps": 800}))
    ended = builders.sweep(study="toy", final=(last,))
    assert ("STEPS", "sweeper run --study toy --resume --confirm-steps 800") in list_steps(ended, finalists=rising)
    further = list_steps(ended, finalists=rising, in_final=True)  # in the network that the answer is about
    assert ("STEPS", "sweeper run --study toy --resume --final steps=1600") in further


def test_where_only_the_final_training_compared_the_step_is_the_time_of_a_search() -> None:
    steps = list_steps(builders.sweep([], [], study="toy", minutes=13), in_final=True)
    assert ("TIME", "sweeper run --study toy --resume --time 13m") in steps
    assert "UNTRIED" not in dict(steps), "without more time a resume searches nothing"


def test_remedies_begin_with_the_cheapest_and_have_a_command() -> None:
    sweep = builders.sweep(learned=False, minutes=13, study="toy", trials_asked=0)
    nothing = list_steps(sweep, {})
    assert nothing[0][0] == "CHECK"
    assert ("TIME", "sweeper run --study toy --resume --time 13m") in nothing
    more = list_steps(builders.sweep(learned=False, data=builders.dataset(synthetic=False)), {})
    assert [code for code, _ in more] == ["CHECK", "STEPS", "WEIGHTS"]
    assert all(command for _, command in more)
    failed = builders.sweep([builders.failed_trial()], [], study="toy")
    assert list_steps(failed, {}) == [("RETRY", "sweeper run --study toy --resume")]


def test_losses_without_a_trial_come_first_where_only_one_was_confirmed() -> None:
    sweep = builders.sweep([builders.trial("dice", 0.6)], study="toy", trials_asked=1)
    code, command = list_steps(sweep, {"dice": 0.7})[0]
    assert code == "UNTRIED" and command == "sweeper run --study toy --resume --trials 7"
    assert {code for code, _ in list_steps(sweep, {"dice": 0.7})} <= STEPS.keys()
