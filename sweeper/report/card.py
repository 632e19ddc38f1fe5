"""The answer card: one record from which the report, the terminal output and MLflow's note are made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.core.records import FinalistEvidence, Interval, LongerGap, Recommended, Verdict
from sweeper.core.text import format_count, format_significant, join_words, list_time_options, replace_options
from sweeper.data.folds import NOT_HELD_OUT
from sweeper.evidence.action import find_best_other, has_highest_gain
from sweeper.evidence.intervals import LEVEL
from sweeper.evidence.paired_comparisons import BASELINE
from sweeper.evidence.reasons import format_bound_condition, list_missed_classes
from sweeper.evidence.verdict import decide_verdict
from sweeper.evidence.verdict_predicates import get_difference, has_beaten
from sweeper.report.facts import ReportFacts, find_difference
from sweeper.report.formatting import (
    describe_network,
    escape_prose,
    format_count_range,
    format_level,
    format_number,
    format_signed_number,
    make_fence,
    make_one_line,
    make_table,
    mark_names,
    strip_code_spans,
)

VERDICTS = {
    Verdict.CLEAR_WINNER: "clear winner",
    Verdict.EQUIVALENT: "equivalent",
    Verdict.SAFE_CHOICE: "safe choice",
    Verdict.UNDECIDED: "undecided",
    Verdict.NONE: "no recommendation",
}
"""Each verdict in words, the same as in the text."""

LOW_BUDGET = ("--confirm-steps", "--study")
"""Options omitted from the command for a larger budget: the confirmation then has twice the new steps, in a new
study."""

LISTED = 8
"""Classes in a row of the card; recommendation.json has all."""
_NUMBERS = re.compile(r"\\\[([−+\d., ]+)\\\]")
"""An escaped interval: it is no link, and needs no escape."""


@dataclass(frozen=True)
class CardRow:
    """One line of the card: plain text, with losses and parameters optionally in back quotes."""

    label: str
    text: str


@dataclass(frozen=True)
class AnswerCard:
    """Answer card: the loss to use, its gain, its certainty, the scope, and the code to paste."""

    headline: str
    """One sentence, plain text like the rows."""
    rows: tuple[CardRow, ...]
    snippet: str
    """Code to paste: Python, or, if nothing is recommended, the command that helps."""
    language: str = "python"


def make_card(facts: ReportFacts) -> AnswerCard:
    """Make the answer card of a study."""
    recommended = facts.recommendation.recommended
    if recommended is None or facts.recommendation.verdict is Verdict.NONE:
        return _make_empty_card(facts)
    rows = [
        CardRow("Use", _format_settings(facts, recommended)),
        *_make_gain_rows(facts),
        *_make_longer_row(facts),
        CardRow("Confidence", _make_confidence_row(facts)),
        *_make_not_learned_row(facts),
        *_make_missed_row(facts),
        CardRow("Holds for", _make_scope_row(facts)),
    ]
    return AnswerCard(_make_headline(facts, recommended), tuple(rows), recommended.snippet)


def format_card_markdown(card: AnswerCard, losses: Sequence[str] | frozenset[str]) -> str:
    """Format the card in GitHub's markdown: a bold sentence, and a table without header cells."""

    def rendered(text: str) -> str:
        return _NUMBERS.sub(r"[\1]", escape_prose(mark_names(text, losses))).removeprefix("\\")

    first, *others = [[f"**{row.label}**", rendered(row.text)] for row in card.rows]
    return f"**{rendered(card.headline)}**\n\n{make_table(first, others, left=2)}"


def format_card_code(card: AnswerCard) -> str:
    """Format the code to paste, or the command that helps, as a fenced block."""
    return make_fence(make_one_line(card.snippet) if card.language == "bash" else card.snippet, card.language)


def format_card_lines(card: AnswerCard) -> list[tuple[str, str]]:
    """Format the card for a terminal: (label, text) without markup; the headline has no label."""
    return [("", strip_code_spans(card.headline)), *((row.label, strip_code_spans(row.text)) for row in card.rows)]


# --- A recommendation ---------------------------------------------------------------------------------------


def _make_headline(facts: ReportFacts, recommended: Recommended) -> str:
    """Return the answer in a sentence, after a warning if no network can do the task yet."""
    answer = facts.recommendation.head or _make_verdict_headline(facts, recommended)
    evidence = facts.recommendation.evidence
    if evidence is None or (weak := facts.weak_best) is None:
        return answer
    return (
        f"None of these networks can do the task yet: the best scores {format_number(weak)} mIoU, the same answer "
        f"everywhere {format_number(evidence.constant_miou)}. {answer}"
    )


