"""The classes in the answer: which losses are shown for them, and that no sentence contradicts the table."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core.records import Answer, ClassEvidence, Evidence, Remark
from sweeper.evidence.class_table import list_class_remarks, make_class_table
from sweeper.evidence.document import ClassTable
from sweeper.evidence.phrases import format_remark
from tests.support import builders
from tests.support.builders import class_evidence, evidence

CLASSES = ("road", "animal", "sign")
"""From the most common to the rarest."""
PROFILE = builders.profile(builders.dataset(CLASSES))
LEVELS = {"dice_ce": 0.7, "dice": 0.65, "cross_entropy": 0.6}


def make_table(record: Evidence, use: str) -> ClassTable:
    table = make_class_table(record, PROFILE, use)
    assert table is not None
    return table


def list_remarks(record: Evidence, use: str = "dice_ce") -> list[Remark]:
    return [*list_class_remarks(record, make_table(record, use))]


def say(record: Evidence, use: str = "dice_ce") -> str:
    answer = Answer(outcome="change", sure="established", present="cross_entropy")
    return " ".join(format_remark(remark, answer) for remark in list_remarks(record, use))


def make_evidence(levels: dict[str, float] | None = None, **changes: Any) -> Evidence:
    """Return evidence in which dice_ce finds the sign, and no other loss does."""
    sign = class_evidence("sign", (0.4, 0.0, 0.0), gains=(0.4, 0.0, 0.0), learned=(3, 0, 0), missed=(0, 3, 3))
    animal = class_evidence("animal", (0.5, 0.45, 0.5), gains=(0.0, -0.05, 0.0))
    road = class_evidence("road", (0.9, 0.95, 0.95), gains=(-0.05, 0.0, 0.0))
    return evidence(levels or LEVELS, classes=CLASSES, per_class=(road, animal, sign), **changes)


@pytest.mark.parametrize(
    ("levels", "use", "losses"),
    [
        (LEVELS, "dice_ce", ("cross_entropy", "dice_ce")),
        (LEVELS, "dice", ("cross_entropy", "dice")),
        (LEVELS, "cross_entropy", ("cross_entropy", "dice_ce")),  # kept: beside the best other
        (LEVELS, "", ("cross_entropy", "dice_ce")),
        ({"dice": 0.7, "focal": 0.6, "tversky": 0.5}, "focal", ("focal", "dice")),
        ({"dice": 0.7}, "dice", ("dice",)),
    ],
)
def test_the_present_and_the_used_loss_are_shown_or_the_best_other(
    levels: dict[str, float], use: str, losses: tuple[str, ...]
) -> None:
    scores = [0.1 * (i + 1) for i in range(len(levels))]
    gains = {"gains": scores} if "cross_entropy" in levels else {}
    record = evidence(levels, classes=CLASSES, per_class=(class_evidence("sign", scores, **gains),))
    table, names = make_table(record, use), [f.family for f in record.finalists]
    assert table.losses == losses
    assert [row.name for row in table.rows] == ["sign", "animal", "road"]
    (sign, animal, _), expected = table.rows, [scores[names.index(name)] for name in losses]
    assert [score.estimate for score in sign.scores] == pytest.approx(expected)
    assert (sign.gain is not None) == bool(gains) and animal.scores == () and animal.gain is None
    if sign.gain is not None:
        assert sign.gain.estimate == pytest.approx(expected[1])


def test_one_seed_has_no_interval() -> None:
    one = {name: {"seeds": builders.CONFIRM_SEEDS[:1]} for name in LEVELS}
    (sign, *_) = make_table(make_evidence(finalists=one), "dice_ce").rows
    assert sign.scores[1].estimate == 0.4 and (sign.scores[1].low, sign.scores[1].high, sign.gain) == (None,) * 3
    assert not [remark for remark in list_remarks(make_evidence(finalists=one)) if remark.code in ("RISES", "FALLS")]


def test_there_is_no_table_where_no_class_was_scored() -> None:
    assert make_class_table(None, PROFILE, "") is None
    assert make_class_table(evidence(LEVELS), PROFILE, "dice_ce") is None


def test_the_head_names_the_rarest_class_and_those_that_gain_lose_or_stay_unlearned() -> None:
    assert say(make_evidence()) == (
        "The test IoU of sign is 0.400 with `dice_ce`, 0.000 with `cross_entropy`. With `dice_ce` the IoU of sign "
        "rises. With `dice_ce` the IoU of road falls. Not learned in 3 of 3 trainings of `cross_entropy`: class sign."
    )


def test_a_class_that_no_loss_learns_is_said_once() -> None:
    """Ground: "2 of 4 trainings of cross_entropy never predict class sign", where no training of any loss finds it."""
    record = make_evidence()
    nobody = record.per_class[2].model_copy(update={"learned": (0, 0, 0), "missed": (3, 2, 3)})
    text = say(record.model_copy(update={"per_class": (*record.per_class[:2], nobody)}))
    assert "Not learned by any loss: class sign." in text and "Not learned in" not in text


def test_trainings_by_chance_are_said_of_the_shown_losses() -> None:
    record = make_evidence()
    lucky = [one.model_copy(update={"learned": (2, 1, 2), "missed": (1, 2, 1)}) for one in record.per_class[1:]]
    remarks = list_remarks(record.model_copy(update={"per_class": (record.per_class[0], *lucky)}))
    values = [remark.values for remark in remarks if remark.code == "LUCKY"]
    assert values == [
        {"loss": name, "trainings": 3, "n": 1, "classes": ("animal", "sign")} for name in ("dice_ce", "cross_entropy")
    ]


@st.composite
def draw_evidence(draw: st.DrawFn) -> Evidence:
    """Draw one to three losses with any scores of some classes."""
    names = draw(st.lists(st.sampled_from([*LEVELS]), min_size=1, max_size=3, unique=True))
    seeds = draw(st.sampled_from([1, 2, 3]))
    share, finite = st.floats(0, 1), {"allow_nan": False, "width": 32}

    def draw_class(name: str) -> ClassEvidence:
        learned = [draw(st.integers(0, seeds)) for _ in names]
        missed = [draw(st.integers(0, seeds - n)) for n in learned]
        gains = [draw(st.floats(-1, 1, **finite)) for _ in names] if "cross_entropy" in names else []
        scores, half = [draw(share) for _ in names], draw(share)
        return class_evidence(name, scores, half, gains=gains, learned=learned, missed=missed)

    kept = draw(st.lists(st.sampled_from(CLASSES), min_size=1, unique=True))
    of_all = {name: {"seeds": builders.CONFIRM_SEEDS[:seeds], "points": (0.0,) * seeds} for name in names}
    levels = {name: draw(share) for name in names}
    return evidence(levels, finalists=of_all, classes=CLASSES, per_class=tuple(map(draw_class, kept)))


@settings(max_examples=300, deadline=None)
@given(draw_evidence(), st.sampled_from(["", *LEVELS]))
def test_no_sentence_on_classes_contradicts_the_table(record: Evidence, use: str) -> None:
    table, by_code = make_table(record, use), dict[str, list[Remark]]()
    for remark in list_class_remarks(record, table):
        by_code.setdefault(remark.code, []).append(remark)
    rows = {row.name: row for row in table.rows}
    assert [row.share for row in table.rows] == sorted(row.share for row in table.rows)
    for code, sign in (("RISES", 1), ("FALLS", -1)):
        for remark in by_code.get(code, []):
            gains = [rows[name].gain for name in remark.values["classes"]]
            assert all(gain is not None and gain.low * sign > 0 and gain.high * sign > 0 for gain in gains)
            assert remark.values["loss"] == table.losses[1]
    for remark in by_code.get("RAREST", []):
        scores = [score.estimate for score in rows[remark.values["rarest"]].scores]
        assert scores == [remark.values["before"], remark.values["after"]]
        assert table.losses == (remark.values["other"], remark.values["loss"])
    unlearned = {name for remark in by_code.get("UNLEARNED", []) for name in remark.values["classes"]}
    missed = {name for remark in by_code.get("LUCKY", []) for name in remark.values["classes"]}
    assert unlearned == {one.name for one in record.per_class if not any(one.learned)} and not unlearned & missed
    numbers = [score.estimate for row in table.rows for score in row.scores]
    counts = [n for one in record.per_class for n in (*one.missed, len(record.finalists[0].seeds))]
    for text in re.findall(r"(?<![\w`.])\d+\.?\d*", say(record, use)):
        number = float(text.removesuffix("."))
        assert any(abs(number - other) <= 0.00051 for other in (*numbers, *counts)), text
