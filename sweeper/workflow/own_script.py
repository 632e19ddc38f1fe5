"""`sweeper run --command`: data, space and recipe of a study whose trainings are the user's script's."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from sweeper.core.errors import RequestError, ScriptError
from sweeper.core.metrics import METRICS
from sweeper.core.recipe import Recipe
from sweeper.core.records import Coordinate, Dataset, SearchSpace
from sweeper.core.text import format_count, format_duration, join_words
from sweeper.losses.families import FAMILIES
from sweeper.scripts.image_names import divide_as_before, divide_as_script
from sweeper.scripts.probe import probe_script
from sweeper.workflow.settings import Settings, parse_duration

SEARCH_STEPS, CONFIRM_STEPS = 25, 100
"""Per cent of the script's own length."""
FACTORS = (0.1, 10.0)
"""Range of the factor of the script's own learning rate."""
OF_SWEEPER = (
    *("model", "arch", "encoder", "encoder_depth", "decoder_width", "encoder_weights", "size", "batch_size", "crops"),
    *("augment", "epochs", "minutes", "engine", "compile", "deterministic", "executor"),
    *("ray_address", "loss", "folds", "boundary_pixels"),
)
"""Options of sweeper's own training. Device, precision and threads are not refused, as an environment may set them for
all commands; the script chooses its own."""


def check_script_options(settings: Settings) -> None:
    """Refuse options that a training by the user's script cannot follow.

    Raises:
        RequestError: with all of them.
    """
    changed = [f"--{name.replace('_', '-')}" for name in OF_SWEEPER if name in settings.model_fields_set]
    problems = []
    if changed and not settings.resume:
        problems.append(
            f"{join_words(changed)} {'is' if len(changed) == 1 else 'are'} for sweeper's own training, and --command "
            "trains by your script; leave it out"
            + (" (folds: sweeper confirm --folds)" if "folds" in settings.model_fields_set else "")
        )
    metric = settings.metric
    if metric in METRICS and METRICS[metric].parts is not None:
        problems.append(f"--metric {metric} needs label maps, and a script gives counts of pixels; use --metric miou")
    elif metric is not None and metric not in METRICS:
        problems.append(f"--metric {metric} cannot be your own with --command; use {', '.join(METRICS)}")
    if settings.data is None and settings.images is None and not settings.resume:
        problems.append("the data that the script trains on must be named; give its folder, sweeper run FOLDER")
    if problems:
        raise RequestError("a run with --command", problems)


def divide_by_script(
    dataset: Dataset, settings: Settings, before: Dataset | None, log: Callable[[str], None]
) -> Dataset:
    """Return the data set with the script's own split; for a new study the script is probed.

    Args:
        dataset: as it was read.
        settings: with the command.
        before: the data set of the study that is resumed.
        log: receives a line for each start.

    Raises:
        ScriptError: if losses cannot be compared in the script, or its images are not those of the data.
    """
    assert settings.command is not None
    if before is not None:
        return divide_as_before(dataset, before)
    seconds = parse_duration(settings.time_limit) if settings.time_limit else inf
    probe = probe_script(settings.command, seconds=min(seconds, 3600.0), say=log)
    problems = []
    if others := sorted({what for what in probe.scores.values() if what != "logits"}):
        problems.append(
            f"scores must be of logits, by t.scoring(…), got {join_words(others)}; `sweeper confirm --command` "
            "compares losses by counts and scores, too"
        )
    if len(probe.class_pixels) != len(dataset.classes):
        problems.append(
            f"the script's classes must be those of the data ({', '.join(dataset.classes)}), got "
            f"{', '.join(probe.class_pixels)}; name them in trial(classes=[…]), or map the data's by --class-map"
        )
    if problems:
        raise ScriptError(settings.command, problems)
    cost = ""
    if probe.seconds_per_training is not None:
        cost = f"; a whole training takes about {format_duration(probe.seconds_per_training)}"
    images = ", ".join(f"{format_count(count, 'image')} of {split}" for split, count in probe.images.items())
    log(f"losses can be compared in this script (pairing: {probe.pairing}; {images}{cost})")
    for note in probe.notes:
        log(f"note: {note}")
    return divide_as_script(dataset, probe.names["val"], probe.names["test"])


def adapt_space(space: SearchSpace, log: Callable[[str], None]) -> SearchSpace:
    """Return the space with factors of the script's rate, of the losses that need logits and labels alone."""
    families = tuple(f for f in space.families if FAMILIES[f.family].needs_map is None)
    if left := [f.family for f in space.families if f not in families]:
        log(f"left out, as they need more than logits and labels: {join_words(left)}")
    lr = Coordinate(kind="log", low=FACTORS[0], high=FACTORS[1])
    return space.model_copy(update={"families": families, "lr": lr})


def make_script_recipe(settings: Settings, command: str) -> Recipe:
    """Return the recipe of a new study: the script's, and what is asked of it."""
    return Recipe(
        command=command,
        arch="script",
        encoder="",
        evaluations=1,
        steps=settings.steps or SEARCH_STEPS,
        confirm_steps=settings.confirm_steps or CONFIRM_STEPS,
        metric=settings.metric or "miou",
        threshold=settings.threshold or "tuned",
    )
