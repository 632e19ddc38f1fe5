"""The lines of docs/judge.md make a table of each trainer's logs, which is judged; on files of the real layout."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sweeper
from sweeper.judging.rows import ScoresError
from tests.support.pasting import run_text

PAGE = Path(__file__).resolve().parents[2] / "docs" / "judge.md"
SCORES = {
    ("dice", "0"): 0.75, ("dice", "1"): 0.8125, ("dice", "2"): 0.78125,
    ("ce", "0"): 0.5, ("ce", "1"): 0.53125, ("ce", "2"): 0.515625,
}  # fmt: skip
"""Numbers that are exact in 32 bits, as TensorBoard keeps them."""


def read_recipes() -> dict[str, list[str]]:
    """Return the code of the section by the trainer in front of it."""
    (section,) = re.findall(r"^## Logs of other trainers$(.*?)^## ", PAGE.read_text("utf-8"), re.M | re.S)
    parts = re.split(r"^\*\*(.*?)\*\*", section, flags=re.M)[1:]
    return {
        name: re.findall(r"```py\n(.*?)```", text, re.S) for name, text in zip(parts[::2], parts[1::2], strict=True)
    }


RECIPES = read_recipes()


def write_lightning(folder: Path, value: float) -> str:
    """Write a log as CSVLogger does: a row for each call, with empty cells."""
    rows = ["epoch,step,train_loss,val_miou", "0,9,0.5,", f"0,9,,{value + 0.1}", "1,19,0.4,", f"1,19,,{value}"]
    (folder / "version_0").mkdir(parents=True)
    (folder / "version_0" / "metrics.csv").write_text("\n".join(rows))
    return "val_miou"


def write_ultralytics(folder: Path, value: float) -> str:
    """Write a log with padded names, as Ultralytics does."""
    folder.mkdir(parents=True)
    names = "                  epoch,         train/box_loss,    metrics/mAP50(M)"
    (folder / "results.csv").write_text(f"{names}\n   1,   1.2,    0.95\n      2,   1.1,      {value}\n")
    return "metrics/mAP50(M)"


def write_hugging_face(folder: Path, value: float) -> str:
    """Write the states of two checkpoints, the last with all entries."""
    history = [
        {"epoch": 0.5, "loss": 1.0, "learning_rate": 1e-4, "step": 5},
        {"epoch": 1.0, "eval_mean_iou": value + 0.1, "eval_loss": 0.7, "step": 10},
        {"epoch": 2.0, "eval_mean_iou": value, "eval_loss": 0.6, "step": 20},
    ]
    for steps, entries in ((10, history[:2]), (20, history)):
        (folder / f"checkpoint-{steps}").mkdir(parents=True)
        state = {"best_metric": None, "global_step": steps, "log_history": entries}
        (folder / f"checkpoint-{steps}" / "trainer_state.json").write_text(json.dumps(state))
    return "eval_mean_iou"


def write_mmengine(folder: Path, value: float) -> str:
    """Write a JSON object a line, in the folder of a time stamp."""
    (folder / "20260101_000000" / "vis_data").mkdir(parents=True)
    lines = [{"lr": 0.01, "loss": 1.0, "iter": 10, "step": 10}]
    lines += [{"aAcc": 0.9, "mIoU": value + 0.1, "step": 10}, {"aAcc": 0.9, "mIoU": value, "step": 20}]
    path = folder / "20260101_000000" / "vis_data" / "scalars.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return "mIoU"


def write_tensorboard(folder: Path, value: float) -> str:
    """Write event files, two of a training that was resumed."""
    pytest.importorskip("tensorboard", reason="needs the extra `adapters`")
    from torch.utils.tensorboard import SummaryWriter

    for steps in ((1, 2), (3,)):
        with SummaryWriter(str(folder / "version_0"), filename_suffix=f".{steps[0]}") as writer:
            for step in steps:
                writer.add_scalar("val/loss", abs(step - 2), step)
                writer.add_scalar("test/dice", value + (step != 3), step)
    return "test/dice"


WRITERS = {
    "Lightning": write_lightning,
    "Ultralytics": write_ultralytics,
    "Hugging Face Trainer": write_hugging_face,
    "MMEngine": write_mmengine,
    "TensorBoard": write_tensorboard,
}


def test_each_recipe_is_short_and_is_tried_here() -> None:
    assert RECIPES.keys() == {*WRITERS, "Weights & Biases"}
    assert all(3 <= len(code.splitlines()) <= 8 for codes in RECIPES.values() for code in codes)


def check_scores(metric: str) -> None:
    """Judge the table that a recipe wrote."""
    answer = sweeper.judge("runs.csv", metric=metric, present="ce").answer
    assert (answer.sure, answer.use.loss, answer.scope) == ("established", "dice", "trainings")
    for row in answer.losses:
        values = {seed: value for (method, seed), value in SCORES.items() if method == row.loss}
        assert set(row.runs) == set(values) and row.mean == pytest.approx(sum(values.values()) / 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("trainer", WRITERS)
def test_the_last_value_of_each_training_is_judged(
    trainer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for (method, seed), value in SCORES.items():
        metric = WRITERS[trainer](Path("runs") / method / seed, value)
    (code,) = RECIPES[trainer]
    run_text(code)
    check_scores(metric)


class Server:
    """Has the documented members of wandb's public API: runs of a project, their config, and their history."""

    def Api(self) -> Any:
        return self

    @staticmethod
    def scan(history: list[dict[str, float]], keys: list[str]) -> Iterator[dict[str, float]]:
        return ({key: row[key] for key in keys} for row in history)

    def runs(self, project: str, filters: dict[str, str]) -> Iterator[Any]:
        assert (project, filters) == ("ENTITY/PROJECT", {"state": "finished"})
        for (method, seed), value in SCORES.items():
            history = [{"_step": step, "val": 0, "test/miou": value + (step < 2)} for step in range(3)]
            config = {"loss": method, "seed": int(seed)}
            yield SimpleNamespace(config=config, scan_history=partial(self.scan, history))


def test_runs_on_a_server_of_wandb_are_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", Server())  # type: ignore[arg-type]
    run_text(RECIPES["Weights & Biases"][0])
    check_scores("test/miou")


def test_a_chart_of_wandb_is_refused_with_the_page_whose_lines_convert_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{method}-{seed} - val/miou" for method, seed in SCORES]
    header = ",".join(f'"{name}{end}"' for name in names for end in ("", "__MIN", "__MAX"))
    rows = [",".join(f'"{value - (step < 20)}"' for value in SCORES.values() for _ in range(3)) for step in (10, 20)]
    Path("wandb_export.csv").write_text(
        "\n".join([f'"Step",{header}', *(f'"{10 * step}",{row}' for step, row in enumerate(rows))])
    )
    for metric in (None, "val/miou"):
        with pytest.raises(
            ScoresError, match=r"got a chart of Weights & Biases; pandas lines in docs/judge\.md"
        ) as error:
            sweeper.judge("wandb_export.csv", metric=metric)
        assert len(error.value.problems) == 1
    run_text(RECIPES["Weights & Biases"][1])
    check_scores("val/miou")
