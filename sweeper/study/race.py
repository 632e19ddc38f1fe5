"""The confirmation as a race: train to the next planned seeds, analyse, continue with the finalists that remain.

An interim analysis uses the planned seeds of each finalist; those of a dropped one end where it was dropped. What the
first look or the replication trained on these seeds is not trained again. A seed that idle workers began early counts
only once it is planned, so that the number of workers changes no answer; a training that is no longer needed is
stopped.

An interim analysis is stored with the numbers of its confirmations. A resume replays the stored ones as long as
finalists and confirmations are the same, and analyses again from the first that differs. The last one is judged again
in any case, as a plan of more seeds or another margin may continue from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import optuna

from sweeper.core.events import NOT_NEEDED, JobResult, Observer, TrainingDropped, TrainingJob
from sweeper.core.records import AnalysisTaken, Conditions, InterimAnalysis, Outcome, TrialResult, TrialSpec
from sweeper.evidence.interim_analyses import find_analysis
from sweeper.storage.record_format import PLANNED, TAKEN, pack, pack_value
from sweeper.storage.results import (
    StoredAnalyses,
    StoredAnalysis,
    list_compared_results,
    list_extra_results,
    read_analyses,
    read_planned_analyses,
)
from sweeper.study.finalist import Finalist, make_confirmation_specs, select_confirmed
from sweeper.study.loop import TrainingList, index_completed


class RoundDecision(NamedTuple):
    """Decision on the confirmations so far."""

    outcome: Outcome
    code: str
    """Reason, a code of `sweeper.evidence.phrases.STOPS`."""
    chance: float = 0.0
    """Chance, 0–1, that the planned seeds would show more."""
    families: tuple[str, ...] = ()
    """Finalists that get more seeds; () ends the race."""


Judge = Callable[[Sequence[TrialResult]], RoundDecision]


def settle_analyses(study: optuna.Study, analyses: Sequence[InterimAnalysis]) -> tuple[InterimAnalysis, ...] | None:
    """Store the plan with the study; return the previous plan if it was another one."""
    before = read_planned_analyses(study.user_attrs)
    if before == tuple(analyses):
        return None
    study.set_user_attr(PLANNED, pack_value([analysis.model_dump(mode="json") for analysis in analyses]))
    return before or None


class Race(TrainingList):
    """Trainings up to the next interim analysis, and those of the next seed for idle workers.

    A failed training is tried once per session. A training's number follows from its place in the plan, so that neither
    the number of workers nor an interruption changes it.
    """

    def __init__(
        self,
        study: optuna.Study,
        finalists: Sequence[Finalist],
        conditions: Conditions,
        analyses: Sequence[InterimAnalysis],
        *,
        judge: Judge,
        recorder: Observer,
        admit: Callable[[int], bool],
        on_round_begin: Callable[[int, list[str], int], None],
        report: Callable[[int, AnalysisTaken], None],
    ) -> None:
        """Create the race, with all analyses up to the first for which trainings are missing.

        `analyses` are planned, in ascending order of seeds; `judge` decides on completed confirmations.
        `admit` takes a number of steps, and returns whether such a training may still begin.
        `on_round_begin` is called before each analysis with its number, its families, and how many trainings are
        missing, 0 included; `report` receives the number and the result of each analysis, replayed ones included.
        """
        super().__init__(study, (), recorder=recorder, admit=admit)
        self._finalists, self._conditions, self._analyses = finalists, conditions, analyses
        self._judge, self._on_round_begin, self._report = judge, on_round_begin, report
        places = make_confirmation_specs(finalists, conditions, analyses[-1].seeds)
        self._places = {spec.key: place for place, spec in enumerate(places)}
        self._tried: set[object] = set()
        self._next_seed: list[TrialSpec] = []
        self._memory = _begin_analyses(study, finalists, conditions, analyses)
        _store_analyses(study, self._memory)
        self._active = list(finalists)
        self._planned: dict[str, int] = {}  # seeds that the next analysis uses, by family
        self._kept: list[StoredAnalysis] = []
        self._number = 0
        self._over = False
        self._begin_round()
        self._analyse_complete_rounds()

    @property
    def is_over(self) -> bool:
        """Whether the last round has been analysed."""
        return self._over

    def next(self) -> TrainingJob | None:
        """Return the next training of the round; if all of them run, the first of the next seed."""
        nothing_waits = not self._going and not self._queue
        if nothing_waits and self._running and self._next_seed:
            self._queue = [self._next_seed.pop(0)]
        job = super().next()
        if job is not None:
            self._tried.add(job.spec.key)
        return job

    def take_answer(self, answer: JobResult) -> bool:
        """Take a result; a training that an idle worker began early ends if its finalist was dropped."""
        ended, spec = super().take_answer(answer), answer.result.spec
        if ended or spec.key in self._likely:
            return ended
        self._going.remove(spec)
        self._running.pop(spec.number, None)
        self._tried.discard(spec.key)
        self._recorder.notify(TrainingDropped(spec, NOT_NEEDED, died=False))
        return True

    def store_result(self, spec: TrialSpec, result: TrialResult) -> None:
        """Store a result; after the last one of a round begin the next round."""
        super().store_result(spec, result)
        self._analyse_complete_rounds()

    def handle_dead_worker(self, spec: TrialSpec, reason: str) -> None:
        """Queue the training once more, then count it as failed."""
        super().handle_dead_worker(spec, reason)
        if spec in self._queue:
            self._tried.discard(spec.key)

    def analyse_cut_round(self) -> None:
        """Analyse the seeds that the finalists have in common of a round that the time limit cut."""
        results = self._select_results()
        have = [{r.spec.seed for r in results if r.spec.family == finalist.family} for finalist in self._active]
        begun = [seeds for seeds in have if seeds]
        common = len(set.intersection(*begun)) if begun else 0
        self._planned |= {finalist.family: common for finalist in self._active}
        judged = self._judge(self._select_results())
        cut = AnalysisTaken(
            seeds=common,
            within=dict(self._planned),
            error=self._analyses[find_analysis(self._analyses, common)].error,
            outcome=judged.outcome,
            code="CUT",
        )
        _store_analyses(self._study, self._memory.model_copy(update={"stored": tuple(self._kept), "cut": cut}))
        self._report(self._number, cut)

    def _analyse_complete_rounds(self) -> None:
        """Analyse each round whose trainings have all ended, and begin the one after it."""
        while not self._over:
            if any(spec.key in self._wanted for spec in (*self._queue, *self._running.values())):
                return
            self._analyse_round()
            if not self._over:
                self._begin_round()

    def _analyse_round(self) -> None:
        """Make the interim analysis, or replay the stored one of the same confirmations; set who remains."""
        results, place, number = self._select_results(), len(self._kept), self._number
        used = tuple(sorted(result.spec.name for result in results))
        before = self._memory.stored
        stored = before[place] if place + 1 < len(before) else None
        if stored is None or stored.used != used:
            judged = self._judge(results)
            analysis = AnalysisTaken(
                seeds=self._analyses[number].seeds,
                within=dict(self._planned),
                error=self._analyses[number].error,
                outcome=judged.outcome,
                code=judged.code,
                chance=judged.chance,
            )
            stored = StoredAnalysis(found=analysis, used=used, go_on=bool(judged.families), families=judged.families)
            shown = max(self._memory.shown, number + 1)
            update = {"stored": (*self._kept, stored), "shown": shown, "cut": None}
            self._memory = self._memory.model_copy(update=update)
            _store_analyses(self._study, self._memory)
        self._kept.append(stored)
        # All finalists are considered: a dropped one returns if the best no longer beats it.
        self._active = [finalist for finalist in self._finalists if finalist.family in stored.families]
        self._number += 1
        self._over = not (stored.go_on and self._active and self._number < len(self._analyses))
        self._report(number, stored.found)

    def _begin_round(self) -> None:
        """Queue the trainings that the next interim analysis lacks; for idle workers those of the one after it.

        Before the first analysis nothing is trained ahead: it drops the most.
        """
        ahead_number = min(self._number + 1, len(self._analyses) - 1) if self._number else 0
        seeds, most = (self._analyses[number].seeds for number in (self._number, ahead_number))
        self._planned |= {finalist.family: seeds for finalist in self._active}
        specs, ahead = (make_confirmation_specs(self._active, self._conditions, n) for n in (seeds, most))
        have = index_completed(list_compared_results(self._study))
        used_numbers = {result.spec.number for result in list_extra_results(self._study, "confirm")}
        running = {spec.key for spec in self._running.values()}

        def missing(specs: Sequence[TrialSpec]) -> list[TrialSpec]:
            gone = {*have, *running, *self._tried}
            return [self._assign_number(spec, used_numbers) for spec in specs if spec.key not in gone]

        self._wanted, self._likely = ({spec.key for spec in part} for part in (specs, ahead))
        self._queue = missing(specs)
        self._next_seed = [spec for spec in missing(ahead) if spec.key not in self._wanted]
        families = [finalist.family for finalist in self._active]
        self._on_round_begin(self._number, families, len(self._queue) + len(self._wanted & running))

    def _assign_number(self, spec: TrialSpec, used_numbers: set[int]) -> TrialSpec:
        """Return the training with its place, or the next free number, as its number."""
        number = self._places[spec.key]
        while number in used_numbers:
            number += len(self._places)
        return spec.model_copy(update={"number": number})

    def _select_results(self) -> list[TrialResult]:
        """Return the confirmations that the interim analysis uses."""
        results = list_compared_results(self._study)
        return select_confirmed(results, self._finalists, self._conditions, self._planned)


def _begin_analyses(
    study: optuna.Study, finalists: Sequence[Finalist], conditions: Conditions, analyses: Sequence[InterimAnalysis]
) -> StoredAnalyses:
    """Return the stored interim analyses with the present plan; of other finalists or steps none is replayed.

    What they spent stays spent: the plan begins with all that were made (`plan_analyses`).
    """
    before = read_analyses(study.user_attrs)
    fresh = StoredAnalyses(
        finalists=tuple(finalist.identity for finalist in finalists),
        steps=conditions.recipe.confirm_steps,
        planned=tuple(analyses),
        shown=len(before.made),
    )
    is_same = (before.finalists, before.steps) == (fresh.finalists, fresh.steps)
    return fresh.model_copy(update={"stored": before.stored, "cut": before.cut}) if is_same else fresh


def _store_analyses(study: optuna.Study, memory: StoredAnalyses) -> None:
    if memory != read_analyses(study.user_attrs):
        study.set_user_attr(TAKEN, pack(memory))
