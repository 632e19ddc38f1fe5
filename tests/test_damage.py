"""Damaged databases: what is damaged is named, taken out, and trained again; everything else is kept."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError, PendingRollbackError

from sweeper import storage as studies
from sweeper.cli import main as entry
from sweeper.cli.main import cli
from sweeper.core.causes import cause
from sweeper.core.errors import DamagedError, StudyError, SweeperError, UsageError
from sweeper.core.records import SweepRecord
from sweeper.storage.backup import back_up
from sweeper.storage.damage import Damage, find_damage, name_damage
from sweeper.storage.raw_rows import rows_of
from sweeper.storage.repair import file_is_whole, repair
from sweeper.system import system_errors as limits
from sweeper.system.disk_space import told_when_full
from tests import builders
from tests.faking import fake_result, new_plan, train
from tests.marks import each_third_quick

NAME = "study"
NOW = datetime(2026, 11, 20, 7, 0, tzinfo=UTC)


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder}/sweeper.db"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study with a search, rechecks and confirmations, closed so that its file is complete."""
    folder = tmp_path_factory.mktemp("whole")
    storage = studies.open_storage(url_of(folder))
    study = studies.create_study(storage, NAME, new_plan())
    train(study, trials=9)
    for key in ("trials", "rope"):
        study.set_user_attr(key, studies.pack_value(9 if key == "trials" else 0.01))
    storage.engine.dispose()
    back_up(url_of(folder), NAME, folder / "copy.db")
    return folder / "copy.db"


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    (tmp_path / "sweeper.db").write_bytes(whole.read_bytes())
    return tmp_path


def execute(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "sweeper.db")) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def found_in(folder: Path) -> list[Damage]:
    with rows_of(url_of(folder)) as connection:
        return find_damage(connection, NAME)


def load(folder: Path) -> SweepRecord:
    storage = studies.open_storage(url_of(folder), create=False)
    try:
        return studies.load_sweep(storage, NAME)
    finally:
        storage.engine.dispose()


def go_on(folder: Path) -> None:
    """What a resume does, with trainings that cost nothing."""
    storage = studies.open_storage(url_of(folder), create=False)
    plan = studies.read_plan(storage, NAME)
    train(studies.load_study(storage, NAME), plan=plan, trials=9)
    storage.engine.dispose()


def test_a_whole_study_has_no_damage(folder: Path) -> None:
    assert found_in(folder) == []
    before = (folder / "sweeper.db").read_bytes()
    assert repair(url_of(folder), NAME, NOW).found == ()
    assert load(folder).trials and len(before) > 0


