"""The ledger: measured gains of losses on data sets, and advice for other data derived from them.

`ledger.csv` has one row per data set and family: the data set's fingerprint, the family's best configuration, and its
gain in test mIoU over cross-entropy, each at its own operating point. bench/ledger.py makes it, and measures the cost
of its advice on other data (docs/atlas.md).
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
from typing import Any, NamedTuple

import numpy as np

from sweeper.core.base import Record
from sweeper.core.records import ImbalanceProfile, Task
from sweeper.core.text import format_ratio, format_signed
from sweeper.losses.families import FAMILIES
from sweeper.system.whole_files import read_json

NEIGHBOURS = 12
"""Number of nearest data sets for advice."""
REACH = 0.95
"""Quantile of the distances from each of the ledger's sets to the nearest other, up to which sets are similar."""
SMALL_GAIN = 0.01
"""Mean gain in test mIoU below which the loss hardly matters."""
BASELINE = "cross_entropy"
RULE, RULE_PARAMS = ("multiclass", "dice_ce"), {"mix": 0.2, "power": 0.75}
"""The guess for several classes, some of them rare (docs/atlas.md): which mixture is best on such data no set tells."""
LONGER_TIMES = 4
"""Multiple of the steps for `LedgerRow.gain_longer`."""
POWERS = ("pos_weight", "class_weight_power")
"""Roles of the coordinates that the ledger calls `power`."""
OWN = "own"
"""Generator of the rows of finished studies."""
FEATURES = (*("log_imbalance", "log_rarest", "log_foreground", "thinness"), *("log_size", "log_classes", "prevalence"))
"""Names of the fingerprint's columns."""


class LedgerRow(Record):
    """A family on a data set."""

    point: str
    """Name of the data set."""
    generator: str
    """Scene that generated the data; `real`, or `OWN` for a finished study."""
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
    """`name=value …` of the best configuration; `power` is the exponent of the imbalance in the class weights."""
    lr: float
    steps: int
    score: float
    """Test mIoU, mean over seeds."""
    gain: float
    """Gain over cross-entropy in test mIoU, paired by seeds."""
    low: float
    high: float
    """95 % interval of the gain."""
    gain_longer: float | None = None
    """Gain over cross-entropy after `LONGER_TIMES` times the steps; null if not measured."""

    @property
    def features(self) -> tuple[float, ...]:
        """Values in the order of `FEATURES`."""
        return tuple(getattr(self, name) for name in FEATURES)


class AdvisedLoss(Record):
    """The ledger's advice on a family for a data set."""

    family: str
    params: dict[str, float]
    """Starting values: the most frequent best configuration, or the rule; `power` as in the ledger."""
    others: tuple[dict[str, float], ...] = ()
    """Other best configurations on the most similar sets, the most frequent first."""
    lr: float
    """Starting value: geometric mean."""
    gain: float | None
    """Mean gain in test mIoU over cross-entropy on the nearest sets; null if no set is similar."""
    lowest: float | None
    highest: float | None
    """Least and largest gain on these sets."""
    gain_longer: float | None = None
    """Gain after `LONGER_TIMES` times the steps: the mean gain plus its mean change where both are measured; null if
    that is on fewer than half of the sets."""
    sets: int
    """Number of data sets that gain and rank come from; not all of them need be similar."""
    least: float
    """Least and most imbalance of these sets, as a ratio ≥ 1."""
    most: float


class LedgerAdvice(Record):
    """Losses that won on data like a data set."""

    features: dict[str, float]
    """The fingerprint by which data sets are compared."""
    losses: tuple[AdvisedLoss, ...]
    """The most promising first; `params` as in `sweeper losses`, {} = the family's defaults."""
    similar: int
    """Number of the ledger's nearest sets that are similar; 0 = the data are unlike all measured ones."""
    stake: str
    """How much depends on the choice of the loss, in a sentence."""


