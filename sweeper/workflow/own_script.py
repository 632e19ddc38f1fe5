"""`sweeper run --command`: data, space and recipe of a study that the user's script trains; the script's sources."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from sweeper.core.errors import RequestError, ScriptError, StudyError
from sweeper.core.metrics import METRICS
from sweeper.core.recipe import Recipe
from sweeper.core.records import Coordinate, Dataset, SearchSpace
from sweeper.core.redact import hide_command_secrets
from sweeper.core.tasks import RULES
from sweeper.core.text import abbreviate_names, join_words
from sweeper.losses.families import FAMILIES
from sweeper.scripts.image_names import divide_as_before, divide_as_script
from sweeper.scripts.launch import read_output, split_command
from sweeper.scripts.probe import START_SECONDS, probe_script
from sweeper.storage import StudyPlan
from sweeper.workflow.settings import OF_SWEEPER, Settings

SEARCH_STEPS, CONFIRM_STEPS = 25, 100
"""Per cent of the script's own length."""
FACTORS = (0.1, 10.0)
"""Range of the factor on the script's own learning rate."""
SOURCES, MOST_SOURCES = {".py", ".sh", ".yaml", ".yml", ".toml"}, 5_000
"""Endings of source files, and how many are looked at."""


def check_script_options(settings: Settings) -> None:
    """Refuse sweeper's training options with a script.

    Raises:
        RequestError: with all of them.
    """
    if settings.command is None:
        return
    changed = [f"--{name.replace('_', '-')}" for name in OF_SWEEPER if name in settings.model_fields_set]
    problems = []
    if changed and not settings.resume:  # a resume compares the plan, and restores the machine's settings
        problems.append(f"with --command your script trains, and not sweeper; leave out {join_words(changed)}")
    usable = [name for name, metric in METRICS.items() if metric.parts is None]
    if settings.metric not in (None, *usable):
        problems.append(
            f"--metric {settings.metric} needs label maps or your own code, and a script gives counts of pixels; use "
            f"{join_words(usable)}"
        )
    has_data = settings.data is not None or settings.images is not None
    if not has_data and not settings.resume:
        problems.append("the data that the script trains on must be named; give its folder, sweeper run FOLDER")
    RequestError.refuse("a run with --command", problems)