def _make_verdict_headline(facts: ReportFacts, recommended: Recommended) -> str:
    """Return the verdict in a sentence, for a recommendation without an action (keep or change)."""
    verdict, name, margin = facts.recommendation.verdict, f"`{recommended.family}`", facts.margin
    if verdict is Verdict.CLEAR_WINNER:
        return f"Train with {name}: it beats every other finalist."
    if verdict is Verdict.EQUIVALENT:
        several = len(facts.finalists) > 1
        why = f"the best finalists differ by less than {margin}" if several else f"all that was tried is {name} here"
        return f"Train with {name}: {why}."
    if verdict is Verdict.SAFE_CHOICE:
        return f"Train with {name}: no finalist is better by more than {margin}."
    if len(facts.finalists) < 2:
        return f"Nothing was compared: {name} alone was confirmed."
    if facts.recommendation.strength == "probable":
        return f"No clear winner. Train with {name}: it is probably within {margin} of the best."
    return f"No loss is clearly the best: meanwhile train with {name}."


def _format_settings(facts: ReportFacts, recommended: Recommended) -> str:
    parts = [f"`{name}` {format_significant(value)}" for name, value in recommended.params.items()]
    is_factor = facts.sweep.conditions.recipe.command is not None
    rate = format_significant(recommended.lr)
    parts.append(f"{rate} × your learning rate" if is_factor else f"learning rate {rate}")
    if recommended.threshold is not None:
        parts.append(f"threshold {format_number(recommended.threshold, 2)}")
    if recommended.tau is not None:
        parts.append(f"logit adjustment τ {format_number(recommended.tau, 2)}")
    return " · ".join([f"`{recommended.family}`", *parts])


def _make_gain_rows(facts: ReportFacts) -> list[CardRow]:
    """Return the gains over cross-entropy at usual settings, and tuned like the recommended loss."""
    chosen, baseline = facts.chosen, facts.baseline
    if chosen is None:
        return [CardRow("Gain", "not known: nothing was confirmed on test images")]
    rows = []
    if chosen.vs_plain is not None:
        usual = facts.default_name.removeprefix("at ") if not facts.is_binary else f"{facts.point_name} 0.5"
        text = _add_level(f"{facts.format_gain(chosen.vs_plain, chosen, baseline)} test {facts.metric}")
        text += _format_point_share(facts, chosen, baseline)
        rows.append(CardRow(f"Gain over cross-entropy as usual ({usual})", text))
    label = "Gain over tuned cross-entropy"
    if chosen is baseline:
        return [*rows, _make_best_other_row(facts) or CardRow(label, "none: it is tuned cross-entropy")]
    gain = find_difference(facts, chosen, baseline)
    if gain is None or baseline is None:
        return [*rows, CardRow(label, "not known: cross-entropy was not confirmed")]
    gained = _add_level(f"{facts.format_gain(gain, chosen, baseline)} test {facts.metric}", facts.joint_level)
    return [*rows, CardRow(label, gained + _format_levels(gain, chosen, baseline))]


def _make_best_other_row(facts: ReportFacts) -> CardRow | None:
    """Return the best other loss, if cross-entropy is recommended."""
    evidence = facts.recommendation.evidence
    other = None if evidence is None else find_best_other(evidence)
    if evidence is None or evidence.baseline is None or other is None:
        return None
    rival = facts.finalists[other]
    gain = get_difference(evidence, other, evidence.baseline)
    gained = _add_level(f"{facts.format_gain(gain, rival, facts.baseline)} test {facts.metric}", facts.joint_level)
    label = "Best other" if has_highest_gain(evidence, other, evidence.baseline) else "Least settled other"
    return CardRow(label, f"`{rival.family}`: {gained}")


def _make_longer_row(facts: ReportFacts) -> list[CardRow]:
    """Return how the gaps change with more steps, if the longer look was made."""
    look, base = facts.recommendation.longer, facts.baseline
    if look is None:
        return []
    first, *others = look.gaps
    is_own_gain = first.first == (facts.chosen and facts.chosen.family) and first.second == (base and base.family)
    parts = [format_gap(first) if is_own_gain else _name_pair(first), *(_name_pair(gap) for gap in others)]
    return [CardRow(f"At {look.times} times the steps", "; ".join(parts))]


def _name_pair(gap: LongerGap) -> str:
    return f"`{gap.first}` over `{gap.second}` {format_gap(gap)}"


