"""Event files of TensorBoard, written by its writers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeper.judging.read import read_score_file
from sweeper.judging.rows import ScoreRequest

SCORES = {("dice", "0"): 0.75, ("dice", "1"): 0.5, ("ce", "0"): 0.25, ("ce", "1"): 0.125}
"""Numbers that are exact in 32 bits."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("new_style", [False, True])
def test_the_scalars_of_each_run_are_read(tmp_path: Path, new_style: bool) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra `logs`")
    from torch.utils.tensorboard import SummaryWriter

    for (method, seed), value in SCORES.items():
        folder = tmp_path / method / seed / "version_0"
        for steps in ((1, 2), (3,)):  # resumed: a second file in the same folder
            with SummaryWriter(str(folder), filename_suffix=f".{steps[0]}") as writer:
                for step in steps:
                    writer.add_scalar("val/loss", abs(step - 2), step)
                    writer.add_scalar("test/dice", value + (step != 3), step, new_style=new_style)
        assert len(list(folder.iterdir())) == 2

    def read_scores(**options: Any) -> dict[tuple[str, str], float]:
        columns = read_score_file(str(tmp_path), ScoreRequest(metric="test/dice", **options)).columns
        keys = zip(columns["method"], columns["seed"], strict=True)
        return dict(zip(keys, columns["test/dice"], strict=True))

    assert read_scores() == SCORES
    assert read_scores(at="lowest:val/loss") == {run: value + 1 for run, value in SCORES.items()} == read_scores(at="2")


def test_without_tensorboard_the_error_has_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweeper: Any
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    (tmp_path / "runs" / "a" / "0").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "0" / "events.out.tfevents.1.x").write_bytes(b"")
    status, _, error = sweeper("judge", "runs", "--metric", "x")
    assert status == 2 and "pip install -c constraints.txt -e '.[logs]'" in error
