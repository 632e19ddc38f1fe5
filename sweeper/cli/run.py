"""`sweeper run`: search, confirm, recommend."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console

from sweeper.cli.completion import encoder_names, space_names, study_names
from sweeper.cli.config import from_config, overruled, read_config
from sweeper.cli.log_file import Displays, FileDisplay
from sweeper.cli.options import (
    SweeperCommand,
    class_map_option,
    exclude_option,
    note_json,
    pattern_options,
    resize_option,
)
from sweeper.cli.parameter_types import Fraction, MetricName, Parsed, Precisions, Slots, Steps, Workers
from sweeper.cli.progress import Display, LiveDisplay, PlainDisplay
from sweeper.cli.signals import StopRequest
from sweeper.core import paths
from sweeper.core.errors import OutputError, SweeperError
from sweeper.core.metrics import BUILT_IN
from sweeper.core.recipe import ARCHITECTURES, FULL_DEPTH, LEAST_DEPTH
from sweeper.core.records import Verdict
from sweeper.core.text import count
from sweeper.system.streams import check_output
from sweeper.workflow.settings import (
    CONFIRM_SEEDS,
    DATA,
    MOST_PIXELS,
    MOST_SEED,
    MOST_STEPS,
    MOST_TRIALS,
    ROPE,
    TRIALS,
    Settings,
    duration,
    seed_range,
)

NO_SETTINGS = frozenset({"dry_run", "as_json", "verbose", "quiet", "by_verdict", "log_file", "config"})
"""Options that change what is shown, and not what is done."""
VERDICT_CODES = {
    Verdict.CLEAR_WINNER: 0,
    Verdict.EQUIVALENT: 10,
    Verdict.SAFE_CHOICE: 11,
    Verdict.UNDECIDED: 12,
    Verdict.NONE: 13,
}
"""Exit status of `--exit-code-by-verdict`; none of the others (README) is among them."""
SECTIONS = {
    "Data": ("data", "images", "masks", "format", "class_map", "exclude", "resize"),
    "Search": ("trials", "space", "loss", "metric", "threshold", "seed", "timeout"),
    "Training": (
        "steps",
        "epochs",
        "size",
        "batch_size",
        "augment",
        "model",
        "arch",
        "encoder",
        "encoder_depth",
        "encoder_weights",
    ),
    "Confirmation and verdict": ("confirm_seeds", "confirm_steps", "fixed_lr", "folds", "rope", "boundary_pixels"),
    "Going on with a study": ("study", "resume", "join"),
    "Machine": (
        "device",
        "precision",
        "engine",
        "compile",
        "deterministic",
        "workers",
        "threads",
        "slots",
        "executor",
        "ray_address",
    ),
    "Where things go": ("storage", "tracking_uri", "out", "cache"),
}
"""Of `sweeper run --help`."""


@click.command(cls=SweeperCommand, sections=SECTIONS)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    is_eager=True,
    callback=read_config,
    help="YAML file of these options (trials: 20); the environment and the command line say otherwise.",
)
@click.option("--data", help=f"Folder, zip or annotation file, or synthetic:NAME?key=value.  [default: {DATA}]")
@pattern_options("what is found in DATA")
@click.option("--format", help="Format of DATA (folder, labelme, coco, …).  [default: what is found there]")
@class_map_option("all as they are; with --resume the study's")
@exclude_option("none; with --resume the study's")
@resize_option("native; with --resume the study's")
@click.option(
    "--trials",
    type=click.IntRange(1, MOST_TRIALS),
    help=f"Trials of the search.  [default: until they bring no gain, {TRIALS} at most]",
)
@click.option("--study", shell_complete=study_names, help="Name of the study.  [default: the data's name and the time]")
@click.option(
    "--resume", is_flag=True, help="Go on with the study up to the total of --trials, with its device and workers."
)
@click.option("--join", is_flag=True, help="Work for the run that leads the study, on this machine too.")
@click.option(
    "--space", shell_complete=space_names, help="Search space: a shipped name (see `sweeper spaces`) or a YAML file."
)
@click.option(
    "--loss",
    metavar="MODULE:FUNCTION",
    help="A loss of your own, searched with the others: function(…) gives loss(logits, target), and its table `search` "
    "the ranges; see docs/how-to/own-code.md.",
)
@click.option(
    "--metric",
    type=MetricName(BUILT_IN),
    help="What is maximised; one of your own is function(tp, fp, fn), see docs/how-to/own-code.md.  [default: miou]",
)
@click.option(
    "--threshold",
    type=click.Choice(["tuned", "0.5"]),
    help="Operating point of the objective: chosen on validation, or 0.5 (τ = 0).  [default: tuned]",
)
@click.option(
    "--steps",
    type=Steps(),
    help="Optimiser steps of a trial; auto finds where the losses' ranking settles.  [default: 100, GPU 1000; up to 8 "
    "times that where no loss learns]",
)
@click.option("--epochs", type=click.IntRange(1, MOST_STEPS), help="The same in passes over the training images.")
@click.option(
    "--size", type=click.IntRange(16, MOST_PIXELS), help="Side of the training crop in pixels.  [default: 96; GPU 256]"
)
@click.option("--batch-size", type=click.IntRange(2, MOST_PIXELS), help="Crops in a batch.  [default: 8; GPU 16]")
@click.option(
    "--augment",
    type=click.Choice(["none", "light", "full"]),
    help="Of the training crops: light flips and changes contrast and brightness; full also rotates, zooms and adds "
    "noise.  [default: light]",
)
@click.option(
    "--model",
    metavar="MODULE:FUNCTION",
    help="A network of your own: function(in_channels, classes) gives it; see docs/how-to/own-code.md.",
)
@click.option("--arch", type=click.Choice(ARCHITECTURES), help="Architecture.  [default: unet]")
@click.option(
    "--encoder",
    shell_complete=encoder_names,
    help="Encoder of segmentation-models-pytorch.  [default: resnet18; GPU resnet34]",
)
@click.option(
    "--encoder-depth",
    type=click.IntRange(LEAST_DEPTH, FULL_DEPTH),
    help=f"Stages of the encoder that are used; {FULL_DEPTH} is the encoder as published.  "
    f"[default: {LEAST_DEPTH}; GPU {FULL_DEPTH}]",
)
@click.option("--encoder-weights", metavar="auto|imagenet|none|FILE", help="Where the encoder starts.  [default: auto]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option(
    "--precision",
    type=Precisions(),
    default="auto",
    show_default=True,
    help="Of the forward pass. auto: on a CPU what is measured to be quicker, on a GPU bfloat16 where it has that.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "eager", "graph"]),
    help="How a GPU takes training steps: one by one (eager), or recorded as a CUDA graph (not tried on a GPU yet); "
    "auto records them where it can.  [default: eager]",
)
@click.option(
    "--deterministic",
    is_flag=True,
    default=None,
    help="On a GPU: the same numbers each time, by slower algorithms; a network or loss that needs another fails.",
)
@click.option(
    "--compile",
    is_flag=True,
    default=None,
    help="Compile the network before the first training (torch.compile): a minute or more, for long searches on a GPU.",
)
@click.option("--workers", type=Workers(), default="auto", show_default=True, help="Processes that train.")
@click.option(
    "--threads",
    type=Workers(),
    default="auto",
    show_default=True,
    help="Of each worker on a CPU. auto: one for each core; half the workers with twice the threads where that is "
    "measured to be quicker.",
)
@click.option(
    "--slots",
    type=Slots(),
    default=1,
    show_default=True,
    help="Trainings at a time in each worker; auto measures on a GPU how many pay, with --engine auto or graph.",
)
@click.option("--executor", type=click.Choice(["processes", "inline", "ray"]), default="processes", show_default=True)
@click.option("--ray-address", help="Existing Ray cluster (HOST:PORT, or auto).  [default: one on this machine]")
@click.option(
    "--seed", type=click.IntRange(0, MOST_SEED), help="Decides splits, weights, batches and the search.  [default: 0]"
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    metavar="K",
    help="For sets too small for a test split: the search sees every image, and a seed of a finalist is K trainings "
    "that test all of them in turn. The result is not held out.  [default: a test split]",
)
@click.option(
    "--confirm-seeds",
    type=Parsed("MIN..MAX|N", seed_range),
    help=f"Fresh seeds of each finalist; more than MIN while the verdict is open.  [default: {CONFIRM_SEEDS}]",
)
@click.option(
    "--confirm-steps", type=click.IntRange(4, MOST_STEPS), help="Steps of a confirmation.  [default: 2 × --steps]"
)
@click.option(
    "--fixed-lr",
    is_flag=True,
    default=None,
    help="Confirm each finalist at its one best learning rate.  [default: each seed draws one of its good rates]",
)
@click.option("--rope", type=Fraction(), help=f"Differences in mIoU below this do not matter.  [default: {ROPE}]")
@click.option(
    "--timeout",
    type=Parsed("DURATION", duration),
    help="End within this time (5400, 90m, 1h30m) with what there is; 60 % of it is the search's.  [default: none]",
)
@click.option(
    "--boundary-pixels",
    type=click.IntRange(1, MOST_PIXELS),
    help="Width of the band along boundaries that boundary IoU looks at.  [default: 2]",
)
@click.option(
    "--storage", default=paths.STORAGE, show_default=True, help="Optuna's storage: sqlite:///FILE or postgresql://…"
)
@click.option(
    "--tracking-uri", envvar=["SWEEPER_TRACKING_URI", "MLFLOW_TRACKING_URI"], default=paths.TRACKING, show_default=True
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=paths.REPORTS, show_default=True)
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), default=paths.CACHE, show_default=True)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say what would be done and how long it takes, from a few measured steps; nothing stays: images are decoded "
    "into a temporary folder (TMPDIR).",
)
@click.option(
    "--json",
    "as_json",
    envvar="SWEEPER_JSON",
    is_flag=True,
    is_eager=True,
    callback=note_json,
    help="Print one JSON document alone.",
)
@click.option(
    "--exit-code-by-verdict",
    "by_verdict",
    is_flag=True,
    help="End with 0 for a clear winner, 10 equivalent, 11 safe choice, 12 undecided, 13 none.  [default: 0 for each]",
)
@click.option(
    "--log-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Add every line, with its time, to this file, whatever the terminal shows.",
)
@click.option("-v", "--verbose", is_flag=True, help="Every evaluation as a line.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and the result alone.")
def command(
    *,
    dry_run: bool,
    as_json: bool,
    verbose: bool,
    quiet: bool,
    by_verdict: bool,
    log_file: Path | None,
    config: Path | None,
    **options: Any,
) -> int:
    """Search over losses, confirm the best on a locked test split, and recommend one.

    \b
    sweeper run                             on a synthetic data set
    sweeper run --data FOLDER --trials 50   on the images and labels in FOLDER
    sweeper run --study NAME --resume       go on with a study
    sweeper run --study NAME --join         help a run that goes on elsewhere
    """
    from sweeper.system.cores import available_cores
    from sweeper.workflow.executor_choice import early_backend

    ctx = click.get_current_context()
    ignored = overruled(ctx, _decided_by_the_study() if options["join"] else ())
    by_default = {name for name in options if ctx.get_parameter_source(name) is ParameterSource.DEFAULT}
    settings = Settings(**{name: value for name, value in options.items() if name not in ignored | by_default})
    told = from_config(ctx, ignored) if config is not None else None
    if dry_run:
        _preview(settings, as_json, told)
        return 0
    display = _display(verbose, quiet, log_file)
    if told is not None:
        display.say(told)
    if settings.join:
        _join(settings, display, as_json)
        return 0
    try:
        cores = available_cores()
        with (
            StopRequest(display.warn, whole=True) as stop,
            redirect_stdout(sys.stderr),  # what libraries print is no result
            early_backend(settings, cores, display.warn, display.say) as backend,
        ):
            from sweeper.workflow.run import run_sweep  # takes seconds, in which the workers load what they need

            clock = lambda: datetime.now(UTC)  # noqa: E731
            outcome = run_sweep(settings, display, stop, clock=clock, cores=cores, backend=backend)
    except SweeperError as error:
        display.note(f"sweeper: {error}")
        raise
    finally:
        display.close()
    from sweeper.cli.answer import answer_text
    from sweeper.cli.next_steps import next_steps_text

    stored = outcome.paths.recommendation
    text = f"{answer_text(outcome)}\n\n{next_steps_text(outcome, settings)}"
    display.note(text)
    click.echo(json.dumps(json.loads(stored.read_text("utf-8")), indent=2) if as_json else text)
    try:
        check_output()
    except OutputError as error:
        raise OutputError(f"{error}. It is stored: {stored} and {outcome.paths.markdown}") from error
    return VERDICT_CODES[outcome.recommendation.verdict] if by_verdict else 0


def _decided_by_the_study() -> set[str]:
    """Settings that a machine which joins the study may not give."""
    from sweeper.workflow.join import OURS

    return set(Settings.model_fields) - OURS


def _join(settings: Settings, display: Display, as_json: bool) -> None:
    from sweeper.system.cores import available_cores
    from sweeper.workflow.join import run_join

    try:
        with StopRequest(display.warn, whole=True) as stop, redirect_stdout(sys.stderr):
            done = run_join(settings, display, stop, clock=lambda: datetime.now(UTC), cores=available_cores())
    except SweeperError as error:
        display.note(f"sweeper: {error}")
        raise
    finally:
        display.close()
    text = f"study {settings.study}: {count(done.trainings, 'training')} finished here; {done.ending}"
    display.note(text)
    if not as_json:
        click.echo(text)
        return
    from sweeper.cli.documents import JoinDocument

    assert settings.study is not None
    click.echo(json.dumps(JoinDocument(study=settings.study, **done._asdict()).document))


def _preview(settings: Settings, as_json: bool, told: str | None) -> None:
    from sweeper.system.cores import available_cores
    from sweeper.workflow.dry_run import preview, preview_json, preview_text
    from sweeper.workflow.executor_choice import make_backend

    speaker = PlainDisplay(-1 if as_json else 0)
    if told is not None:
        speaker.say(told)
    found = preview(
        settings,
        speaker,
        backend=lambda asked: make_backend(asked, available_cores(), speaker.warn, speaker.say),
        clock=lambda: datetime.now(UTC),
    )
    click.echo(json.dumps(preview_json(found), indent=2) if as_json else preview_text(found))


def _display(verbose: bool, quiet: bool, log_file: Path | None) -> Display:
    console = Console(stderr=True)
    live = console.is_terminal and not console.is_dumb_terminal and not verbose and not quiet  # dumb: nothing moves
    log = (
        None if log_file is None else FileDisplay(log_file)
    )  # what cannot be written is told before the screen is used
    shown = LiveDisplay(console) if live else PlainDisplay(1 if verbose else -1 if quiet else 0)
    return shown if log is None else Displays(shown, log)
