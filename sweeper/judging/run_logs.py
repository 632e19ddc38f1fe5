"""Scores of runs that a trainer logged, one folder for each: METHOD/SEED/…/LOG below a folder.

    metrics.csv          Lightning's CSVLogger
    results.csv          Ultralytics
    trainer_state.json   Hugging Face Trainer; of several checkpoints the last
    scalars.json         MMEngine, a JSON object a line

The score of a run is the last value of the metric. The best over the epochs would be a choice on the very images that
judge, and is higher for that alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeper.core.spreadsheet import TableError, decode_text, parse_table
from sweeper.core.text import join_words, suggest_correction
from sweeper.judging.rows import ScoreRequest, ScoreRows, ScoresError, abbreviate_names

LOGS = ("metrics.csv", "results.csv", "trainer_state.json", "scalars.json")
NOT_SCORES = {"epoch", "step", "iter", "time", "loss", "lr", "memory", "data_time", "grad_norm"}
"""Names that no list of metrics needs."""
Entries = Sequence[Mapping[str, Any]]


def find_logs(root: Path) -> list[Path]:
    """Return the logs below a folder."""
    return sorted(path for name in LOGS for path in root.rglob(name) if path.parent != root)


def read_logs(root: Path, request: ScoreRequest) -> ScoreRows:
    """Return the last value of the requested metric of each run.

    Raises:
        ScoresError: with each log that cannot be read, or has no such metric.
    """
    runs: dict[tuple[str, str], list[tuple[Path, Entries]]] = {}
    problems, names = list[str](), dict[str, None]()
    for path in find_logs(root):
        method, *rest = path.relative_to(root).parts[:-1]
        try:
            entries = _read_entries(path)
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, TableError) as error:
            problems.append(f"{path} must be a log as its trainer writes it, and is not: {error}")
            continue
        names |= dict.fromkeys(name for entry in entries for name in entry)
        runs.setdefault((method, rest[0] if rest else "1"), []).append((path, entries))
    metric = request.metric
    if metric is None or metric not in names:
        choices = [name for name in names if name.rpartition("/")[2].casefold() not in NOT_SCORES]
        near = "" if metric is None else suggest_correction(metric, choices)
        got = "none" if metric is None else repr(metric)
        choice = f"there are {abbreviate_names(choices, most=8)}"
        problems.append(f"--metric must name a logged value, got {got}{near}; {choice}")
        raise ScoresError(str(root), problems)
    rows = []
    for (method, seed), logs in runs.items():
        values = [value for _, entries in _keep_last(logs) if (value := _get_last(entries, metric)) is not None]
        if len(values) == 1 and math.isfinite(values[0]):
            rows.append((method, seed, values[0]))
        elif len(values) == 1:
            step = "a run that diverged gets the score that it is worth"
            problems.append(f"run {method}/{seed} must end with a finite {metric}, got {values[0]}; {step}")
        else:
            count = f"{len(values)} logs have it" if values else "none of its logs has it"
            paths = join_words([str(path) for path, _ in logs[:3]])
            problems.append(f"run {method}/{seed} must have one log with {metric!r}, and {count}: {paths}")
    if problems:
        raise ScoresError(str(root), problems)
    note = (
        f"The score of a run is the last value of {metric} in its log. If that is of validation images that chose "
        "anything, judge test scores in its place."
    )
    methods, seeds, scores = zip(*rows, strict=True)
    return ScoreRows({"method": methods, "seed": seeds, metric: scores}, str(root), notes=(note,), metric=metric)


def _keep_last(logs: list[tuple[Path, Entries]]) -> list[tuple[Path, Entries]]:
    """Return one log of several checkpoints of a Hugging Face training: that with the most entries."""
    states = [log for log in logs if log[0].name == "trainer_state.json"]
    others = [log for log in logs if log[0].name != "trainer_state.json"]
    return [*others, *([max(states, key=lambda log: len(log[1]))] if states else [])]


def _get_last(entries: Entries, metric: str) -> float | None:
    """Return the last value; NaN where the training ended with that, and not an earlier one."""
    values = (_parse_number(entry.get(metric)) for entry in reversed(entries))
    return next((value for value in values if value is not None), None)


def _parse_number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _read_entries(path: Path) -> Entries:
    text = decode_text(path.read_bytes())
    if path.suffix == ".csv":
        table = parse_table(text)
        names = [name.strip() for name in table.names]
        return [dict(zip(names, cells, strict=True)) for _, cells in table.rows]
    if path.name == "trainer_state.json":
        return _check_entries(json.loads(text)["log_history"])
    return _check_entries([json.loads(line) for line in text.splitlines() if line.strip()])


def _check_entries(entries: Any) -> Entries:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("its entries must be objects")
    return entries
