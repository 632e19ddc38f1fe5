"""Every file name sweeper uses, and every page of MLflow's that it points to, in one place."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

if TYPE_CHECKING:
    from sweeper.core.records import TrialSpec


STORAGE = "sqlite:///sweeper.db"
"""Optuna's storage, unless `--storage` says otherwise."""
TRACKING = "sqlite:///mlflow.db"
"""MLflow's store: its own default, so that a bare `mlflow ui` in the same folder shows everything."""
CACHE = Path(".sweeper") / "cache"
"""Decoded data sets, one folder per content digest."""
STATUS = Path(".sweeper") / "status"
"""What running sweeps say of themselves, one file per study."""
REPORTS = Path("reports")


def expand_user(text: str) -> Path:
    """A path with `~` and `~user` replaced where there is such a home."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 (pathlib's own raises where there is none)


def get_checkpoints_dir(cache: Path, study: str) -> Path:
    """Folder of a study's paused trainings, beside the decoded data."""
    return cache.parent / "checkpoints" / make_folder_name(study)


def get_step_times_file(cache: Path) -> Path:
    """Where this machine's times of training steps are kept, beside the decoded data."""
    return cache.parent / "step-times.json"


def get_checkpoint_path(folder: Path, spec: TrialSpec) -> Path:
    """Where a paused training waits; the name of a final one, which shares its number, holds a hash of its spec."""
    own = f"-{_compute_short_hash(spec.model_dump_json())}" if spec.purpose == "final" else ""
    return folder / f"{spec.purpose}-{spec.number:05d}{own}.pt"


def get_weights_dir(cache: Path, study: str) -> Path:
    """Folder of the weights that a study keeps, beside the decoded data."""
    return get_weights_dir_of(get_checkpoints_dir(cache, study))


def get_weights_dir_of(checkpoints: Path) -> Path:
    """The same, from a study's `checkpoints_dir`."""
    return checkpoints.parent.parent / "weights" / checkpoints.name


def get_weights_path(folder: Path, spec: TrialSpec) -> Path:
    """Where the weights of a training are kept."""
    return folder / f"{spec.purpose}-{spec.number:05d}.safetensors"


def get_final_weights_path(folder: Path, spec: TrialSpec, on: str, digest: str) -> Path:
    """Where the weights of a final training are kept: one file for each configuration, budget and seed.

    Args:
        folder: of the study's weights.
        spec: the training.
        on: the images that it is trained on, in a word.
        digest: of the data set.
    """
    own = _compute_short_hash(f"{spec.model_dump_json()} {digest}")
    return folder / f"final-{make_slug(on)}-{spec.steps}-seed{spec.seed}-{own}.safetensors"


def _compute_short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def make_slug(text: str) -> str:
    """Name made of letters, digits, `.`, `_` and `-` alone, fit for files, metrics and study names.

    Never empty: text without any such character becomes `x`.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "_", plain).strip("._-")[:80] or "x"


def make_folder_name(name: str) -> str:
    """`slug(name)`, with six digits of the name's hash where that is not the name itself.

    So distinct names have distinct folders, names that differ in their case alone among them: some disks do not tell
    those apart.
    """
    plain = make_slug(name)
    # Our own study names hold the T of a time stamp in capitals; nothing else is worth an exception.
    if plain == name and (name == name.lower() or re.fullmatch(r"[a-z0-9._-]+-\d{8}T\d{6}(-\d+)?", name)):
        return plain
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def search_spaces_dir() -> Path:
    """Folder of the shipped search spaces, in a wheel (inside the package) or an editable install (beside it)."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "_search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


class ReportPaths:
    """Where the files of one study's report lie: `OUT/STUDY/…`."""

    def __init__(self, out: Path, study: str) -> None:
        self.folder = out / make_folder_name(study)
        self.markdown = self.folder / "report.md"
        self.html = self.folder / "report.html"
        self.recommendation = self.folder / "recommendation.json"
        self.trials = self.folder / "trials.csv"
        self.split = self.folder / "split.csv"
        self.figures = self.folder / "figures"


class JudgementPaths:
    """Where the files of a judgement lie: in the folder itself."""

    def __init__(self, folder: Path) -> None:
        self.markdown = folder / "report.md"
        self.html = folder / "report.html"
        self.document = folder / "judgement.json"
        self.figures = folder / "figures"


View = Literal["sweep", "finalists"]
"""Views that a sweep prepares: all trainings by validation mIoU, the confirmations by test mIoU."""

_WORKFLOW = "workflowType=machine_learning"
"""Without it MLflow 3 may open the page made for traces of language models."""


def get_run_place(experiment: str, run: str) -> str:
    """A run's page."""
    return f"#/experiments/{quote(experiment, safe='')}/runs/{quote(run, safe='')}?{_WORKFLOW}"


def get_view_place(experiment: str, view: View = "sweep") -> str:
    """A prepared view of a sweep."""
    return f"#/experiments/{quote(experiment, safe='')}/runs?viewStateShareKey={view}&{_WORKFLOW}"


def get_experiments_place() -> str:
    """The list of experiments."""
    return f"#/experiments?{_WORKFLOW}"
