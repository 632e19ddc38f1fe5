"""The command that continues a study can be pasted as printed, wherever the study is stored, and has no secret."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from sweeper.cli import confirm
from sweeper.cli.run import command
from sweeper.core.errors import UsageError
from sweeper.core.paths import COMPARISONS, STORAGE
from sweeper.core.text import (
    format_comparison_resume_command,
    format_places,
    format_resume_command,
    format_study_command,
)
from sweeper.scripts.comparison_plan import PLAN
from sweeper.workflow.conclude import draw_conclusion
from sweeper.workflow.run import _add_resume_command
from sweeper.workflow.settings import Settings
from sweeper.workflow.status import Heartbeat, diagnose_sweep, read_life
from tests.support import builders

PLACES = [
    ("sqlite:///elsewhere.db", "--storage sqlite:///elsewhere.db"),
    ("sqlite:////data/my studies.db", "--storage 'sqlite:////data/my studies.db'"),
    ("postgresql://me@db/sweeper?sslmode=require", "--storage 'postgresql://me@db/sweeper?sslmode=require'"),
    ("postgresql://me:hunter2@db/sweeper", '--storage "$SWEEPER_STORAGE"'),
    ("postgresql://db/sweeper?user=me&password=hunter2", '--storage "$SWEEPER_STORAGE"'),
]


@pytest.mark.parametrize(("storage", "words"), [(STORAGE, ""), *PLACES])
def test_the_resume_command_parses_to_its_storage_and_has_no_secret(
    monkeypatch: pytest.MonkeyPatch, storage: str, words: str
) -> None:
    printed = format_resume_command("my study", storage)
    assert printed == f"sweeper run --study 'my study' --resume {words}".rstrip()
    monkeypatch.setenv("SWEEPER_STORAGE", storage)
    context = command.make_context("run", shlex.split(printed.replace("$SWEEPER_STORAGE", storage))[2:])
    assert (context.params["study"], context.params["storage"], context.params["resume"]) == ("my study", storage, True)


PLACES_OF_RUNS = [
    ({"tracking_uri": "sqlite:///elsewhere.db"}, "--tracking-uri sqlite:///elsewhere.db"),
    ({"tracking_uri": "http://me:hunter2@host"}, '--tracking-uri "$SWEEPER_TRACKING_URI"'),
    ({"out": "my reports"}, "--out 'my reports'"),
]


@pytest.mark.parametrize(
    ("storage", "places", "words"),
    [
        (STORAGE, {}, ""),
        *((storage, {}, words) for storage, words in PLACES),
        *((STORAGE, *row) for row in PLACES_OF_RUNS),
    ],
)
def test_every_message_with_a_resume_command_has_the_storage_and_the_places(
    tmp_path: Path, storage: str, places: dict[str, str], words: str
) -> None:
    options = Settings(**places).places
    command_line = f"sweeper run --study s --resume {words}".rstrip()
    assert format_resume_command("s", storage, options) == command_line
    settings = Settings(storage=storage, **places)
    with pytest.raises(OSError, match="No space") as caught, _add_resume_command(["s"], settings):
        raise OSError(28, "No space left on device")
    assert caught.value.__notes__ == [command_line]
    Heartbeat(tmp_path / "s.json", "s", places=options).record_end("failed")
    life = read_life(tmp_path / "s.json")
    assert diagnose_sweep(life, life.written, storage).problems[0].endswith(command_line)
    cut = ("the search ended after 3 of 7 trials",)
    sweep = builders.sweep([], [], study="s", storage=storage, places=options, cut=cut)
    assert command_line in [step.command for step in draw_conclusion(sweep).answer.next]


@pytest.mark.parametrize(
    ("families", "requested", "total"),  # None: the time was up
    [(("dice_focal",), 1, 7), (("dice_focal", "cross_entropy"), 2, 7), (("dice_focal", "dice_ce"), 50, None)],
)
def test_a_next_step_tries_the_losses_that_had_no_trial(
    families: tuple[str, ...], requested: int, total: int | None
) -> None:
    trials = [builders.trial(family, 0.6, number) for number, family in enumerate(families)]
    confirmed = builders.simulated_confirmations(dict.fromkeys(families, 0.6), np.random.default_rng(0), images=40)
    sweep = builders.sweep(trials, confirmed, study="s", trials_asked=requested)
    (step,) = (step for step in draw_conclusion(sweep).answer.next if step.code == "UNTRIED")
    assert step.command == f"sweeper run --study s --resume{f' --trials {total}' * (total is not None)}"
    assert ("cross_entropy" in step.values["losses"]) == ("cross_entropy" not in families)


@pytest.mark.parametrize("command", ["train", "predict", "export", "report"])
def test_a_command_for_a_study_quotes_its_name_and_has_its_storage(command: str) -> None:
    printed = format_study_command(command, "my [study]", "sqlite:///my.db")
    assert printed == f"sweeper {command} 'my [study]' --storage sqlite:///my.db"
    assert format_study_command(command, "s") == f"sweeper {command} s"


@pytest.mark.parametrize(("places", "words"), PLACES_OF_RUNS)
def test_the_places_of_a_run_parse_to_the_same_places(places: dict[str, str], words: str) -> None:
    assert Settings(**places).places == f" {words}"
    pasted = f"sweeper run --study s --resume {words}".replace("$SWEEPER_TRACKING_URI", "http://me:hunter2@host")
    context = command.make_context("run", shlex.split(pasted)[2:])
    assert {name: str(context.params[name]) for name in places} == places


def test_an_address_with_a_password_is_printed_as_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@host")
    words = format_places("http://me:hunter2@host", Path("out"))
    assert words == ' --tracking-uri "$MLFLOW_TRACKING_URI" --out out'
    assert format_comparison_resume_command("my own", words) == f"sweeper confirm --study 'my own' --resume{words}"


def test_a_begun_comparison_is_resumed_with_its_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / COMPARISONS / "own").mkdir(parents=True)
    (tmp_path / COMPARISONS / "own" / PLAN).touch()
    places = ["--tracking-uri", "sqlite:///mine.db", "--out", "my reports"]
    places += ["--workers", "3", "--time-limit", "5400.0"]
    words = ["--losses", "dice", "--command", "python train.py", "--study", "own", *places[:-1], "90m"]
    with pytest.raises(UsageError) as caught:
        confirm.command.main(words, standalone_mode=False)
    assert f"`sweeper confirm --study own --resume {shlex.join(places)}` continues it" in str(caught.value)
