"""The source files of a script, and which of them changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.workflow.own_script import hash_sources, name_changed_sources


def test_changed_sources_of_a_script_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts").mkdir()
    for name in ("train.py", "parts/network.py"):
        (tmp_path / name).write_text("x = 1\n")
    command = "python train.py"
    first = hash_sources(command)
    assert hash_sources("python -m train") == first
    assert {*first} == {"train.py", "parts/network.py"}
    for new in ("notes.txt", "another_script.py"):
        (tmp_path / new).write_text("x = 3")
    assert name_changed_sources(first, command) == ""
    (tmp_path / "parts" / "network.py").write_text("x = 2\n")
    assert name_changed_sources(first, command) == "parts/network.py"
    (tmp_path / "train.py").unlink()
    assert name_changed_sources(first, command) == "parts/network.py and train.py"
