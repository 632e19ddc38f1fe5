"""The answer: verdict, recommendation, what is missed at most; and the whole study, as the report reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.paths import STORAGE
from sweeper.core.records.data import ImbalanceProfile, SearchSpace
from sweeper.core.records.evidence import Evidence, InterimAnalysis, LongerLook, PlainPoint
from sweeper.core.records.training import Conditions, ImageCounts, RateFit, Rung, SameLoss, TrialResult
from sweeper.core.text import replace_options


class MissLimit(Record):
    """`--miss-at-most [CLASS=]SHARE`: how much of a class may be missed in an average image that has it."""

    share: float = Field(gt=0, lt=1)
    class_name: str | None = None
    """None = the foreground of two classes."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """`10%`, `0.1` or `crack=10%`.

        Raises:
            ValueError: unless it is a share above 0 and below 1.
        """
        name, _, share = text.rpartition("=")
        found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(%?)\s*", share)
        value = float(found[1]) / (100 if found[2] else 1) if found else 0.0
        if not 0 < value < 1:
            raise ValueError(f"must be [CLASS=]SHARE with a share above 0 and below 100%, like crack=10%, got {text!r}")
        return cls(share=value, class_name=name or None)


class HeldOut(Record):
    """What a network answers on images that it was not trained on, and that chose nothing of it."""

    counts: ImageCounts
    groups: tuple[str | None, ...]
    """Number of each image's group; None = a group of its own."""


class MissControl(Record):
    """The operating point at which a network misses at most a share of a class, by conformal risk control.

    The share is of the class's pixels in an image, its mean over images that have the class, expected over new images
    of this kind and over the images that it was found on. It holds for this network alone.
    """

    class_name: str
    share: float
    """What was asked for, 0–1."""
    images: int
    """Test images with the class, which the point was found on."""
    groups: int | None
    """Groups of related images among them, which count as one each; None = every image is its own."""
    point: float
    """Operating point: a threshold (two classes) or τ."""
    before: float
    """What would be used without the limit; where these images were not counted there, the next more cautious point. It
    stays where it keeps the limit."""
    missed: float
    """Share that an average one of these images misses when the point is found on the others (leaving one out)."""
    missed_before: float
    precision: float | None
    """Of the class on all test images, leaving one out likewise; None where nothing is predicted."""
    precision_before: float | None
    sure_point: float | None
    """Where the limit is kept not on average over calibrations but in 95 % of them; None where these images are too
    few to say."""

    @property
    def moved(self) -> bool:
        """Whether the limit changed the operating point."""
        return self.point != self.before

    @property
    def promise(self) -> str:
        """What the point keeps, for people."""
        return f"misses at most {100 * self.share:.3g} % of {self.class_name!r} in an average image that has it"


class Verdict(StrEnum):
    """How sure the answer is."""

    CLEAR_WINNER = "clear_winner"
    EQUIVALENT = "equivalent"
    SAFE_CHOICE = "safe_choice"
    UNDECIDED = "undecided"
    NONE = "none"


Strength = Literal["shown", "probable", "open"]
"""How sure it is that the recommended loss costs at most the margin: shown by intervals, probable, or neither."""


Action = Literal["keep", "change"]
"""What to do about the loss that most people train with: keep cross-entropy, or change to the recommended loss."""


class AnalysisTaken(Record):
    """What an interim analysis of the confirmation found."""

    seeds: int
    """Seeds that all who were compared had in common."""
    within: dict[str, int] | int | None = None
    """Of each finalist the confirmations of the first so many seeds were weighed, those that were there; a number: of
    all; None where it was not kept."""
    error: float
    verdict: Verdict
    reason: str
    """Why the confirmation went on, or ended, after it; a sentence."""


class Recommended(Record):
    """The loss to train with, ready to paste."""

    family: str
    params: dict[str, float]
    lr: float
    threshold: float | None
    tau: float | None
    snippet: str


class Recommendation(Record):
    """The answer: which loss, how sure, why."""

    verdict: Verdict
    recommended: Recommended | None
    """None only for verdict `none`."""
    strength: Strength = "open"
    action: Action | None = None
    """None where nothing is recommended, or cross-entropy cannot be kept or was not confirmed."""
    head: str = ""
    """The action in a sentence for people; "" where there is none."""
    evidence: Evidence | None
    provisional: bool
    """True when the baseline was still improving, so that a clear verdict holds at this budget only."""
    reasons: tuple[str, ...]
    """Why this verdict, in sentences with their numbers."""
    next_steps: tuple[str, ...]
    """What would settle it, where it is not settled."""
    winners_curse: float | None
    """Search value minus confirmed test value of the recommended configuration."""
    not_learned: tuple[str, ...] = ()
    """Classes that no loss learned: of them nothing is known."""
    plain: PlainPoint | None = None
    """What is shown at the plain operating point; None where nothing is compared there."""
    misses: MissControl | None = None
    """What decides about the operating point, where `--miss-at-most` was given."""
    longer: LongerLook | None = None
    """What more steps change; None where that was not looked at."""