CASES = {
    "no JSON": ("UPDATE trial_user_attributes SET value_json = replace(value_json, '\"spec\":', '\"spec\"') WHERE "
                "key = 'result' AND trial_id = 4", "trial 3"),
    "another value": ("UPDATE trial_user_attributes SET value_json = replace(value_json, '\"seconds\": 1.0', "
                      "'\"seconds\": 9.0') WHERE key = 'result' AND trial_id = 4", "trial 3"),
    "no UTF-8": ("UPDATE trial_user_attributes SET value_json = CAST(x'7b22ff227d' AS TEXT) WHERE key = 'result' AND "
                 "trial_id = 4", "trial 3"),
    "its name": ("UPDATE trial_user_attributes SET key = 'resulu' WHERE key = 'result' AND trial_id = 4", "trial 3"),
    "its state": ("UPDATE trials SET state = 'COMPLEUE' WHERE trial_id = 4", "trial 3"),
    "its value": ("UPDATE trial_values SET value = value + 0.125 WHERE trial_id = 4", "trial 3"),
    "a parameter": ("UPDATE trial_params SET param_value = param_value * 1.06 WHERE trial_id = 4 AND "
                    "param_name LIKE '%.lr'",
                    "trial 3"),
    "a distribution": ("UPDATE trial_params SET distribution_json = 'x' || distribution_json WHERE trial_id = 4 AND "
                       "param_name LIKE '%.lr'", "trial 3"),
    "a confirmation": ("UPDATE study_user_attributes SET value_json = replace(value_json, '\"seconds\": 1.0', "
                       "'\"seconds\": 3.0') WHERE key = 'confirm/00001'", "confirm/00001"),
    "a confirmation's number": ("UPDATE study_user_attributes SET key = 'confirm/00091' WHERE key = 'confirm/00001'",
                                "confirm/00091"),
    "a confirmation's name": ("UPDATE study_user_attributes SET key = 'conform/00001' WHERE key = 'confirm/00001'",
                              "conform/00001"),
    "the plan": ("UPDATE study_user_attributes SET value_json = replace(value_json, '60.0', '61.0') WHERE key = 'plan'",
                 "'plan'"),
    "the ROPE": ("UPDATE study_user_attributes SET value_json = replace(value_json, '0.01', '0.03') WHERE key = 'rope'",
                 "'rope'"),
    "a number": ("UPDATE trials SET number = 35 WHERE trial_id = 4", "trial 3"),
    "a date": ("UPDATE trials SET datetime_start = '2026-1x-20' WHERE trial_id = 4", "trial 3"),
    "a small attribute": ("UPDATE trial_user_attributes SET value_json = '\"d' WHERE key = 'family' AND trial_id = 4",
                          "trial 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", each_third_quick(CASES))
def test_damage_is_named_taken_out_and_trained_again(folder: Path, case: str) -> None:
    statement, what = CASES[case]
    before = load(folder)
    execute(folder, statement)
    found = found_in(folder)
    assert len(found) == 1 and what in found[0].what, found
    if case not in {"a number", "a small attribute", "a confirmation's number", "a confirmation's name"}:
        with pytest.raises(SweeperError) as caught:
            load_and_more(folder)
        assert "damaged" in str(caught.value) and "--repair" in str(caught.value)
    done = repair(url_of(folder), NAME, NOW)
    assert [d.what for d in done.found] == [d.what for d in found]
    assert done.kept is not None and done.kept.exists()
    assert found_in(folder) == []
    go_on(folder)
    assert found_in(folder) == []
    after = load(folder)
    assert len(after.trials) == len(before.trials) == 9
    assert sorted(t.spec.family for t in after.trials) == sorted(t.spec.family for t in before.trials)
    assert len(after.confirmations) == len(before.confirmations)


def load_and_more(folder: Path) -> None:
    """A report, and what a resume reads besides."""
    load(folder)
    storage = studies.open_storage(url_of(folder), create=False)
    with rows_of(url_of(folder)) as connection:
        found = find_damage(connection, NAME)
    storage.engine.dispose()
    if found:  # read by nobody yet: the scan before a resume tells
        raise DamagedError(found[0].what, found[0].why)


def test_a_plan_without_a_whole_copy_is_not_repaired(folder: Path) -> None:
    execute(folder, "UPDATE study_user_attributes SET value_json = 'x' WHERE key LIKE 'plan%'")
    before = (folder / "sweeper.db").read_bytes()
    with pytest.raises(StudyError, match="cannot be repaired: its plan is damaged"):
        repair(url_of(folder), NAME, NOW)
    assert len(before) == (folder / "sweeper.db").stat().st_size


@pytest.mark.slow
def test_flipped_bits_anywhere_are_found_or_change_nothing(whole: Path, tmp_path: Path) -> None:
    """One bit of the file, at 60 random places: told by SQLite or by us, or the record reads as before."""
    draw, original = random.Random(7), whole.read_bytes()
    (tmp_path / "sweeper.db").write_bytes(original)
    before = load(tmp_path)
    silent = []
    for _ in range(60):
        place, bit = draw.randrange(len(original)), draw.randrange(8)
        for own in tmp_path.glob("sweeper.db*"):
            own.unlink()
        flipped = bytearray(original)
        flipped[place] ^= 1 << bit
        (tmp_path / "sweeper.db").write_bytes(flipped)
        try:
            if not file_is_whole(tmp_path / "sweeper.db") or found_in(tmp_path):
                continue
            if load(tmp_path) != before:
                silent.append((place, bit))
        except SweeperError:
            continue  # told
        except Exception as error:
            if "sqlalchemy" not in type(error).__module__:
                raise
    assert silent == []


def test_a_torn_file_is_made_anew_from_what_can_be_read(folder: Path) -> None:
    path = folder / "sweeper.db"
    with closing(sqlite3.connect(path)) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        roots = {row[1]: row[0] for row in connection.execute("SELECT rootpage, name FROM sqlite_master")}
    data = bytearray(path.read_bytes())
    start = (roots["ix_trials_study_id"] - 1) * size
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    assert not file_is_whole(path)
    with pytest.raises(SweeperError, match=r"is damaged .*--repair"):
        load(folder)
    done = repair(url_of(folder), NAME, NOW)
    assert done.kept is not None and "damaged" in done.kept.name
    assert file_is_whole(path) and found_in(folder) == []
    go_on(folder)
    assert len(load(folder).trials) == 9


@pytest.mark.slow
def test_a_file_of_which_nothing_can_be_read_is_left_as_it_is(folder: Path) -> None:
    path = folder / "sweeper.db"
    data = bytearray(path.read_bytes())
    data[100:4096] = bytes(3996)
    path.write_bytes(data)
    with pytest.raises(SweeperError, match=r"nothing of .* can be read"):
        repair(url_of(folder), NAME, NOW)
    assert path.read_bytes() == bytes(data)


def test_doctor_names_the_record_and_repairs_it(folder: Path) -> None:
    execute(folder, CASES["another value"][0])
    asked = ["doctor", "--storage", url_of(folder), "--tracking-uri", f"sqlite:///{folder}/none.db"]
    shown = CliRunner().invoke(cli, [*asked, "--repair", NAME, "--json"], standalone_mode=False)
    assert shown.exception is None, shown.exception
    document = json.loads(shown.stdout)
    assert document["queued"] == 1 and document["found"][0]["record"] == "trial 3"
    again = CliRunner().invoke(cli, [*asked, "--repair", NAME], standalone_mode=False)
    assert "every record is whole" in again.stdout


# --- Backups ------------------------------------------------------------------------------------------------


def confirmations_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        try:
            found = connection.execute("SELECT count(*) FROM study_user_attributes WHERE key LIKE 'confirm/%'")
        except sqlite3.OperationalError:  # not even the tables
            return 0
        return int(found.fetchone()[0])


def test_a_backup_made_amid_writing_holds_what_a_copy_of_the_file_does_not(tmp_path: Path) -> None:
    storage = studies.open_storage(url_of(tmp_path))  # stays open: what is written lies in the log beside the file
    study = studies.create_study(storage, NAME, new_plan())
    result = fake_result(builders.spec("dice", purpose="confirm", steps=4))
    studies.store_extra(study, result)
    (tmp_path / "plain.db").write_bytes((tmp_path / "sweeper.db").read_bytes())
    back_up(url_of(tmp_path), NAME, tmp_path / "copy.db")
    assert [p.name for p in tmp_path.glob("copy.db*")] == ["copy.db"]
    assert confirmations_in(tmp_path / "plain.db") == 0
    assert confirmations_in(tmp_path / "copy.db") == 1
    # Restored elsewhere, under the old name, it is the study.
    there = tmp_path / "restored"
    there.mkdir()
    (there / "sweeper.db").write_bytes((tmp_path / "copy.db").read_bytes())
    assert load(there).confirmations == (result,)
    go_on(there)
    assert len(load(there).trials) == 9
    storage.engine.dispose()


def test_a_backup_refuses_what_it_cannot_do_and_tells_of_damage(folder: Path) -> None:
    with pytest.raises(UsageError, match="exists already"):
        back_up(url_of(folder), NAME, folder / "sweeper.db")
    with pytest.raises(StudyError, match="no study 'other'"):
        back_up(url_of(folder), "other", folder / "copy.db")
    assert not (folder / "copy.db").exists()
    with pytest.raises(UsageError, match="pg_dump"):
        back_up("postgresql://me@host/db", NAME, folder / "copy.db")
    execute(folder, CASES["another value"][0])
    with pytest.raises(DamagedError, match=r"trial 3.*as in the original; 1 damaged record in all"):
        back_up(url_of(folder), NAME, folder / "copy.db")
    assert (folder / "copy.db").exists()
    error = name_damage(url_of(folder), ValueError("no JSON"))
    assert isinstance(error, DamagedError) and "more damaged" not in error.why
    execute(folder, CASES["a confirmation"][0])
    with pytest.raises(DamagedError, match=r"as in the original; 2 damaged records in all"):
        back_up(url_of(folder), NAME, folder / "second.db")
    error = name_damage(url_of(folder), ValueError("no JSON"))
    assert isinstance(error, DamagedError) and "; and 1 more damaged record of this study" in error.why


# --- Limits of the system -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, words",
    [
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "ulimit -u"),
        (OSError(24, "Too many open files"), "ulimit -n"),
        (MemoryError(), "memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "memory ran out"),
        (sqlite3.DatabaseError("database disk image is malformed"), "--repair STUDY"),
    ],
)
def test_limits_of_the_system_are_told_as_such(error: Exception, words: str) -> None:
    assert words in str(limits.limit_reached(error))
    wrapped = RuntimeError("something else")
    wrapped.__cause__ = error
    assert words in str(limits.limit_reached(wrapped))
    assert limits.limit_reached(RuntimeError("something else")) is None


