"""Options of a sweep, of `sweeper train` and a prediction, and the limits of their values."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator

from sweeper.core import paths
from sweeper.core.base import Record
from sweeper.core.metrics import BUILT_IN
from sweeper.core.options import AUTO, make_setting
from sweeper.core.recipe import CPU_PRETRAINED, Architecture, Augmentation, Engine, Precision
from sweeper.core.records import TrainedOn
from sweeper.core.text import format_option, format_places
from sweeper.losses.families import is_own_loss

DATA = "synthetic:street"
OWN = "MODULE:FUNCTION"
TRIALS = 50
CPU_STEPS, GPU_STEPS = 100, 1000
"""Optimiser steps of a trial."""
CPU_MINUTES, GPU_MINUTES = (5, 30), (20, 60)
"""Time that a study is planned for without --time: as a rule, and at most where its classes need it."""
CPU_SIZE, GPU_SIZE = 64, 256
"""Side of a crop. On a CPU the smallest at which the ranking of the losses agreed with a larger network's
(docs/performance.md)."""
CPU_WIDTH = 8
"""Width of the decoder: half of the published one (bench/recipe.py)."""
DEFAULT_SEEDS = "3..8"
FEWEST_SEEDS, MOST_SEEDS = 3, 100
MOST_TRIALS, MOST_STEPS, MOST_PIXELS = 1_000_000, 1_000_000_000, 65_536
"""Upper limits of settings: beyond them numbers overflow, or no machine could do it."""
MOST_WORKERS = 9999
MOST_SEED = 2**53 - 1
"""The confirmation's seeds begin at 1000 × (seed + 1), and torch takes 63 bits."""
DEFAULT_MARGIN = 0.01
RAY_ADDRESS = "RAY_ADDRESS"
"""Ray's own variable with the address of a cluster; `local` starts one."""
OF_SWEEPER = (
    *("model", "arch", "encoder", "encoder_weights", "size", "batch_size"),
    *("augment", "device", "precision", "engine"),
)
"""Options of sweeper's own training."""
_RESUMED = "with --resume the study's"
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"


def parse_seed_range(text: object) -> tuple[int, int]:
    """Parse a range of seeds: `3..8`, or (3, 8), → (3, 8); a single number is both ends.

    Raises:
        ValueError: unless 1 ≤ MIN ≤ MAX ≤ 100.
    """
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:\.\.\s*([0-9]{1,9})\s*)?", str(text).strip("()").replace(",", ".."))
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= least <= most <= MOST_SEEDS:
        raise ValueError(
            f"must be MIN..MAX or one number, with 1 ≤ MIN ≤ MAX ≤ {MOST_SEEDS}, got {text!r}; for example '3..8'"
        )
    return least, most


def parse_duration(text: object) -> float:
    """Return the seconds of a duration: `90`, `90s`, `90m`, `2h`, `1h30m`, `1d`.

    Raises:
        ValueError: if it is invalid, or not above 0.
    """
    words = str(text).strip().lower()
    seconds = 0.0
    if re.fullmatch(_NUMBER, words):
        seconds = float(words)
    elif match := re.fullmatch(r"\s*".join(f"(?:({_NUMBER})\\s*{unit})?" for unit in _UNITS), words):
        seconds = sum(
            float(number or 0) * unit_seconds
            for number, unit_seconds in zip(match.groups(), _UNITS.values(), strict=True)
        )
    if not 0 < seconds <= 366 * 86400:
        raise ValueError(f"must be a duration above 0 of at most a year, like 5400, 90m, 2h or 1h30m, got {text!r}")
    return seconds


class FinalOptions(NamedTuple):
    """What the user asks of the final training; None where sweeper chooses."""

    steps: int | None = None
    size: int | None = None
    encoder: str | None = None

    @property
    def network(self) -> dict[str, Any]:
        """What is asked of its network and crops, by field of `FinalNetwork`."""
        return {name: value for name, value in self._asdict().items() if name != "steps" and value is not None}


