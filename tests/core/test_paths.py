"""A pipe or a device in place of a file: nothing waits for it, and the error says what is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.core.errors import SweeperError
from sweeper.core.paths import open_regular_file
from sweeper.core.yaml_file import read_yaml
from sweeper.judging.nnunet import read_tree
from sweeper.judging.request import ScoreRequest
from sweeper.scripts.comparison_plan import PLAN, open_plan
from sweeper.scripts.contract import RESULTS, read_events, read_split_scores
from sweeper.training.weights_file import check_weights_file


def read_space(path: Path) -> None:
    problems: list[str] = []
    read_yaml(path, problems)
    raise SweeperError(problems[0])


READERS: dict[str, Callable[[Path], object]] = {
    "space.yaml": read_space,
    PLAN: lambda path: open_plan(path.parent),
    RESULTS: lambda path: read_events(path.parent),
    "test.npz": lambda path: read_split_scores(path.parent, "test", "logits", 2),
    "summary.json": lambda path: read_tree(path.parent, ScoreRequest()),
    "weights.safetensors": check_weights_file,
}


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_regular_file_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    place = tmp_path / name
    {"pipe": os.mkfifo, "device": lambda p: p.symlink_to("/dev/zero"), "folder": Path.mkdir}[kind](place)
    with pytest.raises(SweeperError, match=f"a {kind}, no regular"):
        READERS[name](place)


def test_a_regular_file_and_what_a_shell_names_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text")
    read, write = os.pipe()
    os.write(write, b"text")
    os.close(write)
    for path in (tmp_path / "a", Path(f"/dev/fd/{read}")):
        with open_regular_file(path) as file:
            assert file.read() == b"text"
    os.close(read)