def format_gap(gap: LongerGap) -> str:
    """Format a gap's change and its meaning: `+0.170 in place of +0.184, keeps (1 seed, ± 0.040)`."""
    after, half = gap.after.estimate, (gap.change.high - gap.change.low) / 2
    word: str = gap.trend
    is_established = all(interval.low > 0 or interval.high < 0 for interval in (gap.before, gap.after))
    if gap.trend == "gone":
        other = "cross-entropy" if gap.second == BASELINE else f"`{gap.second}`"
        word = f"is gone: {other} catches up"
    elif gap.trend == "open" or (gap.trend == "keeps" and not is_established):
        word = "no clear change: it is within its error"
    elif gap.before.estimate < 0 and gap.trend == "shrinks":
        word = "falls further behind"
    elif gap.before.estimate < 0 and gap.trend == "grows":
        word = "catches up" if after < 0 else "moves ahead"
    elif gap.trend == "grows" and gap.learned:
        word = f"grows: only now learned: {join_words(list(gap.learned))}"
    error = f", ± {format_number(half)}" if half < 1 else ""
    before, seeds = format_signed_number(gap.before.estimate), format_count(gap.seeds, "seed")
    return f"{format_signed_number(after)} in place of {before}, {word} ({seeds}{error})"


def _format_levels(gain: Interval, chosen: FinalistEvidence, baseline: FinalistEvidence) -> str:
    """Format both scores; empty if their rounded difference is not the gain, by rounding or other seeds."""
    before, after = baseline.score.estimate, chosen.score.estimate
    if round(round(after, 3) - round(before, 3), 3) != round(gain.estimate, 3):
        return ""
    return f", from {format_number(before)} to {format_number(after)}"


def _add_level(text: str, level: str = format_level(LEVEL)) -> str:
    """Add the confidence level to a text with an interval."""
    return f"{text} ({level})" if "[" in text else text


def _format_point_share(facts: ReportFacts, chosen: FinalistEvidence, baseline: FinalistEvidence | None) -> str:
    """Format the share of the gain over usual cross-entropy that comes from tuning the operating point."""
    if chosen is baseline:
        return f", from tuning its {facts.point_name}"
    alone = None if baseline is None or baseline.vs_plain is None else baseline.vs_plain.estimate
    if alone is None or alone < facts.sweep.margin / 2:
        return ""
    return f"; tuning cross-entropy's {facts.point_name} gives {format_signed_number(alone)}"


def _make_confidence_row(facts: ReportFacts) -> str:
    """Format the verdict, the recommended loss's largest cost, and what weakens either."""
    parts = [_format_verdict(facts)]
    chosen = facts.chosen
    if chosen is not None and chosen.regret is not None:
        most = facts.format_cost_bound(chosen.regret.bound)
        learned = " on what was learned" if facts.recommendation.not_learned else ""
        if facts.recommendation.evidence is not None:
            learned = learned or format_bound_condition(facts.recommendation.evidence, chosen)
        parts.append(
            f"costs at most {most} {facts.metric}{learned} against the best of {len(facts.finalists)} finalists "
            f"({format_level(LEVEL)})"
        )
    if facts.recommendation.provisional and facts.recommendation.longer is None:
        rising = f" ({format_signed_number(facts.baseline.still_rising)} in its last quarter)" if facts.baseline else ""
        parts.append(f"provisional at this budget, as cross-entropy was still improving{rising}")
    evidence = facts.recommendation.evidence
    if facts.sweep.conditions.folds is not None:
        parts.append(f"{NOT_HELD_OUT}: the search saw these images")
    if evidence is not None and evidence.few_groups:
        parts.append(f"all test images come from {format_count(evidence.few_groups, 'group')} of related ones")
    return "; ".join(parts)


def _make_not_learned_row(facts: ReportFacts) -> list[CardRow]:
    """Return the classes that no loss learned, to which the card's numbers do not apply."""
    names = facts.recommendation.not_learned
    if not names:
        return []
    more = f" and {len(names) - LISTED} others" if len(names) > LISTED else ""
    return [CardRow("Not learned by any loss", ", ".join(names[:LISTED]) + more)]


def _make_missed_row(facts: ReportFacts) -> list[CardRow]:
    """Return the classes that only some trainings learned, with the losses whose trainings never predict them."""
    evidence = facts.recommendation.evidence
    missed = () if evidence is None else list_missed_classes(evidence)
    parts = [f"{name} by {who}" for name, who in missed if name not in facts.recommendation.not_learned]
    more = f"; and {len(parts) - LISTED} other classes" if len(parts) > LISTED else ""
    return [CardRow("Never predicted", "; ".join(parts[:LISTED]) + more)] if parts else []


