"""The head of the report: which loss, with which numbers, how sure, at which recipe and budget."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sweeper.core.recipe import Recipe
from sweeper.core.records import FinalistEvidence, Recommended, Verdict
from sweeper.core.text import count, listed
from sweeper.data.folds import NOT_HELD_OUT
from sweeper.evidence.decision_rule import preferred
from sweeper.evidence.intervals import LEVEL
from sweeper.evidence.reasons import why_named
from sweeper.evidence.verdict import decide
from sweeper.report.facts import Facts, difference, finalist_name, level_between
from sweeper.report.formatting import (
    code,
    escape_md,
    interval,
    level,
    network,
    number,
    params_text,
    probability,
    signed,
    signed_interval,
    significant,
)

VERDICTS = {
    Verdict.CLEAR_WINNER: "clear winner",
    Verdict.EQUIVALENT: "equivalent",
    Verdict.SAFE_CHOICE: "safe choice",
    Verdict.UNDECIDED: "undecided",
    Verdict.NONE: "no recommendation",
}
"""Each verdict in words; the words are those the text uses."""

FEW_TRIALS = 3
"""A family with fewer completed trials was hardly tuned."""


def answer(facts: Facts) -> list[str]:
    """The paragraphs of the answer, in markdown: what to use and what it can cost, what it gains, what it holds for."""
    recommended = facts.recommendation.recommended
    if recommended is None or facts.recommendation.verdict is Verdict.NONE:
        return _nothing(facts)
    first = [_what(facts, recommended) + _cost(facts), *_true_name(facts), *_gain(facts)]
    return [*first, *_how_sure(facts), *held_out(facts)]


def numbers(facts: Facts) -> list[str]:
    """The paragraphs of the numbers behind the answer, in markdown."""
    recommended = facts.recommendation.recommended
    if recommended is None or facts.recommendation.verdict is Verdict.NONE:
        return []
    return [_numbers(facts), _holds_for(facts)]


def _cost(facts: Facts) -> str:
    if facts.chosen is None or facts.chosen.regret is None:
        return ""
    best = f"the best of the {len(facts.finalists)} finalists"
    bound = number(facts.chosen.regret.bound)
    return f" It costs at most **{bound}** mIoU against {best}, with a probability of 95 %."


def _gain(facts: Facts) -> list[str]:
    """What is gained over cross-entropy as it is usually trained; a paragraph."""
    if facts.chosen is None or (gain := facts.chosen.vs_plain) is None:
        return []
    plain = f"at {facts.point_name} {'0.5' if facts.binary else '0'}"
    if facts.chosen is facts.baseline:
        return [f"The {facts.point_name} alone gains **{signed_interval(gain)}** test mIoU over the same loss {plain}."]
    return [f"It gains **{signed_interval(gain)}** test mIoU over cross-entropy as it is usually trained, {plain}."]


def _how_sure(facts: Facts) -> list[str]:
    """From what it is known and what it holds for; a paragraph."""
    evidence, recipe = facts.recommendation.evidence, facts.sweep.conditions.recipe
    if facts.chosen is None or evidence is None:
        return []
    seen = f"{count(evidence.test_pictures, 'test image')} that the search never saw"
    if evidence.folds is not None:
        seen = f"{count(evidence.test_pictures, 'image')} in {evidence.folds} folds"
    groups = ""
    if evidence.few_groups:
        groups = (
            f" All test images come from {count(evidence.few_groups, 'group')} of related ones, which count as one "
        )
        groups += "image each."
    return [
        f"Known from {seen} and {count(len(facts.chosen.seeds), 'seed')}; it holds for {recipe_text(recipe)}, trained "
        f"for {recipe.confirm_steps:,} steps.{groups}"
    ]


def _true_name(facts: Facts) -> list[str]:
    """That the search had another name for what is recommended; a paragraph."""
    if facts.chosen is None or (same := facts.chosen.found_as) is None:
        return []
    idle = [code(name) for name in same.params if name not in same.is_params]
    use = f": the search found no use for its {listed(idle)}" if idle else ""
    found = f"{code(same.family)} ({params_text(same.params)}, trial {same.trial})"
    return [f"The search found it as {found}, which is the same function on these data{use}."]


def held_out(facts: Facts) -> list[str]:
    """That the search saw what the finalists were scored on, where it is so; a paragraph."""
    folds = facts.sweep.conditions.folds
    if folds is None:
        return []
    return [
        f"**This result is {NOT_HELD_OUT}.** There was no test split: the search that chose these parameters saw every "
        f"image, and the finalists were then scored by {folds}-fold cross-validation on the same images. That "
        "choice flatters the scores, and may favour one loss over another; only images kept back from the search "
        "could confirm it."
    ]


def _nothing(facts: Facts) -> list[str]:
    search, evidence = facts.search, facts.recommendation.evidence
    if evidence is not None and evidence.finalists:
        best = max(evidence.finalists, key=lambda f: f.miou.estimate)
        first = (
            f"**No recommendation: no finalist learned more than a constant answer.** The best test mIoU is "
            f"{number(best.miou.estimate)} ({code(finalist_name(facts, best))})"
        )
        first += f"; a constant answer scores {number(evidence.constant_miou)}." if evidence.test_pictures else "."
        return [first, *held_out(facts), _holds_for(facts).replace("It holds for", "That is so for", 1)]
    states = search["state"].value_counts()
    failed, pruned = int(states.get("failed", 0)), int(states.get("pruned", 0))
    first = f"**No recommendation: no loss was confirmed.** The search ran {count(len(search), 'trial')}"
    first += f" of {facts.sweep.trials_asked} asked for: {int(states.get('complete', 0))} complete, {pruned} pruned, "
    first += f"{failed} failed."
    return [first, _holds_for(facts).replace("It holds for", "It was tried with", 1)]


def _what(facts: Facts, recommended: Recommended) -> str:
    verdict, name = facts.recommendation.verdict, code(recommended.family)
    numbers = [params_text(recommended.params), f"learning rate {significant(recommended.lr)}"]
    if recommended.threshold is not None:
        numbers.append(f"threshold {number(recommended.threshold, 2)}")
    if recommended.tau is not None:
        numbers.append(f"logit adjustment τ {number(recommended.tau, 2)}")
    settings = f"{name} ({', '.join(n for n in numbers if n)})"
    provisional = ""
    if facts.recommendation.provisional:
        gained = f" ({number(facts.baseline.still_rising)} mIoU over its last quarter)" if facts.baseline else ""
        provisional = f" It is **provisional at this budget**: cross-entropy was still improving{gained}."
    if verdict is Verdict.CLEAR_WINNER:
        return f"**Train with {settings}.** Verdict: **clear winner** over every other finalist.{provisional}"
    asked = _left(facts)
    names = [code(finalist_name(facts, f)) for f in asked]
    why = f": {_why(facts, asked)}" if len(asked) > 1 else ""
    rope = f"{facts.sweep.rope:g} mIoU"
    if verdict is Verdict.EQUIVALENT:
        return (
            f"**Train with {settings}.** Verdict: **equivalent**, {listed(names)} differ by less than {rope}. "
            f"{name} is named{why}.{provisional}"
        )
    if verdict is Verdict.SAFE_CHOICE:
        shown = f"Verdict: **safe choice**, no finalist is better by more than {rope}."
        return f"**Train with {settings}.** {shown}{provisional}"
    if len(facts.finalists) < 2:
        return f"Verdict: **undecided**, nothing was compared. **Meanwhile train with {settings}**.{provisional}"
    if facts.recommendation.strength == "probable" and facts.chosen is not None and facts.chosen.regret is not None:
        sure = probability(facts.chosen.regret.within_rope)
        return (
            f"**Train with {settings}.** Verdict: **undecided** who is best, but it is **probable ({sure})** that "
            f"{name} costs no more than {rope} against the best finalist.{provisional}"
        )
    return (
        f"Verdict: **undecided**, no loss is shown to be better than its rivals by {rope} or more "
        f"({', '.join(names)}). **Meanwhile train with {settings}**{why}.{provisional}"
    )


def _why(facts: Facts, among: Sequence[FinalistEvidence]) -> str:
    """Why the recommended one is named of these, in the verdict's own words."""
    evidence = facts.recommendation.evidence
    if evidence is None:
        return "it is the simplest"
    places = {id(f): i for i, f in enumerate(evidence.finalists)}
    return why_named(evidence, preferred(evidence, [places[id(f)] for f in among], facts.families)[1])


