"""The budget of the search: found before it, where the user gave none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeper import storage as studies
from sweeper.core.records import Probed
from sweeper.study.learning_check import FACTORS, learned, next_probes, skill, what_would_help
from sweeper.study.timekeeper import PROBE_SHARE
from sweeper.study.training_list import Batch

if TYPE_CHECKING:
    from sweeper.workflow.phases import Stage


def find_budget(stage: Stage) -> bool:
    """Find the steps of the search, unless that was done, and put them into the plan; False where no loss learned."""
    study, recipe = stage.study, stage.plan.conditions.recipe
    stored = studies.found_budget(study.user_attrs)
    probed = stored or Probed(first=recipe.steps)
    if stored is None and studies.search_results(study):
        return True  # a search that has begun keeps its steps
    if probed.steps is None:
        study.set_user_attr(studies.PROBED, studies.pack(probed))
        probed = _where_a_loss_learns(stage, probed.first)
        study.set_user_attr(studies.PROBED, studies.pack(probed))
    if probed.sentence:
        (stage.display.log if probed.learned else stage.display.warn)(probed.sentence)
    assert probed.steps is not None
    if not probed.learned:
        return False
    if studies.search_results(study) or probed.steps == recipe.steps:
        return True
    steps = {"steps": probed.steps, "confirm_steps": stage.asked.confirm_steps or 2 * probed.steps}
    conditions = stage.plan.conditions.model_copy(update={"recipe": recipe.model_copy(update=steps)})
    stage.plan = stage.plan.model_copy(update={"conditions": conditions})
    studies.replace_plan(study, stage.plan)
    return True


def _where_a_loss_learns(stage: Stage, first: int) -> Probed:
    """The first budget at which a default clearly beats a constant answer: nearly always the first that is tried."""
    study, plan = stage.study, stage.plan
    while True:
        results = studies.extra_results(study, "probe")
        steps, specs = next_probes(results, plan.space, plan.conditions, plan.imbalance, first)
        if not specs:
            break
        # As many as there are workers: what one of them shows need not be shown by the others.
        batch = Batch(
            study, specs[: stage.executor.workers], recorder=stage.recorder, admit=stage.time.admits(PROBE_SHARE)
        )
        in_time = stage.time.fits(batch.steps, PROBE_SHARE, longest=steps)
        if in_time:
            stage.begin("probe", batch, len(batch))
            stage.go(batch)
        if not batch.complete:
            stage.cut(f"whether a loss learns in {steps} steps was not found out")
            return Probed(first=first, steps=first)
    here = [r for r in results if r.spec.steps == steps]
    if not any(r.state == "complete" for r in here):
        return Probed(first=first, steps=first)  # the search tells why
    if learned(map(skill, here)):
        if steps == first:
            return Probed(first=first, steps=steps)
        sentence = (
            f"no loss clearly beats a constant answer after {steps // 2} steps, {max(here, key=skill).spec.family} "
            f"does after {steps}: searching at {steps} steps"
        )
        return Probed(first=first, steps=steps, sentence=sentence)
    best = max((r.value or 0.0 for r in here), default=0.0)
    sentence = (
        f"no loss clearly beats a constant answer after {steps} steps ({FACTORS[-1]} times the default; the best reads "
        f"{best:.3f}), so that no search was begun. {what_would_help(here, plan.conditions)}"
    )
    return Probed(first=first, steps=steps, sentence=sentence, learned=False)
