"""Sentences on whether the search had enough steps and trials, from validation values of this recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import numpy as np

from sweeper.core.records import Collapse, TrialResult
from sweeper.core.text import replace_minus
from sweeper.evidence.paired_comparisons import compute_last_quarter_gain

FEW_TRIALS = 6
"""Fewer trials than this do not show what more of them would bring."""


def describe_search(trials: Sequence[TrialResult], margin: float, unit: str) -> tuple[str, ...]:
    """Describe whether steps and number of trials sufficed, from the complete trials; () if none completed.

    Trials come in the order in which they ended; `unit` is the display name of the metric, in which gains below
    `margin` do not matter.
    """
    done = [t for t in trials if t.state == "complete" and t.evaluations and t.collapse is not Collapse.DIVERGED]
    if not done:
        return ()
    # A training that was evaluated only at its end does not show whether it was still improving.
    curves = [trial for trial in done if len(trial.evaluations) > 1]
    sentences = [_explain_rising(curves, margin, unit)] if curves else []
    if len(done) >= FEW_TRIALS:
        sentences.append(_suggest_more_trials([t.value or 0.0 for t in done], margin, unit))
    return tuple(sentences)


def _explain_rising(done: Sequence[TrialResult], margin: float, unit: str) -> str:
    gains = [compute_last_quarter_gain(t) for t in done]
    rising, middle = sum(g > margin for g in gains), median(gains)
    end = "the typical curve had flattened"
    if middle > margin:
        end = "the budget ends before the losses do: more steps may rank them differently"
    return (
        f"{rising} of {len(gains)} complete search trainings still gained more than {margin:g} validation {unit} over "
        f"their last quarter (median {replace_minus(f'{middle:+.3f}')}): {end}."
    )


def _suggest_more_trials(values: Sequence[float], margin: float, unit: str) -> str:
    n = len(values)
    gain, late = estimate_expected_gain(values), max(values) - max(values[: n - n // 3])
    end = "more trials would hardly help" if max(gain, late) < margin else "more trials may help"
    return (
        f"The last third of the {n} complete trainings raised the best {unit} by {late:.3f}. As many trials again, "
        f"drawn alike, would raise it by about {gain:.3f}, part of it luck: {end} (the margin is {margin:g})."
    )


def estimate_expected_gain(values: Sequence[float]) -> float:
    """Estimate how much doubling the number of values would raise the maximum, ≥ 0; 0 with fewer than two values.

    It is the maximum of n values less the expected maximum of a random half of them. For independent draws from a
    distribution with an exponential upper tail each doubling brings the same; with a lighter tail, as scores have, the
    estimate is slightly too high. A sampler that is still learning may bring more, which the last trials show.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    half = n // 2
    if not half:
        return 0.0
    # The i-th smallest is the largest of a random half with probability C(i − 1, half − 1) / C(n, half).
    log = [
        math.lgamma(i) - math.lgamma(half) - math.lgamma(i - half + 1)
        - (math.lgamma(n + 1) - math.lgamma(half + 1) - math.lgamma(n - half + 1))
        for i in range(half, n + 1)
    ]  # fmt: skip
    return max(0.0, float(ordered[-1] - np.exp(log) @ ordered[half - 1 :]))
