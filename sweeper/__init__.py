"""sweeper: which loss to train a segmentation model with, on your own data, with evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeper.core.paths import STORAGE
from sweeper.version import __version__

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["__version__", "load_trials"]


def load_trials(study: str, storage: str = STORAGE) -> pd.DataFrame:
    """All trainings of a study as a table, one row each: the same as its report's `trials.csv`.

    Args:
        study: name of the study.
        storage: Optuna's storage, `sqlite:///FILE` or `postgresql://…`.

    Raises:
        sweeper.core.errors.StudyError: if there is no such study.
    """
    from sweeper.report.tables import trials_frame
    from sweeper.storage import load_sweep, open_storage

    return trials_frame(load_sweep(open_storage(storage), study))