def parse_final(text: object) -> FinalOptions | None:
    """Parse `none`, `auto`, or any of `steps=1000,size=128,encoder=resnet34`; None for `none`.

    Raises:
        ValueError: if it is something else.
    """
    if text in ("none", "auto"):
        return None if text == "none" else FinalOptions()
    options = dict[str, Any]()
    for part in str(text).split(","):
        name, _, value = part.strip().partition("=")
        rule = ".+" if name == "encoder" else "[1-9][0-9]{0,8}"
        if name not in FinalOptions._fields or not re.fullmatch(rule, value):
            raise ValueError(
                f"must be none, auto, or any of steps=N,size=N,encoder=NAME, got {text!r}; for example 'steps=1000'"
            )
        options[name] = value if name == "encoder" else int(value)
    return FinalOptions(**options)


def _check_final(value: object) -> str:
    parse_final(value)
    return str(value)


def _parse_factor(text: object, most: float = 1e6) -> float:
    try:
        value = float(Fraction(str(text).strip()))
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"must be a number or a fraction such as 1/3, got {text!r}") from error
    if not 0 < value <= most:
        raise ValueError(f"must be above 0, and at most {most:,.0f}, got {text!r}")
    return value


def _parse_rates(text: object) -> tuple[float, ...]:
    words = str(text).strip("()[],").replace("none", "1").split(",")
    return tuple(sorted({_parse_factor(word) for word in words}))


def _check_groups(how: str) -> str:
    try:
        if not how:
            raise re.error("it is empty")
        re.compile(how)
    except re.error as error:
        rule = "must be auto, none, folder or a regular expression whose first (…) is the group"
        raise ValueError(f"{rule}, got {how!r} ({error}); for example '(P[0-9]+)_'") from error
    return how


def _check_range(value: object) -> str:
    least, most = parse_seed_range(value)
    return str(least) if least == most else f"{least}..{most}"


_TO_TUPLE = BeforeValidator(lambda value: (value,) if isinstance(value, str) else value, json_schema_input_type=str)


def _check_duration(value: object) -> str:
    parse_duration(value)
    return str(value).strip()


