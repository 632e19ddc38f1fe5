"""Choice of the number of steps of the comparison and of its breadth, on a ladder before the search."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sweeper import storage as studies
from sweeper.core.records import Breadth, BudgetProbe, Rung, SearchSpace, TrialResult
from sweeper.core.text import format_duration, list_time_options
from sweeper.study.budget_ladder import climb_ladder, format_rung, is_comparable
from sweeper.study.learning_check import suggest_remedies
from sweeper.study.loop import TrainingList
from sweeper.study.timekeeper import PROBE_SHARE
from sweeper.workflow.breadth import OTHER_SECONDS, compute_least_seconds, find_broadest, measure_pace, order_losses
from sweeper.workflow.options import StudyRequest, apply_budget, store_request
from sweeper.workflow.run_context import RunContext
from sweeper.workflow.settings import CPU_MINUTES, GPU_MINUTES

MORE = 1.05
"""Factor on the needed time, for the time limit that is suggested."""


def find_budget(context: RunContext) -> bool:
    """Find the steps of the search, if not done yet, and put them into the plan; False where too little is learned."""
    study, recipe = context.study, context.plan.conditions.recipe
    stored = studies.read_budget_probe(study.user_attrs)
    probed = stored or BudgetProbe(first=recipe.steps)
    if stored is None and studies.search_results(study):
        return True  # a search that has begun keeps its steps
    if probed.steps is None or not (probed.learned or studies.search_results(study)):  # a resume may have more time
        study.set_user_attr(studies.PROBED, studies.pack(probed))
        probed = _climb_ladder(context, probed.first)
        study.set_user_attr(studies.PROBED, studies.pack(probed))
    context.request = apply_budget(context.request, probed)
    store_request(study, context.request)
    if probed.sentence:
        (context.display.log if probed.learned else context.display.warn)(probed.sentence)
    assert probed.steps is not None
    if not probed.learned:
        return False
    if studies.search_results(study) or probed.breadth is None:
        return True
    steps = {"steps": probed.steps, "confirm_steps": probed.breadth.confirm_steps}
    conditions = context.plan.conditions.model_copy(update={"recipe": recipe.model_copy(update=steps)})
    space = context.plan.space
    kept = tuple(family for family in space.families if family.family in probed.breadth.families)
    space = space.model_copy(update={"families": kept})
    context.plan = context.plan.model_copy(update={"conditions": conditions, "space": space})
    studies.replace_plan(study, context.plan)
    return True


def _climb_ladder(context: RunContext, first: int) -> BudgetProbe:
    """Climb the ladder as far as is needed, or as time allows, and return the result."""
    study, plan, request = context.study, context.plan, context.request
    losses = order_losses(plan.space, [loss.name for loss in plan.conditions.losses])
    while True:
        results = studies.list_extra_results(study, "probe")
        rungs, lacking = climb_ladder(
            results, plan.space, plan.conditions, plan.imbalance, first=first, margin=request.margin
        )
        finished = [result for result in results if rungs and result.spec.steps <= rungs[-1].steps]
        pace = measure_pace(finished, context.executor.workers)  # an unfinished rung must not change the pace
        if not lacking:
            break
        if rungs:
            steps, above = lacking[0].steps, pace.add_rung(lacking[0].steps)
            needed = above.spent + OTHER_SECONDS
            if any(map(is_comparable, rungs)):  # else the rung may be the first at which losses can be compared
                needed = compute_least_seconds(losses, request, above, steps=steps)
            if needed > _get_time_limit(request, finished):
                break
        batch = TrainingList(study, lacking, recorder=context.recorder, admit=context.time.make_admission(PROBE_SHARE))
        context.show_phase("probe", missing=len(batch))
        context.run_work(batch)
        if not batch.is_complete:
            context.record_time_cut(f"what the losses learn in {lacking[0].steps} steps was not found out")
            break
    if not rungs:
        return BudgetProbe(first=first, steps=first)  # the search reports why
    limit = _get_time_limit(request, finished)
    enough = [rung for rung in rungs if is_comparable(rung)]
    for rung in reversed(enough):
        if rung.steps == first and request.minutes is None:
            return BudgetProbe(first=first, steps=first, rungs=rungs)
        breadth = find_broadest(losses, request, pace, steps=rung.steps, limit=limit)
        if breadth is not None:
            lacks_look = request.longer is not None and not (breadth.has_longer or request.longer_given)
            sentence = _format_budget(rungs, rung, breadth, plan.space, lacks_look=lacks_look)
            return BudgetProbe(first=first, steps=rung.steps, sentence=sentence, rungs=rungs, breadth=breadth)
    explanation, minutes = _explain_silence(rungs, limit), None
    if enough or lacking:
        steps = enough[0].steps if enough else lacking[0].steps
        spent = pace if enough else pace.add_rung(steps)
        minutes = math.ceil(MORE * compute_least_seconds(losses, request, spent, steps=steps) / 60)
        minutes = max(minutes, int(limit / 60) + 1)
    more_time = "" if minutes is None else " ".join(map(" ".join, list_time_options(minutes, request.timeout).items()))
    help_ = suggest_remedies(finished[-2:], plan.conditions, more_time)
    sentence = f"{explanation}, so that no search was begun. {help_}"
    return BudgetProbe(
        first=first, steps=rungs[-1].steps, sentence=sentence, learned=False, rungs=rungs, minutes=minutes
    )


def _get_time_limit(request: StudyRequest, finished: Sequence[TrialResult]) -> float:
    """Return the time in seconds that steps and breadth are chosen for."""
    if request.minutes is None and request.timeout is not None:
        return request.timeout
    return 60.0 * (request.minutes or (CPU_MINUTES if "cpu" in finished[0].device else GPU_MINUTES))


def _explain_silence(rungs: Sequence[Rung], limit: float) -> str:
    """Explain why no search is begun."""
    enough = next((rung for rung in rungs if is_comparable(rung)), None)
    if enough is not None:
        return f"{format_rung(enough)}, and to compare losses there takes more than {format_duration(limit)}"
    if rungs[-1].is_learned:
        return f"{format_rung(rungs[-1])}, and nothing can be said about losses at this budget"
    return f"{format_rung(rungs[-1])} (the best scores {max(rungs[-1].scores.values()):.3f})"


def _format_budget(
    rungs: Sequence[Rung], chosen: Rung, breadth: Breadth, space: SearchSpace, *, lacks_look: bool
) -> str:
    """Describe in a sentence what the ladder found, and what will be compared."""
    before = next((rung for rung in reversed(rungs) if rung.steps < chosen.steps), None)
    ladder = f"{format_rung(before)}, {format_rung(chosen)}" if before is not None else format_rung(chosen)
    few = f" of {len(space.families)}" if len(breadth.families) < len(space.families) else ""
    return (
        f"{ladder}: searching at {chosen.steps} steps, {breadth.confirm_steps} to confirm, in at most {breadth.trials} "
        f"trials of {len(breadth.families)}{few} losses{', without the longer look' if lacks_look else ''}"
    )
