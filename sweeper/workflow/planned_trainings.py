"""How many trainings of which length a study still has before it: for `--dry-run`, and for the time that is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sweeper import storage as studies
from sweeper.core.base import Record
from sweeper.space import floor_of
from sweeper.storage.interim_analyses import AnalysesTaken, analyses_taken
from sweeper.study.finalist import BASELINE, LEADERS
from sweeper.study.learning_check import nothing_learned
from sweeper.study.learning_rates import is_one_rate
from sweeper.study.search_end import PATIENCE, settled
from sweeper.study.successive_halving import PURSUED
from sweeper.workflow.options import Asked

if TYPE_CHECKING:
    import optuna


class Trainings(Record):
    """How many trainings of one kind there will be, and of how many steps."""

    least: int
    most: int
    first: int
    """How many come before the first tested answer, at most."""
    steps: int
    """Of each."""


class There(NamedTuple):
    """What a study holds already."""

    trials: int
    confirmations: int
    """Completed, with the plan's steps."""
    failed: int
    """Trainings of all phases that a run would train again."""
    interim: AnalysesTaken
    learned: bool = True
    """False where the search learned nothing so far, so that nothing is to be confirmed."""
    settled: bool = False
    """Whether the search ends here, before its total."""


NOTHING = There(0, 0, 0, AnalysesTaken())


def there_of(study: optuna.Study, plan: studies.Plan, asked: Asked) -> There:
    """What a study holds of what is asked of it."""
    failed = studies.failed_trials(study)
    extra = {purpose: studies.extra_results(study, purpose) for purpose in ("recheck", "confirm")}
    complete = {purpose: [r for r in results if r.state == "complete"] for purpose, results in extra.items()}
    trials = studies.search_results(study)
    values = {r.spec.number: r.value for r in trials if r.state == "complete"}
    floors = len(plan.space.families) * floor_of(plan.space, asked.trials)
    strict = asked.budget != "given"
    learned = not nothing_learned(trials, studies.extra_results(study, "probe"), strict=strict)
    without_gain = asked.settles and settled([r.spec.number for r in trials], values, floors, asked.rope)
    return There(
        trials=len(trials) - len(failed),
        confirmations=sum(r.spec.steps == plan.conditions.recipe.confirm_steps for r in complete["confirm"]),
        failed=len(failed) + sum(len(extra[purpose]) - len(complete[purpose]) for purpose in extra),
        interim=analyses_taken(study.user_attrs),
        learned=learned,
        settled=without_gain or (strict and not learned),
    )


def _finished(plan: studies.Plan, asked: Asked, there: There) -> bool:
    """Whether a run would train nothing: its search is complete, and learned nothing or was confirmed to the end."""
    interim, analyses = there.interim, asked.analyses
    searched = there.trials >= asked.trials or there.settled
    if not searched or there.failed or interim.cut is not None:
        return False
    if not there.learned:
        return True
    if not interim.stored or (interim.planned, interim.until) != (analyses, asked.until):
        return False
    last = interim.stored[-1]
    ended = not (last.go_on and last.families) or last.found.seeds >= analyses[-1].seeds
    return ended and interim.steps == plan.conditions.recipe.confirm_steps


def trainings_left(plan: studies.Plan, asked: Asked, there: There) -> dict[str, Trainings]:
    """The trainings that are still to come, by phase (search, recheck, confirm); none of a finished study.

    Those that show whether a loss learns are not counted: nearly always it is one.

    Args:
        plan: the study's.
        asked: what is asked of it.
        there: what it holds.
    """
    if _finished(plan, asked, there):
        return {}
    trials, done, analyses = asked.trials, there.trials, asked.analyses
    recipe, families = plan.conditions.recipe, [family.family for family in plan.space.families]
    tried = min(len(families), trials)
    leaders = min(LEADERS, tried)
    finalists = leaders + (BASELINE in families[:tried] and tried > leaders)
    rotation = plan.conditions.folds or 1
    floors = len(families) * floor_of(plan.space, trials) + PATIENCE
    least = 0 if there.settled else min(trials, floors) if asked.settles else trials
    to_search = 0 if there.settled else max(0, trials - done)
    first, last = (analyses[end].seeds * rotation for end in (0, -1))
    confirmed = 0 if to_search else there.confirmations  # what is still searched may bring other finalists

    def phase(least: int, most: int, steps: int, first_answer: int | None = None) -> Trainings:
        return Trainings(least=least, most=most, first=most if first_answer is None else first_answer, steps=steps)

    found = {
        "search": phase(max(0, least - done), to_search, recipe.steps),
        "recheck": phase(0, 0 if is_one_rate(plan.space.lr) else finalists, recipe.steps),
        "confirm": phase(
            max(0, first * min(PURSUED, tried) - there.confirmations) if there.learned else 0,
            max(0, last * finalists - confirmed),
            recipe.confirm_steps,
            max(0, first * finalists - confirmed),
        ),
    }
    return {name: trainings for name, trainings in found.items() if trainings.most}
