"""What replaced the commands and options that sweeper had before: one table, kept for one release."""

from __future__ import annotations

import os

import click

from sweeper.core.errors import UsageError

REPLACED = {
    "sweeper status": "is `sweeper studies show` now",
    "sweeper backup": "is `sweeper studies backup` now",
    "sweeper mlflow": "is `sweeper studies sync` now",
    "sweeper advise": "is a section of `sweeper profile DATA` now",
    "sweeper cache": "is gone: the folder `.sweeper/cache` may be deleted while no sweep runs",
    "sweeper spaces": "is gone: an unknown `--space` lists the shipped names, and search_spaces/ has their files",
    "--encoder-depth": "is gone: `--model` takes a network of any depth",
    "--decoder-width": "is gone: `--model` takes a network of any width",
    "--epochs": "is gone: give `--steps`, the images times the epochs divided by `--batch-size`",
    "--huggingface": "is gone: `load().save_pretrained(FOLDER)` of the exported model.py writes that folder",
    "--gpus-per-trial": "is gone: `--workers` trainings at a time share the GPUs",
    "--ray-address": "is the variable `RAY_ADDRESS` now",
    "run --threshold": "is gone: each training is scored at the operating point that its validation images choose",
    "--threads": "is the variable `OMP_NUM_THREADS` now",
    "--boundary-pixels": "is gone: boundary IoU measures 2 pixels",
    "--cache": "is gone: images are decoded into .sweeper/cache of the current folder; `.sweeper` may be a link",
    "--baseline": "is `--present` now",
    "--compile": "is gone: on a GPU steps are recorded, which gains more",
    "--crops": "is gone: crops are drawn anywhere, and losses weight rare classes",
    "--deterministic": "is `--engine deterministic` now",
    "--correlation": "is gone: no correlation is published with means; judge the scores of images or trainings",
    "--log-to": "is gone: MLflow has each training's run",
    "--sd-over": "is gone: judge the scores of images or trainings, as means need assumptions",
    "--no-advice": "is gone: the search always begins with what was best on similar data",
    "--exit-code-by-verdict": "is gone: `--json` prints the answer",
    "--exclude": "is gone: move the images out of the folder, or out of the file with the annotations",
    "--executor": "is gone: `--workers 0` trains in this process, and the variable RAY_ADDRESS names a Ray cluster",
    "--fixed-lr": "is gone: a space with one `lr` searches and confirms at one rate",
    "--until": "is gone: the confirmation ends once more seeds would hardly change the answer",
    "--config": "is gone: give the options, or variables such as SWEEPER_TRIALS=20",
    "--confirm-seeds": "is `--seeds` now",
    "--minutes": "is `--time 15m` now, after which the study also ends",
    "--miss-at-most": "is gone: the report draws recall and precision by threshold, `predict --threshold` takes one",
    "--name": "is `--study` now",
    "--plan": "is gone: an open answer of `sweeper judge` says how many seeds or images would settle it",
    "--point": "is `--threshold` now",
    "--rope": "is `--margin` now",
    "--timeout": "is `--time` now",
    "run --families": "is `--space dice_ce,tversky`, which names the losses to compare",
    "run --losses": "is of `sweeper confirm`; here `--space dice_ce,tversky` names the losses to compare",
    "run --data": "is the argument DATA now",
    "run --time-limit": "is gone: `--time` also ends a training that hangs",
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


def refuse_replaced_variables(ctx: click.Context) -> None:
    """Refuse variables of former options that the command does not have, as they would be ignored.

    Raises:
        UsageError: with the first one, and what to use now.
    """
    present = {name for param in ctx.command.params for name in param.opts}
    for name in REPLACED.keys() - present:
        variable = f"SWEEPER_{name.removeprefix('--').replace('-', '_').upper()}"
        if variable in os.environ:
            raise UsageError(f"{variable}: {explain_replaced(name)}")