class LedgerDistances(NamedTuple):
    """Distances from the ledger's data sets of a task to a data set."""

    points: tuple[str, ...]
    """Names of the data sets, the nearest first."""
    distances: tuple[float, ...]
    """Euclidean distances, with each feature in standard deviations of the ledger."""
    reach: float
    """Distance up to which a set is similar."""

    @property
    def similar(self) -> int:
        """Number of similar sets among the `NEIGHBOURS` nearest."""
        return sum(distance <= self.reach for distance in self.distances[:NEIGHBOURS])

    @property
    def unlike(self) -> str:
        """Reason why no set is similar, in a sentence; empty if one is."""
        if self.similar:
            return ""
        if not self.reach:
            return "No measured set has classes that overlap."
        return (
            f"The data are unlike anything measured: the nearest set, {self.points[0]}, is {self.distances[0]:.2g} "
            f"standard deviations away, and {100 * REACH:.0f} % of the measured sets have another one within "
            f"{self.reach:.2g}."
        )


@cache
def read_ledger() -> tuple[LedgerRow, ...]:
    """Read the rows shipped with sweeper."""
    with Path(__file__).with_name("ledger.csv").open(encoding="utf-8", newline="") as file:
        rows = [{**row, "gain_longer": row["gain_longer"] or None} for row in csv.DictReader(file)]
    return tuple(LedgerRow.model_validate(row, strict=False) for row in rows)


def compute_features(profile: ImbalanceProfile) -> dict[str, float]:
    """Compute the fingerprint for comparing data sets: a value of each of `FEATURES`.

    Logarithms are to base 10, that of the classes to base 2.
    """
    objects = [row for row in profile.classes[int(profile.overlap is None) :] if row.pixel_share > 0]
    occurring = objects or list(profile.classes)
    rarest = min(occurring, key=lambda row: row.pixel_share)
    medians = [row.component_pixels[1] for row in occurring if row.component_pixels]
    values = (
        abs(math.log10(profile.imbalance)),
        math.log10(rarest.pixel_share),
        math.log10(sum(row.pixel_share for row in occurring)),
        fmean(row.thinness or 0.0 for row in occurring),
        math.log10(min(medians, default=1.0)),
        math.log2(len(profile.classes) + (profile.overlap is not None)),
        rarest.image_share,
    )
    return dict(zip(FEATURES, values, strict=True))


def list_task_rows(task: Task, ledger: Iterable[LedgerRow]) -> list[LedgerRow]:
    """Return the rows of a task; of the multi-label task, of which no set was measured, those of the binary."""
    return [row for row in ledger if row.task == {"multilabel": "binary"}.get(task, task)]


def measure_nearness(task: Task, features: Sequence[float], ledger: Iterable[LedgerRow]) -> LedgerDistances:
    """Measure the distances to the ledger's sets of a task, in standard deviations of its shipped sets.

    The reach is the `REACH` quantile of the distances from each shipped set to the nearest other. The user's studies
    are neighbours, but do not affect scale and reach: many studies of one data set would make all others look distant.
    `features` are in the order of `FEATURES`.

    Raises:
        ValueError: if no row is of this task.
    """
    rows = list_task_rows(task, ledger)
    points = {row.point: row.features for row in rows}
    if not points:
        raise ValueError(f"the ledger must have data sets of the task {task}, found none; give it others")
    coordinates = np.array(list(points.values()))
    shipped = {row.point: row.features for row in rows if row.generator != OWN}
    measured = np.array(list(shipped.values())) if shipped else coordinates
    spread = measured.std(axis=0)
    spread[spread == 0] = 1.0
    between = np.linalg.norm((measured[:, None] - measured) / spread, axis=2)
    np.fill_diagonal(between, np.inf)
    distances = np.linalg.norm((coordinates - np.asarray(features)) / spread, axis=1)
    order = np.argsort(distances, kind="stable")
    return LedgerDistances(
        points=tuple(list(points)[at] for at in order),
        distances=tuple(float(distances[at]) for at in order),
        reach=float(np.quantile(between.min(axis=1), REACH)) * (rows[0].task == task),
    )


