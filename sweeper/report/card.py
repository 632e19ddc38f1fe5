"""The answer card: one record, from which the report, the terminal and MLflow's note say the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.core.recipe import Recipe
from sweeper.core.records import FinalistEvidence, Interval, LongerGap, Recommended, Rung, Verdict
from sweeper.core.text import count, listed, resume_command, significant, with_options
from sweeper.data.folds import NOT_HELD_OUT
from sweeper.evidence.action import best_other
from sweeper.evidence.decision_rules import shown_gain
from sweeper.evidence.intervals import LEVEL
from sweeper.evidence.paired_comparisons import BASELINE
from sweeper.evidence.verdict import decide
from sweeper.report.facts import Facts, difference, level_between
from sweeper.report.formatting import (
    escape_md,
    fence,
    level,
    naming,
    network,
    number,
    one_line,
    plain_text,
    prose,
    signed,
    signed_interval,
    table,
)

VERDICTS = {
    Verdict.CLEAR_WINNER: "clear winner",
    Verdict.EQUIVALENT: "equivalent",
    Verdict.SAFE_CHOICE: "safe choice",
    Verdict.UNDECIDED: "undecided",
    Verdict.NONE: "no recommendation",
}
"""Each verdict in words; the words are those the text uses."""

LOW_BUDGET = ("--epochs", "--confirm-steps", "--study")
"""Left out of the command for a larger budget: the confirmation then has twice the new steps, in a new study."""

LISTED = 8
"""Classes in a row of the card; recommendation.json has all."""
_NUMBERS = re.compile(r"\\\[([−+\d., ]+)\\\]")
"""An escaped interval, which is no link and needs no escape."""


@dataclass(frozen=True)
class Row:
    """One line of the card; plain text in which losses and parameters may stand in back quotes."""

    label: str
    text: str


@dataclass(frozen=True)
class Card:
    """What to use, what it gains, how sure that is, what it holds for, and the code to paste."""

    headline: str
    """One sentence, plain text like the rows."""
    rows: tuple[Row, ...]
    snippet: str
    """What to paste: Python, or where nothing is recommended the command that helps."""
    language: str = "python"


def card_of(facts: Facts) -> Card:
    """The answer of a study as a card."""
    recommended = facts.recommendation.recommended
    if recommended is None or facts.recommendation.verdict is Verdict.NONE:
        return _nothing(facts)
    rows = [
        Row("Use", _settings(facts, recommended)),
        *_gains(facts),
        *_longer(facts),
        *(_misses(facts) or _decision(facts)),
        Row("Confidence", _confidence(facts)),
        *_not_learned(facts),
        Row("Holds for", _holds_for(facts)),
    ]
    return Card(_headline(facts, recommended) + _if_long(facts), tuple(rows), recommended.snippet)


def card_markdown(card: Card, losses: Sequence[str] | frozenset[str]) -> str:
    """The card in GitHub's markdown: a bold sentence, a table without header cells of its own, the code."""

    def rendered(text: str) -> str:
        return _NUMBERS.sub(r"[\1]", prose(naming(text, losses))).removeprefix("\\")

    first, *others = [[f"**{row.label}**", rendered(row.text)] for row in card.rows]
    parts = [f"**{rendered(card.headline)}**", table(first, others, left=2)]
    return "\n\n".join(
        [*parts, fence(one_line(card.snippet) if card.language == "bash" else card.snippet, card.language)]
    )


def card_lines(card: Card) -> list[tuple[str, str]]:
    """The same for a terminal: (label, text) without markup; the headline has no label."""
    return [("", plain_text(card.headline)), *((row.label, plain_text(row.text)) for row in card.rows)]


def recipe_text(recipe: Recipe) -> str:
    """The network and its input: `U-Net/ResNet-18 cut to depth 3 of 5 without pretrained weights on 64² crops`."""
    return escape_md(_recipe(recipe))


def _recipe(recipe: Recipe) -> str:
    if recipe.model is not None:
        return f"the network {recipe.model.name} on {_crops(recipe)}"
    weights = {"none": "without pretrained weights", "imagenet": "with ImageNet weights"}.get(
        recipe.encoder_weights, "with weights from a file"
    )
    return f"{network(recipe)} {weights} on {_crops(recipe)}"


def _crops(recipe: Recipe) -> str:
    return f"{recipe.size}² {'balanced ' * (recipe.crops == 'balanced')}crops"


# --- A recommendation ---------------------------------------------------------------------------------------


