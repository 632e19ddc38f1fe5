"""Taking a study out of its database: its trials and its records."""

from __future__ import annotations

import optuna

from sweeper.storage.plan import load_study
from sweeper.storage.resilient_storage import SteadyStorage


def delete_study(storage: SteadyStorage, name: str) -> None:
    """Delete a study and all that the database keeps of it; the caller holds `sole_use` of it.

    Args:
        storage: where it is.
        name: of a study that is there.
    """
    optuna.delete_study(study_name=load_study(storage, name).study_name, storage=storage)
