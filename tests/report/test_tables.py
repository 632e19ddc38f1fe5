"""The table of all trainings and its CSV."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from sweeper.core.records import SweepRecord
from sweeper.report.tables import make_trials_frame, write_csv
from tests.support import builders
from tests.support.simulated_studies import cracks


def write_and_read(sweep: SweepRecord, folder: Path) -> pd.DataFrame:
    write_csv(make_trials_frame(sweep), folder / "trials.csv")
    return pd.read_csv(folder / "trials.csv")


def test_a_row_has_the_values_of_the_last_evaluation() -> None:
    trial = builders.trial("focal", 0.73, 4)
    row = make_trials_frame(builders.sweep([trial], [])).iloc[0]
    last = trial.evaluations[-1]
    assert (row["value"], row["miou"], row["dice"]) == (0.73, last.chosen.miou, last.chosen.dice)
    assert (row["miou_at_default"], row["point"], row["steps_done"]) == (last.default.miou, last.point, last.step)
    assert (row["params.gamma"], row["params.alpha"], row["lr"]) == (2.0, 0.25, 0.003)
    assert pd.isna(row["params.mix"]) and pd.isna(row["test_miou"])
    run = builders.confirmation(test=builders.counts_from_iou([0.5] * 5))  # only a confirmation has a test score
    assert make_trials_frame(builders.sweep([], [run]))["test_fg_iou"][0] == pytest.approx(0.5, abs=0.01)


def test_values_from_a_part_of_the_images_have_separate_columns() -> None:
    """The stopped trial scores higher on its part than the complete one on all images, but lower on the same ones."""
    done = builders.trial("dice", 0.6, 0, evaluations=builders.curve_on_part((0.5, 0.6, 0.65, 0.7), 0.6))
    stopped = builders.trial("focal", 0.65, 1, state="pruned", evaluations=builders.curve_on_part((0.4, 0.65)))
    frame = make_trials_frame(builders.sweep([done, stopped], []))
    assert frame["value"][0] == frame["miou"][0] == 0.6
    assert frame[["value", "miou", "miou_at_default", "fg_iou", "dice", "point"]].iloc[1].isna().all()
    assert list(frame["value_part"]) == list(frame["miou_part"]) == [0.7, 0.65]
    assert list(frame["part"]) == [8, 8] and list(frame["val_images"]) == [20, 20]
    assert frame[["fg_iou_part", "dice_part", "miou_at_default_part", "point_part"]].notna().all(axis=None)


def test_columns_are_the_same_for_any_trials() -> None:
    full, empty = make_trials_frame(builders.sweep()), make_trials_frame(builders.sweep([], []))
    failed = make_trials_frame(builders.sweep([builders.failed_trial()], []))
    assert list(full.columns) == list(empty.columns) == list(failed.columns)
    assert len(empty) == 0
    assert [str(t) for t in empty.dtypes] == [str(t) for t in full.dtypes]


def test_the_csv_keeps_every_number_exactly(tmp_path: Path) -> None:
    sweep = cracks().sweep
    frame, read = make_trials_frame(sweep), write_and_read(sweep, tmp_path)
    numeric = frame.select_dtypes("number").columns
    pd.testing.assert_frame_equal(frame[numeric], read[numeric], check_dtype=False, check_exact=True)
    assert list(read["family"]) == list(frame["family"])
    assert list(read["state"]) == list(frame["state"])


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_text_becomes_a_formula_in_a_spreadsheet(tmp_path: Path, name: str) -> None:
    trial = builders.trial(reason=name, never_predicted=(name,))
    read = write_and_read(builders.sweep([trial], []), tmp_path)
    for column in ("reason", "never_predicted"):
        assert read[column][0].startswith("'")
        assert read[column][0].endswith(name.lstrip("\t\r"))


def test_a_reason_may_contain_bytes_that_are_not_text(tmp_path: Path) -> None:
    """The name of a file may, which Python decodes to lone surrogates."""
    frame = make_trials_frame(builders.sweep([builders.failed_trial(reason="no \udcff.png")], []))
    write_csv(frame, tmp_path / "trials.csv")
    assert frame["reason"][0] == "no ?.png"
