"""What `sweeper doctor` looks at: libraries, machine, stores. Each check says what was found and what to do about it.

Not to be taken for the label doctor (`sweeper.fingerprint.label_checks`), which looks at images and labels.
"""

from __future__ import annotations

from pathlib import Path

from sweeper.doctor.check import Check
from sweeper.doctor.libraries import check_libraries
from sweeper.doctor.machine import check_machine
from sweeper.doctor.stores import check_stores

__all__ = ["Check", "examine"]


def examine(storage: str, tracking_uri: str, cache: Path, device: str = "auto") -> list[Check]:
    """All checks, in the order in which they matter; nothing is made, changed or downloaded.

    Args:
        storage: Optuna's storage.
        tracking_uri: MLflow's.
        cache: folder of the decoded images.
        device: as `--device`.
    """
    return [*check_libraries(), *check_machine(cache, device), *check_stores(storage, tracking_uri)]
