"""What a user takes along: the recommended loss as Python and YAML, and a network that was trained with it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from sweeper.core.errors import SweeperError
from sweeper.core.paths import ReportPaths, weights_dir
from sweeper.core.records import Recommended, SweepRecord
from sweeper.workflow.export_code import model_code
from sweeper.workflow.recommended_network import answer_of, network_of

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


class Exported(NamedTuple):
    """The files that were written; `weights` and `model` None where no weights are kept on this machine."""

    study: str
    family: str
    verdict: str
    loss: Path
    space: Path
    weights: Path | None
    model: Path | None
    megabytes: float | None
    """Size of the weights."""


def export_study(storage: RDBStorage, name: str, *, out: Path, cache: Path) -> Exported:
    """Write `OUT/STUDY/export/{loss.py, loss.yaml, model.safetensors, model.py}`.

    Args:
        storage: where the study is.
        name: the study's.
        out: folder of all reports.
        cache: folder of the decoded data, beside which a sweep keeps weights.

    Raises:
        StudyError: if there is no such study.
        SweeperError: if no loss is recommended, or a file cannot be written.
    """
    answer = answer_of(storage, name, "export")
    sweep, found, chosen = answer
    folder = ReportPaths(out, name).folder / "export"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        loss, space = folder / "loss.py", folder / "loss.yaml"
        loss.write_text(chosen.snippet.rstrip("\n") + "\n", "utf-8")
        space.write_text(space_text(sweep, chosen, found.verdict.value), "utf-8")
        weights = model = megabytes = None
        if (kept := network_of(answer, weights_dir(cache, name))) is not None:
            path, record = kept
            weights, model = folder / "model.safetensors", folder / "model.py"
            shutil.copyfile(path, weights)
            model.write_text(model_code(record), "utf-8")
            megabytes = weights.stat().st_size / 1e6
    except OSError as error:
        raise SweeperError(f"--out {out} must be a folder that can be written: {error}; name another one") from error
    return Exported(name, chosen.family, found.verdict.value, loss, space, weights, model, megabytes)


def space_text(sweep: SweepRecord, chosen: Recommended, verdict: str) -> str:
    """The recommended loss as a search space in which everything is fixed: `--space` takes it."""
    content: dict[str, Any] = {
        "version": 1,
        "task": sweep.conditions.dataset.task,
        "nuisance": {"lr": chosen.lr},
        "losses": {chosen.family: dict(chosen.params)},
    }
    point = f"threshold {chosen.threshold:.4g}" if chosen.threshold is not None else f"tau {chosen.tau:.4g}"
    head = f"# Recommended by sweeper ({verdict}), at {point}; a search space for `sweeper run --space`.\n"
    return head + yaml.safe_dump(content, sort_keys=False)
