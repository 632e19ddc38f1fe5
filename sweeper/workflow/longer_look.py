"""The longer look: train what the verdict compares once more, at several times the confirmation's steps.

The recommended loss and the tuned present one (if that is recommended: the best other finalist) are trained on one new
seed; on two on a GPU, or under a time limit that leaves room. Where the gain over the present loss falls below the
margin, so that one seed would decide about the change, up to `MOST_SEEDS` are trained.
"""

from __future__ import annotations

from collections.abc import Sequence

from sweeper import storage as studies
from sweeper.core.records import Evidence, LongerLook, TrialSpec
from sweeper.evidence.choice import choose
from sweeper.evidence.longer_look import MOST_SEEDS
from sweeper.evidence.settling import find_best_other
from sweeper.losses import FAMILIES
from sweeper.storage.results import read_analyses
from sweeper.study.finalist import Finalist, make_longer_spec, select_confirmed
from sweeper.study.loop import TrainingList
from sweeper.workflow.confirmation_evidence import compute_confirmation_evidence, compute_longer_look
from sweeper.workflow.run_context import RunContext
from sweeper.workflow.study_state import has_looked_longer, make_longer_look_key


def look_at_longer(context: RunContext, finalists: Sequence[Finalist]) -> None:
    """Make the longer look, unless none is requested, it was made, or nothing was recommended or compared.

    Where the time does not suffice, the look is skipped, which is reported.

    Raises:
        InterruptedSweepError: on a signal; the study can be resumed.
    """
    study, plan, request = context.study, context.plan, context.request
    times, conditions = request.longer, plan.conditions
    if times is None or has_looked_longer(study, plan, request):
        return
    analyses = read_analyses(study.user_attrs).analyses
    within = analyses[-1].within if analyses else None
    usable = select_confirmed(studies.list_compared_results(study), finalists, conditions, within)
    evidence = compute_confirmation_evidence(
        usable, finalists, conditions, plan.space, margin=request.margin, analyses=request.analyses
    )
    by_family = {finalist.family: finalist for finalist in finalists}
    chosen = [by_family[name] for name in select_longer_finalists(evidence)]

    if evidence is not None and len(chosen) > 1:
        recommended = [finalist.family for finalist in evidence.finalists].index(chosen[0].family)

        def look() -> LongerLook | None:
            results = studies.list_extra_results(study, "longer")
            return compute_longer_look(
                results, usable, finalists, conditions, evidence=evidence, recommended=recommended
            )

        several = request.time is not None or any(not run.device.startswith("cpu") for run in usable)
        specs = [[make_longer_spec(f, conditions, times, n) for f in chosen] for n in range(MOST_SEEDS)]
        in_time = _train_missing(context, [*specs[0], *(specs[1] if several else [])])
        for more in specs[2 if several else 1 :]:
            result = look()
            includes_choice = result is not None and result.gaps[0].first == chosen[0].family
            if in_time and result is not None and includes_choice and result.gaps[0].after.estimate < request.margin:
                in_time = _train_missing(context, more)
        if not in_time:
            if look() is None:
                context.record_time_cut(f"what {times} times the steps change (--longer) was not looked at")
            return
    study.set_user_attr(studies.LOOKED, studies.pack_value(make_longer_look_key(study, plan, request)))


def select_longer_finalists(evidence: Evidence | None) -> list[str]:
    """Return the families of the used loss and of the present one, or of the best other one; [] without two."""
    use = choose(evidence, list(FAMILIES)).use
    if evidence is None or use is None:
        return []
    other = find_best_other(evidence) if use == evidence.baseline else evidence.baseline
    return [] if other is None else [evidence.finalists[i].family for i in (use, other)]


def _train_missing(context: RunContext, specs: Sequence[TrialSpec]) -> bool:
    """Train the missing ones of these trainings, if there is time for the first two; return whether all have ended."""
    admit = context.time.make_admission(1.0)
    batch = TrainingList(context.study, specs, recorder=context.recorder, admit=admit)
    if not len(batch):
        return True
    rounds = -(-min(2, len(batch)) // context.executor.workers)
    if not admit(rounds * specs[0].steps):
        return False
    names = ", ".join(dict.fromkeys(spec.family for spec in specs))
    context.display.log(f"longer look: {names}, {specs[0].steps:,} steps each")
    context.show_phase("longer", missing=len(batch))
    return context.run_work(batch) and batch.is_complete
