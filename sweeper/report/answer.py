"""The numbers behind the answer card: scores, how the losses were tuned, the recipe and budget."""

from __future__ import annotations

from sweeper.core.records import Verdict
from sweeper.core.text import count, listed
from sweeper.evidence.intervals import LEVEL
from sweeper.report.card import recipe_text
from sweeper.report.facts import Facts, difference, finalist_name, level_between
from sweeper.report.formatting import (
    code,
    level,
    number,
    params_text,
    signed,
    significant,
)

FEW_TRIALS = 3
"""A family with fewer completed trials was hardly tuned."""


def numbers(facts: Facts) -> list[str]:
    """The paragraphs of the numbers behind the answer, in markdown."""
    recommended = facts.recommendation.recommended
    if recommended is None or facts.recommendation.verdict is Verdict.NONE:
        return []
    return [_numbers(facts), *_true_name(facts), _holds_for(facts)]


def _true_name(facts: Facts) -> list[str]:
    """That the search had another name for what is recommended; a paragraph."""
    if facts.chosen is None or (same := facts.chosen.found_as) is None:
        return []
    idle = [code(name) for name in same.params if name not in same.is_params]
    use = f": the search found no use for its {listed(idle)}" if idle else ""
    found = f"{code(same.family)} ({params_text(same.params)}, trial {same.trial})"
    return [f"The search found it as {found}, which is the same function on these data{use}."]


def _numbers(facts: Facts) -> str:
    chosen, evidence = facts.chosen, facts.recommendation.evidence
    if chosen is None or evidence is None:
        return "It was **not confirmed** on test images: it is the best of the search alone, on validation images."
    text = f"Test mIoU {facts.scored(chosen.miou, chosen)}"
    gain = difference(facts, chosen, facts.baseline)
    if chosen is facts.baseline:
        text += "; it is cross-entropy itself, the baseline"
        other = difference(facts, chosen, facts.rival)
        if other is not None and facts.rival is not None:
            text += f", {facts.gained(other, chosen, facts.rival)} against {code(finalist_name(facts, facts.rival))}"
    elif gain is not None:
        text += f", {facts.gained(gain, chosen, facts.baseline)} over cross-entropy"
        text += _rates_compared(facts)
    else:
        text += "; cross-entropy was not confirmed, so the gain over it is not known"
    if chosen.fg_iou is not None:
        text += f"; foreground IoU {facts.scored(chosen.fg_iou, chosen)}"
    if gain is not None and chosen.regret is not None and chosen.regret.gain is not None:
        text += f"; allowing for the luck of the highest, the gain is {signed(chosen.regret.gain)}"
    what = f"These are {level(LEVEL)} intervals"
    against = facts.rival if chosen is facts.baseline else facts.baseline
    if (at := level_between(facts, chosen, against)) != LEVEL:
        what += f" (of differences: {level(at)}, as the confirmation may be analysed more than once)"
    seen = f"{count(evidence.test_pictures, 'test image')} that the search never saw"
    if evidence.folds is not None:
        seen = (
            f"{count(evidence.test_pictures, 'image')}, each scored in turn by a training that did not see it "
            f"({evidence.folds} trainings a seed),"
        )
    return (
        f"{text}. {what} from {seen} and {count(len(chosen.seeds), 'paired seed')}; a constant answer "
        f"scores {number(evidence.constant_miou)}.{_hardly_tuned(facts)}"
    )


def _rates_compared(facts: Facts) -> str:
    """At which learning rates the recommended loss was compared with the baseline."""
    if facts.chosen is None or facts.baseline is None or facts.chosen.rates is None or facts.baseline.rates is None:
        return ", each at its best learning rate"
    if facts.chosen.seed_lrs[:2] == facts.baseline.seed_lrs[:2]:
        rates = facts.chosen.rates
        return f", both at the same learning rates ({significant(rates.low)} to {significant(rates.high)})"
    return ", each at learning rates that are good for it"


def _hardly_tuned(facts: Facts) -> str:
    """How little the recommended loss and the baseline were tuned, where a family completed few search trials."""
    pair = ((facts.baseline, "The baseline "), (facts.chosen, ""))
    roles = {id(f): (f, role) for f, role in pair if f is not None}
    sentences = []
    for finalist, role in reversed(roles.values()):
        states = facts.search[facts.search["family"] == finalist.family]["state"].value_counts()
        complete, pruned, failed = (int(states.get(s, 0)) for s in ("complete", "pruned", "failed"))
        total = complete + pruned + failed
        if not 0 < complete < FEW_TRIALS:
            continue
        if not finalist.params:
            continue  # it has nothing but its learning rate to be tuned, and all losses' trials told that together
        others = f"the other {pruned}" if pruned + complete == total else count(pruned, "other")
        stopped = f"{others} {'was' if pruned == 1 else 'were'} stopped early, not among the best at the same step"
        rest = [stopped] if pruned else []
        rest += [f"{failed} failed"] if failed else []
        done = f"{complete} of its {total} search trials completed" if total > 1 else "it had a single search trial"
        name = code(finalist_name(facts, finalist))
        sentences.append(f" {role}{name} was hardly tuned: {', '.join([done, *rest])}.")
    return "".join(sentences)


def _holds_for(facts: Facts) -> str:
    recipe = facts.sweep.conditions.recipe
    return (
        f"It holds for this recipe and budget: {recipe_text(recipe)}; {recipe.steps:,} search steps and "
        f"{recipe.confirm_steps:,} confirmation steps of {recipe.batch_size} crops."
    )
