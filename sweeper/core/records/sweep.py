"""A whole study, as the report reads it."""

from __future__ import annotations

from sweeper.core.base import Record
from sweeper.core.paths import STORAGE
from sweeper.core.records.evidence import InterimAnalysis
from sweeper.core.records.imbalance import ImbalanceProfile
from sweeper.core.records.recommendation import AnalysisTaken
from sweeper.core.records.space import SearchSpace
from sweeper.core.records.training import Conditions, RateFit, SameLoss, TrialResult


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
    budget: str = ""
    """What was found of the budget before the search or after it, a sentence; "" where there was nothing to find."""
    learned: bool = True
    """False where no loss learned at that budget, so that nothing was confirmed."""
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
    conclusions: int = 1
    """How many times it was concluded, each with other confirmations, interim analyses or ROPE than the time before."""
    workers: int | None = None
    """Processes that trained at a time; None = not known."""
    seconds: float
    """Wall-clock time of the sweep over all its sessions."""
    command: str
    """The command that repeats it."""
    versions: dict[str, str]
    """Of the session that made the study; each training has its own (`TrialResult.versions`)."""
