"""The cache of decoded images: listed, cleared by age, never under the feet of a running sweep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sweeper.core.errors import SweeperError
from sweeper.core.records import TrialResult
from sweeper.data import load_dataset
from sweeper.data.cache import CachedRow, clear_cache, hold_store, list_entries
from sweeper.system.whole_files import DAY
from sweeper.workflow.run import run_sweep
from tests.support.sweeping import Recorder, settings_in

ONE, TWO = "synthetic:cracks?images=3&size=64", "synthetic:blobs?images=4&size=64"


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return a cache with two data sets; the first was last used ten days before the second."""
    first, second = (Path(load_dataset(source, tmp_path / "cache").store) for source in (ONE, TWO))
    used = (second / "index.json").stat().st_mtime
    for path in first.iterdir():
        os.utime(path, (used - 10 * DAY, used - 10 * DAY))
    return tmp_path / "cache", first, second


def list_folders(rows: Iterable[CachedRow]) -> list[Path]:
    return [Path(row.folder) for row in rows]


def test_what_is_there_is_listed_with_its_size_and_last_use(two):
    cache, first, second = two
    rows = list_entries(cache)
    assert list_folders(rows) == [second, first]
    assert rows[1].sources == (ONE,) and rows[1].images == 3 and rows[1].complete and not rows[1].in_use
    assert rows[1].bytes == 3 * 64 * 64 * 4 + (first / "index.json").stat().st_size
    newest, oldest = (datetime.fromisoformat(row.last_use) for row in rows)
    assert (newest - oldest).total_seconds() == pytest.approx(10 * DAY, abs=1)
    assert list_entries(cache / "nothing") == []


def test_what_is_deleted_goes_with_its_note_and_damaged_notes_go(two):
    cache, first, second = two
    (cache / "sources" / "x.json").write_bytes(b"{")
    removed, kept = clear_cache(cache)
    assert list_folders(removed) == [second, first] and kept == []
    assert not first.exists() and not list((cache / "sources").iterdir())
    assert load_dataset(ONE, cache).store == str(first)  # made again


def test_a_held_store_stays_and_its_use_is_noted(two):
    cache, first, second = two
    lock = hold_store(first)
    rows = {Path(row.folder): row for row in list_entries(cache)}
    assert rows[first].in_use and not rows[second].in_use
    since = datetime.fromisoformat(rows[second].last_use) - datetime.fromisoformat(rows[first].last_use)
    assert since.total_seconds() < DAY
    removed, kept = clear_cache(cache)
    assert list_folders(removed) == [second] and list_folders(kept) == [first]
    lock.close()
    assert list_folders(clear_cache(cache)[0]) == [first]
    with pytest.raises(SweeperError, match="load the data set again"):
        hold_store(first)


def test_a_killed_holder_holds_nothing(two):
    cache, first, _ = two
    code = (
        "import sys, time; from pathlib import Path; from sweeper.data.cache import hold_store\n"
        "lock = hold_store(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(first)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert first in list_folders(clear_cache(cache)[1])
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert first in list_folders(clear_cache(cache)[0])
    assert not [path for path in cache.iterdir() if path.name.startswith(".")]


def test_half_written_stores_are_left_alone_for_a_day(two):
    cache, *_ = two
    (cache / ".writing-x").mkdir()
    (cache / ".writing-x" / "images.bin").write_bytes(b"x" * 10)
    clear_cache(cache)
    assert (cache / ".writing-x").exists()
    for path in (cache / ".writing-x" / "images.bin", cache / ".writing-x"):
        os.utime(path, (0, 0))
    clear_cache(cache)
    assert not (cache / ".writing-x").exists()


def test_a_store_of_another_user_is_held_and_counts_as_held_where_it_cannot_be_read(two, monkeypatch):
    cache, first, _ = two
    opened = Path.open

    def deny(path: Path, *arguments: object, **options: object) -> object:
        if path.parent == first:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "touch", deny)
        hold_store(first).close()
        patched.setattr(Path, "open", deny)
        assert [entry.in_use for entry in list_entries(cache)] == [False, True]


def test_the_command_lists_and_clears(two, sweeper):
    cache, first, _ = two
    words = ("cache", "--cache", cache)
    status, listed, _ = sweeper(*words)
    assert status == 0 and "2 data sets" in listed and f"3 images  {ONE}" in listed and "last used 20" in listed
    assert [row["images"] for row in json.loads(sweeper(*words, "--json")[1])["entries"]] == [4, 3]
    lock = hold_store(first)
    cleared = sweeper(*words, "--clear")[1]
    lock.close()
    assert "deleted" in cleared and "kept, in use" in cleared and "1 data set," in cleared
    assert "0 data sets" in sweeper(*words, "--clear")[1]


@pytest.mark.slow
def test_a_sweep_holds_its_images_while_it_lives(tmp_path):
    class Looking(Recorder):
        def keep(self, result: TrialResult) -> None:
            super().keep(result)
            self.in_use = [entry.in_use for entry in list_entries(tmp_path / "cache")]

    display = Looking()
    settings = settings_in(tmp_path, trials=1, confirm_seeds=1)
    run_sweep(settings, display, display, clock=lambda: datetime.now(UTC), cores=1)
    assert display.in_use == [True]