def rank_losses(task: Task, features: Sequence[float], ledger: Iterable[LedgerRow]) -> tuple[AdvisedLoss, ...]:
    """Rank the families by their mean gain on the `NEIGHBOURS` nearest data sets of the task, the best first.

    If none of them is similar, no gain is claimed: families are ranked over all sets of the task, with their default
    configurations. `dice_ce` of several classes begins with `RULE_PARAMS`. Arguments and errors as in
    `measure_nearness`.
    """
    rows = list_task_rows(task, ledger)
    near = measure_nearness(task, features, rows)
    is_similar = near.similar > 0
    chosen = set(near.points[:NEIGHBOURS] if is_similar else near.points)
    losses = []
    chosen_rows = [row for row in rows if row.point in chosen]
    for family in dict.fromkeys(row.family for row in chosen_rows):
        family_rows = [row for row in chosen_rows if row.family == family]
        gains = [row.gain for row in family_rows]
        changes = [row.gain_longer - row.gain for row in family_rows if row.gain_longer is not None]
        has_longer = is_similar and 2 * len(changes) >= len(gains)
        best = [_parse_values(text) for text, _ in Counter(row.params for row in family_rows).most_common()]
        starts = best if is_similar else [{}]
        if (task, family) == RULE:
            starts = [RULE_PARAMS, *(params for params in starts if params not in ({}, RULE_PARAMS))]
        claims = (fmean(gains), min(gains), max(gains))
        gain, lowest, highest = claims if is_similar else (None, None, None)
        advised = AdvisedLoss(
            family=family,
            params=starts[0],
            others=tuple(starts[1:]),
            lr=float(f"{geometric_mean(row.lr for row in family_rows):.2g}"),
            gain=gain,
            lowest=lowest,
            highest=highest,
            gain_longer=fmean(gains) + fmean(changes) if has_longer else None,
            sets=len(family_rows),
            least=10 ** min(row.log_imbalance for row in family_rows),
            most=10 ** max(row.log_imbalance for row in family_rows),
        )
        losses.append((fmean(gains), advised))
    return tuple(advised for _, advised in sorted(losses, key=lambda one: -one[0]))


def explain_stake(task: Task, features: Sequence[float], ledger: Iterable[LedgerRow]) -> str:
    """Explain how much depends on the loss with such data."""
    rows = tuple(ledger)
    near, first = measure_nearness(task, features, rows), rank_losses(task, features, rows)[0]
    if first.gain is None or first.lowest is None or first.highest is None:
        return f"{near.unlike} Which loss helps is not known: `sweeper run` finds out."
    sets = min(NEIGHBOURS, len(near.points))
    ratios = f"imbalance {format_ratio(first.least)} to {format_ratio(first.most)}"
    where = f"On the {sets} nearest measured sets ({near.similar} of them similar; {ratios})"
    gained = f"{first.family} gains {format_signed(first.gain)} test mIoU over cross-entropy in the mean"
    if first.gain < SMALL_GAIN:
        return f"{where} the loss hardly matters: {gained}. Tune the threshold first."
    ends = f"{format_signed(first.lowest)} to {format_signed(first.highest)}"
    text = f"{where} the loss matters: {gained}, {ends}."
    if first.gain_longer is None:
        return text
    return f"{text} At {LONGER_TIMES} times the steps {format_signed(first.gain_longer)} of it is left in the mean."


