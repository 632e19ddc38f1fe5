"""The study in Optuna's storage: the one source of truth, which resume and report read and nothing else.

database → plan → results and interim analyses → record. Imported as `studies`.
"""

from sweeper.storage.attributes import (
    CUT,
    MACHINE,
    OPTIONS,
    PROBED,
    RATES,
    SAME,
    SETTLES,
)
from sweeper.storage.database import open_storage, sole_use
from sweeper.storage.interim_analyses import (
    is_concluded,
    note_conclusion,
    note_session,
)
from sweeper.storage.mlflow_runs import note_parent, note_runs
from sweeper.storage.plan import (
    Plan,
    check_name,
    create_study,
    delete_study,
    differences,
    load_study,
    read_machine,
    read_options,
    read_plan,
    replace_plan,
    study_names,
)
from sweeper.storage.record_format import pack, pack_value, unpack, unpack_value
from sweeper.storage.results import (
    all_results,
    extra_results,
    failed_trials,
    held,
    reconcile,
    retry_failed,
    search_results,
    store_extra,
    waiting_results,
)
from sweeper.storage.whole_study import found_budget, load_sweep, same_losses, stored_rates

__all__ = [
    "CUT",
    "MACHINE",
    "OPTIONS",
    "PROBED",
    "RATES",
    "SAME",
    "SETTLES",
    "Plan",
    "all_results",
    "check_name",
    "create_study",
    "delete_study",
    "differences",
    "extra_results",
    "failed_trials",
    "found_budget",
    "held",
    "is_concluded",
    "load_study",
    "load_sweep",
    "note_conclusion",
    "note_parent",
    "note_runs",
    "note_session",
    "open_storage",
    "pack",
    "pack_value",
    "read_machine",
    "read_options",
    "read_plan",
    "reconcile",
    "replace_plan",
    "retry_failed",
    "same_losses",
    "search_results",
    "sole_use",
    "store_extra",
    "stored_rates",
    "study_names",
    "unpack",
    "unpack_value",
    "waiting_results",
]
