"""The ledger: which loss won on which kind of data, measured once, and what that says about other data.

`ledger.csv` has one row for each data set and family: the set's fingerprint, the family's best configuration, and its
gain in test mIoU over cross-entropy, each at its own operating point. bench/ledger.py makes it, and says what its
advice costs on data that it was not made of (docs/atlas.md).
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean, geometric_mean

import numpy as np

from sweeper.core.base import Record
from sweeper.core.records import ImbalanceProfile, Task

NEIGHBOURS = 12
"""Most similar data sets that advice rests on."""
BASELINE = "cross_entropy"
FEATURES = ("log_imbalance", "log_rarest", "log_foreground", "thinness", "log_size", "log_classes", "prevalence")
"""Columns of the fingerprint."""
_BEYOND = 0.1
"""Share of a feature's range in the ledger beyond whose ends data are outside of it."""
_WORDS = {
    "log_imbalance": ("imbalance", 10.0, "{:.3g} to 1"),
    "log_rarest": ("share of the rarest class", 10.0, "{:.3g}"),
    "log_foreground": ("share of the foreground", 10.0, "{:.3g}"),
    "thinness": ("share of pixels near a boundary", None, "{:.2f}"),
    "log_size": ("pixels of a component of the smallest class", 10.0, "{:.0f}"),
    "log_classes": ("classes", 2.0, "{:.0f}"),
    "prevalence": ("share of images with the rarest class", None, "{:.2f}"),
}


class LedgerRow(Record):
    """A family on a data set."""

    point: str
    """Name of the data set."""
    generator: str
    """What drew it; `real`, or `own` for a finished study."""
    task: Task
    log_imbalance: float
    log_rarest: float
    log_foreground: float
    thinness: float
    log_size: float
    log_classes: float
    prevalence: float
    family: str
    params: str
    """`name=value …` of its best configuration; `power` is that of the imbalance in the weights of the classes."""
    lr: float
    steps: int
    score: float
    """Test mIoU, mean over seeds."""
    gain: float
    """Over cross-entropy, in test mIoU, paired by seeds."""
    low: float
    high: float
    """95 % interval of the gain."""

    @property
    def features(self) -> tuple[float, ...]:
        """In the order of `FEATURES`."""
        return tuple(getattr(self, name) for name in FEATURES)


class AdvisedLoss(Record):
    """What the ledger says of a family on data like these."""

    family: str
    params: dict[str, float]
    """Starting values: the configuration that was best most often; `power` as in the ledger."""
    others: tuple[dict[str, float], ...] = ()
    """Further configurations that were best on one of the most similar sets, the commonest first."""
    lr: float
    """Starting value: geometric mean."""
    gain: float
    """Mean gain in test mIoU over cross-entropy on the most similar sets."""
    lowest: float
    highest: float
    """The least and the largest gain there."""
    sets: int
    """How many sets that are."""


@cache
def read_ledger() -> tuple[LedgerRow, ...]:
    """The rows that come with sweeper."""
    with Path(__file__).with_name("ledger.csv").open(encoding="utf-8", newline="") as file:
        return tuple(LedgerRow.model_validate(row, strict=False) for row in csv.DictReader(file))


def features_of(profile: ImbalanceProfile) -> dict[str, float]:
    """The fingerprint that data sets are compared by: a value of each of `FEATURES`.

    Logarithms are to base 10, that of the classes to base 2.
    """
    occurring = [row for row in profile.classes[1:] if row.pixel_share > 0] or list(profile.classes)
    rarest = min(occurring, key=lambda row: row.pixel_share)
    medians = [row.component_pixels[1] for row in occurring if row.component_pixels]
    values = (
        abs(math.log10(profile.imbalance)),
        math.log10(rarest.pixel_share),
        math.log10(sum(row.pixel_share for row in occurring)),
        fmean(row.thinness or 0.0 for row in occurring),
        math.log10(min(medians, default=1.0)),
        math.log2(len(profile.classes)),
        rarest.image_share,
    )
    return dict(zip(FEATURES, values, strict=True))