def _headline(facts: Facts, recommended: Recommended) -> str:
    """The answer in a sentence; before it one that says so where no network can do the task yet."""
    evidence = facts.recommendation.evidence
    if evidence is None or not facts.too_weak:
        return facts.recommendation.head or _answer(facts, recommended)
    best = max(f.miou.estimate for f in facts.finalists)
    return (
        f"None of these networks can do the task yet: the best reads {number(best)} mIoU, the same answer everywhere "
        f"{number(evidence.constant_miou)}. {facts.recommendation.head or _answer(facts, recommended)}"
    )


def _answer(facts: Facts, recommended: Recommended) -> str:
    """Return the verdict in a sentence, where neither keeping cross-entropy nor a change from it is recommended."""
    verdict, name, rope = (
        facts.recommendation.verdict,
        f"`{recommended.family}`",
        f"{facts.sweep.rope:g} {facts.metric}",
    )
    if verdict is Verdict.CLEAR_WINNER:
        return f"Train with {name}: it beats every other finalist."
    if verdict is Verdict.EQUIVALENT:
        several = len(facts.finalists) > 1
        why = f"the best finalists differ by less than {rope}" if several else f"all that was tried is {name} here"
        return f"Train with {name}: {why}."
    if verdict is Verdict.SAFE_CHOICE:
        return f"Train with {name}: no finalist is better by more than {rope}."
    if len(facts.finalists) < 2:
        return f"Nothing was compared: {name} alone was confirmed."
    if facts.recommendation.strength == "probable":
        return f"No clear winner. Train with {name}: it is probably within {rope} of the best."
    return f"No loss is shown to be best: meanwhile train with {name}."


def _settings(facts: Facts, recommended: Recommended) -> str:
    parts = [f"`{name}` {significant(value)}" for name, value in recommended.params.items()]
    parts.append(f"learning rate {significant(recommended.lr)}")
    if facts.recommendation.misses is not None:
        return " · ".join([f"`{recommended.family}`", *parts])
    if recommended.threshold is not None:
        parts.append(f"threshold {number(recommended.threshold, 2)}")
    if recommended.tau is not None:
        parts.append(f"logit adjustment τ {number(recommended.tau, 2)}")
    return " · ".join([f"`{recommended.family}`", *parts])


def _decision(facts: Facts) -> list[Row]:
    """The rule that makes masks of probabilities: one threshold, or one for each image where that is shown to gain."""
    evidence, chosen = facts.recommendation.evidence, facts.chosen
    gain = None if evidence is None or chosen is None else shown_gain(evidence, facts.finalists.index(chosen))
    if gain is None or evidence is None or evidence.decisions is None:
        return []
    gained = f"{signed_interval(gain)} Dice of an average image ({level(evidence.decisions.level)})"
    if gain.low > 0:
        return [Row("Decide with", f"the threshold; if images count one by one, `predict_each`: {gained}")]
    return [Row("Decide with", f"the threshold; one for each image (RankDice) gains {gained}")]


def _misses(facts: Facts) -> list[Row]:
    """The operating point that keeps a limit of misses, where that was asked for, and what it costs."""
    found = facts.recommendation.misses
    if found is None:
        return []
    at = f"{facts.point_name} {found.point:.3g}"
    if not found.moved:
        return [Row("Decide with", f"{at}, as without the limit: the network {found.promise}")]
    cost = f"precision {number(found.precision, 2)} in place of {number(found.precision_before, 2)}"
    text = f"{at} in place of {found.before:.3g}: the network {found.promise}, at {cost}"
    return [Row("Decide with", f"{text}. Gain and confidence are measured without the limit")]


def _gains(facts: Facts) -> list[Row]:
    """What is gained over cross-entropy, as people train it and tuned like the recommended loss."""
    chosen, baseline = facts.chosen, facts.baseline
    if chosen is None:
        return [Row("Gain", "not known: nothing was confirmed on test images")]
    rows = []
    if chosen.vs_plain is not None:
        usual = facts.default_name.removeprefix("at ") if not facts.binary else f"{facts.point_name} 0.5"
        text = _at(f"{facts.gained(chosen.vs_plain, chosen, baseline)} test {facts.metric}", LEVEL)
        text += _by_point(facts, chosen, baseline)
        rows.append(Row(f"Gain over cross-entropy as usual ({usual})", text))
    label = "Gain over tuned cross-entropy"
    if chosen is baseline:
        return [*rows, _best_other(facts) or Row(label, "none: it is tuned cross-entropy")]
    gain = difference(facts, chosen, baseline)
    if gain is None or baseline is None:
        return [*rows, Row(label, "not known: cross-entropy was not confirmed")]
    gained = _at(f"{facts.gained(gain, chosen, baseline)} test {facts.metric}", level_between(facts, chosen, baseline))
    return [*rows, Row(label, gained + _levels(gain, chosen, baseline))]


