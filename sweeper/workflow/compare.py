"""Several studies of one storage side by side: each concluded from its record, then compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sweeper.core.errors import StudyError, SweeperError, UsageError
from sweeper.core.paths import ComparisonPaths
from sweeper.core.records import Recommendation, SweepRecord
from sweeper.report.compare import write_comparison
from sweeper.storage import load_sweep, study_names
from sweeper.workflow.conclude import conclude

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


class Compared(NamedTuple):
    """What a comparison leaves behind."""

    studies: tuple[tuple[SweepRecord, Recommendation], ...]
    paths: ComparisonPaths


def compare_studies(storage: RDBStorage, names: Sequence[str], *, out: Path, ui_url: str) -> Compared:
    """Conclude the named studies and write their comparison.

    Raises:
        UsageError: with fewer than two different names.
        StudyError: if a study does not exist; all that do not are named at once.
        SweeperError: if the comparison cannot be written.
    """
    wanted = list(dict.fromkeys(names))
    if len(wanted) < 2:
        raise UsageError(
            f"--compare needs at least two different studies, got {len(wanted)}: {', '.join(wanted) or 'none'}; "
            "name another one, or leave out --compare for a study's own report"
        )
    there = study_names(storage)
    missing = [name for name in wanted if name not in there]
    if missing:
        raise StudyError(
            f"there is no study {', '.join(map(repr, missing))} in this storage; the newest are: "
            f"{', '.join(there[-5:]) or 'none'}"
        )
    sweeps = [load_sweep(storage, name) for name in wanted]
    studies = tuple((sweep, conclude(sweep)) for sweep in sweeps)
    try:
        paths = write_comparison(studies, out, ui_url=ui_url)
    except OSError as error:
        raise SweeperError(f"the comparison could not be written: {error}; try --out FOLDER") from error
    return Compared(studies, paths)
