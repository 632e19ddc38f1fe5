"""What a refused word may mean: a name that is nearly right, stands elsewhere, or is another tool's."""

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
    suggest_correction,
    suggest_meaning,
    suggest_or_list,
    suggest_path,
)

QUOTED_PATTERNS = "Patterns stand in quotes, --images 'img/*.jpg': else the shell writes the files' names out."
READERS = ("run", "profile", "judge", "predict", "synth")
"""Commands that read data or scores, and suggest similar files themselves."""
OF_STUDY = ("report", "export", "train", "predict", "ui", "studies show")


def explain_option(word: str, command: click.Command) -> str:
    """Return the end of the sentence that refuses an option: where it belongs, or what is near to it.

    It names an argument of this name, other commands with this option, or options of this command.
    """
    from sweeper.cli.main import COMMANDS, cli

    arguments = [str(param.name) for param in command.params if isinstance(param, click.Argument)]
    if (name := word.strip("-")) in arguments:
        return f"; {name.upper()} is given without it"
    commands = {one: cli.get_command(click.Context(cli), one) for one in COMMANDS}
    owners = [f"`sweeper {one}`" for one, other in commands.items() if word in list_option_names(other)]
    if owners:
        return f"; it is an option of {join_words(owners)}"
    options = list_option_names(command)
    meanings = {name: f"sweeper {command.name} {name.upper()}" for name in arguments} | {one: one for one in options}
    return suggest_meaning(word, meanings) or suggest_or_list("", options)


def list_option_names(command: click.Command | None) -> list[str]:
    """List the options of a command, without the short ones."""
    return [name for param in getattr(command, "params", ()) for name in param.opts if name.startswith("--")]


def explain_value(error: click.UsageError, given: Sequence[str]) -> str:
    """Return what is nearest to the value that click refuses, a choice, file or place, or what a missing option is."""
    param, quoted = getattr(error, "param", None), re.search("['(]([^-'(].*?)[')]", error.message)
    if quoted is None:
        return f": {param.help}" if isinstance(param, click.Option) else ""
    if error.message.startswith("Got unexpected extra argument") and error.ctx is not None:
        return explain_extra(quoted[1], error.ctx, given)
    choices = getattr(getattr(param, "type", None), "choices", ())
    return suggest_path(Path(quoted[1])) or explain_place(quoted[1], given, choices=choices)


def explain_extra(word: str, ctx: click.Context, given: Sequence[str]) -> str:
    """Return what an argument too many may mean: a folder of masks, an option as NAME=VALUE, or another place."""
    data, options = ctx.params.get("data"), list_option_names(ctx.command)
    if {"--images", "--masks"} & {*given}:
        return f". {QUOTED_PATTERNS}"
    folders = [shlex.quote(one) for one in filter(None, (data, word)) if Path(one).is_dir()]
    if "--masks" in options and len(folders) > 1:
        return f", did you mean `sweeper {ctx.command.name} --images {folders[0]} --masks {folders[1]}`?"
    name, equals, _ = word.partition("=")
    return suggest_correction(name, options) if equals else explain_place(word, given)


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
