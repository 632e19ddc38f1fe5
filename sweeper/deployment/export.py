"""Export the recommended loss as Python and YAML, and a network trained with it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from sweeper.core.document import Document
from sweeper.core.errors import SweeperError
from sweeper.core.paths import ReportPaths
from sweeper.core.records import Outcome, Sure, SweepRecord, Use
from sweeper.core.tasks import RULES, format_point
from sweeper.core.text import format_study_command
from sweeper.core.training_files import get_weights_dir
from sweeper.deployment.export_code import EXAMPLES, make_examples, make_model_code
from sweeper.deployment.recommended_network import find_kept_network, load_answer
from sweeper.space import load_space
from sweeper.system.whole_files import remove_left
from sweeper.training.weights_file import copy_with_record

if TYPE_CHECKING:
    from sweeper.storage.resilient_storage import RetryingStorage


FILES = ("loss.py", "loss.yaml", "model.safetensors", "model.py", "model.onnx")
"""Files of an export, besides the examples."""
SCRATCH = ".export-"
"""Prefix of the temporary folder of an export."""


class ExportDocument(Document):
    """Document that `sweeper export` prints: the written files."""

    SCHEMA: ClassVar[str] = "sweeper.export/1"

    study: str
    family: str
    outcome: Outcome
    sure: Sure
    loss: Path
    """Python file of the loss."""
    space: Path
    """YAML file of the loss, for `--space`."""
    command: str | None
    """The user's training script; null = sweeper trained."""
    weights: Path | None
    """File of weights; null if none are kept on this machine."""
    model: Path | None
    """Python file that loads the weights."""
    megabytes: float | None
    """Size of the weights."""
    onnx: Path | None
    onnx_difference: float | None
    """Largest difference between torch and the ONNX runtime, relative to logits above 1."""
    examples: Path | None
    """Folder of code for training elsewhere with the loss."""


def export_study(storage: RetryingStorage, name: str, *, out: Path, cache: Path, onnx: bool = False) -> ExportDocument:
    """Write `OUT/STUDY/export/{loss.py, loss.yaml, examples/, model.safetensors, model.py}`, and optional files.

    Sweeps keep weights next to `cache`, the folder of the decoded data. `onnx` adds `model.onnx`.

    Raises:
        StudyError: if the study does not exist.
        SweeperError: if no loss is recommended, a file cannot be written, an option needs a network and none is kept,
            or ONNX's logits differ.
        UsageError: if kept weights are damaged, or ONNX is not installed.
    """
    answer = load_answer(storage, name, "export")
    kept = find_kept_network(answer, get_weights_dir(cache, name))
    if kept is None and onnx:
        raise SweeperError(
            f"--onnx needs a network, and none of study {name!r} is kept on this machine; "
            f"`{format_study_command('train', name, answer.sweep.storage)}` trains one, in the sweep's folder"
        )
    sweep, document, chosen = answer
    folder = ReportPaths(out, name).folder / "export"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_left(folder.parent, f"{SCRATCH}*")
        # In a temporary folder: a failing export leaves the earlier one unchanged.
        with TemporaryDirectory(dir=folder.parent, prefix=SCRATCH) as scratch:
            made = Path(scratch)
            (made / "loss.py").write_text(chosen.snippet.rstrip("\n") + "\n", "utf-8")
            (made / "loss.yaml").write_text(make_space_text(sweep, chosen), "utf-8")
            (made / "examples").mkdir()
            for file, text in make_examples(sweep, chosen).items():
                (made / "examples" / file).write_text(text, "utf-8")
            apart = None
            if kept is not None:
                weights = made / "model.safetensors"
                copy_with_record(kept.path, kept.record, weights)
                (made / "model.py").write_text(make_model_code(kept.record), "utf-8")
                if onnx:
                    from sweeper.training.network_formats import write_onnx

                    apart = write_onnx(weights, kept.record, made / "model.onnx")
            _remove_earlier(folder)
            _move_files(made, folder)
        written = {path.name: path for path in folder.iterdir()}
    except OSError as error:
        raise SweeperError(f"--out {out} must be a folder that can be written: {error}; name another one") from error
    return ExportDocument(
        study=name,
        family=chosen.loss,
        outcome=document.outcome,
        sure=document.sure,
        loss=folder / "loss.py",
        space=folder / "loss.yaml",
        command=sweep.conditions.recipe.command,
        weights=written.get("model.safetensors"),
        model=written.get("model.py"),
        megabytes=None if kept is None else written["model.safetensors"].stat().st_size / 1e6,
        onnx=written.get("model.onnx"),
        onnx_difference=apart,
        examples=written.get("examples"),
    )


def _move_files(made: Path, folder: Path) -> None:
    """Move the files of a finished export into its folder."""
    for path in sorted(path for path in made.rglob("*") if path.is_file()):
        target = folder / path.relative_to(made)
        target.parent.mkdir(exist_ok=True)
        path.replace(target)


def _remove_earlier(folder: Path) -> None:
    """Remove only the files of an earlier export, which may have another loss or network."""
    for where, names in ((".", FILES), ("examples", tuple(EXAMPLES))):
        inside = folder / where
        for name in names:
            (inside / name).unlink(missing_ok=True)
        is_empty = inside.is_dir() and not any(inside.iterdir())
        if is_empty and inside != folder:
            inside.rmdir()


def make_space_text(sweep: SweepRecord, chosen: Use) -> str:
    """Return the loss to use as a search space with fixed values, for `--space`."""
    lr: object = chosen.lr
    if sweep.conditions.recipe.command is not None:  # a factor of the script's rate is no rate for sweeper
        usual = load_space(sweep.conditions.dataset.task).lr
        lr = {usual.kind: [usual.low, usual.high]}
    own = {loss.name: loss.code.name for loss in sweep.conditions.losses}
    content: dict[str, Any] = {
        "version": 1,
        "task": sweep.conditions.dataset.task,
        "nuisance": {"lr": lr},
        "losses": {own.get(chosen.loss, chosen.loss): dict(chosen.params)},
    }
    assert chosen.point is not None  # a study's answer has one
    point = f"{RULES[sweep.conditions.dataset.task].point_key} {format_point(chosen.point, '.4g')}"
    head = f"# Recommended by sweeper, at {point}; a search space for `sweeper run --space`.\n"
    return head + yaml.safe_dump(content, sort_keys=False)
