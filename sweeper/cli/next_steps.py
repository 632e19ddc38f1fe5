"""What to do after a sweep: the commands that are most likely wanted next."""

from __future__ import annotations

import shlex

from sweeper.core import paths
from sweeper.core.records import Recommendation, Verdict
from sweeper.core.redact import redact
from sweeper.core.text import resume_command
from sweeper.workflow.conclude import Outcome
from sweeper.workflow.settings import MOST_SEEDS, Settings

MORE_TRIALS, MORE_SEEDS, MORE_STEPS = 2, 2, 4
"""Times what the study has."""
LEAST_SEEDS = 3
"""Of fewer, an interval says little."""


def next_steps(outcome: Outcome, settings: Settings) -> list[tuple[str, str]]:
    """Three commands at most, each with what it is for.

    Args:
        outcome: of the study that has ended.
        settings: what it was run with, for the places of its files.
    """
    sweep, recommendation = outcome.sweep, outcome.recommendation
    study, resume = shlex.quote(sweep.study), resume_command(sweep.study, settings.storage)
    cache = _option("--cache", str(settings.cache), str(paths.CACHE))
    out = _option("--out", str(settings.out), str(paths.REPORTS))
    where = resume.partition(" --resume")[2] + cache + out  # each where it is not the default
    resume += _option("--tracking-uri", settings.tracking_uri, paths.TRACKING) + cache + out
    ui = f"sweeper ui{_option('--tracking-uri', settings.tracking_uri, paths.TRACKING)}"
    if recommendation.recommended is None:
        profile = f"sweeper profile {shlex.quote(sweep.conditions.dataset.source)}"
        steps = MORE_STEPS * sweep.conditions.recipe.steps
        data = f"sweeper run --data {shlex.quote(sweep.conditions.dataset.source)} --steps {steps}"
        return [
            (profile, "do images and labels belong together?"),
            (data, "another study with a larger budget"),
            (ui, "every training, in MLflow"),
        ]
    found = [
        (f"sweeper export {study}{where}", "the loss as a file, and a network trained with it"),
        (ui, "every training, in MLflow"),
    ]
    if sweep.cut:
        found.append((resume, "go on with what the time limit cut"))
    elif recommendation.verdict is Verdict.UNDECIDED:
        found.append((f"{resume} --confirm-seeds {_more_seeds(recommendation)}", "more seeds: who is best is open"))
    else:
        trials = MORE_TRIALS * len(sweep.trials)
        found.append((f"{resume} --trials {trials}", "search further in the same study"))
    return found


def next_steps_text(outcome: Outcome, settings: Settings) -> str:
    """These commands, one to a line, with what they are for above where the line would be long."""
    lines = ["Next:"]
    for command, what in next_steps(outcome, settings):
        lines += [f"  {command}", f"      {what}"]
    return "\n".join(lines)


def _more_seeds(recommendation: Recommendation) -> str:
    """A range of seeds with neither end below those that the study had."""
    evidence = recommendation.evidence
    planned = [analysis.seeds for analysis in evidence.looks] if evidence is not None else []
    had = max((len(finalist.seeds) for finalist in evidence.finalists), default=2) if evidence is not None else 2
    least = max([LEAST_SEEDS, *planned[:1]])
    most = min(MOST_SEEDS, max(MORE_SEEDS * had, *planned[-1:], MORE_SEEDS * LEAST_SEEDS))
    return f"{least}..{max(least, most)}"


def _option(name: str, value: str, default: str) -> str:
    """An option as it must be given again; an address with a password stands in the variable that is for it."""
    if value == default:
        return ""
    return f" {name} {shlex.quote(value)}" if redact(value) == value else f' {name} "$SWEEPER_TRACKING_URI"'
