"""Scores of runs that a trainer logged, one folder for each: METHOD/SEED/…/LOG below a folder.

  metrics.csv              Lightning's CSVLogger
  results.csv              Ultralytics
  trainer_state.json       Hugging Face Trainer; of several checkpoints the last
  scalars.json             MMEngine, a JSON object a line
  events.out.tfevents.…    TensorBoard; those of one folder are one log
  run-….wandb              Weights & Biases, offline or not

Runs of Weights & Biases may also have method and seed in their config. The score of a run is the last value of the
metric, unless `--at` selects another (`sweeper.judging.row_choice`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sweeper.core.spreadsheet import TableError, decode_text, parse_table
from sweeper.core.text import join_words, suggest_correction
from sweeper.judging.row_choice import Entries, RowChoice, parse_choice
from sweeper.judging.rows import ScoreRequest, ScoreRows, ScoresError, abbreviate_names
from sweeper.judging.tensorboard_events import read_scalars
from sweeper.judging.wandb_runs import LoggedRun, read_offline_run, read_project

NOT_SCORES = {"epoch", "step", "iter", "time", "loss", "lr", "memory", "data_time", "grad_norm"}
"""Names that are left out of lists of metrics."""


class RunLog(NamedTuple):
    """A log of a run."""

    method: str
    seed: str
    path: Path
    entries: Entries


def _read_csv(path: Path) -> Entries:
    table = parse_table(decode_text(path.read_bytes()))
    names = [name.strip() for name in table.names]
    return [dict(zip(names, cells, strict=True)) for _, cells in table.rows]


def _read_trainer_state(path: Path) -> Entries:
    return _check_entries(json.loads(decode_text(path.read_bytes()))["log_history"])


def _read_json_lines(path: Path) -> Entries:
    return _check_entries([json.loads(line) for line in decode_text(path.read_bytes()).splitlines() if line.strip()])


def _check_entries(entries: Any) -> Entries:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("its entries must be objects")
    return entries


READERS: Mapping[str, Callable[[Path], Entries | LoggedRun]] = {
    "metrics.csv": _read_csv,
    "results.csv": _read_csv,
    "trainer_state.json": _read_trainer_state,
    "scalars.json": _read_json_lines,
    "events.out.tfevents.*": read_scalars,
    "run-*.wandb": read_offline_run,
}
"""Pattern of a log's name → its reader."""
TRACKERS = {"events.out.tfevents.*", "run-*.wandb"}
"""Patterns of logs that are often written next to a trainer's own log, which takes precedence."""


def find_logs(root: Path) -> list[tuple[Path, str]]:
    """Find the logs below a folder, each with its pattern in `READERS`; for TensorBoard one per folder."""
    logs = sorted((path, name) for name in READERS for path in root.rglob(name) if path.parent != root)
    folders = {path.parent: path for path, name in reversed(logs) if name.startswith("events")}
    kept = [(path, name) for path, name in logs if not name.startswith("events") or folders[path.parent] == path]
    return sorted(kept, key=lambda log: log[1] in TRACKERS)


def read_logs(root: Path, request: ScoreRequest) -> ScoreRows:
    """Read the value of the requested metric of each run.

    Raises:
        ScoresError: with each log that cannot be read, or has no such metric.
        UsageError: if a package that reads a log is not installed, or `--at` is invalid.
    """
    logs, problems, lacking = list[RunLog](), list[str](), dict[str, LoggedRun]()
    logged: dict[tuple[str, ...], set[str]] = {}
    for path, name in find_logs(root):
        folder = path.relative_to(root).parts[:-1][:2]
        if name in TRACKERS and folder in logged and request.metric in (None, *logged[folder]):
            continue
        try:
            log = READERS[name](path)
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, TableError) as error:
            problems.append(f"{path} must be a log as its trainer writes it, and is not: {error}")
            continue
        method, *rest = path.relative_to(root).parts[:-1]
        run = log if isinstance(log, LoggedRun) else LoggedRun(str(path), {}, log)
        if name not in TRACKERS:
            logged.setdefault(folder, set()).update(key for entry in run.entries for key in entry)
        is_folder_of_runs = run.config and (not rest or method == "wandb")
        if "method" in request.columns or is_folder_of_runs:
            method, seed = _read_config(run, request, lacking)
        else:
            seed = rest[0] if rest and rest[0] != "wandb" else "1"
        logs.append(RunLog(method, seed, path, run.entries))
    return _make_rows(str(root), logs, request, [*problems, *_format_lacking(lacking)])


