"""Logs of trainers in METHOD/SEED/: the last value of a metric, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweeper.judging.read import read_score_file
from sweeper.judging.rows import ScoreRequest, ScoresError

SCORES = {
    ("dice", "0"): 0.81, ("dice", "1"): 0.83, ("dice", "2"): 0.82,
    ("ce", "0"): 0.7, ("ce", "1"): 0.71, ("ce", "2"): 0.69,
}  # fmt: skip


def write_lightning(folder: Path, value: float) -> None:
    """Write a log as CSVLogger does: a row for each call, with empty cells."""
    rows = ["epoch,step,train_loss,val_miou", "0,9,0.5,", f"0,9,,{value + 0.1}", "1,19,0.4,", f"1,19,,{value}"]
    (folder / "version_0").mkdir(parents=True)
    (folder / "version_0" / "metrics.csv").write_text("\n".join(rows))


def write_ultralytics(folder: Path, value: float) -> None:
    """Write a log with padded names, as Ultralytics does."""
    folder.mkdir(parents=True)
    (folder / "results.csv").write_text(f"epoch,       val_miou\n0,       0.95\n1,       {value}\n")


def write_hugging_face(folder: Path, value: float) -> None:
    """Write the states of two checkpoints, the last with all entries."""
    history = [{"loss": 1.0, "step": 5}, {"val_miou": value + 0.1, "step": 10}, {"val_miou": value, "step": 20}]
    for steps, entries in ((10, history[:2]), (20, history)):
        (folder / f"checkpoint-{steps}").mkdir(parents=True)
        state = {"global_step": steps, "log_history": entries}
        (folder / f"checkpoint-{steps}" / "trainer_state.json").write_text(json.dumps(state))


def write_mmengine(folder: Path, value: float) -> None:
    """Write a JSON object a line, in the folder of a time stamp."""
    (folder / "20260101_000000" / "vis_data").mkdir(parents=True)
    lines = [{"loss": 1.0, "iter": 10}, {"val_miou": value + 0.1, "step": 10}, {"val_miou": value, "step": 20}]
    path = folder / "20260101_000000" / "vis_data" / "scalars.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


WRITERS = {
    "lightning": write_lightning,
    "ultralytics": write_ultralytics,
    "hugging face": write_hugging_face,
    "mmengine": write_mmengine,
}


@pytest.mark.parametrize("trainer", WRITERS)
def test_the_last_value_of_each_run_is_judged(sweeper: Any, tmp_path: Path, trainer: str) -> None:
    for (method, seed), value in SCORES.items():
        WRITERS[trainer](tmp_path / "runs" / method / seed, value)
    rows = read_score_file(str(tmp_path / "runs"), ScoreRequest(metric="val_miou"))
    columns = [rows.columns[name] for name in ("method", "seed", "val_miou")]
    assert dict(zip(zip(*columns[:2], strict=True), columns[2], strict=True)) == SCORES
    status, out, error = sweeper("judge", "runs", "--metric", "val_miou", "--baseline", "ce", "--json")
    document = json.loads(out)
    assert status == 0, error
    assert (document["verdict"], document["named"], document["scope"]) == ("clear_winner", "dice", "trainings")
    assert any("the last value of val_miou" in caveat for caveat in document["caveats"])


def find_problems(root: Path, metric: str | None = "val_miou") -> str:
    with pytest.raises(ScoresError) as caught:
        read_score_file(str(root), ScoreRequest(metric=metric))
    return "\n".join(caught.value.problems)


def test_a_metric_that_is_not_logged_is_refused_with_those_that_are(tmp_path: Path) -> None:
    write_lightning(tmp_path / "dice" / "0", 0.8)
    assert "got none; there are train_loss and val_miou" in find_problems(tmp_path, None)
    assert "got 'val_mIoU', did you mean `val_miou`?" in find_problems(tmp_path, "val_mIoU")


def test_every_log_that_cannot_be_used_is_listed(tmp_path: Path) -> None:
    write_lightning(tmp_path / "dice" / "0", 0.8)
    for seed, text in (("1", "{}"), ("2", '{"log_history": [1]}'), ("3", "no json")):
        (tmp_path / "dice" / seed).mkdir()
        (tmp_path / "dice" / seed / "trainer_state.json").write_text(text)
    write_lightning(tmp_path / "ce" / "0", 0.7)
    write_ultralytics(tmp_path / "ce" / "0" / "again", 0.7)
    (tmp_path / "ce" / "1").mkdir()
    (tmp_path / "ce" / "1" / "metrics.csv").write_text("epoch,val_miou\n0,\n")
    text = find_problems(tmp_path)
    assert text.count("must be a log as its trainer writes it") == 3
    assert "run ce/0 must have one log with 'val_miou', and 2 logs have it" in text
    assert "run ce/1 must have one log with 'val_miou', and none of its logs has it" in text


@pytest.mark.parametrize("last", ["nan", "inf"])
def test_a_run_that_diverged_does_not_get_its_earlier_score(tmp_path: Path, last: str) -> None:
    (tmp_path / "dice" / "0").mkdir(parents=True)
    (tmp_path / "dice" / "0" / "metrics.csv").write_text(f"epoch,val_miou\n0,0.8\n1,{last}\n")
    assert f"run dice/0 must end with a finite val_miou, got {last}" in find_problems(tmp_path)


def test_a_folder_without_results_is_refused_with_the_files_that_can_be_read(tmp_path: Path) -> None:
    assert "nnU-Net's `summary.json` files of version 2, or METHOD/SEED/ with metrics.csv" in find_problems(tmp_path)


def test_a_log_of_the_trainer_counts_before_event_files_next_to_it(tmp_path: Path) -> None:
    """Hugging Face, Ultralytics and MMEngine write both; TensorBoard is then not needed."""
    for (method, seed), value in SCORES.items():
        write_hugging_face(tmp_path / method / seed, value)
        (tmp_path / method / seed / "runs").mkdir()
        (tmp_path / method / seed / "runs" / "events.out.tfevents.1.x").write_bytes(b"")
        (tmp_path / method / seed / "runs" / "run-x.wandb").write_bytes(b"")
    rows = read_score_file(str(tmp_path), ScoreRequest(metric="val_miou"))
    assert sorted(rows.columns["val_miou"]) == sorted(SCORES.values())


def test_a_metric_that_is_missing_at_the_chosen_row_is_refused_with_the_option(tmp_path: Path) -> None:
    (tmp_path / "dice" / "0").mkdir(parents=True)
    (tmp_path / "dice" / "0" / "metrics.csv").write_text("step,val_dice,test_dice\n1,0.9,\n2,0.8,\n3,,0.7\n")
    with pytest.raises(ScoresError, match=r"it is logged at other rows alone \(--at last takes its last value\)"):
        read_score_file(str(tmp_path), ScoreRequest(metric="test_dice", at="best:val_dice"))
