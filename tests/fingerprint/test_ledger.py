"""The ledger: its rows, its advice, and one small row of it trained again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import ledger as bench
from sweeper.core.records import ImbalanceProfile
from sweeper.fingerprint.ledger import (
    BASELINE,
    FEATURES,
    NEIGHBOURS,
    AdvisedLoss,
    LedgerRow,
    compute_features,
    explain_stake,
    make_weight_parameters,
    measure_nearness,
    rank_losses,
    read_ledger,
    read_user_rows,
)
from sweeper.losses import FAMILIES


def make_row(point: str, value: float, family: str, gain: float, **other: Any) -> LedgerRow:
    features = dict.fromkeys(FEATURES, value)
    defaults = {"generator": "g", "task": "binary", "params": "", "lr": 0.001, "steps": 100, "score": 0.5}
    return LedgerRow(point=point, **features, family=family, gain=gain, low=gain, high=gain, **{**defaults, **other})


def test_the_ledger_has_every_family_on_40_data_sets_of_5_generators() -> None:
    rows = read_ledger()
    points = {row.point for row in rows}
    assert len(points) >= 40 and len({row.generator for row in rows}) >= 5
    for point in points:
        by_family = {row.family: row for row in rows if row.point == point}
        assert set(by_family) == set(bench.CONFIGURATIONS) and by_family[BASELINE].gain == 0
        assert all(row.low <= row.gain <= row.high for row in by_family.values())


def test_families_are_ordered_by_their_gain_on_the_most_similar_data_sets() -> None:
    near = [make_row(f"near {at}", 0.01 * at, "dice", 0.1 + 0.01 * at, lr=0.002) for at in range(NEIGHBOURS)]
    near += [make_row(f"near {at}", 0.01 * at, "focal", 0.3, params="gamma=2") for at in range(3)]
    far = [make_row(f"far {at}", 9.0 + at, "dice", -0.5) for at in range(NEIGHBOURS)]
    other_task = [make_row("other", 0.0, "tversky", 0.9, task="multiclass")]
    focal, dice = rank_losses("binary", [0.0] * len(FEATURES), [*far, *near, *other_task])
    assert (focal.family, focal.params, focal.sets) == ("focal", {"gamma": 2.0}, 3)
    assert (dice.lr, dice.sets) == (0.002, NEIGHBOURS)
    assert (dice.lowest, dice.gain, dice.highest) == pytest.approx((0.1, 0.155, 0.21))
    with pytest.raises(ValueError, match="must have data sets of the task multiclass"):
        rank_losses("multiclass", [0.0] * len(FEATURES), near)


LEDGER = [
    make_row(str(at), float(at), family, 0.1 * (family == "dice")) for at in range(9) for family in ("dice", BASELINE)
]
"""Rows of nine data sets in a line, each one step from the next."""
MIDDLE = [4.0] * len(FEATURES)


@pytest.mark.parametrize(
    "features",
    [
        [90.0] * len(FEATURES),
        [20.0, *MIDDLE[1:]],
        [4.0, -9.0, *MIDDLE[2:]],
        [9.9, -2.0, 9.9, -2.0, 9.9, -2.0, 9.9],  # far, but in no single feature
    ],
)
def test_no_gain_is_claimed_for_data_unlike_any_in_the_ledger(features: list[float]) -> None:
    near = measure_nearness("binary", features, LEDGER)
    assert near.similar == 0 and near.unlike.startswith("The data are unlike anything measured")
    first, second = rank_losses("binary", features, LEDGER)
    assert (first.family, first.gain, first.params, first.others, first.sets) == ("dice", None, {}, (), 9)
    assert (second.family, second.lowest, second.highest) == (BASELINE, None, None)
    assert near.unlike in explain_stake("binary", features, LEDGER) and "gains" not in explain_stake(
        "binary", features, LEDGER
    )


def test_studies_of_the_user_do_not_change_which_distances_count_as_similar() -> None:
    """However many studies of one data set the user has, and even for this data set."""
    step = measure_nearness("binary", MIDDLE, LEDGER).reach
    between = [4.0 + 0.5] * len(FEATURES)
    assert measure_nearness("binary", between, LEDGER).distances[0] == pytest.approx(step / 2)
    assert measure_nearness("binary", between, LEDGER).similar == 2
    user_rows = [make_row(f"own {at}", 30.0, BASELINE, 0.0, generator="own") for at in range(40)]
    both = [*LEDGER, *user_rows]
    assert measure_nearness("binary", MIDDLE, both)[1][:9] == measure_nearness("binary", MIDDLE, LEDGER)[1]
    assert measure_nearness("binary", MIDDLE, both).reach == step
    assert measure_nearness("binary", [30.0] * len(FEATURES), both).similar == NEIGHBOURS
    assert measure_nearness("binary", MIDDLE, user_rows).similar == 0  # only studies of the user, which give no scale
    own = [row.model_copy(update={"task": "multilabel"}) for row in user_rows]  # no set of this task was measured
    assert measure_nearness("multilabel", between, [*LEDGER, *own]).similar == 0


def test_one_sentence_states_how_much_the_loss_matters() -> None:
    little = [line.model_copy(update={"gain": 0.05 * line.gain}) for line in LEDGER]
    worse = [line.model_copy(update={"gain": -0.2}) if line.point == "3" and line.gain else line for line in LEDGER]
    for rows, words in (
        (LEDGER, "the loss matters: dice gains +0.100 test mIoU over cross-entropy in the mean, +0.100 to +0.100."),
        (little, "the loss hardly matters: dice gains +0.005"),
        (worse, "−0.200 to +0.100."),
    ):
        text = explain_stake("binary", MIDDLE, rows)
        where = "On the 9 nearest measured sets (3 of them similar; imbalance 1:1 to 100,000,000:1)"
        assert text.startswith(where) and words in text


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_starting_values_are_coordinates_of_their_family(task: Any) -> None:
    rows = [row for row in read_ledger() if row.task == task]
    for loss in rank_losses(task, rows[0].features, rows):
        params = make_weight_parameters(loss, task, 50.0)
        assert set(params) <= set(FAMILIES[loss.family].coordinates[task])
    loss = AdvisedLoss(
        family="dice_ce",
        params={"power": 0.5, "mix": 0.2},
        lr=1.0,
        **dict.fromkeys(("gain", "lowest", "highest")),
        **dict.fromkeys(("sets", "least", "most"), 1),
    )
    assert make_weight_parameters(loss, "binary", 100.0) == {"mix": 0.2, "pos_weight": 10.0}


def test_finished_studies_of_the_user_become_rows_of_the_ledger(tmp_path: Path) -> None:
    reports = Path(__file__).parents[2] / "reports"
    example = json.loads((reports / "example-cracks" / "recommendation.json").read_text("utf-8"))
    for name, text in (("mine", json.dumps(example)), ("broken", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recommendation.json").write_text(text, "utf-8")
    rows = read_user_rows(tmp_path)
    profile = ImbalanceProfile.model_validate_json(json.dumps(example["dataset"]["profile"]))
    assert {row.family for row in rows} == {one["loss"] for one in example["losses"]}
    assert all(row.features == tuple(compute_features(profile).values()) and row.generator == "own" for row in rows)
    assert next(row.gain for row in rows if row.family == BASELINE) == 0


def test_the_final_training_of_a_finished_study_is_added_to_its_rows(tmp_path: Path) -> None:
    reports = Path(__file__).parents[2] / "reports"
    example = json.loads((reports / "example" / "recommendation.json").read_text("utf-8"))
    gap, recipe = example["final"], example["recipe"]
    assert (gap["second"], gap["steps"]) == (BASELINE, 4 * recipe["confirm_steps"])
    documents = {
        "four": example,
        "sixteen": {**example, "final": {**gap, "steps": 4 * gap["steps"]}},
        "another network": {**example, "recipe": {**recipe, "final": {"encoder": "resnet34"}}},
        "none": {**example, "final": None},
    }
    for name, document in documents.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "recommendation.json").write_text(json.dumps({**document, "study": name}), "utf-8")
    rows = read_user_rows(tmp_path)
    assert {row.point for row in rows} == set(documents)
    measured = [(row.point, row.family, row.gain_longer) for row in rows if row.gain_longer is not None]
    assert measured == [("four", gap["first"], gap["after"]["estimate"])]


def test_the_stake_states_the_gain_that_remains_after_more_steps() -> None:
    def measure_longer(sets: int) -> list[LedgerRow]:
        """Return the nine sets with a gain of 0.1, of which so many keep 0.03 at four times the steps."""
        return [
            line.model_copy(update={"gain_longer": 0.03}) if line.family == "dice" and int(line.point) < sets else line
            for line in LEDGER
        ]

    assert "times the steps" not in explain_stake("binary", MIDDLE, measure_longer(4))  # fewer than half
    text = explain_stake("binary", MIDDLE, measure_longer(5))
    assert text.endswith("+0.100 to +0.100. At 4 times the steps +0.030 of it is left in the mean.")


@pytest.mark.slow
@pytest.mark.exhaustive
def test_repeating_a_training_reproduces_its_row_of_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tolerance is for processors that round differently, which 100 steps amplify."""
    ledger_row = next(row for row in read_ledger() if (row.point, row.family) == ("shapes-30%-large", BASELINE))
    monkeypatch.chdir(tmp_path)
    point = bench.Point(ledger_row.point, [], tmp_path / "rows.jsonl")
    values = [point.train(BASELINE, 0, seed, ledger_row.lr, ledger_row.steps)["test"] for seed in (0, 1)]
    assert sum(values) / 2 == pytest.approx(ledger_row.score, abs=0.01)
