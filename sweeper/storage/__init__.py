"""The study in Optuna's storage: the one source of truth, which resume and report read and nothing else.

database → plan → results and interim analyses → record. Imported as `studies`.
"""

from sweeper.storage.checked_images import drop_unchecked, note_checked
from sweeper.storage.database import open_storage, sole_use
from sweeper.storage.interim_analyses import is_concluded, note_conclusion, note_session
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
from sweeper.storage.record_format import (
    CUT,
    DROPPED,
    LOOKED,
    MACHINE,
    OPTIONS,
    PROBED,
    RATES,
    SAME,
    SETTLES,
    pack,
    pack_value,
    unpack,
    unpack_value,
)
from sweeper.storage.results import (
    EXTRAS,
    all_results,
    check_rows,
    extra_results,
    failed_trials,
    found_budget,
    held,
    load_sweep,
    note_parent,
    note_runs,
    reconcile,
    retry_failed,
    same_losses,
    search_results,
    store_extra,
    stored_rates,
    waiting_results,
)
