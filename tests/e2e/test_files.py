"""Files that are none, file systems without locks, and a cache that two users share."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.cli.log_file import FileDisplay
from sweeper.core.errors import DataError, UsageError
from sweeper.core.regular_files import open_regular, read_regular
from sweeper.data import load_dataset
from sweeper.data.cache import entries, hold
from sweeper.deployment.predict import _is_prediction
from sweeper.workflow.request_checks import check_places
from sweeper.workflow.settings import Settings
from tests.support.folders import folder, mask

NOBODY = 65534


def some_folder(root: Path) -> Path:
    return folder(root, {f"i{number}": mask(0, 1, shift=number) for number in range(6)})


@pytest.mark.parametrize("name", ["split.csv", "classes.txt"])
def test_a_pipe_is_a_problem_and_not_waited_for(name: str, tmp_path: Path) -> None:
    root = some_folder(tmp_path / "data")
    os.mkfifo(root / name)
    with pytest.raises(DataError, match=f"{name}.*not a regular file"):
        load_dataset(str(root), tmp_path / "cache", lambda _: None)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"abc")
    assert read_regular(tmp_path / "file") == b"abc"
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            open_regular(path)


SCENES = "synthetic:cracks?images=6&size=64"


@pytest.mark.timeout(120)  # it would wait for ever
@pytest.mark.parametrize("file", ["pipe", "/dev/zero"])
@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["run", "--config", "FILE"], 2),
        (["run", "--data", SCENES, "--class-map", "FILE", "--executor", "inline"], 2),
        (["profile", SCENES, "--exclude", "FILE"], 2),
        (["run", "--data", SCENES, "--log-file", "FILE", "--executor", "inline"], 2),
        (["predict", "--weights", "FILE", "x.png", "--out", "o"], 2),
        (["doctor", "--storage", "sqlite:///FILE"], 1),
    ],
    ids=["config", "class-map", "exclude", "log-file", "weights", "storage"],
)
def test_a_pipe_or_a_device_that_an_option_names_is_refused_at_once(
    words: list[str], status: int, file: str, sweeper: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    given = [word.replace("FILE", file) for word in words]
    found, out, err = sweeper(*given)
    assert found == status and "not a regular file" in out + err, out + err


@pytest.mark.timeout(60)
def test_a_log_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "log"
    display = FileDisplay(path)
    display.log("one")
    path.unlink()
    os.mkfifo(path)
    display.log("two")
    path.unlink()
    display.log("three")
    assert path.read_text("utf-8").split()[1:] == ["three"]


@pytest.mark.timeout(60)
def test_predictions_are_looked_for_in_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "predictions.json")
    assert not _is_prediction(tmp_path / "predictions.json")


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


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="only root can act as two users")
def test_a_cache_of_another_user_alone_is_listed_and_told(shared: Path) -> None:
    cache = shared / "cache"
    dataset = load_dataset(str(some_folder(shared / "data")), cache, lambda _: None)
    hold(Path(dataset.store)).close()
    assert stat.S_IMODE(Path(dataset.store).stat().st_mode) == 0o777 & ~_umask()  # tempfile's would be 0o700
    Path(dataset.store).chmod(0o700)  # a store of an older version

    def other() -> object:
        listed = [(entry.complete, entry.in_use) for entry in entries(cache)]
        try:
            load_dataset(str(shared / "data"), cache, lambda _: None)
        except UsageError as error:
            return [listed, str(error)]
        return listed

    found = as_nobody(other)
    assert isinstance(found, list) and found[0] == [[False, True]], found
    assert "Permission denied" in found[1] and str(cache) in found[1]
    shutil.rmtree(cache)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
