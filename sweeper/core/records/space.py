"""A search space: loss families with the ranges of their coordinates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.own_code import OwnCode
from sweeper.core.records.data import Task

CoordinateKind = Literal["uniform", "log", "power_of_imbalance", "fixed"]


class Coordinate(Record):
    """One searched (or fixed) number of a loss, or the learning rate.

    `power_of_imbalance` is searched as an exponent p in [low, high]; the loss receives imbalance ** p.
    """

    kind: CoordinateKind
    low: float
    high: float


class FamilySpace(Record):
    """One loss family with the coordinates that are searched in it."""

    family: str
    coordinates: dict[str, Coordinate]


class Start(Record):
    """A configuration that is among a family's first trials."""

    family: str
    params: dict[str, float]
    """On the scale that is searched, by Optuna's names; the learning rate is not among them."""


class SearchSpace(Record):
    """What is searched: the families, their coordinates, and the learning rate tuned equally for each."""

    name: str
    task: Task
    lr: Coordinate
    families: tuple[FamilySpace, ...] = Field(min_length=1)
    starts: tuple[Start, ...] = ()
    """What similar data advise to try after the defaults; the families begin in the order of their first one."""


class OwnLoss(Record):
    """A loss of the user's, as its code declares it."""

    code: OwnCode
    takes: tuple[Literal["task", "classes", "ignore_index"], ...] = ()
    """What it asks for beside its hyper-parameters."""
    coordinates: dict[str, Coordinate]
    """Ranges of its hyper-parameters."""
    starts: dict[str, float]
    """Their values in its first trial."""

    @property
    def name(self) -> str:
        """Of the family: that of the function."""
        return self.code.function
