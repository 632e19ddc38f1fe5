"""Files that are deleted or replaced while a sweep writes to them: it ends, and says so."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sweeper import storage as studies
from sweeper.core.errors import SweeperError
from sweeper.core.records import TrialResult
from tests.cli.test_run import start, wait_for
from tests.e2e.test_interrupted import FIRST
from tests.support.faking import new_plan
from tests.support.pasting import paste
from tests.support.sweeping import Recorder, sweep_in


@pytest.mark.slow
def test_a_database_that_is_lost_amid_a_sweep_ends_it_with_what_to_do(tmp_path: Path) -> None:
    class Deleting(Recorder):
        def keep(self, result: TrialResult) -> None:
            super().keep(result)
            if len(self.results) == 3:
                for name in tmp_path.glob("sweeper.db*"):
                    name.unlink()

    display = Deleting()
    with pytest.raises(SweeperError, match=r"sweeper.db was deleted.* while the study was stored in it") as caught:
        sweep_in(tmp_path, display)
    assert caught.value.exit_status == 1 and "sweeper run --study study --resume" in str(caught.value)
    assert len(display.results) == 3


def rename(folder: Path) -> None:
    folder.parent.rename(folder.parent.with_name("new"))


def replace(folder: Path) -> None:
    """As an editor, a synchronising service or a restored backup does."""
    other = folder / "other"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE other (number INTEGER)")
    other.replace(folder / "sweeper.db")


@pytest.mark.parametrize(
    ("how", "word"), [(rename, "its folder was renamed"), (replace, "was replaced by another file")]
)
def test_a_file_that_is_no_more_the_one_at_its_place_is_told_as_such_and_nothing_is_made_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[[Path], None], word: str
) -> None:
    folder = tmp_path / "above" / "old"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    storage = studies.open_storage("sqlite:///sweeper.db", create=True)
    studies.create_study(storage, "my study", new_plan())
    with studies.sole_use("sqlite:///sweeper.db", "my study") as lost:
        how(folder)
        assert not lost()  # nobody else runs it
        for _ in range(2):  # every later call says the same
            with pytest.raises(SweeperError) as caught:
                studies.load_study(storage, "my study")
        told = str(caught.value)
        assert word in told and "another process" not in told
        assert "sweeper run --study 'my study' --resume" in told
        if how is rename:
            assert str(folder) not in told.split("so that this process ends here")[1]
            assert f"cd {tmp_path}/new/old && sweeper run --study 'my study' --resume" in told
    assert folder.exists() == (how is replace)


RESUMES = re.compile(r"To go on there: (cd .+)")


@pytest.mark.slow
@pytest.mark.parametrize(("place", "more"), [("old", []), ("old/b c", ["--storage", "sqlite:///../my.db"])])
def test_the_command_that_is_printed_for_a_renamed_folder_works_when_it_is_pasted(
    tmp_path: Path, place: str, more: list[str]
) -> None:
    (folder := tmp_path / place).mkdir(parents=True)
    process = start(folder, *FIRST, "--workers", "1", *more)
    wait_for(folder, "[3/8]", process)
    (tmp_path / "old").rename(tmp_path / "new name")
    assert process.wait(60) == 1
    said = (tmp_path / Path(place.replace("old", "new name")) / "err.txt").read_text()
    command = RESUMES.findall(said)[-1]
    again = paste(command, tmp_path)
    assert again.returncode == 0, again.stderr
    assert "resume" in command and "so that this process ends here" not in again.stderr