def test_a_thread_that_cannot_be_started_is_no_mistake_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(**_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(entry.cli, "main", refused)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    told = capsys.readouterr().err
    assert ended.value.code == 1 and "mistake in sweeper" not in told and "ulimit -u" in told
    monkeypatch.setattr(sys, "argv", ["sweeper", "predict", "--json"])
    with pytest.raises(SystemExit):
        entry.main()
    found = capsys.readouterr()
    assert "ulimit -u" in found.err and "--resume" not in found.err and "--workers" not in found.err
    assert "ulimit -u" in json.loads(found.out)["error"]["message"]


def test_a_damaged_file_names_the_study_where_it_is_known(tmp_path: Path) -> None:
    (tmp_path / "sweeper.db").write_bytes(b"SQLite format 3\\0" + b"x" * 4000)
    told = str(name_damage(f"sqlite:///{tmp_path}/sweeper.db", ValueError("no JSON"), "my study"))
    assert "sweeper doctor --repair 'my study'`" in told


@pytest.mark.parametrize("sort", [ImportError("numpy: PLEASE READ THIS"), MemoryError()])
def test_a_limit_of_memory_is_told_with_what_is_needed(sort: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2 * 10**9, 2 * 10**9))
    told = limits.limit_reached(sort)
    assert told is not None and "may reserve 2.0 GB" in told and "needs 5 GB" in told and "ulimit -v unlimited" in told
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert limits.memory_limit() is None