def _best_other(facts: Facts) -> Row | None:
    """Return the loss that looks best beside cross-entropy, where that is recommended."""
    other = None if facts.recommendation.evidence is None else best_other(facts.recommendation.evidence)
    rival = None if other is None else facts.finalists[other]
    gain = difference(facts, rival, facts.baseline)
    if rival is None or gain is None:
        return None
    gained = _at(
        f"{facts.gained(gain, rival, facts.baseline)} test {facts.metric}", level_between(facts, rival, facts.baseline)
    )
    return Row("Best other", f"`{rival.family}`: {gained}")


def _longer(facts: Facts) -> list[Row]:
    """What the gaps do with more steps, where that was looked at."""
    look, base = facts.recommendation.longer, facts.baseline
    if look is None:
        return []
    first, *others = look.gaps
    own = first.first == (facts.chosen and facts.chosen.family) and first.second == (base and base.family)
    parts = [gap_text(first) if own else _of_two(first), *(_of_two(gap) for gap in others)]
    return [Row(f"At {look.times} times the steps", "; ".join(parts))]


def _of_two(gap: LongerGap) -> str:
    return f"`{gap.first}` over `{gap.second}` {gap_text(gap)}"


def gap_text(gap: LongerGap) -> str:
    """What a gap became, what it was, what to make of that: `+0.170 in place of +0.184, keeps (1 seed, ± 0.040)`."""
    after, half = gap.after.estimate, (gap.change.high - gap.change.low) / 2
    word: str = gap.trend
    if gap.trend == "gone":
        other = "cross-entropy" if gap.second == BASELINE else f"`{gap.second}`"
        word = f"is gone: {other} catches up"
    elif gap.trend == "open":
        word = "no clear change: it is within its error"
    elif gap.trend == "grows" and gap.learned:
        word = f"grows: only now learned: {listed(list(gap.learned))}"
    error = f", ± {number(half)}" if half < 1 else ""
    return f"{signed(after)} in place of {signed(gap.before.estimate)}, {word} ({count(gap.seeds, 'seed')}{error})"


def _if_long(facts: Facts) -> str:
    look = facts.recommendation.longer
    return " Keep cross-entropy if you train long." if look is not None and look.catches_up else ""


def _levels(gain: Interval, chosen: FinalistEvidence, baseline: FinalistEvidence) -> str:
    """From where to where; nothing where that reads as another difference: it is rounded, or of other seeds."""
    before, after = baseline.score.estimate, chosen.score.estimate
    if round(round(after, 3) - round(before, 3), 3) != round(gain.estimate, 3):
        return ""
    return f", from {number(before)} to {number(after)}"


def _at(text: str, of: float) -> str:
    """With the interval's level, where there is an interval."""
    return f"{text} ({level(of)})" if "[" in text else text


def _by_point(facts: Facts, chosen: FinalistEvidence, baseline: FinalistEvidence | None) -> str:
    """How much of the gain over usual cross-entropy its own operating point brings, whatever the loss."""
    if chosen is baseline:
        return f", from the {facts.point_name} alone"
    alone = None if baseline is None or baseline.vs_plain is None else baseline.vs_plain.estimate
    if alone is None or alone < facts.sweep.rope / 2:
        return ""
    return f"; cross-entropy's own {facts.point_name} alone gains {signed(alone)}"


def _confidence(facts: Facts) -> str:
    """The verdict in its word, what the named loss can cost at most, and what weakens either."""
    parts = [_verdict(facts)]
    chosen = facts.chosen
    if chosen is not None and chosen.regret is not None:
        most = facts.at_most(chosen.regret.bound)
        learned = " on what was learned" if facts.recommendation.not_learned else ""
        parts.append(
            f"costs at most {most} {facts.metric}{learned} against the best of {len(facts.finalists)} finalists "
            f"({level(LEVEL)})"
        )
    if facts.recommendation.provisional and facts.recommendation.longer is None:
        rising = f" ({signed(facts.baseline.still_rising)} in its last quarter)" if facts.baseline else ""
        parts.append(f"provisional at this budget, as cross-entropy was still improving{rising}")
    evidence = facts.recommendation.evidence
    if facts.sweep.conditions.folds is not None:
        parts.append(f"{NOT_HELD_OUT}: the search saw these images")
    if evidence is not None and evidence.few_groups:
        parts.append(f"all test images come from {count(evidence.few_groups, 'group')} of related ones")
    return "; ".join(parts)


def _not_learned(facts: Facts) -> list[Row]:
    """The classes that no loss learned, of which no number here says anything."""
    names = facts.recommendation.not_learned
    if not names:
        return []
    more = f" and {len(names) - LISTED} others" if len(names) > LISTED else ""
    return [Row("Not learned by any loss", ", ".join(names[:LISTED]) + more)]


