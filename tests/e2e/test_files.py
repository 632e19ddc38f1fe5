"""Files that are none, file systems without locks, and a cache that two users share."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.data import load_dataset
from sweeper.data.cache import entries, hold
from sweeper.workflow.request_checks import check_places
from sweeper.workflow.settings import Settings
from tests.support.folders import folder, mask

NOBODY = 65534


def some_folder(root: Path) -> Path:
    return folder(root, {f"i{number}": mask(0, 1, shift=number) for number in range(6)})


def as_nobody(work: Callable[[], object]) -> object:
    """What `work` returns when another user does it."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            answer = work()
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as answers:
        return json.loads(answers.read())


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every user may enter."""
    shared = tmp_path_factory.mktemp("shared")
    for place in (shared, *shared.parents):
        if place.stat().st_uid == os.getuid() and place != Path("/"):
            place.chmod(place.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    return shared


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="only root can act as two users")
def test_two_users_share_a_cache(shared: Path) -> None:
    cache = shared / "cache"
    umask = os.umask(0)  # as a group that shares a folder sets it
    try:
        dataset = load_dataset(str(some_folder(shared / "data")), cache, lambda _: None)
        lock = hold(Path(dataset.store))
    finally:
        os.umask(umask)

    databases = {"storage": f"sqlite:///{cache}/a.db", "tracking_uri": f"sqlite:///{cache}/b.db"}

    def other() -> object:
        found = [(entry.complete, entry.in_use, entry.images) for entry in entries(cache)]
        check_places(Settings(cache=cache, out=cache, **databases))
        hold(Path(dataset.store)).close()
        return found

    assert as_nobody(other) == [[True, True, 6]]
    lock.close()