@pytest.mark.slow
def test_under_a_limit_of_two_gigabytes_a_sweep_ends_with_the_limit(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    words = [sys.executable, "-P", "-m", "sweeper", "run", "--trials", "1", "--steps", "8", "--workers", "1"]
    shell = ["sh", "-c", 'ulimit -v 2000000; exec "$@"', "sh", *words]
    done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 1 and "a program may reserve 2.0 GB of memory here" in done.stderr, done.stderr
    assert "inline" not in done.stderr and "PLEASE READ" not in done.stderr


def test_what_sqlalchemy_advises_is_left_out() -> None:
    told = OperationalError("INSERT INTO trials VALUES (?)", {"x": 1}, sqlite3.OperationalError("database is locked"))
    told.add_detail(
        "raised as a result of Query-invoked autoflush; consider using a session.no_autoflush block if this"
    )
    words = "Can't reconnect until invalid transaction is rolled back.  Please rollback() fully before proceeding"
    rolled = PendingRollbackError(words, code="8s2b")
    assert cause(rolled) == "the connection to the database was lost"
    rolled.__context__ = told
    words = "An exception is raised during the commit. This typically happens due to invalid data in the commit, "
    wrapped = StorageInternalError(f"{words}e.g. exceeding max length. ")
    wrapped.__cause__ = rolled
    words = "This Session's transaction has been rolled back due to a previous exception during flush. To begin a new "
    words += f"transaction with this Session, first issue Session.rollback(). Original exception was: {told}"
    for error in (told, rolled, wrapped, PendingRollbackError(words, code="7s2a"), RuntimeError(str(told))):
        assert cause(error) == "database is locked"
    assert cause(ValueError()) == "ValueError"


def test_an_unexpected_error_names_the_study_in_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fails(**_: object) -> None:
        with told_when_full(None, {"the reports": tmp_path}) as named:
            named("my study")
            raise OperationalError("SELECT 1", {}, sqlite3.OperationalError("no such table"))

    monkeypatch.setattr(entry.cli, "main", fails)
    with pytest.raises(SystemExit):
        entry.main()
    told = capsys.readouterr().err
    assert "sweeper run --study 'my study' --resume." in told and "NAME" not in told
    assert "OperationalError: no such table. This" in told and "sqlalche.me" not in told and "SELECT" not in told