def _verdict(facts: Facts) -> str:
    verdict, rope = facts.recommendation.verdict, f"{facts.sweep.rope:g} {facts.metric}"
    word = VERDICTS[verdict]
    if len(facts.finalists) < 2 and verdict in (Verdict.UNDECIDED, Verdict.EQUIVALENT):
        return f"{word}, nothing was compared" if verdict is Verdict.UNDECIDED else f"{word}: one function, other names"
    if verdict in (Verdict.CLEAR_WINNER, Verdict.SAFE_CHOICE):
        return word
    if facts.recommendation.strength == "probable":
        return f"{word}: probably within {rope} of the best"
    left = _left(facts)
    names = listed([f"`{f.family}`" for f in left])
    if verdict is Verdict.EQUIVALENT:
        return f"{word}: {names} differ by less than {rope}"
    return f"{word} between {names}" if len(left) > 1 else f"{word} by {rope}"


def _left(facts: Facts) -> list[FinalistEvidence]:
    """The best finalist and those it does not beat, by the verdict's own rule; by falling mIoU."""
    decision = decide(facts.recommendation.evidence, facts.families)
    return [f for i, f in enumerate(facts.finalists) if i == decision.best or i in decision.unbeaten]


def _holds_for(facts: Facts) -> str:
    """The recipe, the budget, and from how much it is known."""
    evidence, recipe = facts.recommendation.evidence, facts.sweep.conditions.recipe
    steps = recipe.steps if evidence is None else recipe.confirm_steps
    text = f"{_recipe(recipe)}, {steps:,} steps, batch {recipe.batch_size}"
    if facts.chosen is None or evidence is None:
        return text
    made = "synthetic " if facts.sweep.conditions.dataset.synthetic else ""
    seen = count(evidence.test_images, f"unseen {made}test image")
    if evidence.folds is not None:
        seen = f"{count(evidence.test_images, f'{made}image')} in {evidence.folds} folds"
    seeds = sorted({len(finalist.seeds) for finalist in facts.finalists})
    of_each = count(seeds[-1], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    return f"{text}; {seen}, {of_each}"


# --- No recommendation --------------------------------------------------------------------------------------


def _nothing(facts: Facts) -> Card:
    """Nothing was learned, or nothing was confirmed: what was found, and the one command that helps."""
    recipe, evidence = facts.sweep.conditions.recipe, facts.recommendation.evidence
    holds = Row("Tried with", _holds_for(facts))
    if facts.nothing_learned:
        found = "no training did clearly better than the same answer everywhere"
        missing = f"{len(rung.not_learned)} of {rung.learnable} classes" if (rung := _last_rung(facts)) else "this data"
        if rung is not None:
            found = f"{missing} are not learned by any loss"
        if evidence is not None and evidence.finalists:
            eligible = [f for f in evidence.finalists if f.collapses < f.trainings]
            best = max(eligible or evidence.finalists, key=lambda f: f.miou.estimate)
            found = f"the best test mIoU is {number(best.miou.estimate)} (`{best.family}`)"
            found += "" if eligible else ", though every training collapsed"
            found += f"; the same answer everywhere scores {number(evidence.constant_miou)}"
        trained = (*facts.sweep.probes, *facts.sweep.trials, *facts.sweep.confirmations)
        tried = max([recipe.steps, *(trial.spec.steps for trial in trained)])
        command = with_options(facts.sweep.command, {"--steps": str(4 * tried)}, drop=LOW_BUDGET)
        if facts.sweep.minutes is not None:
            more = with_options(
                resume_command(facts.sweep.study, facts.sweep.storage), {"--minutes": facts.sweep.minutes}
            )
            command = more
        rows = (Row("Found", found), *_not_learned(facts), holds)
        return Card(f"Budget too small: no loss learned {missing}.", rows, command, "bash")
    search = facts.search
    states = search["state"].value_counts()
    ended = [f"{int(states.get(state, 0))} {state}" for state in ("complete", "pruned", "failed")]
    found = f"{count(len(search), 'trial')}: {', '.join(ended)}"
    resume = resume_command(facts.sweep.study, facts.sweep.storage)
    rows = (Row("Found", found), *_not_learned(facts), holds)
    return Card("No recommendation: no loss was confirmed.", rows, resume, "bash")


def _last_rung(facts: Facts) -> Rung | None:
    """The last budget that was tried before a search that was not begun, where only some classes are not learned."""
    rungs = facts.sweep.rungs
    return rungs[-1] if rungs and rungs[-1].is_learned and not facts.sweep.trials else None
