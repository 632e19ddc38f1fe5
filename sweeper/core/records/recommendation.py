"""The answer: verdict and recommendation; and the record of the whole study for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.paths import STORAGE
from sweeper.core.records.answer import Outcome
from sweeper.core.records.data import ImbalanceProfile, SearchSpace
from sweeper.core.records.evidence import InterimAnalysis
from sweeper.core.records.training import Conditions, Rung, SameLoss, StudyRates, TrialResult
from sweeper.core.text import format_resume_command, replace_options


class AnalysisTaken(Record):
    """Result of an interim analysis of the confirmation."""

    seeds: int
    """Seeds that all compared finalists had in common."""
    within: dict[str, int] | int | None = None
    """Number of first seeds of each finalist whose confirmations were analysed; a single number: of all; None where it
    was not stored."""
    error: float
    outcome: Outcome | None = None
    """What the answer was then; None where an older version stored it in other words."""
    code: str = ""
    """Why the confirmation continued, or ended: a code of `sweeper.evidence.phrases.STOPS`."""
    chance: float = 0.0
    """Chance, 0–1, that the planned seeds would show more."""


class SweepRecord(Record):
    """Everything the report needs, read from only the study's storage."""

    study: str
    storage: str = STORAGE
    """Storage that it was read from, as `--storage` names it."""
    created: str
    """UTC, ISO 8601."""
    conditions: Conditions
    profile: ImbalanceProfile
    """Profile of the whole data set's labels."""
    space: SearchSpace
    imbalance: float
    """Imbalance of the training split: base of pos_weight (binary); most common/rarest
    (multi-class)."""
    trials_asked: int
    """Total number of trials, or the maximum if the search ends by itself."""
    settles: bool = False
    """Whether the search ends by itself before its total, once trials bring no gain."""
    margin: float
    trials: tuple[TrialResult, ...]
    """The search's counted trials, by number."""
    abandoned: int
    """Attempts cut off by a dead worker; not counted as trials."""
    confirmations: tuple[TrialResult, ...]
    probes: tuple[TrialResult, ...] = ()
    """Two losses before the search, to find the budget."""
    at_rates: tuple[TrialResult, ...] = ()
    """Losses at other learning rates, before the search."""
    first: tuple[TrialResult, ...] = ()
    """The first look: the ladder's two losses as they start, on seeds of their own."""
    replications: tuple[TrialResult, ...] = ()
    """What may be the best after the search, on seeds of the confirmation."""
    final: tuple[TrialResult, ...] = ()
    """Final trainings of the recommended loss and the present one."""
    budget: str = ""
    """Result of the budget probe, a sentence; "" if there was none."""
    learned: bool = True
    """False where the losses learned too little at that budget, so that nothing was confirmed."""
    rungs: tuple[Rung, ...] = ()
    """The budgets that were tried before the search."""
    minutes: int | None = None
    """If nothing was searched: minutes (`--time`) that would give an answer; None = more time would not."""
    rates: StudyRates | None = None
    """Learning rates of its losses; None before they were found."""
    same_losses: tuple[SameLoss, ...] = ()
    """Search trials whose loss is another name for a simpler one, which they count as."""
    analyses_planned: tuple[InterimAnalysis, ...] = ()
    analyses_taken: tuple[AnalysisTaken, ...] = ()
    cut: tuple[str, ...] = ()
    """Parts that the time limit cut, in sentences."""
    experiment_id: str | None
    parent_run_id: str | None
    concluded: bool = True
    """Whether the last session came to its end."""
    conclusions: int = 1
    """Number of conclusions, each with other confirmations, interim analyses or margin than the one before."""
    workers: int | None = None
    """Processes that trained at a time; None = not known."""
    seconds: float
    """Wall-clock time of the sweep over all its sessions."""
    command: str
    """The command that made the study, as given."""
    places: str = ""
    """Options for output locations of the last session, without secrets; only used in commands."""
    machine: dict[str, Any] = Field(default_factory=dict)
    """Use of the machine in the last session: `device`, `workers` and the like."""
    versions: dict[str, str]
    """Versions of the session that made the study; each training has its own (`TrialResult.versions`)."""

    @property
    def before(self) -> tuple[TrialResult, ...]:
        """Trainings before the confirmation that are no trials of the search."""
        return (*self.probes, *self.at_rates, *self.first, *self.replications)

    @property
    def trainings(self) -> tuple[TrialResult, ...]:
        """All trainings, the search's trials first."""
        return (*self.trials, *self.before, *self.confirmations, *self.final)

    @property
    def compared(self) -> tuple[TrialResult, ...]:
        """Trainings on the confirmation's seeds, whatever they were begun for."""
        return (*self.first, *self.replications, *self.confirmations)

    @property
    def is_precision_measured(self) -> bool:
        """Whether the precision was chosen by a time measurement, which may differ the next time."""
        return self.machine.get("device") == "cpu" and "--precision" not in self.command

    @property
    def resume_command(self) -> str:
        """The command that continues it."""
        return format_resume_command(self.study, self.storage, self.places)

    @property
    def rerun(self) -> str:
        """The command that repeats its numbers, with all that was measured or found on this machine.

        They are the same to the last digit, with any number of workers, if no time limit cut a training, and versions,
        processor and threads of each worker are the same.
        """
        conditions, machine = self.conditions, self.machine
        recipe, names = conditions.recipe, ["workers"]
        settings: dict[str, object] = {"seed": conditions.seed}
        if recipe.command is None:
            settings["precision"] = recipe.precision
            names = ["device", *names]
        if recipe.command is None and recipe.model is None:
            settings["encoder-weights"] = recipe.encoder_weights
        settings |= {name: machine.get(name) for name in names}
        options = {f"--{name}": value for name, value in settings.items() if value is not None}
        return replace_options(self.command or "sweeper run", options)

    @property
    def is_confirmed(self) -> bool:
        """Whether confirmations count: at the end, or from the first interim analysis on."""
        if self.analyses_taken:
            return True
        return self.concluded and bool(self.confirmations)


class TrainerRow(Record):
    """One combination of device and versions, and what it trained."""

    device: str
    versions: dict[str, str]
    trainings: tuple[str, ...]
    """`search/00012` and the like."""
    partly: tuple[str, ...]
    """Trainings that it did only a part of."""


def list_trainers(sweep: SweepRecord) -> list[TrainerRow]:
    """List every combination of device and versions that trained something, the first one first."""
    trainers: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[list[str], list[str]]] = {}
    for result in sweep.trainings:
        name = result.spec.name
        earlier: list[tuple[str, Mapping[str, str]]] = [(e.device, e.versions) for e in result.earlier]
        for device, versions in (*earlier, (result.device, result.versions)):
            if not device:  # no worker lived to report
                continue
            key = device, tuple((versions or sweep.versions).items())
            whole, part = trainers.setdefault(key, ([], []))
            if name not in whole:
                whole.append(name)
                part += [name] if result.earlier else []
    return [
        TrainerRow(device=device, versions=dict(versions), trainings=tuple(whole), partly=tuple(part))
        for (device, versions), (whole, part) in trainers.items()
    ]
