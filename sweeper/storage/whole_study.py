"""Everything that a study's storage knows, as one record for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.storages import RDBStorage

from sweeper.core.paths import STORAGE
from sweeper.core.records import Probed, RateFit, SameLosses, SweepRecord
from sweeper.storage.attributes import ABANDONED, CONCLUDED, CUT, PROBED, RATES, SAME, SETTLES
from sweeper.storage.interim_analyses import analyses_taken, plans_of_analyses
from sweeper.storage.mlflow_runs import linked
from sweeper.storage.plan import load_study, read_plan
from sweeper.storage.record_format import unpack_if, unpack_value
from sweeper.storage.resilient_storage import RetryingStorage
from sweeper.storage.results import results_in, search_results


def load_sweep(storage: RDBStorage, name: str) -> SweepRecord:
    """Everything the report needs, from the storage alone.

    Raises:
        StudyError: as `read_plan`.
    """
    plan = read_plan(storage, name)
    study = load_study(storage, name)
    attributes = study.user_attrs
    trials = study.get_trials(deepcopy=False)
    planned = plans_of_analyses(attributes)
    found, same = found_budget(attributes), same_losses(attributes)
    return SweepRecord(
        study=name,
        storage=storage.address if isinstance(storage, RetryingStorage) else STORAGE,
        created=plan.created,
        conditions=plan.conditions,
        profile=plan.profile,
        space=plan.space,
        imbalance=plan.imbalance,
        trials_asked=int(unpack_value(attributes, "trials", 0)),
        confirm_seeds=int(unpack_value(attributes, "confirm_seeds", 0)),
        settles=bool(attributes.get(SETTLES, False)),
        rope=float(unpack_value(attributes, "rope", 0.01)),
        trials=linked(search_results(study), attributes),
        abandoned=sum(ABANDONED in t.user_attrs for t in trials),
        confirmations=linked(results_in(attributes, "confirm"), attributes),
        rechecks=linked(results_in(attributes, "recheck"), attributes),
        probes=linked(results_in(attributes, "probe"), attributes),
        budget=found.sentence if found is not None else "",
        learned=found is None or found.learned,
        rate_fit=stored_rates(attributes),
        same_losses=() if same is None else same.found,
        analyses_planned=planned[-1] if planned else (),
        analyses_taken=analyses_taken(attributes).analyses,
        timeout=attributes.get("timeout"),
        cut=tuple(attributes.get(CUT, [])),
        experiment_id=attributes.get("experiment_id"),
        parent_run_id=attributes.get("parent_run_id"),
        seconds=float(attributes.get("seconds", 0.0)),
        command=str(attributes.get("command", "")),
        conclusions=max(1, len(unpack_value(attributes, CONCLUDED, []))),
        workers=attributes.get("workers"),
        versions=plan.versions,
    )


def found_budget(attributes: Mapping[str, Any]) -> Probed | None:
    """What the budget probe found; None before."""
    return unpack_if(Probed, attributes, PROBED, "the record of the budget probe")


def stored_rates(attributes: Mapping[str, Any]) -> RateFit | None:
    """The learning rate that a study's confirmation draws around; None before it was found."""
    return unpack_if(RateFit, attributes, RATES, "the finalists' learning rate")


def same_losses(attributes: Mapping[str, Any]) -> SameLosses | None:
    """Which search trials are another name for a simpler loss; None before that was measured."""
    return unpack_if(SameLosses, attributes, SAME, "the record of losses that are the same")