class Settings(Record):
    """Options of `sweeper run`. None = not given: the default, or with `resume` the study's own value.

    The options of the command line are generated from these fields; the docstring of each is its help.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    data: str | None = Field(None, min_length=1)
    """Folder, zip or annotation file, or synthetic:NAME?key=value; the argument of `sweeper run`."""
    images: str | None = make_setting(
        "Data", default="what is found in DATA", often=True, metavar="PATTERN", min_length=1
    )
    """Pattern of the images' names, in quotes: 'img/**/*.jpg'; relative to DATA, if given."""
    masks: str | None = make_setting(
        "Data", default="what is found in DATA", often=True, metavar="PATTERN", min_length=1
    )
    """Pattern of the masks' names; {stem} is the image's name without extension: 'labels/{stem}_mask.png'."""
    format: str | None = make_setting("Data", default="what is found there", min_length=1)
    """Format of DATA (folder, labelme, coco, …)."""
    class_map: Path | None = make_setting("Data", default=f"all as they are; {_RESUMED}", metavar="FILE")
    """YAML file of classes to merge, rename or ignore (road: [3, 4], ignore: [255, car])."""
    groups: Annotated[str, AfterValidator(_check_groups)] | None = make_setting(
        "Data", default=f"auto; {_RESUMED}", metavar="auto|none|folder|PATTERN"
    )
    """Images that stay on one side of a split: those in a folder, or whose path has the same (…) of a regular
    expression, '(P[0-9]+)_'. auto: as split.csv says, else folders, else ids in their names."""
    resize: int | None = make_setting(
        "Data", default=f"native; {_RESUMED}", metavar="SHORT_SIDE", ge=16, le=MOST_PIXELS
    )
    """Shrink larger images to this shorter side in pixels; scores hold at that resolution."""

    trials: int | None = make_setting(
        "Search", metavar="N", default=f"until they bring no gain, {TRIALS} at most", often=True, ge=1, le=MOST_TRIALS
    )
    """Trials of the search."""
    space: str | None = make_setting("Search", min_length=1)
    """Search space: binary, multiclass, multilabel, full, full_multiclass, full_multilabel, a YAML file; or
    the losses to compare, of which only the learning rate is searched: dice_ce,tversky:fn_weight=0.7."""
    loss: Annotated[tuple[str, ...], _TO_TUPLE] = make_setting("Search", (), metavar=OWN)
    """Your own loss, searched with the others; may be repeated. function(…) returns loss(logits, target), and its
    attribute `search` has the ranges; see docs/how-to/own-code.md."""
    present: str | None = make_setting("Search", default="cross_entropy", often=True, metavar="LOSS", min_length=1)
    """Loss that you use now, which the others must beat: dice_ce, dice_ce:mix=0.5;pos_weight=3, or your own,
    MODULE:FUNCTION. It is tuned as all others."""
    metric: str | None = make_setting("Search", default="miou", often=True, metavar="|".join((*BUILT_IN, OWN)))
    """Metric to maximise and compare (docs/verdict.md); your own is function(tp, fp, fn), see
    docs/how-to/own-code.md."""
    seed: int | None = make_setting("Search", metavar="N", default="0", ge=0, le=MOST_SEED)
    """Seed of splits, weights, batches and the search."""
    time: Annotated[str, BeforeValidator(_check_duration, json_schema_input_type=float)] | None = make_setting(
        "Search",
        default="no end, and 5m is planned, GPU 20m; up to 30m, 60m, if classes need it",
        often=True,
        metavar="DURATION",
    )
    """Plan for this time (5400, 90m, 1h30m) and end within it, with the results so far; the search gets 60 % of it."""

    steps: int | None = make_setting(
        "Training",
        metavar="N",
        default="100, GPU 1000; up to 16 times that, as the classes need and --time allows",
        often=True,
        ge=4,
        le=MOST_STEPS,
    )
    """Optimiser steps of a trial."""
    size: int | None = make_setting(
        "Training", metavar="N", default=f"{CPU_SIZE}; GPU {GPU_SIZE}", often=True, ge=16, le=MOST_PIXELS
    )
    """Side of the training crop in pixels."""
    batch_size: int | None = make_setting("Training", metavar="N", default="8; GPU 16", ge=2, le=MOST_PIXELS)
    """Crops in a batch."""
    augment: Augmentation | None = make_setting("Training", default="light")
    """Augmentation of the training crops: light flips and changes contrast and brightness; full also rotates, zooms
    and adds noise."""
    command: str | None = make_setting("Training", default="sweeper's own training", often=True, min_length=1)
    """Your training script with its arguments, "python train.py": it trains instead of sweeper, on DATA and its own
    split. --steps and --confirm-steps are then per cent of its length (25, 100); see docs/how-to/your-training.md."""
    model: str | None = make_setting("Training", metavar=OWN, min_length=1)
    """Your own network: function(in_channels, classes) returns it; see docs/how-to/own-code.md."""
    arch: Architecture | None = make_setting("Training", default="unet")
    """Architecture."""
    encoder: str | None = make_setting(
        "Training", default=f"{CPU_PRETRAINED[0]}, or resnet18 at random; GPU resnet34", often=True, min_length=1
    )
    """Encoder of segmentation-models-pytorch, on a CPU cut to a depth of 3 or 4 of its 5 stages."""
    encoder_weights: str | None = make_setting(
        "Training", default="auto", metavar="auto|imagenet|none|FILE", min_length=1
    )
    """Initial weights of the encoder."""

    seeds: Annotated[str, BeforeValidator(_check_range, json_schema_input_type=int)] | None = make_setting(
        "Confirmation and verdict", default=DEFAULT_SEEDS, metavar="MIN..MAX|N"
    )
    """Number of fresh seeds of each finalist; more than MIN while the verdict is open."""
    confirm_steps: int | None = make_setting(
        "Confirmation and verdict", metavar="N", default="2 × --steps", ge=4, le=MOST_STEPS
    )
    """Steps of a confirmation."""
    final: Annotated[str, BeforeValidator(_check_final, json_schema_input_type=str)] | None = make_setting(
        "Confirmation and verdict",
        default="auto; with --folds or --command none",
        metavar="auto|none|steps=N,size=N,encoder=NAME",
    )
    """Training that decides: the loss to use and the present one in the network to take home. auto: on a CPU with
    pretrained weights the whole network, else the same one with 4 times the steps."""
    folds: int | None = make_setting(
        "Confirmation and verdict", default="a test split", metavar="K", ge=2, le=MOST_TRIALS
    )
    """For sets too small for a test split: the search sees every image, and each seed of a finalist is K trainings that
    test all images in turn. The result is not held out."""
    margin: float | None = make_setting(
        "Confirmation and verdict", metavar="X", default=f"{DEFAULT_MARGIN}", ge=0, le=1, allow_inf_nan=False
    )
    """Differences in mIoU below this do not matter."""

    study: str | None = make_setting("Resuming a study", default="the data's name and the time", often=True)
    """Name of the study."""
    resume: bool = make_setting("Resuming a study", False, often=True)
    """Continue the study up to the total of --trials, with its device and workers."""

    device: Literal["auto", "cpu", "cuda", "mps"] = make_setting("Machine", "auto")
    """Device that trains."""
    precision: Annotated[Precision | None, AUTO] = make_setting("Machine")
    """Precision of the forward pass. auto: bfloat16, on a CPU if it is measured to save a fifth, on a GPU if the GPU
    has it."""
    engine: Annotated[Engine | None, AUTO] = make_setting("Machine")
    """How steps are run: one by one (eager), or recorded as a CUDA graph; deterministic: one by one, on a GPU with the
    same numbers each time, by slower algorithms. auto: recorded on an NVIDIA GPU."""
    workers: Annotated[int | None, AUTO] = make_setting("Machine", metavar="auto|N", ge=0, le=MOST_WORKERS)
    """Number of processes that train, here or on the Ray cluster of RAY_ADDRESS; 0: only this one. On a CPU each has an
    equal share of the cores, or OMP_NUM_THREADS threads."""

    storage: str = make_setting("Where things go", paths.STORAGE)
    """Optuna's storage: sqlite:///FILE or postgresql://…"""
    tracking_uri: str = make_setting(
        "Where things go", paths.TRACKING, variables=("SWEEPER_TRACKING_URI", "MLFLOW_TRACKING_URI")
    )
    """MLflow's store: sqlite:///FILE or a server's address."""
    out: Path = make_setting("Where things go", paths.REPORTS, metavar="DIRECTORY")
    """Folder of the reports."""
    cache: Path = paths.CACHE
    """Folder of the decoded images, next to checkpoints and weights; commands use the usual one."""

    @field_validator("class_map", "out")
    @classmethod
    def _replace_home(cls, path: Path | None) -> Path | None:
        """Replace `~`, which no shell does after `--out=`."""
        return path and paths.expand_user(str(path))

    @property
    def own_losses(self) -> tuple[str, ...]:
        """The user's losses, `module:function`, with the present one."""
        return (*self.loss, *filter(is_own_loss, {self.present or ""} - {*self.loss}))

    @property
    def executor(self) -> Literal["processes", "inline", "ray"]:
        """Place where trainings run: worker processes, this process, or a Ray cluster."""
        if self.workers == 0:
            return "inline"
        return "ray" if RAY_ADDRESS in os.environ else "processes"

    @property
    def places(self) -> str:
        """Options that the command to resume the study needs, as the study does not store them."""
        return format_places(self.tracking_uri, self.out)


