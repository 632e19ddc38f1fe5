"""Storage format of records: JSON with the format's number, the writing version, and a checksum.

A document is the record's JSON with one more key:

    {…, "stored_as": {"format": 4, "by": "0.1.0", "sha256": "…"}}

`format` is one number for the formats of all stored records.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from sweeper.core.base import Record
from sweeper.core.errors import DamagedError, StudyError
from sweeper.version import __version__

RESULT = "result"
"""Trial attribute: the TrialResult as JSON."""
FAMILY = "family"
"""Trial attribute: its loss family, set before its first report."""
PARAMETERS = "parameters"
"""Trial attribute for display: the loss's parameters and the learning rate of the training."""
WAITS = "waits"
"""Trial attribute: result so far of a trial that waits at a rung (the TrialResult as if it had ended there)."""
ABANDONED = "abandoned"
"""Trial attribute: why a worker did not finish this attempt; the trial does not count."""
ATTEMPT_OF = "attempt_of"
"""Trial attribute: number of the trial of which this is a lost attempt."""
RETRY_OF = "retry_of"
"""Trial attribute: number of the failed trial that this trial replaces."""
PLAN = "plan"
"""Study attribute: the `StudyPlan`."""
OPTIONS = "options"
"""Study attribute: options given on the command line in all sessions."""
MACHINE = "machine"
"""Study attribute: the last session's device, executor, workers and threads."""
MARGIN = "margin"
"""Study attribute: the margin."""
CONCLUDED = "conclusions"
"""Study attribute: number of confirmations, interim analyses and margin of each conclusion that changed one of them."""
SESSION = "session"
"""Study attribute: the process that began the last session."""
OVER = "over"
"""Study attribute: whether the last session was concluded, with or without confirmations."""
PLANNED = "analyses_planned"
"""Study attribute: the planned interim analyses."""
TAKEN = "analyses_taken"
"""Study attribute: the `StoredAnalyses` of the current confirmation."""
SAME = "same_losses"
"""Study attribute: search trials that are equivalent to a simpler loss (`SameLosses`)."""
RATES = "rates"
"""Study attribute: the learning rates of its losses (`StudyRates`)."""
SETTLES = "settles"
"""Study attribute: whether the search ends by itself when trials bring no gain."""
PROBED = "probe"
"""Study attribute: start and choice of the budget probe (`BudgetProbe`)."""
FINAL_ENDED = "trained_final"
"""Study attribute: the steps of the final training that has ended, and the confirmation before it."""
CUT = "cut"
"""Study attribute: parts of the last session that the time limit shortened, in sentences."""
CHECKED = "images_checked"
"""Study attribute: progress of each training at the last check that the decoded images were unchanged."""
DROPPED = "dropped"
"""Study attribute: names of the trainings discarded last, because the decoded images had changed."""
RUNS = "mlflow_runs"
"""Study attribute: the trainings' MLflow runs, by `search/00012` and the like."""
EXPERIMENT, PARENT = "experiment_id", "parent_run_id"
"""Study attributes: ids of MLflow's experiment, and of the sweep's run."""
FORMAT = 4
"""Increased by one when a stored record changes so that defaults are not enough to read its older documents."""
MARK = "stored_as"

Document = dict[str, Any]
Kind = TypeVar("Kind", bound=Record)


def compute_checksum(value: object) -> str:
    """Compute the SHA-256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def pack(record: Record) -> Document:
    """Return the document of a record, for storing."""
    document = record.model_dump(mode="json")
    assert MARK not in document
    return {**document, MARK: {"format": FORMAT, "by": __version__, "sha256": compute_checksum(document)}}


def unpack(kind: type[Kind], document: object, what: str) -> Kind:
    """Return the record of a document.

    Raises:
        DamagedError: if the document was changed since it was written, or cannot be read.
        StudyError: if another version wrote it and this one cannot read it.
    """
    if not isinstance(document, Mapping):
        raise DamagedError(what, f"it must be a JSON object, found {type(document).__name__}")
    content = {key: value for key, value in document.items() if key != MARK}
    stored = document.get(MARK)
    mark: Mapping[str, Any] = stored if isinstance(stored, Mapping) else {}
    number = mark.get("format")
    if not isinstance(number, int):
        raise DamagedError(what, f"its format must be a whole number, found {number!r}")
    made = f"{what} was made by sweeper {mark.get('by')} in format {number}; this is sweeper {__version__}"
    if number != FORMAT:
        raise StudyError(
            f"{made}, which reads format {FORMAT}. Use the version that made it, or make a new study; what was "
            "reported of this one stays"
        )
    if compute_checksum(content) != mark.get("sha256"):
        raise DamagedError(what, "its checksum does not fit")
    try:
        return kind.model_validate(content)
    except (ValidationError, ValueError, TypeError, KeyError) as error:
        raise StudyError(
            f"{made}, which cannot read it: {_format_first_problem(error)}. Use the version that made it, or a newer "
            "one"
        ) from error


def unpack_if(kind: type[Kind], attributes: Mapping[str, Any], key: str, what: str) -> Kind | None:
    """Return the record under a key of a study's attributes; None if there is none. Raises as `unpack`."""
    return unpack(kind, attributes[key], what) if key in attributes else None


class StoredValue(Record):
    """A JSON value that is stored under its own name."""

    value: Any


def pack_value(value: object) -> Document:
    """Return the document of a JSON value."""
    return pack(StoredValue(value=value))


def unpack_value(attributes: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Return a JSON value among a study's attributes; `default` if there is none.

    Raises:
        DamagedError, StudyError: as `unpack`.
    """
    return unpack(StoredValue, attributes[key], f"the study's {key!r}").value if key in attributes else default


def _format_first_problem(error: Exception) -> str:
    """Format the first problem on one line, with its place."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
    return f"{type(error).__name__}: {error}"
