"""Taking a study out of its database: its trials, its records, and its part of the queue."""

from __future__ import annotations

import optuna
from sqlalchemy import Connection, delete, inspect, select

from sweeper.storage.plan import load_study
from sweeper.storage.queue_tables import EVALUATIONS, MEMBERS, TRAININGS
from sweeper.storage.resilient_storage import SteadyStorage


def delete_study(storage: SteadyStorage, name: str) -> None:
    """Delete a study and all that the database keeps of it; the caller holds `sole_use` of it.

    Args:
        storage: where it is.
        name: of a study that is there.
    """
    identity = storage.get_study_id_from_name(load_study(storage, name).study_name)

    def forget(connection: Connection) -> None:
        if not inspect(connection).has_table(MEMBERS.name):
            return
        own = select(TRAININGS.c.id).where(TRAININGS.c.study_id == identity)
        connection.execute(delete(EVALUATIONS).where(EVALUATIONS.c.training.in_(own)))
        for table in (TRAININGS, MEMBERS):
            connection.execute(delete(table).where(table.c.study_id == identity))

    storage.transact(forget)
    optuna.delete_study(study_name=name, storage=storage)