SeedRange = Annotated[
    tuple[Annotated[int, Field(ge=FEWEST_SEEDS)], int],
    BeforeValidator(parse_seed_range, json_schema_input_type=int | str),
]


class ConfirmOptions(Record):
    """Options of a comparison of losses."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    command: str | None = make_setting("", metavar="COMMAND", min_length=1)
    """Command that starts the script, such as 'python train.py'."""
    losses: str | None = make_setting("", metavar="LOSSES", min_length=1)
    """Losses to compare instead of a study's finalists: dice_ce,tversky:fn_weight=0.7, your own MODULE:FUNCTION."""
    present: str | None = make_setting("", default="the study's, or cross_entropy", metavar="LOSS", min_length=1)
    """Loss that you use now, which the others must beat."""
    seeds: SeedRange | None = make_setting("", default="3..5", metavar="MIN..MAX|N")
    """Number of fresh seeds of each loss; more than MIN while the answer is open."""
    rates: Annotated[tuple[float, ...], BeforeValidator(_parse_rates, json_schema_input_type=str)] | None = (
        make_setting("", default="1/3,1,3", metavar="FACTORS")
    )
    """Factors of the script's learning rate that each loss tries first, or none."""
    rate_share: (
        Annotated[float, BeforeValidator(partial(_parse_factor, most=1.0), json_schema_input_type=str)] | None
    ) = make_setting("", default="1/4", metavar="SHARE")
    """Share of the script's length for trying these factors."""
    folds: int | None = make_setting("", metavar="K", ge=2, le=50)
    """Train each seed once for each fold (t.fold)."""
    metric: Literal["miou", "dice"] | None = make_setting("", default="miou")
    """Metric computed from logits and counts."""
    margin: float | None = make_setting("", default="0.01 within 0 to 1", metavar="X", allow_inf_nan=False)
    """Difference that does not matter, in the score's unit."""
    workers: int = make_setting("", 1, metavar="N", ge=1, le=1000)
    """Number of trainings at a time."""
    time_limit: Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=str)] | None = make_setting(
        "", default="no limit", metavar="DURATION"
    )
    """Longest time of one training (5400, 90m, 1h30m)."""
    study: str | None = make_setting("", default="the script's", min_length=1)
    """Name of the comparison."""
    resume: bool = make_setting("", False)
    """Continue the comparison --study, or begin it."""
    out: Path = make_setting("", paths.REPORTS, metavar="DIRECTORY")
    """Folder of the reports."""
    storage: str = make_setting("", paths.STORAGE)
    """Optuna's storage: sqlite:///FILE or postgresql://…"""
    tracking_uri: str = make_setting("", paths.TRACKING, variables=("SWEEPER_TRACKING_URI", "MLFLOW_TRACKING_URI"))
    """MLflow's store: sqlite:///FILE or a server's address."""

    @property
    def places(self) -> str:
        """Options that the command to resume the comparison needs, as its plan does not store them."""
        workers = format_option("--workers", str(self.workers), "1")
        limit = format_option("--time-limit", str(self.time_limit), "None")
        return format_places(self.tracking_uri, self.out) + workers + limit

    def list_study_options(self, source: str | None) -> dict[str, Any] | None:
        """Return the options of a study of the named losses on DATA, by sweeper's own training; None for a script."""
        if self.command is not None or source is None or self.losses is None:
            return None
        given = {name: getattr(self, name) for name in self.model_fields_set - {"losses"}}
        return {**given, "space": self.losses, "data": source}