def _left(facts: Facts) -> list[FinalistEvidence]:
    """The best finalist and those it does not beat, by the verdict's own rule; by falling mIoU."""
    decision = decide(facts.recommendation.evidence, facts.families)
    return [f for i, f in enumerate(facts.finalists) if i == decision.best or i in decision.unbeaten]


def _numbers(facts: Facts) -> str:
    chosen, evidence = facts.chosen, facts.recommendation.evidence
    if chosen is None or evidence is None:
        return "It was **not confirmed** on test images: it is the best of the search alone, on validation images."
    text = f"Test mIoU **{number(chosen.miou.estimate)}** [{number(chosen.miou.low)}, {number(chosen.miou.high)}]"
    gain = difference(facts, chosen, facts.baseline)
    if chosen is facts.baseline:
        text += "; it is cross-entropy itself, the baseline"
        other = difference(facts, chosen, facts.rival)
        if other is not None and facts.rival is not None:
            text += f", {signed_interval(other)} against {code(finalist_name(facts, facts.rival))}"
    elif gain is not None:
        text += f", **{signed(gain.estimate)}** [{signed(gain.low)}, {signed(gain.high)}] over cross-entropy"
        text += _rates_compared(facts)
    else:
        text += "; cross-entropy was not confirmed, so the gain over it is not known"
    if chosen.fg_iou is not None:
        text += f"; foreground IoU {interval(chosen.fg_iou)}"
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
        if facts.sweep.conditions.rates != "searched" and not finalist.params:
            continue  # it has nothing but its learning rate to be tuned, and that was, on the grid
        others = f"the other {pruned}" if pruned + complete == total else count(pruned, "other")
        stopped = f"{others} {'was' if pruned == 1 else 'were'} stopped early, not among the best at the same step"
        rest = [stopped] if pruned else []
        rest += [f"{failed} failed"] if failed else []
        searched = facts.sweep.space.lr
        drawn = facts.sweep.conditions.rates != "searched"
        middle = not drawn and math.isclose(finalist.lr, math.sqrt(searched.low * searched.high), rel_tol=1e-3)
        lr = "its learning rate is the default, the middle of the range; " if middle else ""
        done = f"{complete} of its {total} search trials completed" if total > 1 else "it had a single search trial"
        seed = facts.sweep.conditions.seed
        again = [t for t in facts.sweep.rechecks if t.spec.family == finalist.family and (drawn or t.spec.seed == seed)]
        rates = len({t.spec.lr for t in again if t.state == "complete"})
        tried = f"{count(rates, 'other learning rate')} {'was' if rates == 1 else 'were'} tried before the confirmation"
        rest += [tried] if rates else []
        name = code(finalist_name(facts, finalist))
        sentences.append(f" {role}{name} was hardly tuned: {lr}{', '.join([done, *rest])}.")
    return "".join(sentences)


def _holds_for(facts: Facts) -> str:
    recipe = facts.sweep.conditions.recipe
    return (
        f"It holds for this recipe and budget: {recipe_text(recipe)}; {recipe.steps:,} search steps and "
        f"{recipe.confirm_steps:,} confirmation steps of {recipe.batch_size} crops."
    )


def recipe_text(recipe: Recipe) -> str:
    """The network and its input: `U-Net/ResNet-18 cut to depth 3 of 5 without pretrained weights on 96² crops`."""
    weights = {"none": "without pretrained weights", "imagenet": "with ImageNet weights"}.get(
        recipe.encoder_weights, "with weights from a file"
    )
    return f"{escape_md(network(recipe.arch, recipe.encoder, recipe.encoder_depth))} {weights} on {recipe.size}² crops"
