"""Choice of the number of steps of the comparison and of its breadth, on a ladder before the search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from sweeper import storage as studies
from sweeper.core.records import Breadth, BudgetProbe, Rung
from sweeper.core.text import format_duration
from sweeper.study.budget_ladder import climb_ladder, format_rung, is_comparable
from sweeper.study.finalist import count_finalists
from sweeper.study.loop import TrainingList
from sweeper.study.timekeeper import SEARCH_SHARE
from sweeper.workflow.breadth import estimate_later_seconds, find_broadest, measure_pace
from sweeper.workflow.options import apply_budget, store_request
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
    if probed.sentence and probed is not stored:  # a resume may have other trials
        (context.display.log if probed.learned else context.display.warn)(probed.sentence)
    if probed.steps is None or not probed.learned:
        return False
    if studies.search_results(study) or probed.breadth is None:
        return True
    steps = {"steps": probed.steps, "confirm_steps": probed.breadth.confirm_steps}
    conditions = context.plan.conditions.model_copy(update={"recipe": recipe.model_copy(update=steps)})
    context.plan = context.plan.model_copy(update={"conditions": conditions})
    studies.replace_plan(study, context.plan)
    return True


def _climb_ladder(context: RunContext, first: int) -> BudgetProbe:
    """Climb the ladder as far as is needed, or as time allows, and return the result."""
    study, plan = context.study, context.plan
    request = context.request._replace(finalists=count_finalists(plan.space))
    losses, recipe = [loss.name for loss in plan.conditions.losses], plan.conditions.recipe
    broadest = partial(find_broadest, plan.space, losses, request, recipe=recipe)
    while True:
        results = studies.list_extra_results(study, "probe")
        rungs, lacking = climb_ladder(
            results, plan.space, plan.conditions, plan.imbalance, first=first, margin=request.margin
        )
        finished = [result for result in results if rungs and result.spec.steps <= rungs[-1].steps]
        pace = measure_pace(finished, context.executor.workers)  # an unfinished rung must not change the pace
        enough = [rung for rung in rungs if is_comparable(rung)]
        usual, most = CPU_MINUTES if all("cpu" in result.device for result in finished) else GPU_MINUTES
        limit = request.time or 60.0 * usual
        if not lacking:
            break
        steps = lacking[0].steps
        _, needed = broadest(pace.add_rung(steps), steps=steps, limit=0)
        final = estimate_later_seconds(recipe.model_copy(update={"confirm_steps": steps}), request, pace)
        if rungs and needed > (limit if enough else max(limit, 60.0 * most - final)):
            break
        batch = TrainingList(study, lacking, recorder=context.recorder, admit=context.time.make_admission(SEARCH_SHARE))
        context.show_phase("probe", missing=len(batch))
        context.run_work(batch)
        if not batch.is_complete:
            context.record_time_cut(f"what the losses learn in {steps} steps was not found out")
            break
    if not rungs:  # in time, and if all failed, the search reports why
        return BudgetProbe(first=first, steps=None if lacking else first)
    if not enough:
        minutes = math.ceil(MORE * (needed + final) / 60) if lacking else None
        return _report_silence(rungs, minutes)
    fitting = [r for r in enough if broadest(pace, steps=r.steps, limit=limit)[1] <= limit]
    rung = (fitting or enough[:1])[-1]
    if rung.steps == first and request.time is None:
        return BudgetProbe(first=first, steps=first, rungs=rungs)
    breadth, seconds = broadest(pace, steps=rung.steps, limit=limit)
    lacks_final = request.final is not None and not (breadth.has_final or request.final_given)
    fits = request.time is None or seconds <= limit
    end = f"in about {format_duration(seconds)}" if fits else "while time lasts"
    sentence = _format_budget(rungs, rung, breadth, end, len(plan.space.families), lacks_final=lacks_final)
    return BudgetProbe(first=first, steps=rung.steps, sentence=sentence, rungs=rungs, breadth=breadth)


def _report_silence(rungs: Sequence[Rung], minutes: int | None) -> BudgetProbe:
    """Report why no search is begun."""
    last = rungs[-1]
    sentence = (
        f"{format_rung(last)} (the best scores {max(last.scores.values()):.3f}): nothing can be said about losses at "
        "this budget, and no search was begun"
    )
    first, steps = rungs[0].steps, last.steps
    return BudgetProbe(first=first, steps=steps, sentence=sentence, learned=False, rungs=tuple(rungs), minutes=minutes)


def _format_budget(
    rungs: Sequence[Rung], chosen: Rung, breadth: Breadth, end: str, losses: int, *, lacks_final: bool
) -> str:
    """Describe in a sentence what the ladder found, and what will be compared."""
    before = next((rung for rung in reversed(rungs) if rung.steps < chosen.steps), None)
    ladder = f"{format_rung(before)}, {format_rung(chosen)}" if before is not None else format_rung(chosen)
    return (
        f"{ladder}: searching at {chosen.steps} steps, {breadth.confirm_steps} to confirm, in at most {breadth.trials} "
        f"trials of {losses} losses{', without the final training' if lacks_final else ''}, {end}"
    )
