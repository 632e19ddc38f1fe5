"""Files that are deleted or replaced while a sweep writes to them: it ends, and says so."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sweeper import storage as studies
from sweeper.core.errors import SweeperError
from sweeper.core.records import TrialResult
from tests.support.faking import new_plan
from tests.support.sweeping import Recorder, sweep_in


class Acting(Recorder):
    """Does something once, after so many trainings."""

    def __init__(self, after: int, act: Callable[[], object]) -> None:
        super().__init__()
        self._after, self._act = after, act

    def keep(self, result: TrialResult) -> None:
        super().keep(result)
        if len(self.results) == self._after:
            self._act()


def delete(path: Path) -> None:
    for name in path.parent.glob(f"{path.name}*"):
        name.unlink()


def replace(path: Path) -> None:
    """As an editor, a synchronising service or a restored backup does."""
    other = path.with_name("other")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE other (number INTEGER)")
    other.replace(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "word"),
    [(delete, "was deleted"), pytest.param(replace, "was replaced by another file", marks=pytest.mark.exhaustive)],
)
def test_a_database_that_is_lost_amid_a_sweep_ends_it_with_what_to_do(
    tmp_path: Path, how: Callable[[Path], None], word: str
) -> None:
    path = tmp_path / "sweeper.db"
    display = Acting(3, lambda: how(path))
    with pytest.raises(SweeperError, match=f"sweeper.db {word}.* while the study was stored in it") as caught:
        sweep_in(tmp_path, display)
    assert caught.value.exit_status == 1 and "sweeper run --study study --resume" in str(caught.value)
    assert len(display.results) == 3


def test_a_renamed_folder_is_told_as_such_and_nothing_is_made_at_its_old_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "above" / "old"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    storage = studies.open_storage("sqlite:///sweeper.db", create=True)
    studies.create_study(storage, "my study", new_plan())
    with studies.sole_use("sqlite:///sweeper.db", "my study") as lost:
        folder.parent.rename(tmp_path / "new")
        assert not lost()  # nobody else runs it
        for _ in range(2):  # every later call says the same
            with pytest.raises(SweeperError) as caught:
                studies.load_study(storage, "my study")
        told = str(caught.value)
        assert "its folder was renamed" in told and "another process" not in told
        assert "sweeper run --study 'my study' --resume" in told
    assert not folder.parent.exists()