class SweepRecord(Record):
    """Everything the report needs, read from the study's storage alone."""

    study: str
    storage: str = STORAGE
    """Where it was read, as `--storage` names it."""
    created: str
    """UTC, ISO 8601."""
    conditions: Conditions
    profile: ImbalanceProfile
    """Of the whole data set's labels."""
    space: SearchSpace
    imbalance: float
    """Of the training split, or of balanced crops of it: what pos_weight is a power of (binary); commonest/rarest
    (multi-class)."""
    trials_asked: int
    """The search's total, or its end at the latest."""
    settles: bool = False
    """Whether the search was to end by itself before, once trials brought no gain."""
    confirm_seeds: int
    """Seeds of the last planned interim analysis."""
    rope: float
    trials: tuple[TrialResult, ...]
    """The search's counted trials, by number."""
    abandoned: int
    """Attempts cut off by a dead worker; not counted as trials."""
    confirmations: tuple[TrialResult, ...]
    rechecks: tuple[TrialResult, ...] = ()
    """Finalists at the common learning rate, where their own was another."""
    probes: tuple[TrialResult, ...] = ()
    """Default losses before the search, to find the budget."""
    longer: tuple[TrialResult, ...] = ()
    """Those that the verdict compares, at several times the confirmation's steps."""
    budget: str = ""
    """What was found of the budget before the search or after it, a sentence; "" where there was nothing to find."""
    learned: bool = True
    """False where the losses learned too little at that budget, so that nothing was confirmed."""
    rungs: tuple[Rung, ...] = ()
    """The budgets that were tried before the search."""
    minutes: int | None = None
    """Where nothing was searched: with so many (`--minutes`) there would be an answer; None = not by more time."""
    rate_fit: RateFit | None = None
    """The learning rate that the confirmation draws around, as it was found before it; None before, and where a single
    rate is searched."""
    same_losses: tuple[SameLoss, ...] = ()
    """Search trials that count as a simpler loss, of which they are another name."""
    analyses_planned: tuple[InterimAnalysis, ...] = ()
    analyses_taken: tuple[AnalysisTaken, ...] = ()
    timeout: float | None = None
    """Seconds that the sweep was given; None = no limit."""
    cut: tuple[str, ...] = ()
    """What the time limit cut short, in sentences."""
    experiment_id: str | None
    parent_run_id: str | None
    concluded: bool = True
    """Whether the last session came to its end."""
    conclusions: int = 1
    """How many times it was concluded, each with other confirmations, interim analyses or ROPE than the time before."""
    workers: int | None = None
    """Processes that trained at a time; None = not known."""
    seconds: float
    """Wall-clock time of the sweep over all its sessions."""
    command: str
    """The command that it was made by, as it was given."""
    machine: dict[str, Any] = Field(default_factory=dict)
    """How the machine was used in its last session: `device`, `workers`, `threads` and the like."""
    versions: dict[str, str]
    """Of the session that made the study; each training has its own (`TrialResult.versions`)."""

    @property
    def is_precision_measured(self) -> bool:
        """Whether a stopwatch chose the precision of the trainings, and may choose another the next time."""
        return self.machine.get("device") == "cpu" and "--precision" not in self.command

    @property
    def rerun(self) -> str:
        """Return the command that repeats its numbers, with all that was measured or found on this machine.

        To the last digit where one training ran at a time, none was cut by a time limit, and versions and processor
        are the same.
        """
        conditions, machine = self.conditions, self.machine
        found: dict[str, object] = {"seed": conditions.seed, "precision": conditions.recipe.precision}
        if conditions.recipe.model is None:
            found["encoder-weights"] = conditions.recipe.encoder_weights
        names = ("device", "workers", *["threads"] * (machine.get("device") == "cpu"))
        found |= {name: machine.get(name) for name in names}
        given = {f"--{name}": value for name, value in found.items() if value is not None}
        return replace_options(self.command or "sweeper run", given)

    @property
    def tested(self) -> bool:
        """Return whether confirmations count: at the end, and before from the first interim analysis on."""
        return bool(self.confirmations) and (self.concluded or bool(self.analyses_taken))


class TrainerRow(Record):
    """One combination of device and versions, and what it trained."""

    device: str
    versions: dict[str, str]
    trainings: tuple[str, ...]
    """`search/00012` and the like."""
    partly: tuple[str, ...]
    """Those of them that it trained a part of."""


def list_trainers(sweep: SweepRecord) -> list[TrainerRow]:
    """Every combination of device and versions that trained something, the first one first."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[list[str], list[str]]] = {}
    for result in (*sweep.probes, *sweep.trials, *sweep.rechecks, *sweep.confirmations, *sweep.longer):
        name = f"{result.spec.purpose}/{result.spec.number:05d}"
        trainers: list[tuple[str, Mapping[str, str]]] = [(e.device, e.versions) for e in result.earlier]
        for device, versions in (*trainers, (result.device, result.versions)):
            if not device:  # no worker lived to tell
                continue
            key = device, tuple((versions or sweep.versions).items())
            whole, part = found.setdefault(key, ([], []))
            if name not in whole:
                whole.append(name)
                part += [name] if result.earlier else []
    return [
        TrainerRow(device=device, versions=dict(versions), trainings=tuple(whole), partly=tuple(part))
        for (device, versions), (whole, part) in found.items()
    ]
