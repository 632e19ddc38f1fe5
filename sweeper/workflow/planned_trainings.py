"""How many trainings of which length a study still has before it: for `--dry-run`, and for the time that is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sweeper import storage as studies
from sweeper.core.base import Record
from sweeper.core.records import InterimAnalysis
from sweeper.storage.interim_analyses import AnalysesTaken, analyses_taken
from sweeper.study.budget_probe import FACTORS
from sweeper.study.earlier_rates import RATES
from sweeper.study.finalist import BASELINE, LEADERS
from sweeper.study.learning_check import PROMISING, nothing_learned
from sweeper.study.learning_rates import EXTENSIONS, GRID, is_one_rate
from sweeper.workflow.settings import Budget

if TYPE_CHECKING:
    import optuna


class Trainings(Record):
    """How many trainings of one kind there will be, and of how many steps."""

    least: int
    most: int
    steps: int
    """Of each; of a probe's first budget."""


class There(NamedTuple):
    """What a study holds already."""

    trials: int
    rechecks: int
    confirmations: int
    """Completed, with the plan's steps."""
    failed: int
    """Trainings of all phases that a run would train again."""
    interim: AnalysesTaken
    held: int = 0
    """Trials that it has or will have without being asked: failed ones and those that wait are among them."""
    learned: bool = True
    """Whether a trial beats a constant answer, or none has ended yet."""


NOTHING = There(0, 0, 0, 0, AnalysesTaken())


def there_of(study: optuna.Study, plan: studies.Plan) -> There:
    """What a study holds."""
    failed = studies.failed_trials(study)
    extra = {purpose: studies.extra_results(study, purpose) for purpose in ("recheck", "confirm")}
    complete = {purpose: [r for r in results if r.state == "complete"] for purpose, results in extra.items()}
    trials = studies.search_results(study)
    return There(
        trials=len(trials) - len(failed),
        rechecks=len(complete["recheck"]),
        confirmations=sum(r.spec.steps == plan.conditions.recipe.confirm_steps for r in complete["confirm"]),
        failed=len(failed) + sum(len(extra[purpose]) - len(complete[purpose]) for purpose in extra),
        interim=analyses_taken(study.user_attrs),
        held=studies.held(study),
        learned=not nothing_learned(trials),
    )


def _finished(plan: studies.Plan, trials: int, there: There, analyses: tuple[InterimAnalysis, ...]) -> bool:
    """Whether a run would train nothing: its search is complete, and learned nothing or was confirmed to the end."""
    interim = there.interim
    if there.trials < trials or there.failed or interim.cut is not None:
        return False
    if not there.learned:
        return True
    if not interim.stored or interim.planned != analyses:
        return False
    last = interim.stored[-1]
    ended = not (last.go_on and last.families) or last.found.seeds >= analyses[-1].seeds
    return ended and interim.steps == plan.conditions.recipe.confirm_steps


def trainings_left(
    plan: studies.Plan, trials: int, there: There, analyses: tuple[InterimAnalysis, ...], budget: Budget
) -> dict[str, Trainings]:
    """The trainings that are still to come, by phase (probe, search, recheck, confirm); none of a finished study.

    Args:
        plan: the study's.
        trials: the total of the search.
        there: what the study holds.
        analyses: the interim analyses that are planned.
        budget: how the steps are found.
    """
    if _finished(plan, trials, there, analyses):
        return {}
    done = there.trials
    recipe, families = plan.conditions.recipe, [family.family for family in plan.space.families]
    tried = min(len(families), trials)
    leaders = min(LEADERS, tried)
    finalists = leaders + (BASELINE in families[:tried] and tried > leaders)
    contested = tried > LEADERS
    fixed = is_one_rate(plan.space.lr)
    rates = 0 if fixed else (leaders + 2 * contested) * (RATES - 1)
    least = 0
    if plan.conditions.rates != "searched":
        rates, least = (0, 0) if fixed else (finalists * (GRID + EXTENSIONS), leaders * GRID)
    rotation = plan.conditions.folds or 1
    begun = done or budget == "given"
    probed = len(families) if budget == "ranking" and not begun and len(families) > 1 else 0
    probe = Trainings(least=2 * probed, most=len(FACTORS) * probed, steps=recipe.steps)
    if budget == "learns" and not begun:  # until one has learned, nearly always the first
        most = len(families) + min(PROMISING, len(families)) * (len(FACTORS) - 1)
        probe = Trainings(least=1, most=most, steps=recipe.steps)
    found = {
        "probe": probe,
        "search": Trainings(least=max(0, trials - done), most=max(0, trials - done), steps=recipe.steps),
        "recheck": Trainings(
            least=max(0, least - there.rechecks),
            most=max(0, rates + tried * contested - there.rechecks),
            steps=recipe.steps,
        ),
        "confirm": Trainings(
            least=max(0, analyses[0].seeds * leaders * rotation - there.confirmations),
            most=max(0, analyses[-1].seeds * finalists * rotation - there.confirmations),
            steps=recipe.confirm_steps,
        ),
    }
    return {name: trainings for name, trainings in found.items() if trainings.most}
