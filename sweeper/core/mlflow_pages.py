"""Where MLflow's user interface shows what: the part of an address after the server's.

Without its `workflowType` MLflow 3 may open the page made for traces of language models.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

View = Literal["sweep", "finalists"]
"""Views that a sweep prepares: all trainings by validation mIoU, the confirmations by test mIoU."""

_WORKFLOW = "workflowType=machine_learning"


def runs_place(experiment: str, run: str) -> str:
    """A run's page."""
    return f"#/experiments/{quote(experiment, safe='')}/runs/{quote(run, safe='')}?{_WORKFLOW}"


def view_place(experiment: str, view: View = "sweep") -> str:
    """A prepared view of a sweep."""
    return f"#/experiments/{quote(experiment, safe='')}/runs?viewStateShareKey={view}&{_WORKFLOW}"


def experiments_place() -> str:
    """The list of experiments."""
    return f"#/experiments?{_WORKFLOW}"