def hash_sources(command: str) -> dict[str, str]:
    """Return a hash of each source file of the script that a command starts.

    These are the files that the repository of the current folder tracks (Python, shell, YAML and TOML); without one
    such files in the script's folder (the current one if the command names none, as `python -m` does) and one level
    below; and such files that the command names.

    Raises:
        UsageError: if the command is invalid.
    """
    sources = [path for path in map(Path, split_command(command)) if path.suffix in SOURCES]
    named = [*filter(Path.is_file, sources)]
    tracked = read_output("git", "ls-files", "-z")
    if tracked is None:
        folders = {path.parent for path in named} or {Path()}
        paths = [p for folder in folders for pattern in ("*", "*/*") for p in folder.glob(pattern)]
    else:
        paths = [Path(name) for name in tracked.split("\0") if name]
    candidates = {path for path in (*named, *paths) if path.suffix in SOURCES}
    sources = sorted(filter(Path.is_file, candidates))[:MOST_SOURCES]
    hashes = {}
    for path in sources:
        with suppress(OSError):
            hashes[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return hashes


def name_changed_sources(before: Mapping[str, str], command: str) -> str:
    """Name the files that changed or are missing; "" if there are none. New ones do not count."""
    now = hash_sources(command)
    return abbreviate_names([name for name, digest in before.items() if now.get(name) != digest])


def resolve_sources(command: str | None, old: StudyPlan | None) -> dict[str, str] | None:
    """Return the hash of each file of the script, for a resumed study the stored ones; None without a script.

    Raises:
        StudyError: if a file changed since the study began.
    """
    if command is None:
        return None
    if old is None or old.sources is None:
        return hash_sources(command)
    if changed := name_changed_sources(old.sources, command):
        raise StudyError(
            f"the script must be the one that the study began with, and {changed} changed; put it back, or begin "
            "another study with another --study"
        )
    return old.sources


def warn_of_changed_script(command: str | None, sources: Mapping[str, str] | None, warn: Callable[[str], None]) -> None:
    """Warn if files of the script changed while it trained."""
    if command is None or sources is None:
        return
    if changed := name_changed_sources(sources, command):
        warn(f"later trainings may be of another script: {changed} changed meanwhile")


def divide_by_script(
    dataset: Dataset, settings: Settings, before: Dataset | None, log: Callable[[str], None]
) -> Dataset:
    """Return the data set with the script's own split and ignored label; without a script it is unchanged.

    For a new study the script is probed; `before` is the data set of a resumed study.

    Raises:
        ScriptError: if losses cannot be compared in the script, or its images are not those of the data.
    """
    if settings.command is None:
        return dataset
    if before is not None:
        return divide_as_before(dataset, before)
    probe = probe_script(settings.command, seconds=START_SECONDS, log=log)
    problems = []
    kinds = {*probe.scores.values()}
    command = hide_command_secrets(settings.command)
    if kinds not in ({"logits"}, {"counts"}):
        present = [] if settings.present is None else ["--present", settings.present]
        words = ["sweeper", "confirm", "--losses", "dice_ce,tversky", *present, "--command", command]
        problems.append(
            f"scores must be logits by t.scoring(…) or counts by t.counts(…), got {join_words(sorted(kinds))}; this "
            f"compares losses by any score: {shlex.join(words)}"
        )
    if "val" in probe.drawn:
        problems.append(
            "images of val must be the same for each seed, and are others for seeds 1 and 2; divide the data with a "
            "fixed seed in place of t.seed, or keep the split in a file"
        )
    names = tuple(probe.class_pixels)
    is_reordered = {*names} == {*dataset.classes} and names != dataset.classes
    if is_reordered or len(names) != len(dataset.classes):
        problems.append(
            f"the script's classes must be those of the data in their order ({', '.join(dataset.classes)}), got "
            f"{', '.join(names)}; name them so in trial(classes=[…]), or map the data's by --class-map"
        )
    overlap = RULES[dataset.task].has_planes
    if overlap != (probe.labelled_pixels is not None):
        problems.append(f"trial(…) must say {overlap=}, as the data's labels do, got overlap={not overlap}; change it")
    ScriptError.refuse(command, problems)
    log(probe.text)
    if names != dataset.classes:
        renamed = [f"{script} is {data}" for script, data in zip(names, dataset.classes, strict=True) if script != data]
        log(f"note: classes are matched by their order: {', '.join(renamed)}")
    divided = divide_as_script(dataset, probe.names["val"], probe.names["test"])
    update = {"script_ignores": probe.ignore_index, "script_scores": probe.scores["test"]}
    return divided.model_copy(update=update)


def adapt_space(space: SearchSpace, log: Callable[[str], None]) -> SearchSpace:
    """Return the space with factors on the script's rate, and without losses that need more than logits and labels."""
    families = tuple(f for f in space.families if FAMILIES[f.family].needs_map is None)
    left = [f.family for f in space.families if f not in families]
    if left:
        log(f"left out, as they need more than logits and labels: {join_words(left)}")
    lr = Coordinate(kind="log", low=FACTORS[0], high=FACTORS[1])
    return space.model_copy(update={"families": families, "lr": lr})


def make_script_recipe(settings: Settings, command: str) -> Recipe:
    """Return the recipe of a new study: the script's command, without secrets, and the requested settings."""
    options = {"steps": SEARCH_STEPS, "confirm_steps": CONFIRM_STEPS, "metric": "miou"}
    options |= settings.model_dump(include={*options}, exclude_none=True)
    return Recipe(command=command, arch="script", encoder="", evaluations=1, **options)
