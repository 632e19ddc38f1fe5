"""Storage format of records: their JSON with the number of its format, who wrote it, a checksum.

A document is the record's own JSON with one more key:

    {…, "stored_as": {"format": 4, "by": "0.1.0", "sha256": "…"}}

`format` is the number of the formats of all stored records together.
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
"""Trial attribute for display: the loss's parameters and the learning rate, as they are trained with."""
WAITS = "waits"
"""Trial attribute: what one that waits at a rung gave so far (the TrialResult as if it had ended there)."""
ABANDONED = "abandoned"
"""Trial attribute: why a worker did not finish this attempt; such a trial does not count."""
ATTEMPT_OF = "attempt_of"
"""Trial attribute: this is the record of an attempt at the trial of that number, which was begun again."""
RETRY_OF = "retry_of"
"""Trial attribute: this trial takes the place of the one of that number, which failed."""
PLAN = "plan"
"""Study attribute: the `StudyPlan`."""
OPTIONS = "options"
"""Study attribute: what was asked for on the command line, over all sessions."""
MACHINE = "machine"
"""Study attribute: how the machine is used: device, executor, workers and threads, as the last session had them."""
CONCLUDED = "conclusions"
"""Study attribute: from how many confirmations, with which interim analyses and ROPE it was concluded, where these
changed."""
SESSION = "session"
"""Study attribute: the process that began the last session."""
OVER = "over"
"""Study attribute: whether the last session came to its conclusion, be it one without confirmations."""
PLANNED = "analyses_planned"
"""Study attribute: the plan of the interim analyses that it is confirmed by, in a list."""
TAKEN = "analyses_taken"
"""Study attribute: the `StoredAnalyses` of the confirmation at hand."""
SAME = "same_losses"
"""Study attribute: which search trials are another name for a simpler loss (`SameLosses`)."""
RATES = "rates"
"""Study attribute: the learning rate that the confirmation draws around (`RateFit`)."""
SETTLES = "settles"
"""Study attribute: whether the search ends by itself, once trials bring no gain."""
PROBED = "probe"
"""Study attribute: where the budget probe began, and what it chose (`BudgetProbe`)."""
LOOKED = "looked_longer"
"""Study attribute: at how many times the steps, and from which confirmation, the longer look was made."""
CUT = "cut"
"""Study attribute: what the time limit cut short in the last session, in sentences."""
CHECKED = "images_checked"
"""Study attribute: how far each training was when the decoded images were last found as they were decoded."""
DROPPED = "dropped"
"""Study attribute: names of the trainings that were taken back the last time, as the decoded images had changed."""
RUNS = "mlflow_runs"
"""Study attribute: the trainings' MLflow runs, by `search/00012` and the like."""
EXPERIMENT, PARENT = "experiment_id", "parent_run_id"
"""Study attributes: MLflow's experiment, and the run of the whole sweep there."""
FORMAT = 4
"""Raised by one when a stored record changes so that its older documents need more than a default."""
MARK = "stored_as"

Document = dict[str, Any]
Kind = TypeVar("Kind", bound=Record)


def compute_checksum(value: object) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def pack(record: Record) -> Document:
    """Return the document of a record that is to be stored."""
    document = record.model_dump(mode="json")
    assert MARK not in document
    return {**document, MARK: {"format": FORMAT, "by": __version__, "sha256": compute_checksum(document)}}


def unpack(kind: type[Kind], document: object, what: str) -> Kind:
    """Return the record of a document.

    Raises:
        DamagedError: if it was changed since it was written, or cannot be read at all.
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
    """A single value, or a list or table of them, that is stored under a name of its own."""

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
    """Return one line: where, and what is wrong."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
    return f"{type(error).__name__}: {error}"
