"""The study in Optuna's storage: the only source for resume and report.

database → plan → results and interim analyses → record. Imported as `studies`.
"""

from sweeper.storage.database import hold_study, open_storage
from sweeper.storage.plan import (
    StudyPlan,
    check_name,
    create_study,
    delete_study,
    list_plan_differences,
    list_study_names,
    open_study,
    read_machine,
    read_options,
    read_plan,
    replace_plan,
    unpack_options,
)
from sweeper.storage.record_format import (
    CUT,
    DROPPED,
    FINAL_ENDED,
    MACHINE,
    MARGIN,
    OPTIONS,
    PROBED,
    RATES,
    SAME,
    SESSION,
    SETTLES,
    pack,
    pack_value,
    unpack,
    unpack_value,
)
from sweeper.storage.results import (
    BEFORE,
    EXTRAS,
    check_rows,
    count_trials,
    drop_unchecked,
    is_concluded,
    list_all_results,
    list_compared_results,
    list_extra_results,
    list_failed_trials,
    list_waiting_results,
    load_sweep,
    note_checked,
    note_conclusion,
    note_parent,
    note_runs,
    note_session,
    read_budget_probe,
    read_equivalent_losses,
    read_rates,
    reconcile_study,
    retry_failed,
    search_results,
    store_extra,
)
