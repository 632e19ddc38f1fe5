"""The verdict on the evidence, and the loss that it recommends.

A finalist is *eligible* unless every one of its trainings collapsed. It *beats* a rival when, at an interim analysis,
the paired interval of their difference is above 0 and its estimate is at least the margin;
a beaten rival stays beaten. Fewer than 3 common seeds establish nothing. *Best* is the eligible finalist that
none beats and that scores highest by differences on common seeds (the mean of a finalist that was dropped early may be
high on its fewer ones).

- clear_winner: best beats every rival, and no training of its configuration collapsed. Each comparison is made at the
  level of its interim analysis (95 % where none is planned) and all must succeed, an intersection–union test, so that
  the number of rivals needs no further correction (Berger 1982).
- equivalent: at least two finalists remain (best and those it does not beat), and all their differences are established
  to be within ± the margin; or all that was tried is one function under several names.
- safe_choice: one of the remaining finalists scores within half the margin of best and never collapsed, and none of the
  others is better than it by more than the margin (non-inferiority against each, by one-sided ends: an
  intersection–union test again).
- undecided: anything else. It is *probable* that the recommended finalist suffices where the bound of its regret is
  within the margin (`sweeper.evidence.regret`), else *open*.
- none: nothing completed, nothing is eligible, or no eligible finalist is better than a constant answer.

Of several suitable finalists `choose_preferred` recommends one, out of those that `sweeper.evidence.action` allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from sweeper.core.records import Action, Contest, Evidence, Strength, Verdict
from sweeper.evidence.action import choose_action, explain_action, format_headline, list_open_rivals
from sweeper.evidence.reasons import (
    explain_choice,
    explain_collapses,
    explain_cost,
    explain_doubt,
    explain_equivalence,
    explain_one_function,
    explain_safety,
    explain_still_rising,
    explain_unsound,
    explain_win,
    join_families,
    list_missed_classes,
)
from sweeper.evidence.verdict_predicates import (
    LEARNED_MARGIN,
    choose_preferred,
    get_difference,
    has_beaten,
    has_learned,
    is_equivalent,
    is_probably_safe,
    is_safe,
    is_sound,
    rank_simplicity,
    was_dropped,
)
from sweeper.evidence.what_would_settle import suggest_what_settles

MORE_STEPS = "Confirm with more steps"
"""Beginning of a next step that a longer look replaces."""


@dataclass(frozen=True)
class Decision:
    """The verdict on some evidence; indices refer to `Evidence.finalists`."""

    verdict: Verdict
    recommended: int | None
    """None only for the verdict `none`."""
    reasons: tuple[str, ...]
    next_steps: tuple[str, ...]
    provisional: bool = False
    """Whether a settled verdict may hold at this budget only, because the baseline was still improving."""
    best: int | None = None
    """The eligible finalist with the highest estimate; None for verdict `none`."""
    unbeaten: tuple[int, ...] = ()
    """The others that `best` does not beat."""
    strength: Strength = "open"
    """Certainty that the recommended loss suffices."""
    action: Action | None = None
    head: str = ""
    """The action in a sentence; "" where there is none."""


def decide_verdict(evidence: Evidence | None, order: Sequence[str], resume: str = "--resume") -> Decision:
    """Decide the verdict by the rule above; evidence is None, or has no finalists, where nothing completed.

    `order` has family names, simplest first; `resume` is the command to which the next steps add options.
    """
    if evidence is None or not evidence.finalists:
        return Decision(
            Verdict.NONE,
            None,
            ("No confirmation training completed, so that nothing can be recommended.",),
            (f"Read the reasons of the failed trainings, fix their cause, and resume the study (`{resume}`).",),
        )
    eligible = [i for i, f in enumerate(evidence.finalists) if f.collapses < f.trainings]
    if not any(has_learned(evidence, i) for i in eligible):
        return _decide_nothing_learned(evidence, eligible)
    if len(evidence.finalists) == 1:
        is_one = evidence.finalists[0].other_names
        return _decide_one_function(evidence) if is_one else _decide_nothing_compared(evidence)
    decision = apply_verdict_rule(evidence, eligible, order, resume, keeps_baseline=True)
    rising = 0.0 if evidence.baseline is None else evidence.finalists[evidence.baseline].still_rising
    provisional = decision.verdict is not Verdict.UNDECIDED and rising > evidence.margin
    reasons, next_steps = [*explain_action(evidence, decision.action), *decision.reasons], [*decision.next_steps]
    if rising > evidence.margin:
        reasons.append(explain_still_rising(evidence, rising, provisional))
    missed = list_missed_classes(evidence)
    if missed or rising > evidence.margin:
        end = "every training predicts every class" if missed else "the baseline's curve is flat"
        next_steps.append(
            f"{MORE_STEPS}, until {end}: `{resume}` with a larger `--confirm-steps` continues the same study."
        )
    reasons += explain_collapses(evidence)
    head = format_headline(evidence, decision.action, decision.recommended or 0, decision.verdict, decision.strength)
    return replace(decision, provisional=provisional, reasons=tuple(reasons), next_steps=tuple(next_steps), head=head)


def apply_verdict_rule(
    evidence: Contest,
    eligible: Sequence[int],
    order: Sequence[str],
    resume: str | None,
    *,
    keeps_baseline: bool = False,
) -> Decision:
    """Apply the verdict rule to two or more finalists: clear winner, else equivalent, safe choice, or undecided.

    `eligible` are the indices of those that may be recommended; with `keeps_baseline` only as far as
    `sweeper.evidence.action` allows them, without it there is no action. Of several the first in `order` is preferred.
    `resume` is None where no command continues the trainings.
    """
    standing = [i for i in eligible if not any(has_beaten(evidence, k, i) for k in eligible if k != i)] or eligible
    first = min(standing)  # finalists are ordered by their scores on common seeds
    ties = [i for i in standing if i == first or get_difference(evidence, first, i).estimate == 0]
    best = min(ties, key=lambda i: rank_simplicity(evidence, i, order))
    unbeaten = [i for i in range(len(evidence.finalists)) if i != best and not has_beaten(evidence, best, i)]
    candidates = [i for i in eligible if i == best or i in unbeaten]
    hopeless = [i for i in unbeaten if i not in eligible]
    action, allowed = choose_action(evidence, standing, candidates) if keeps_baseline else (None, candidates)
    safes = [i for i in allowed if is_safe(evidence, i, best, unbeaten)]
    all_alike = all(is_equivalent(evidence, i, j) for i, j in combinations(candidates, 2))
    rules = (  # verdict, whether it holds, candidates of the recommendation; the first that holds counts
        (Verdict.CLEAR_WINNER, not unbeaten and is_sound(evidence, best), [best]),
        (
            Verdict.EQUIVALENT,
            len(candidates) >= 2 and not hopeless and all_alike,
            [i for i in candidates if i in allowed],
        ),
        (Verdict.SAFE_CHOICE, bool(safes), safes),
        (Verdict.UNDECIDED, True, allowed),
    )
    verdict, among = next((verdict, among) for verdict, holds, among in rules if holds and among)
    recommended, grounds = choose_preferred(evidence, among, order, change=action == "change")
    choice = explain_choice(evidence, among, recommended, grounds)
    reasons: list[str] = []
    if verdict is Verdict.EQUIVALENT:
        reasons = [*explain_equivalence(evidence, candidates), choice]
    elif verdict is Verdict.SAFE_CHOICE:
        reasons = [explain_safety(evidence, recommended, [i for i in (best, *unbeaten) if i != recommended])]
        reasons += [choice] if len(safes) > 1 else []
    elif verdict is Verdict.UNDECIDED:
        reasons = [explain_cost(evidence, recommended), choice]
        reasons += [explain_doubt(evidence, best, i) for i in unbeaten] or [explain_unsound(evidence, best)]
    reasons += [explain_win(evidence, best, i) for i in range(len(evidence.finalists)) if i not in (best, *unbeaten)]
    pivot = recommended if action == "keep" else best  # the question: can another gain, or which is best
    open_ = [i for i in (best, *unbeaten) if i != pivot and not has_beaten(evidence, pivot, i)]
    pairs = [(pivot, i) for i in open_ if not is_equivalent(evidence, pivot, i) and not has_beaten(evidence, i, pivot)]
    if action is not None:
        pairs = [(first, i) for first, i in pairs if not was_dropped(evidence, first, i)]
    if action == "keep":
        pairs = [(pivot, i) for i in list_open_rivals(evidence, pivot)]
    strength: Strength = "probable" if is_probably_safe(evidence, recommended) else "open"
    if verdict is not Verdict.UNDECIDED:
        strength = "shown"
    return Decision(
        verdict,
        recommended,
        tuple(reason for reason in reasons if reason),
        tuple(suggest_what_settles(evidence, pairs, resume, keeps_first=action == "keep"))
        if verdict is Verdict.UNDECIDED
        else (),
        best=best,
        unbeaten=tuple(unbeaten),
        strength=strength,
        action=action,
    )


def _decide_nothing_learned(evidence: Evidence, eligible: Sequence[int]) -> Decision:
    if eligible:
        best = evidence.finalists[min(eligible)]
        reasons = [
            f"No finalist beats a constant answer ({evidence.constant_miou:.3f}) at this budget: nothing was learned. "
            f"The highest test mIoU is {best.family}'s, {best.miou.estimate:.3f}; more than {LEARNED_MARGIN:g} above "
            "the constant answer is asked for.",
            *explain_collapses(evidence),
        ]
    else:
        everyone = join_families(evidence, range(len(evidence.finalists)))
        constant = f", which scores {evidence.constant_miou:.3f} mIoU" if evidence.test_images else ""
        reasons = [
            f"Every confirmation training of {everyone} collapsed (diverged, or no better than a constant answer"
            f"{constant}), so that nothing can be recommended."
        ]
    return Decision(
        Verdict.NONE,
        None,
        tuple(reasons),
        ("Train longer (`--steps`, `--confirm-steps`), and check that images and masks belong together.",),
    )


def _decide_one_function(evidence: Evidence) -> Decision:
    """Return the verdict where all tried losses are one function, which more seeds would not change."""
    action: Action | None = None if evidence.baseline is None else "keep"
    return Decision(
        Verdict.EQUIVALENT,
        0,
        (explain_one_function(evidence), *explain_collapses(evidence)),
        ("Search other losses, or these in wider ranges, if another function was meant to be among them.",),
        best=0,
        strength="shown",
        action=action,
        head=format_headline(evidence, action, 0, Verdict.EQUIVALENT, "shown"),
    )


def _decide_nothing_compared(evidence: Evidence) -> Decision:
    finalist = evidence.finalists[0]
    return Decision(
        Verdict.UNDECIDED,
        0,
        (
            f"Only {finalist.family} was confirmed ({finalist.score.estimate:.3f} test {evidence.scale.score}), so "
            "that nothing was compared and no claim about the choice of loss can be made.",
            *explain_collapses(evidence),
        ),
        ("Search at least two families.",),
        best=0,
    )
