"""The cache of decoded images: its list, what clearing it deletes, and that stores in use are kept."""

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
from tests.support.sweeping import Recorder, make_settings

ONE, TWO = "synthetic:cracks?images=3&size=64", "synthetic:blobs?images=4&size=64"


@pytest.fixture
def two_stores(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return a cache with two data sets; the first was last used ten days before the second."""
    first, second = (Path(load_dataset(source, tmp_path / "cache").store) for source in (ONE, TWO))
    used = (second / "index.json").stat().st_mtime
    for path in first.iterdir():
        os.utime(path, (used - 10 * DAY, used - 10 * DAY))
    return tmp_path / "cache", first, second


def list_folders(rows: Iterable[CachedRow]) -> list[Path]:
    return [Path(row.folder) for row in rows]


def test_stores_are_listed_with_size_and_last_use(two_stores):
    cache, first, second = two_stores
    rows = list_entries(cache)
    assert list_folders(rows) == [second, first]
    assert rows[1].sources == (ONE,) and rows[1].images == 3 and rows[1].complete and not rows[1].in_use
    assert rows[1].bytes == 3 * 64 * 64 * 4 + (first / "index.json").stat().st_size
    newest, oldest = (datetime.fromisoformat(row.last_use) for row in rows)
    assert (newest - oldest).total_seconds() == pytest.approx(10 * DAY, abs=1)
    assert list_entries(cache / "nothing") == []


def test_deleting_a_store_deletes_its_note_and_damaged_notes(two_stores):
    cache, first, second = two_stores
    (cache / "sources" / "x.json").write_bytes(b"{")
    removed, remaining = clear_cache(cache)
    assert list_folders(removed) == [second, first] and remaining == []
    assert not first.exists() and not list((cache / "sources").iterdir())
    assert load_dataset(ONE, cache).store == str(first)  # made again


def test_a_store_in_use_is_not_deleted_and_its_use_is_recorded(two_stores):
    cache, first, second = two_stores
    lock = hold_store(first)
    rows = {Path(row.folder): row for row in list_entries(cache)}
    assert rows[first].in_use and not rows[second].in_use
    since = datetime.fromisoformat(rows[second].last_use) - datetime.fromisoformat(rows[first].last_use)
    assert since.total_seconds() < DAY
    removed, remaining = clear_cache(cache)
    assert list_folders(removed) == [second] and list_folders(remaining) == [first]
    lock.close()
    assert list_folders(clear_cache(cache)[0]) == [first]
    with pytest.raises(SweeperError, match="load the data set again"):
        hold_store(first)


def test_a_killed_process_no_longer_holds_its_store(two_stores):
    cache, first, _ = two_stores
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


def test_half_written_stores_are_deleted_only_after_a_day(two_stores):
    cache, *_ = two_stores
    (cache / ".writing-x").mkdir()
    (cache / ".writing-x" / "images.bin").write_bytes(b"x" * 10)
    clear_cache(cache)
    assert (cache / ".writing-x").exists()
    for path in (cache / ".writing-x" / "images.bin", cache / ".writing-x"):
        os.utime(path, (0, 0))
    clear_cache(cache)
    assert not (cache / ".writing-x").exists()


def test_a_store_of_another_user_counts_as_in_use_if_it_cannot_be_opened(two_stores, monkeypatch):
    cache, first, _ = two_stores
    open_path = Path.open

    def deny(path: Path, *arguments: object, **options: object) -> object:
        if path.parent == first:
            raise PermissionError(13, "Permission denied", str(path))
        return open_path(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "touch", deny)
        hold_store(first).close()
        patched.setattr(Path, "open", deny)
        assert [entry.in_use for entry in list_entries(cache)] == [False, True]


def test_the_cache_command_lists_and_clears(two_stores, sweeper):
    cache, first, _ = two_stores
    arguments = ("cache", "--cache", cache)
    status, listed, _ = sweeper(*arguments)
    assert status == 0 and "2 data sets" in listed and f"3 images  {ONE}" in listed and "last used 20" in listed
    assert [row["images"] for row in json.loads(sweeper(*arguments, "--json")[1])["entries"]] == [4, 3]
    lock = hold_store(first)
    cleared = sweeper(*arguments, "--clear")[1]
    lock.close()
    assert "deleted" in cleared and "kept, in use" in cleared and "1 data set," in cleared
    assert "0 data sets" in sweeper(*arguments, "--clear")[1]


@pytest.mark.slow
def test_a_running_sweep_holds_its_store(tmp_path):
    class CacheRecorder(Recorder):
        def keep(self, result: TrialResult) -> None:
            super().keep(result)
            self.in_use = [entry.in_use for entry in list_entries(tmp_path / "cache")]

    display = CacheRecorder()
    settings = make_settings(tmp_path, trials=1, seeds=1)
    run_sweep(settings, display, display, clock=lambda: datetime.now(UTC), cores=1)
    assert display.in_use == [True]
