"""The study in Optuna's storage: the one source of truth, which resume and report read and nothing else.

database → plan → results and looks → record. Read as `from sweeper.study import storage as studies`.
"""

from sweeper.study.storage.attributes import (
    ABANDONED,
    ATTEMPT_OF,
    CONCLUDED,
    CUT,
    FAMILY,
    OPTIONS,
    PLAN,
    PLAN_COPY,
    PLANNED,
    PROBED,
    RESULT,
    RETRY_OF,
    TAKEN,
    WAITS,
    WAVE,
)
from sweeper.study.storage.database import open_storage, sole_use
from sweeper.study.storage.looks import looks_taken, note_conclusion, plans_of_looks
from sweeper.study.storage.plan import (
    Plan,
    check_name,
    create_study,
    differences,
    load_study,
    read_options,
    read_plan,
    replace_plan,
    study_names,
)
from sweeper.study.storage.record import load_sweep
from sweeper.study.storage.results import (
    all_results,
    counted,
    extra_results,
    present_trials,
    reconcile,
    result_of,
    retry_failed,
    search_results,
    store_extra,
    waiting_results,
)
from sweeper.study.storage.runs import note_runs
from sweeper.study.storage.stored import FORMAT, pack, pack_value, unpack, unpack_value
from sweeper.study.storage.wave import Wave

__all__ = [
    "ABANDONED",
    "ATTEMPT_OF",
    "CONCLUDED",
    "CUT",
    "FAMILY",
    "FORMAT",
    "OPTIONS",
    "PLAN",
    "PLANNED",
    "PLAN_COPY",
    "PROBED",
    "RESULT",
    "RETRY_OF",
    "TAKEN",
    "WAITS",
    "WAVE",
    "Plan",
    "Wave",
    "all_results",
    "check_name",
    "counted",
    "create_study",
    "differences",
    "extra_results",
    "load_study",
    "load_sweep",
    "looks_taken",
    "note_conclusion",
    "note_runs",
    "open_storage",
    "pack",
    "pack_value",
    "plans_of_looks",
    "present_trials",
    "read_options",
    "read_plan",
    "reconcile",
    "replace_plan",
    "result_of",
    "retry_failed",
    "search_results",
    "sole_use",
    "store_extra",
    "study_names",
    "unpack",
    "unpack_value",
    "waiting_results",
]
