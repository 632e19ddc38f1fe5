"""What to do after a sweep: the commands that are most likely wanted next."""

from __future__ import annotations

import shlex

from sweeper.core import paths
from sweeper.core.records import Recommendation, Verdict
from sweeper.core.redact import shown_address
from sweeper.core.text import resume_command
from sweeper.report.card import LOW_BUDGET, card_of, with_options
from sweeper.report.facts import collect
from sweeper.workflow.conclude import Outcome
from sweeper.workflow.settings import MOST_SEEDS, Settings

MORE_TRIALS, MORE_SEEDS = 2, 2
"""Times what the study has."""
LEAST_SEEDS = 3
"""Of fewer, an interval says little."""


def next_steps(outcome: Outcome, settings: Settings) -> list[tuple[str, str]]:
    """Three commands at most, each with what it is for. Where nothing is recommended, the answer card's is among them.

    Args:
        outcome: of the study that has ended.
        settings: what it was run with, for the places of its files.
    """
    sweep, recommendation = outcome.sweep, outcome.recommendation
    study, resume = shlex.quote(sweep.study), resume_command(sweep.study, settings.storage)
    cache = _option("--cache", str(settings.cache), str(paths.CACHE))
    out = _option("--out", str(settings.out), str(paths.REPORTS))
    storage = resume.partition(" --resume")[2]
    where = storage + cache + out  # each where it is not the default
    tracking = _option("--tracking-uri", settings.tracking_uri, paths.TRACKING)
    resume += tracking + cache + out
    facts = collect(sweep, recommendation)
    ui = f"sweeper ui{tracking}"
    if recommendation.recommended is None:
        dataset = sweep.conditions.dataset
        named = "" if dataset.patterns is None else _option("--images", dataset.patterns.images, "")
        named += "" if dataset.patterns is None else _option("--masks", dataset.patterns.masks, "")
        named += "" if settings.class_map is None else _option("--class-map", str(settings.class_map), "")
        profile = f"sweeper profile {shlex.quote(dataset.source)}{named}"
        again = (resume, "go on with it: what failed or is missing is trained")
        if facts.nothing_learned:
            larger = card_of(facts).snippet + storage + tracking + cache + out
            again = (larger, "another study with a larger budget")
        return [(profile, "do images and labels belong together?"), again, (ui, "every training, in MLflow")]
    found = [
        (f"sweeper export {study}{where}", "the loss as a file, and a network trained with it"),
        (ui, "every training, in MLflow"),
    ]
    if sweep.cut:
        found.append((resume, "go on with what the time limit cut"))
    elif facts.too_weak:
        steps = {"--steps": str(4 * sweep.conditions.recipe.steps)}
        larger = with_options(sweep.command, steps, drop=LOW_BUDGET) + storage + tracking + cache + out
        found.append((larger, "another study with a larger budget: none of these networks can do the task yet"))
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
    planned = [analysis.seeds for analysis in evidence.analyses] if evidence is not None else []
    had = max((len(finalist.seeds) for finalist in evidence.finalists), default=2) if evidence is not None else 2
    least = max([LEAST_SEEDS, *planned[:1]])
    most = min(MOST_SEEDS, max(MORE_SEEDS * had, *planned[-1:], MORE_SEEDS * LEAST_SEEDS))
    return f"{least}..{max(least, most)}"


def _option(name: str, value: str, default: str) -> str:
    """An option as it must be given again; an address with a password stands in the variable that is for it."""
    if value == default:
        return ""
    return f" {name} {shlex.quote(value)}" if shown_address(value) == value else f' {name} "$SWEEPER_TRACKING_URI"'
