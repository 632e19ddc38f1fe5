"""The command that continues a study can be copied as it is shown, wherever the study is, and holds no secret."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from sweeper.cli import confirm
from sweeper.cli.run import command
from sweeper.core.errors import LostStudyError, SweeperError, UsageError
from sweeper.core.paths import COMPARISONS, STORAGE
from sweeper.core.text import (
    format_comparison_resume_command,
    format_places,
    format_resume_command,
    format_study_command,
)
from sweeper.scripts.comparison_plan import PLAN
from sweeper.system.disk_space import explain_full_disk
from sweeper.workflow.conclude import draw_conclusion
from sweeper.workflow.settings import Settings
from sweeper.workflow.status import Heartbeat, SweepLife, diagnose_sweep, read_life
from tests.support import builders

PLACES = [
    ("sqlite:///elsewhere.db", "--storage sqlite:///elsewhere.db"),
    ("sqlite:////data/my studies.db", "--storage 'sqlite:////data/my studies.db'"),
    ("postgresql://me@db/sweeper?sslmode=require", "--storage 'postgresql://me@db/sweeper?sslmode=require'"),
    ("postgresql://me:hunter2@db/sweeper", '--storage "$SWEEPER_STORAGE"'),
    ("postgresql://db/sweeper?user=me&password=hunter2", '--storage "$SWEEPER_STORAGE"'),
]


@pytest.mark.parametrize(("storage", "words"), [(STORAGE, ""), *PLACES])
def test_another_storage_than_the_default_is_named_without_secrets_and_read_as_itself(
    monkeypatch: pytest.MonkeyPatch, storage: str, words: str
) -> None:
    shown = format_resume_command("my study", storage)
    assert shown == f"sweeper run --study 'my study' --resume {words}".rstrip()
    monkeypatch.setenv("SWEEPER_STORAGE", storage)
    context = command.make_context("run", shlex.split(shown.replace("$SWEEPER_STORAGE", storage))[2:])
    assert (context.params["study"], context.params["storage"], context.params["resume"]) == ("my study", storage, True)


@pytest.mark.parametrize(("storage", "words"), PLACES)
def test_every_message_that_resumes_names_the_storage(tmp_path: Path, storage: str, words: str) -> None:
    shown = f"sweeper run --study s --resume {words}"
    assert shown in str(LostStudyError("s", storage))
    with pytest.raises(SweeperError) as caught, explain_full_disk("s", {"the reports": tmp_path}, storage=storage):
        raise OSError(28, "No space left on device")
    assert shown in str(caught.value)
    life = SweepLife(study="s", state="failed", written=1.0, progress=1.0, pid=1, host="elsewhere")
    assert shown in diagnose_sweep(life, 2.0, storage).problems[0]
    sweep = builders.sweep([], [], study="s", storage=storage, cut=("the search ended after 3 of 7 trials",))
    assert any(shown in step for step in draw_conclusion(sweep).next_steps)


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ({}, ""),
        ({"tracking_uri": "sqlite:///elsewhere.db"}, " --tracking-uri sqlite:///elsewhere.db"),
        ({"tracking_uri": "http://me:hunter2@host"}, ' --tracking-uri "$SWEEPER_TRACKING_URI"'),
        ({"out": "my reports", "cache": "c", "log_to": "wandb"}, " --out 'my reports' --cache c --log-to wandb"),
    ],
)
def test_every_message_that_resumes_names_the_places_that_no_study_keeps(
    tmp_path: Path, places: dict[str, str], words: str
) -> None:
    given = Settings(**places).places  # type: ignore[arg-type]
    assert given == words
    shown = f"sweeper run --study s --resume{words}"
    context = command.make_context(
        "run", shlex.split(shown.replace("$SWEEPER_TRACKING_URI", "http://me:hunter2@host"))[2:]
    )
    assert {name: str(context.params[name]) for name in places} == places
    assert str(LostStudyError("s", STORAGE, given)).endswith(shown)
    with (
        pytest.raises(SweeperError) as caught,
        explain_full_disk("s", {"the reports": tmp_path}, storage=STORAGE, options=given),
    ):
        raise OSError(28, "No space left on device")
    assert str(caught.value).endswith(shown)
    Heartbeat(tmp_path / "s.json", "s", places=given).record_end("failed")
    assert (life := read_life(tmp_path / "s.json")) is not None
    assert diagnose_sweep(life, life.written).problems[0].endswith(shown)
    sweep = builders.sweep([], [], study="s", places=given, cut=("the search ended after 3 of 7 trials",))
    assert any(f"`{shown} --timeout …`" in step for step in draw_conclusion(sweep).next_steps)


@pytest.mark.parametrize("command", ["train", "predict", "export", "report"])
def test_a_command_for_a_study_names_it_as_a_word_and_where_it_is(command: str) -> None:
    places = format_places("http://me:hunter2@host", Path("out"), Path("a cache"), "wandb")
    shown = format_study_command(command, "my [study]", "sqlite:///my.db", places)
    cache = "" if command == "report" else " --cache 'a cache'"
    assert shown == f"sweeper {command} 'my [study]' --storage sqlite:///my.db{cache}"
    assert format_study_command(command, "s") == f"sweeper {command} s"


def test_an_address_with_a_password_is_taken_from_the_variable_that_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@host")
    words = format_places("http://me:hunter2@host", Path("out"))
    assert words == ' --tracking-uri "$MLFLOW_TRACKING_URI" --out out'
    assert format_comparison_resume_command("my own", words) == f"sweeper confirm --name 'my own' --resume{words}"


def test_a_comparison_that_was_begun_is_resumed_where_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / COMPARISONS / "own").mkdir(parents=True)
    (tmp_path / COMPARISONS / "own" / PLAN).touch()
    places = ["--tracking-uri", "sqlite:///mine.db", "--out", "my reports"]
    words = ["--losses", "dice", "--command", "python train.py", "--name", "own", *places]
    with pytest.raises(UsageError) as caught:
        confirm.command.main(words, standalone_mode=False)
    assert f"`sweeper confirm --name own --resume {shlex.join(places)}` continues it" in str(caught.value)