def advise_losses(task: Task, profile: ImbalanceProfile, user_rows: Sequence[LedgerRow]) -> LedgerAdvice:
    """Return what won on the ledger's data and the user's own that are most like those of the profile."""
    features = compute_features(profile)
    measured = (task, tuple(features.values()), (*read_ledger(), *user_rows))
    return LedgerAdvice(
        features=features,
        losses=tuple(
            loss.model_copy(update={"params": make_weight_parameters(loss, task, profile.imbalance)})
            for loss in rank_losses(*measured)
        ),
        similar=measure_nearness(*measured).similar,
        stake=explain_stake(*measured),
    )


def _parse_values(text: str) -> dict[str, float]:
    """Parse the ledger's `name=value …`."""
    return {name: float(value) for name, value in (pair.split("=") for pair in text.split())}


def make_weight_parameters(loss: AdvisedLoss, task: Task, imbalance: float) -> dict[str, float]:
    """Return coordinates for `build_loss`: `power` becomes the family's coordinate with that role."""
    parameters = dict(loss.params)
    power = parameters.pop("power", None)
    if power is not None:
        free = FAMILIES[loss.family].coordinates[task]
        name = next(name for name, coordinate in free.items() if coordinate.role in POWERS)
        parameters[name] = float(f"{imbalance**power:.3g}") if free[name].role == "pos_weight" else power
    return parameters


def read_user_rows(reports: Path) -> tuple[LedgerRow, ...]:
    """Read rows of finished studies by mIoU from a folder of reports; skip unreadable ones."""
    rows = []
    for path in sorted(reports.glob("*/recommendation.json")):
        try:
            rows += _read_rows(read_json(path))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return tuple(rows)


def _read_rows(study: dict[str, Any]) -> list[LedgerRow]:
    """Return the rows of one `sweeper.answer` document."""
    dataset, recipe, losses = study["dataset"], study["recipe"], study["losses"]
    if recipe["metric"] != "miou" or min((one["seeds"] for one in losses), default=0) < 2:
        return []
    profile = ImbalanceProfile.model_validate_json(json.dumps(dataset["profile"]))
    common = {"point": study["study"], "generator": OWN, "task": dataset["task"], **compute_features(profile)}
    gains, final = {BASELINE: (0.0, 0.0, 0.0)}, study["final"]
    for gap in study["differences"]:
        if gap["second"] == BASELINE:
            gains[gap["first"]] = (gap["estimate"], gap["low"], gap["high"])
        elif gap["first"] == BASELINE:
            gains[gap["second"]] = (-gap["estimate"], -gap["high"], -gap["low"])
    longer = dict[str, float]()
    of_same_network = final if recipe["final"] is None else None
    if of_same_network and of_same_network["steps"] == LONGER_TIMES * recipe["confirm_steps"]:
        longer = {final["first"]: final["after"]["estimate"]}
    rows = []
    for one in losses:
        name = one["loss"]
        if name not in gains:
            continue
        gain, low, high = gains[name]
        row = {
            **common,
            "family": name,
            "params": _format_params(name, dataset["task"], one["params"], profile.imbalance),
            "lr": one["lr"],
            "steps": recipe["confirm_steps"],
            "score": one["test"]["miou"]["estimate"],
            "gain": gain,
            "low": low,
            "high": high,
            "gain_longer": longer.get(name) if final and final["second"] == BASELINE else None,
        }
        rows.append(LedgerRow.model_validate(row, strict=False))
    return rows if any(row.family == BASELINE for row in rows) else []


def _format_params(family: str, task: Task, params: dict[str, float], imbalance: float) -> str:
    """Format parameters like the ledger; those of the user's own losses stay as they are."""
    parameters = dict(params)
    free = FAMILIES[family].coordinates[task] if family in FAMILIES else {}
    for name, coordinate in free.items():
        if coordinate.role == "class_weight_power" and name in parameters:
            parameters["power"] = parameters.pop(name)
        elif coordinate.role == "pos_weight" and name in parameters and imbalance not in (0, 1):
            parameters["power"] = math.log(parameters.pop(name)) / math.log(imbalance)
    return " ".join(f"{name}={value:.3g}" for name, value in parameters.items())