def _format_verdict(facts: ReportFacts) -> str:
    verdict, margin = facts.recommendation.verdict, facts.margin
    evidence, chosen = facts.recommendation.evidence, facts.chosen_index
    word = VERDICTS[verdict]
    if len(facts.finalists) < 2 and verdict in (Verdict.UNDECIDED, Verdict.EQUIVALENT):
        return f"{word}, nothing was compared" if verdict is Verdict.UNDECIDED else f"{word}: one function, other names"
    if verdict in (Verdict.CLEAR_WINNER, Verdict.SAFE_CHOICE):
        return word
    is_gain = verdict is Verdict.UNDECIDED and facts.recommendation.action == "change"
    if facts.recommendation.strength == "probable":
        return f"{'gain established' if is_gain else word}: probably within {margin} of the best"
    word = f"gain established, {word}" if is_gain else word
    decision = decide_verdict(evidence, facts.families)
    assert evidence is not None and decision.best is not None and chosen is not None  # else the verdict is `none`
    left = [
        f
        for i, f in enumerate(facts.finalists)
        if i == chosen or (i in (decision.best, *decision.unbeaten) and not has_beaten(evidence, chosen, i))
    ]
    names = join_words([f"`{f.family}`" for f in left])
    if verdict is Verdict.EQUIVALENT:
        return f"{word}: {names} differ by less than {margin}"
    return f"{word} between {names}" if len(left) > 1 else f"{word} by {margin}"


def _make_scope_row(facts: ReportFacts) -> str:
    """Format the recipe, the budget, and the number of images and seeds."""
    evidence, recipe = facts.recommendation.evidence, facts.sweep.conditions.recipe
    steps = recipe.steps if evidence is None else recipe.confirm_steps
    text = f"{describe_network(recipe)}, {recipe.format_steps(steps)}"
    if recipe.command is None:
        text += f", batch {recipe.batch_size}"
    if facts.chosen is None or evidence is None:
        return text
    made = "synthetic " if facts.sweep.conditions.dataset.synthetic else ""
    seen = format_count(evidence.test_images, f"unseen {made}test image")
    if evidence.folds is not None:
        seen = f"{format_count(evidence.test_images, f'{made}image')} in {evidence.folds} folds"
    return f"{text}; {seen}, {format_count_range((len(f.seeds) for f in facts.finalists), 'seed')}"


# --- No recommendation --------------------------------------------------------------------------------------


def _make_empty_card(facts: ReportFacts) -> AnswerCard:
    """Make the card if nothing was learned or confirmed: the facts, and the one command that helps."""
    sweep, evidence = facts.sweep, facts.recommendation.evidence
    resume = sweep.resume_command
    if facts.has_learned_nothing:
        missing, fact = "this data", "no training did clearly better than the same answer everywhere"
        last = sweep.rungs[-1] if sweep.rungs else None
        if last is not None and last.is_learned and not sweep.trials:  # only some classes: no search was begun
            missing = f"{len(last.not_learned)} of {last.learnable} classes"
            fact = f"{missing} are not learned by any loss"
        if evidence is not None and evidence.finalists:
            eligible = [f for f in evidence.finalists if f.collapses < f.trainings]
            best = max(eligible or evidence.finalists, key=lambda f: f.miou.estimate)
            fact = f"the best test mIoU is {format_number(best.miou.estimate)} (`{best.family}`)"
            fact += "" if eligible else ", though every training collapsed"
            fact += f"; the same answer everywhere scores {format_number(evidence.constant_miou)}"
        headline = f"Budget too small: no loss learned {missing}."
        trained = (*sweep.probes, *sweep.trials, *sweep.confirmations)
        tried = max([sweep.conditions.recipe.steps, *(trial.spec.steps for trial in trained)])
        command = replace_options(sweep.command, {"--steps": str(4 * tried)}, drop=LOW_BUDGET)
        if sweep.minutes is not None:
            command = replace_options(resume, list_time_options(sweep.minutes, sweep.timeout))
    else:
        headline, command = "No recommendation: no loss was confirmed.", resume
        states = facts.search_trials["state"].value_counts()
        ended = [f"{int(states.get(state, 0))} {state}" for state in ("complete", "pruned", "failed")]
        fact = f"{format_count(len(facts.search_trials), 'trial')}: {', '.join(ended)}"
    holds = CardRow("Tried with", _make_scope_row(facts))
    return AnswerCard(headline, (CardRow("Found", fact), *_make_not_learned_row(facts), holds), command, "bash")
