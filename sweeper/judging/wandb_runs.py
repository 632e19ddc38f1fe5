"""Runs of Weights & Biases: its local files (`wandb/…run-…/run-ID.wandb`), and projects on its server.

Its package (extra `logs`) defines the records, and has the public API. The file is a log like LevelDB's: a header of 7
bytes, then blocks of 32 KiB with pieces of records, each after 7 bytes (checksum, length, kind).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sweeper.core.errors import UsageError, require_extra
from sweeper.judging.row_choice import Entries

HEADER, BLOCK = 7, 32768
_FULL, _LAST = 1, 4


class LoggedRun(NamedTuple):
    """A tracker's data about a run."""

    name: str
    config: Mapping[str, Any]
    """Dotted key → value."""
    entries: Entries


def read_offline_run(path: Path) -> LoggedRun:
    """Return the history in a run's file; values that only its summary has are in a last row.

    Raises:
        UsageError: if wandb is not installed.
        ValueError: if the file has another format.
    """
    with require_extra(str(path), "wandb", "logs"):
        from wandb.proto.wandb_internal_pb2 import Record
    name, config, summary, entries = path.stem, dict[str, Any](), dict[str, Any](), list[dict[str, Any]]()
    for raw in _split_records(path.read_bytes()):
        try:
            record = Record.FromString(raw)
        except Exception as error:  # an exception of protobuf
            raise ValueError(f"a record of it is damaged ({error})") from error
        name = record.run.display_name or name
        config |= _flatten({_join_key(item): json.loads(item.value_json) for item in record.run.config.update})
        config |= _flatten({_join_key(item): json.loads(item.value_json) for item in record.config.update})
        summary |= {_join_key(item): json.loads(item.value_json) for item in record.summary.update}
        if record.history.item:
            entries.append({_join_key(item): json.loads(item.value_json) for item in record.history.item})
    return LoggedRun(name, config, _add_summary(entries, summary))


def _split_records(raw: bytes) -> Iterator[bytes]:
    if raw[:4] != b":W&B":
        raise ValueError("its first bytes are not :W&B")
    at, record = HEADER, b""
    while at + HEADER <= len(raw):
        if (left := BLOCK - at % BLOCK) < HEADER:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", raw, at)
        record += raw[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in (_FULL, _LAST) and at <= len(raw):
            yield record
            record = b""


def _join_key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _flatten(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return flat


def _add_summary(entries: list[dict[str, Any]], summary: Mapping[str, Any]) -> Entries:
    logged = {name for entry in entries for name in entry}
    return [*entries, {name: value for name, value in summary.items() if name not in logged}]


def read_project(project: str, metrics: list[str], where: Mapping[str, str]) -> list[LoggedRun]:
    """Return the runs of ENTITY/PROJECT on the server that wandb is logged in to, with the history of these metrics.

    Each metric is requested separately, as the server returns only rows that have all of them. `where`: key of the
    config, or `state` → required value.

    Raises:
        UsageError: if wandb is not installed, or does not answer.
    """
    with require_extra(f"wandb:{project}", "wandb", "logs"):
        import wandb
    runs = []
    try:
        for run in wandb.Api().runs(project):
            config = _flatten({key: value for key, value in run.config.items() if not key.startswith("_")})
            if all(str({**config, "state": run.state}.get(key)) == value for key, value in where.items()):
                rows = [dict(row) for name in metrics for row in run.scan_history(keys=["_step", name])]
                runs.append(LoggedRun(run.name, config, _add_summary(rows, _flatten(dict(run.summary)))))
    except Exception as error:  # of wandb, requests and others
        raise UsageError(
            f"wandb must answer for {project}, got {error}; `wandb login`, or check ENTITY/PROJECT"
        ) from error
    return runs