class TrainOptions(Record):
    """Options of `sweeper train`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    storage: str = paths.STORAGE
    cache: Path = paths.CACHE
    on: TrainedOn = make_setting("Training", "train+val")
    """Images to train on: the search's training split, all except the test split, or all."""
    steps: int | None = make_setting(
        "Training", metavar="N", default="those of the final training", ge=4, le=MOST_STEPS
    )
    """Optimiser steps."""
    seed: int | None = make_setting("Training", metavar="N", default="the study's", ge=0, le=MOST_SEED)
    """Seed of weights, batches and crops."""
    data: str | None = make_setting("Data", default="where the study read them, else its decoded copy")
    """Current place of the study's images."""
    images: str | None = make_setting("Data", default="as the study read them", metavar="PATTERN")
    """Current pattern of the images' names."""
    masks: str | None = make_setting("Data", default="as the study read them", metavar="PATTERN")
    """Current pattern of the masks' names."""
    device: str = "auto"
    """Device that trains: auto, cpu, cuda or mps."""
    precision: Annotated[Precision | None, AUTO] = make_setting("Machine")
    """Precision of the forward pass. auto: the study's where a CPU has it, on a GPU bfloat16 where it has that."""
    overwrite: bool = make_setting("Training", False)
    """Train again even if the same network was trained before."""
    register_as: str | None = Field(None, min_length=1)
    """Name to register the network under in MLflow's model registry."""
    tracking_uri: str = paths.TRACKING
    """MLflow's store for the registered network."""


class PredictOptions(Record):
    """Options of a prediction."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    out: Path
    """Folder for masks/, overlays/, classes.txt and predictions.json."""
    device: str = "auto"
    """Device that predicts: auto, cpu, cuda or mps."""
    threshold: float | None = make_setting("", default="the recommended one", metavar="X", ge=-100, le=100)
    """Threshold (two classes) or τ (more)."""
    probabilities: bool = make_setting("", False)
    """Also write probabilities: a 16-bit PNG for two classes, else a file for numpy."""
    overwrite: bool = make_setting("", False)
    """Replace existing files."""
