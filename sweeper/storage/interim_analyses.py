"""Store the confirmation's interim analyses, planned and taken, and the study's conclusions."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

import optuna
from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.records import AnalysisTaken, InterimAnalysis
from sweeper.storage.record_format import (
    CONCLUDED,
    MARGIN_KEY,
    OVER,
    PLANNED,
    SESSION,
    TAKEN,
    pack_value,
    unpack_if,
    unpack_value,
)


class StoredAnalysis(Record):
    """Interim analysis with the state that an interrupted session needs to continue."""

    found: AnalysisTaken
    used: tuple[int, ...]
    """Numbers of the confirmations in the analysis."""
    go_on: bool
    """Whether the confirmation continues; studies store this name."""
    families: tuple[str, ...]
    """Finalists that continue."""


class StoredAnalyses(Record):
    """The interim analyses of one confirmation, with its finalists and plan."""

    finalists: tuple[str, ...] = ()
    """Each finalist's configuration, as text."""
    steps: int = 0
    planned: tuple[InterimAnalysis, ...] = ()
    first: int = 0
    """Index of the first analysis; after a change of the plan, one whose seeds already existed."""
    active: tuple[str, ...] | None = None
    """Families at the first analysis; None = all finalists."""
    had: dict[str, int] = Field(default_factory=dict)
    """Number of seeds of each family that the previous plan had analysed, if `first` is not 0."""
    stored: tuple[StoredAnalysis, ...] = ()
    cut: AnalysisTaken | None = None
    """Analysis when the time limit was reached between two planned ones."""

    @property
    def analyses(self) -> tuple[AnalysisTaken, ...]:
        """Analyses for the report; one at the time limit replaces a planned one of the same seeds."""
        analyses = [analysis.found for analysis in self.stored]
        if self.cut is None:
            return tuple(analyses)
        return (*(analysis for analysis in analyses if analysis.seeds != self.cut.seeds), self.cut)


def read_analyses(attributes: Mapping[str, Any]) -> StoredAnalyses:
    """Read the interim analyses from a study's attributes."""
    return unpack_if(StoredAnalyses, attributes, TAKEN, "the record of the interim analyses") or StoredAnalyses()


def read_planned_analyses(attributes: Mapping[str, Any]) -> tuple[InterimAnalysis, ...]:
    """Read the planned interim analyses; () before they are planned."""
    plans = unpack_value(attributes, PLANNED, [[]])  # one plan; older studies keep all, of which the last applies
    return tuple(InterimAnalysis.model_validate(analysis) for analysis in plans[-1])


def note_session(study: optuna.Study) -> None:
    """Record that this process has begun a session, which is not concluded."""
    study.set_user_attr(OVER, pack_value(False))
    study.set_user_attr(SESSION, f"process {os.getpid()} on {socket.gethostname()}")


def is_concluded(attributes: Mapping[str, Any]) -> bool:
    """Return whether a study's last session was concluded."""
    return bool(unpack_value(attributes, OVER, False))


def note_conclusion(study: optuna.Study) -> None:
    """Record that the session is concluded, and how the test scores were used, if that is new.

    Other confirmations, another plan of interim analyses and another margin each are another chance of error. Without
    confirmations no test scores were used.
    """
    study.set_user_attr(OVER, pack_value(True))
    attributes = study.user_attrs
    confirmations = sum(key.startswith("confirm/") for key in attributes)
    if not confirmations:
        return
    seeds = [analysis.seeds for analysis in read_planned_analyses(attributes)]
    drawn = [confirmations, seeds, unpack_value(attributes, MARGIN_KEY)]
    concluded = list(unpack_value(attributes, CONCLUDED, []))
    if not concluded or concluded[-1] != drawn:
        study.set_user_attr(CONCLUDED, pack_value([*concluded, drawn]))
