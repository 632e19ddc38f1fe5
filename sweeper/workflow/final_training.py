"""The final training: the loss of the answer and the present one in the network that is taken home.

A small network and few steps are right for the search; this decides. On a CPU with pretrained weights it is the whole
network, elsewhere that of the search with several times the steps. Seeds are added while another may decide
(`needs_seed`). Where nothing could be compared, the pair is that of the first look, in a network that may learn more.
"""

from __future__ import annotations

from sweeper import storage as studies
from sweeper.core.records import SweepRecord, TrialSpec
from sweeper.evidence.answer_text import describe_final_training
from sweeper.evidence.final_comparison import MOST_SEEDS, needs_seed
from sweeper.study.finalist import make_final_spec
from sweeper.study.loop import TrainingList
from sweeper.workflow.conclude import weigh_study
from sweeper.workflow.run_context import RunContext
from sweeper.workflow.study_state import has_trained_final, make_final_key


def train_final(context: RunContext) -> None:
    """Train the final trainings, unless none is requested, they have ended, or there are no two losses.

    Where the time does not suffice, they are skipped, which is reported.

    Raises:
        InterruptedSweepError: on a signal; the study can be resumed.
    """
    study, plan, request = context.study, context.plan, context.request
    if request.final is None or has_trained_final(study, plan, request):
        return
    recipe = plan.conditions.recipe
    steps = request.final.steps or recipe.final_steps
    for number in range(MOST_SEEDS):
        specs = list_final_specs(context.read_sweep(), steps, number)
        if not specs:
            break
        if not _train_seed(context, specs):
            what = describe_final_training(recipe, steps)
            context.record_time_cut(f"the final training ({what}) ended after {number} of up to {MOST_SEEDS} seeds")
            return
        context.publish_answer()
    study.set_user_attr(studies.FINAL_ENDED, studies.pack_value(make_final_key(study, plan, request)))


def list_final_specs(sweep: SweepRecord, steps: int, number: int) -> list[TrialSpec]:
    """Return the trainings on seed `number` (from 0) of the final training; [] where it would decide nothing more."""
    made = tuple(result for result in sweep.final if result.spec.steps == steps)
    weighed = weigh_study(sweep.model_copy(update={"final": made}))
    is_same, final = sweep.conditions.recipe.final is None, weighed.final
    if not weighed.pair or (weighed.evidence is None and is_same):  # this network has learned nothing before
        return []
    if final is not None and not needs_seed(final, sweep.margin, is_shown=weighed.is_shown, is_same_network=is_same):
        return []
    return [make_final_spec(finalist, sweep.conditions, steps, number) for finalist in weighed.pair]


def _train_seed(context: RunContext, specs: list[TrialSpec]) -> bool:
    """Train the missing ones of a seed, if there is time for them; return whether all have ended."""
    recipe, in_time = context.plan.conditions.recipe, context.time.make_admission(1.0)

    def admit(steps: int) -> bool:
        return in_time(round(steps * recipe.final_cost))

    batch = TrainingList(context.study, specs, recorder=context.recorder, admit=admit)
    if not len(batch):
        return True
    rounds = -(-len(batch) // context.executor.workers)
    if not admit(rounds * specs[0].steps):
        return False
    names = " and ".join(spec.family for spec in specs)
    what = describe_final_training(recipe, specs[0].steps)
    context.display.log(f"final training: {names} on another seed, {what}")
    context.show_phase("final", missing=len(batch))
    return context.run_work(batch) and batch.is_complete
