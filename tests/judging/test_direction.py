"""Metrics of which lower is better are judged only with an option that says the direction."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.judging.direction import find_lower_word, is_higher_better
from tests.judging.tables import find_problems

Sweeper = Callable[..., tuple[int, str, str]]


LOWER = "loss val_loss dice_loss valLoss Loss/val HD95 hd_95 test/hd95 liver.HD95 hausdorff ASD ASSD MASD"
LOWER += " mae MSE rmse error err val-err ECE loss_of_x_iou"
OTHER = "score dice mIoU val_miou lossless glossy mirror terror hdr masdar test/f1 nsd"


@pytest.mark.parametrize("name", LOWER.split())
def test_names_of_losses_distances_and_errors_mean_that_lower_is_better(name: str) -> None:
    assert find_lower_word(name)


@pytest.mark.parametrize("name", OTHER.split())
def test_words_that_only_contain_the_letters_mean_nothing(name: str) -> None:
    assert find_lower_word(name) is None


HIGHER = "score mIoU val_miou fwIoU test/f1 F1 mFscore Dice clDice dice_liver nsd mAP50(M) PQ aAcc mean_accuracy AUC"
UNKNOWN = "surface_dist msd avd rvd volume_diff fp_rate nmse voi perplexity value result x 1-dice dice_std imprecision"


def test_a_direction_is_asked_unless_a_name_says_that_higher_is_better() -> None:
    assert all(map(is_higher_better, HIGHER.split()))
    assert not any(map(is_higher_better, [*UNKNOWN.split(), *LOWER.split()]))
    columns = {"method": ["a"] * 3 + ["b"] * 3, "seed": [0, 1, 2] * 2, "msd": [0.4, 0.5, 0.6, 0.5, 0.6, 0.8]}
    (problem,) = find_problems(columns | {"apd": columns["msd"]}, metric="apd", ignore=["msd"])
    assert problem.startswith("of 'apd' it must be said whether lower is better, got 'no word' in its name")


def write_table(path: Path, metric: str) -> None:
    """Write a table in which `mine` has the lower numbers."""
    rows = [f"{m},{s},{0.2 + 0.3 * (m == 'ce') + 0.01 * s}" for m in ("mine", "ce") for s in range(4)]
    path.write_text("\n".join([f"method,seed,{metric}", *rows]))


def test_a_table_is_judged_in_the_requested_direction(sweeper: Sweeper, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    write_table(path, "val_HD95")
    status, out, error = sweeper("judge", str(path), "--metric", "val_HD95")
    assert status == 2 and not out
    assert "of 'val_HD95' it must be said whether lower is better, got 'HD' in its name" in " ".join(error.split())
    options = re.findall(r"--(?:low|high)er-is-better", error)
    assert len(options) == 2
    for option, winner in zip(options, ("mine", "ce"), strict=True):
        status, out, _ = sweeper("judge", str(path), "--metric", "val_HD95", option)
        assert status == 0 and out.startswith(f"Take {winner}: no other method gains")


def test_a_missing_direction_is_in_one_list_with_other_problems() -> None:
    methods, numbers = ["a"] * 4 + ["b"] * 4, [0.4, 0.5, 0.6, 0.7, 42.0, 45.0, 50.0, "high"]
    columns = {"method": methods, "seed": [*range(4), *range(4)], "hd95": numbers}
    first, second = find_problems(columns, metric="hd95", margin=1)
    assert first.startswith("row 8: a score must be a finite number") and "--higher-is-better" in second