def read_wandb_project(project: str, request: ScoreRequest) -> ScoreRows:
    """Read the value of the requested metric of each run of ENTITY/PROJECT.

    Raises:
        ScoresError: with each run that has no method, or no such metric.
        UsageError: if wandb is not installed or does not answer, or `--at` is invalid.
    """
    choice, lacking = parse_choice(request.at, request.metric), dict[str, LoggedRun]()
    metrics = [name for name in (request.metric, choice.name) if name is not None]
    logs = []
    for run in read_project(project, metrics, request.where):
        method, seed = _read_config(run, request, lacking)
        logs.append(RunLog(method, seed, Path(run.name), run.entries))
    problems = [] if logs else ["a project must have runs, with those that --where leaves, got none"]
    return _make_rows(f"wandb:{project}", logs, request, [*problems, *_format_lacking(lacking)])


def _read_config(run: LoggedRun, request: ScoreRequest, lacking: dict[str, LoggedRun]) -> tuple[str, str]:
    """Return method and seed of a run by its config; without a seed there, each run is a separate training."""
    key, seed = (request.columns.get(name, name) for name in ("method", "seed"))
    for name in (key, *([seed] if "seed" in request.columns else [])):
        if name not in run.config:
            lacking[name] = run
    return str(run.config.get(key, "")), str(run.config.get(seed, run.name))


def _format_lacking(lacking: Mapping[str, LoggedRun]) -> list[str]:
    problems = []
    for name, run in lacking.items():
        keys = [key for key in run.config if not key.startswith("_")]
        got = abbreviate_names(keys, most=8) if keys else "none"
        problems.append(
            f"each run must have {name!r} in its config, got the keys {got} of {run.name}"
            f"{suggest_correction(name, keys)}; --column method=KEY names the key of the method, --column seed=KEY "
            "that of the seed"
        )
    return problems


def _make_rows(source: str, logs: Sequence[RunLog], request: ScoreRequest, problems: list[str]) -> ScoreRows:
    metric, choice = request.metric, parse_choice(request.at, request.metric)
    is_named = all(log.method for log in logs)
    names = dict.fromkeys(name for log in logs for entry in log.entries for name in entry)
    choices = [name for name in names if name.rpartition("/")[2].casefold() not in NOT_SCORES and name[:1] != "_"]
    for option, name in (("--metric", metric), ("--at", choice.name if choice.kind in ("best", "lowest") else None)):
        if (name is None and option == "--metric") or (name is not None and name not in names):
            is_named = False
            near = "" if name is None else suggest_correction(name, choices)
            got = "none" if name is None else repr(name)
            problems.append(
                f"{option} must name a logged value, got {got}{near}; there are {abbreviate_names(choices, most=8)}"
            )
    if metric is None or not is_named:
        raise ScoresError(source, problems)
    runs: dict[tuple[str, str], list[RunLog]] = {}
    for log in logs:
        runs.setdefault((log.method, log.seed), []).append(log)
    rows = []
    for (method, seed), of_run in runs.items():
        values = [value for log in _keep_last(of_run) if (value := choice.find_value(log.entries, metric)) is not None]
        if len(values) == 1 and math.isfinite(values[0]):
            rows.append((method, seed, values[0]))
        elif len(values) == 1:
            end = "end with" if choice.kind == "last" else "have there"
            step = "a run that diverged gets the score that it is worth"
            problems.append(f"run {method}/{seed} must {end} a finite {metric}, got {values[0]}; {step}")
        else:
            count = f"{len(values)} logs have it" if values else "none of its logs has it"
            at = "" if choice.kind == "last" else f" ({choice})"
            if not values and any(RowChoice().find_value(log.entries, metric) is not None for log in of_run):
                count = "it is logged at other rows alone (--at last takes its last value)"
            paths = join_words([str(log.path) for log in of_run[:3]])
            problems.append(f"run {method}/{seed} must have one log with {metric!r}{at}, and {count}: {paths}")
    if problems:
        raise ScoresError(source, problems)
    methods, seeds, scores = zip(*rows, strict=True)
    method_name, seed_name = (request.columns.get(key, key) for key in ("method", "seed"))
    columns = {method_name: methods, seed_name: seeds, metric: scores}
    return ScoreRows(columns, source, notes=(choice.format_note(metric),), metric=metric)


def _keep_last(logs: list[RunLog]) -> list[RunLog]:
    """Keep one log of several checkpoints of a Hugging Face training: that with the most entries."""
    states = [log for log in logs if log.path.name == "trainer_state.json"]
    others = [log for log in logs if log.path.name != "trainer_state.json"]
    return [*others, *([max(states, key=lambda log: len(log.entries))] if states else [])]
