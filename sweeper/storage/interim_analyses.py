"""The confirmation's interim analyses: which were planned, which were taken, how often the study was concluded from."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

import optuna
from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.records import AnalysisTaken, InterimAnalysis, Until
from sweeper.storage.record_format import CONCLUDED, OVER, PLANNED, SESSION, TAKEN, pack_value, unpack_if, unpack_value


class StoredAnalysis(Record):
    """Interim analysis with what a resume needs to continue as if it had not been cut off."""

    found: AnalysisTaken
    used: tuple[int, ...]
    """Numbers of the confirmations that it weighed."""
    go_on: bool
    """Whether the confirmation continues; studies store this name."""
    families: tuple[str, ...]
    """Finalists that continue."""


class StoredAnalyses(Record):
    """The interim analyses of one confirmation: of these finalists, by this plan."""

    finalists: tuple[str, ...] = ()
    """Each finalist's configuration, as text."""
    steps: int = 0
    planned: tuple[InterimAnalysis, ...] = ()
    until: Until = "settled"
    first: int = 0
    """Index of the analysis that it began with: of another plan than before, one for which the seeds were there."""
    active: tuple[str, ...] | None = None
    """Families that it began with; None = all finalists."""
    had: dict[str, int] = Field(default_factory=dict)
    """Seeds of each family that were weighed under the plan before, where it did not begin with the first analysis."""
    stored: tuple[StoredAnalysis, ...] = ()
    cut: AnalysisTaken | None = None
    """Analysis when the time was up between two planned ones."""

    @property
    def analyses(self) -> tuple[AnalysisTaken, ...]:
        """For the report: where the time was up with nothing new to see, that is the last one's ending."""
        analyses = [analysis.found for analysis in self.stored]
        if self.cut is None:
            return tuple(analyses)
        return (*(analysis for analysis in analyses if analysis.seeds != self.cut.seeds), self.cut)


def read_analyses(attributes: Mapping[str, Any]) -> StoredAnalyses:
    """Return the interim analyses stored in a study's attributes."""
    return unpack_if(StoredAnalyses, attributes, TAKEN, "the record of the interim analyses") or StoredAnalyses()


def read_planned_analyses(attributes: Mapping[str, Any]) -> tuple[InterimAnalysis, ...]:
    """Return the interim analyses that the study is confirmed by; () before they are planned."""
    plans = unpack_value(attributes, PLANNED, [[]])  # one; older studies keep all that there were, the last in force
    return tuple(InterimAnalysis.model_validate(analysis) for analysis in plans[-1])


def note_session(study: optuna.Study) -> None:
    """Remember that a session has begun, by which process, and is not concluded."""
    study.set_user_attr(OVER, pack_value(False))
    study.set_user_attr(SESSION, f"process {os.getpid()} on {socket.gethostname()}")


def is_concluded(attributes: Mapping[str, Any]) -> bool:
    """Return whether a study's last session came to its conclusion."""
    return bool(unpack_value(attributes, OVER, False))


def note_conclusion(study: optuna.Study) -> None:
    """Remember that the session is concluded, and how the test split's scores were used, if that is new.

    Other confirmations, another plan of interim analyses and another ROPE are all occasions for chance. Without a
    confirmation nothing was seen.
    """
    study.set_user_attr(OVER, pack_value(True))
    attributes = study.user_attrs
    confirmations = sum(key.startswith("confirm/") for key in attributes)
    if not confirmations:
        return
    seeds = [analysis.seeds for analysis in read_planned_analyses(attributes)]
    drawn = [confirmations, seeds, unpack_value(attributes, "rope")]
    concluded = list(unpack_value(attributes, CONCLUDED, []))
    if not concluded or concluded[-1] != drawn:
        study.set_user_attr(CONCLUDED, pack_value([*concluded, drawn]))
