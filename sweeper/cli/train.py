"""`sweeper train`: the recommended configuration, trained to the end."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Any

import click

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.progress import PlainDisplay, show_progress
from sweeper.cli.settings_options import add_options, format_option_name, make_setting_option
from sweeper.cli.signals import StopRequest
from sweeper.cli.terminal import echo_result
from sweeper.core.options import make_options
from sweeper.core.records import MetricScores
from sweeper.core.tasks import RULES, format_point
from sweeper.core.text import fill_words, format_count, format_study_command
from sweeper.deployment.train import TrainingDocument, train_recommended
from sweeper.workflow.settings import TrainOptions


@click.command(cls=SweeperCommand)
@click.argument("study")
@add_options(TrainOptions)
@make_setting_option("device")
@make_setting_option("storage")
@click.option("--register", "register_as", metavar="NAME", help="Register the network in MLflow under this name.")
@make_setting_option("tracking_uri", text="MLflow's store for --register.")
@add_json_option()
def command(study: str, *, as_json: bool, **train_options: Any) -> None:
    """Train the configuration that STUDY recommends to the end, and keep its weights for `sweeper predict`.

    The recipe is the study's, with more steps and more images. Ctrl-C leaves a checkpoint; the same command continues.

    \b
    sweeper train STUDY                     on all images but the test split, which is scored at the end
    sweeper train STUDY --steps 20000       a longer training
    sweeper train STUDY --on all            the network to ship; nothing is left to score it on
    """
    from sweeper.storage import open_storage

    options = make_options(TrainOptions, train_options, "the training", format_option_name)
    display = PlainDisplay()
    with (
        StopRequest(display.warn, whole=True) as stop,
        redirect_stdout(sys.stderr),
        show_progress("training") as update,
    ):
        opened = open_storage(options.storage, create=False, warn=display.warn)
        made = train_recommended(opened, study, options, messages=display, stop=stop, progress=update)
    echo_result(made, format_training(made, options), as_json=as_json)


def format_training(made: TrainingDocument, options: TrainOptions, width: int = 110) -> str:
    """Format the outcome as text, with the next commands."""
    lines = [
        f"Trained: {made.family} (learning rate {made.lr:.3g}) for "
        f"{made.steps:,} steps on {format_count(made.images, 'image')} ({made.on}), seed {made.seed}"
    ]
    lines.append(f"Point:   {RULES[made.task].point_name} {format_point(made.point)}, {made.point_from}")
    if made.val is not None:
        lines.append(f"Validation: {_format_scores(made.val)}")
    if made.test is not None:
        lines.append(
            f"Test:    {_format_scores(made.test)} on {format_count(made.test_images, 'image')}. They are seen once "
            "more: this is no new confirmation, and of one seed; the report has the intervals"
        )
    if not made.collapse.learned:
        lines.append(
            f"Warning: it {made.collapse.text}; it is kept, and neither predict nor export takes it (--weights "
            "does). Try more --steps, or another --seed"
        )
    lines.append(f"Weights: {made.weights}")
    lines += [f"MLflow:  {made.registered}"] * (made.registered is not None)
    if made.collapse.learned:
        predict, export = (
            format_study_command(command, made.study, options.storage) for command in ("predict", "export")
        )
        lines.append(
            f"Next:    `{predict} IMAGES --out DIR` (masks of new images); `{export}` (these weights, and the code "
            "that loads them)"
        )
    return "\n".join(fill_words(line, width, rest="         ") for line in lines)


def _format_scores(scores: MetricScores) -> str:
    foreground = "" if scores.fg_iou is None else f", foreground IoU {scores.fg_iou:.3f}"
    return f"mIoU {scores.miou:.3f}{foreground}, Dice {scores.dice:.3f}"
