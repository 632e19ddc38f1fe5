"""The step of a training that has its score: the last, a given one, or the best by a validation metric."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from sweeper.core.errors import UsageError
from sweeper.core.text import abbreviate_names
from sweeper.judging.direction import find_lower_word

_STEP = re.compile(r"(?:(?P<name>\w+)=)?(?P<step>\d+)")
_BEST = re.compile(r"(?P<way>best|lowest):(?P<metric>.+)")
_TEST = re.compile(r"(^|[^a-z])test", re.IGNORECASE)


@dataclass(frozen=True)
class StepChoice:
    """Rule that picks a step."""

    kind: Literal["equal", "last", "step", "best", "lowest"] = "equal"
    """`equal`: the last, which must be the same for all trainings."""
    step: int = 0
    names: tuple[str, ...] = ()
    """Column with the step (`step`; () = `step`), or the metric that decides (`best` and `lowest`)."""

    def find_steps(self, frame: pd.DataFrame, has_score: pd.Series[bool], training: list[str]) -> pd.Series[float]:
        """Return the step of each training that has one."""
        if self.kind == "step":
            return frame[frame[self.names[0] if self.names else "step"] == self.step].groupby(training)["step"].max()
        if not self.names:
            return frame[has_score].groupby(training)["step"].max()
        values = frame.groupby([*training, "step"])[self.names[0]].mean().dropna()
        best = (-values if self.kind == "lowest" else values).groupby(training).idxmax()
        return best.map(lambda place: place[-1])

    def format_note(self, metric: str) -> str:
        """Return the caveat on what the score of a training is."""
        return (
            f"The score of a run is its {metric} at {self}. If those images chose that step or anything else, judge "
            "the scores of other images in its place."
        )

    def __str__(self) -> str:
        name = self.names[0] if self.names else "step"
        return {
            "step": f"{name} {self.step}",
            "best": f"the step where {name} is highest",
            "lowest": f"the step where {name} is lowest",
        }.get(self.kind, "its last step")


def parse_choice(text: str | None, metric: str | None) -> StepChoice:
    """Parse the rule of `--at`: `last`, a step (`5000`, `epoch=50`), `best:METRIC` or `lowest:METRIC`.

    Raises:
        UsageError: if it is invalid, or would choose by the test metric.
    """
    if text is None:
        return StepChoice()
    if text == "last":
        return StepChoice("last")
    if match := _STEP.fullmatch(text):
        return StepChoice("step", int(match["step"]), tuple(filter(None, [match["name"]])))
    match = _BEST.fullmatch(text)
    if match is None:
        raise UsageError(
            "--at must be last, a step (5000, epoch=50), best:METRIC (its highest) or lowest:METRIC, as of a loss, "
            f"got {text!r}"
        )
    if match["metric"] == metric or _TEST.search(match["metric"]):
        raise UsageError(
            f"--at must choose by a metric of validation images, got {match['metric']!r}: the best by what judges is a "
            "choice on the test images, and higher for that alone; name a validation metric, or take --at last"
        )
    if match["way"] == "best" and find_lower_word(match["metric"]):
        raise UsageError(f"best:METRIC takes the highest value, got {match['metric']}; --at lowest:{match['metric']}")
    return StepChoice("best" if match["way"] == "best" else "lowest", names=(match["metric"],))


def choose_steps(frame: pd.DataFrame, has_score: pd.Series[bool], choice: StepChoice) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows at the chosen step of each training, and the problems of trainings that lack it.

    Args:
        frame: with method, perhaps seed and fold, `step` as text, and the metric that decides.
        has_score: whether a row has a score, which may be no number.
        choice: the rule.
    """
    frame = frame.assign(step=pd.to_numeric(frame["step"], errors="coerce"))
    training = [key for key in ("method", "seed", "fold") if key in frame]
    chosen = choice.find_steps(frame, has_score, training).rename("chosen")
    kept = frame[has_score & (frame["step"] == frame.join(chosen, on=training)["chosen"])]
    names = frame.groupby(training, sort=False).size().index
    problems = []
    if len(lacking := names.difference(kept.groupby(training).size().index)):
        problems.append(f"{_format_trainings(lacking)} must have a score at {choice}, got none; take another --at")
    elif choice.kind == "equal" and chosen.nunique() > 1:
        least, most = (chosen.index[chosen == end][:1] for end in (chosen.min(), chosen.max()))
        shared = frame[has_score].drop_duplicates([*training, "step"]).groupby("step").size()
        steps = shared.index[shared == len(names)]
        step = f"--at {steps.max():g} compares them there, and " if len(steps) else ""
        problems.append(
            f"trainings must be compared at one step, got {chosen.min():g} as the last of "
            f"{_format_trainings(least)} and {chosen.max():g} of {_format_trainings(most)}; {step}--at last "
            "takes the last of each, where its end belongs to the method (early stopping)"
        )
    return kept, problems


def _format_trainings(names: pd.Index) -> str:
    texts = [name if isinstance(name, str) else ", ".join(name) for name in names]
    return abbreviate_names(texts)
