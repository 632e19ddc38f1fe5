"""What a refused word may mean: a former command or option, or a name that is nearly right or stands elsewhere."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import click

from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.paths import STORAGE
from sweeper.core.text import (
    format_comparison_resume_command,
    format_resume_command,
    format_study_command,
    join_words,
    suggest_meaning,
    suggest_or_list,
    suggest_path,
)

REPLACED = {
    "sweeper status": "is `sweeper studies show` now",
    "sweeper backup": "is `sweeper studies backup` now",
    "sweeper mlflow": "is `sweeper studies sync` now",
    "sweeper advise": "is a section of `sweeper profile DATA` now",
    "sweeper cache": "is gone: the folder `.sweeper/cache` may be deleted while no sweep runs",
    "sweeper spaces": "is gone: an unknown `--space` lists the shipped names, and search_spaces/ has their files",
    "--epochs": "is gone: give `--steps`, the images times the epochs divided by `--batch-size`",
    "--huggingface": "is gone: `load().save_pretrained(FOLDER)` of the exported model.py writes that folder",
    "--ray-address": "is the variable `RAY_ADDRESS` now",
    "run --threshold": "is gone: each training is scored at the operating point that its validation images choose",
    "--threads": "is the variable `OMP_NUM_THREADS` now",
    "--baseline": "is `--present` now",
    "--deterministic": "is `--engine deterministic` now",
    "--exclude": "is gone: move the images out of the folder, or out of the file with the annotations",
    "--executor": "is gone: `--workers 0` trains in this process, and the variable RAY_ADDRESS names a Ray cluster",
    "--config": "is gone: give the options, or variables such as SWEEPER_TRIALS=20",
    "--name": "is `--study` now",
    "--plan": "is gone: an open answer of `sweeper judge` says how many seeds or images would settle it",
    "--point": "is `--threshold` now",
    "--rope": "is `--margin` now",
    "--timeout": "is `--time` now",
    "run --families": "is `--space dice_ce,tversky`, which names the losses to compare",
    "run --losses": "is of `sweeper confirm`; here `--space dice_ce,tversky` names the losses to compare",
    "run --data": "is the argument DATA now",
    "run --time-limit": "is gone: `--time` also ends a training that hangs",
    "run --lr": "is found once for all losses; a `--space` file with one `lr` fixes it",
}
"""The end of a sentence that begins with the former option, if other commands have it with the command (`run --data`),
or with the former command (`sweeper advise`)."""


def explain_replaced(name: str) -> str:
    """Return the sentence about a former option or command, with what to use now; "" about any other."""
    return f"`{name}` {REPLACED[name]}" if name in REPLACED else ""


def refuse_replaced(name: str) -> None:
    """Refuse a former option or command.

    Raises:
        UsageError: if it is one, with what to use now.
    """
    if words := explain_replaced(name):
        raise UsageError(words)


# --- Slips ---

READERS = ("run", "profile", "judge", "predict", "synth")
"""Commands that read data or scores, and suggest similar files themselves."""
OF_STUDY = ("report", "export", "train", "predict", "ui", "studies show")


def explain_option(word: str, command: click.Command) -> str:
    """Return the end of the sentence that refuses an option: where it belongs, or what is near to it.

    It names an argument of this name, other commands with this option, or options of this command.
    """
    from sweeper.cli.main import COMMANDS, cli

    if (name := word.strip("-")) in {param.name for param in command.params if isinstance(param, click.Argument)}:
        return f"; {name.upper()} is given without it"
    commands = {one: cli.get_command(click.Context(cli), one) for one in COMMANDS}
    owners = [f"`sweeper {one}`" for one, other in commands.items() if word in list_option_names(other)]
    return f"; it is an option of {join_words(owners)}" if owners else suggest_or_list(word, list_option_names(command))


def list_option_names(command: click.Command | None) -> list[str]:
    """List the options of a command, without the short ones."""
    return [name for param in getattr(command, "params", ()) for name in param.opts if name.startswith("--")]


def explain_value(error: click.UsageError, given: Sequence[str]) -> str:
    """Return what is nearest to the value that click refuses, a choice, file or place, or what a missing option is."""
    param, quoted = getattr(error, "param", None), re.search("['(]([^-'(].*?)[')]", error.message)
    if quoted is None:
        return f": {param.help}" if isinstance(param, click.Option) else ""
    choices = getattr(getattr(param, "type", None), "choices", ())
    return suggest_path(Path(quoted[1])) or explain_place(quoted[1], given, choices=choices)


def explain_place(
    word: str, given: Sequence[str], *, storage: str = STORAGE, choices: Iterable[str] = (), otherwise: str = ""
) -> str:
    """Return what a word means here: a choice, or the command for a study, a scene or a folder; else `otherwise`.

    `given` is the command that refused the word, with its arguments: it is not suggested again.
    """
    from sweeper.data.synthetic import PREFIX, SCENES
    from sweeper.losses.families import FAMILIES
    from sweeper.storage import list_study_names, open_storage
    from sweeper.workflow.studies import list_comparison_rows

    name, place = given[0], Path(word)
    reads = {"profile": "profile"}.get(name, "run")
    meanings = {family: f"--space {family}" for family in [*FAMILIES] * (name == "run")}
    meanings |= {key: f"sweeper {reads} {PREFIX}{one}" for one in SCENES for key in (one, f"{PREFIX}{one}")}
    folders = [*Path().glob("[!.]*/"), *filter(os.path.exists, [place])] * (name not in READERS)
    meanings |= {folder.name: f"sweeper run {shlex.quote(str(folder))}" for folder in folders}
    with suppress(SweeperError):  # a server or a pipe may keep silent
        files = filter(os.path.isfile, [storage.removeprefix("sqlite:///")])
        for study in [name for _ in files for name in list_study_names(open_storage(storage, create=False))]:
            commands = {command: format_study_command(command, study, storage) for command in OF_STUDY}
            commands["run"] = format_resume_command(study, storage)
            meanings[study] = commands.get(name, commands["report"])
    meanings |= {row.study: format_comparison_resume_command(row.study) for row in list_comparison_rows()}
    meanings |= {"help": f"sweeper {name} --help", **{choice: choice for choice in choices}}
    others = {key: text for key, text in meanings.items() if not {*shlex.split(text)} <= {"sweeper", *given}}
    if place.name in meanings.keys() - others.keys():  # it was understood: something else is wrong
        return otherwise
    return suggest_meaning(place.name, others, otherwise)


def explain_refusal(error: UsageError, refused: str | None, given: Sequence[str], storage: str) -> None:
    """Add to the refusal of a command what the refused word means, unless it names something near already."""
    if refused and "did you mean" not in str(error):
        near = explain_place(refused, given, storage=storage, otherwise=", ")
        error.args = (f"{error}\n  {near.removeprefix(', ')}".rstrip(),)