def advise(task: Task, features: Sequence[float], ledger: Iterable[LedgerRow]) -> tuple[AdvisedLoss, ...]:
    """Families by their mean gain on the `NEIGHBOURS` most similar data sets of the task, the best first.

    Distance is Euclidean, each feature divided by its standard deviation in the ledger.

    Args:
        task: binary or multi-class.
        features: as `features_of` gives them, in the order of `FEATURES`.
        ledger: rows to learn from.

    Raises:
        ValueError: no row is of this task.
    """
    rows = [row for row in ledger if row.task == task]
    points = {row.point: row.features for row in rows}
    if not points:
        raise ValueError(f"the ledger must have data sets of the task {task}, found none; give it others")
    known = np.array(list(points.values()))
    spread = known.std(axis=0)
    apart = (known - np.asarray(features)) / np.where(spread > 0, spread, 1.0)
    nearest = np.argsort((apart**2).sum(axis=1), kind="stable")[:NEIGHBOURS]
    chosen = {list(points)[at] for at in nearest}
    near = [row for row in rows if row.point in chosen]
    advised = []
    for family in dict.fromkeys(row.family for row in near):
        own = [row for row in near if row.family == family]
        gains = [row.gain for row in own]
        commonest, *others = (_values(text) for text, _ in Counter(row.params for row in own).most_common())
        advised.append(
            AdvisedLoss(
                family=family,
                params=commonest,
                others=tuple(others),
                lr=float(f"{geometric_mean(row.lr for row in own):.2g}"),
                gain=fmean(gains),
                lowest=min(gains),
                highest=max(gains),
                sets=len(own),
            )
        )
    return tuple(sorted(advised, key=lambda found: -found.gain))


def _values(text: str) -> dict[str, float]:
    """The ledger's `name=value …`."""
    return {name: float(value) for name, value in (pair.split("=") for pair in text.split())}


def outside(task: Task, features: Sequence[float], ledger: Iterable[LedgerRow]) -> tuple[str, ...]:
    """Sentences about each feature that lies beyond what the ledger's data sets of the task have."""
    known = np.array([row.features for row in ledger if row.task == task])
    found = []
    for name, value, low, high in zip(FEATURES, features, known.min(axis=0), known.max(axis=0), strict=True):
        beyond = _BEYOND * (high - low)
        if not low - beyond <= value <= high + beyond:
            words, base, form = _WORDS[name]
            shown = [form.format(base**number if base else number) for number in (value, low, high)]
            found.append(f"{words}: {shown[0]} here, {shown[1]} to {shown[2]} in the ledger")
    return tuple(found)


def weights(params: dict[str, float], task: Task, imbalance: float) -> dict[str, float]:
    """Coordinates as `build_loss` takes them: `power` as pos_weight, or as class_weight_power."""
    given = dict(params)
    power = given.pop("power", None)
    if power is None:
        return given
    if task == "binary":
        return {**given, "pos_weight": float(f"{imbalance**power:.3g}")}
    return {**given, "class_weight_power": power}


def own_rows(reports: Path) -> tuple[LedgerRow, ...]:
    """Rows of the finished studies by mIoU below a folder of reports; what cannot be read is no row."""
    rows = []
    for path in sorted(reports.glob("*/recommendation.json")):
        try:
            rows += _rows_of(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return tuple(rows)


def _rows_of(study: dict[str, object]) -> list[LedgerRow]:
    """Of one `sweeper.recommendation` document."""
    dataset, recipe, finalists = study["dataset"], study["recipe"], study["finalists"]
    assert isinstance(dataset, dict) and isinstance(recipe, dict) and isinstance(finalists, list)
    if recipe["metric"] != "miou" or min((one["seeds"] for one in finalists), default=0) < 2:
        return []
    profile = ImbalanceProfile.model_validate_json(json.dumps(dataset["profile"]))
    common = {"point": str(study["study"]), "generator": "own", "task": dataset["task"], **features_of(profile)}
    rows = []
    for finalist in finalists:
        gain = finalist["vs_baseline"]
        if gain is None and finalist["family"] != BASELINE:
            continue
        row = {
            **common,
            "family": finalist["family"],
            "params": _params_text(finalist["params"], profile),
            "lr": finalist["lr"],
            "steps": recipe["confirm_steps"],
            "score": finalist["test"]["miou"],
            "gain": gain["difference"] if gain else 0.0,
            "low": gain["ci_low"] if gain else 0.0,
            "high": gain["ci_high"] if gain else 0.0,
        }
        rows.append(LedgerRow.model_validate(row, strict=False))
    return rows if any(row.family == BASELINE for row in rows) else []


def _params_text(params: dict[str, float], profile: ImbalanceProfile) -> str:
    """As the ledger has them."""
    given = dict(params)
    if "pos_weight" in given and profile.imbalance > 0 and profile.imbalance != 1:
        given["power"] = math.log(given.pop("pos_weight")) / math.log(profile.imbalance)
    if "class_weight_power" in given:
        given["power"] = given.pop("class_weight_power")
    return " ".join(f"{name}={value:.3g}" for name, value in given.items())
