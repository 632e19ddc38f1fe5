"""The answer on a table of scores that were trained elsewhere, or by the user's script."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from sweeper.core.records import Gain, Kind, NextStep, Remark
from sweeper.core.text import get_width
from sweeper.evidence.answer import make_answer, make_remark
from sweeper.evidence.answer_text import format_answer
from sweeper.evidence.choice import Choice
from sweeper.evidence.document import AnswerDocument, LossRow, make_difference_rows, set_cost
from sweeper.evidence.interim_analyses import DECIDING_SEEDS
from sweeper.evidence.intervals import negate_interval
from sweeper.judging.claim import check_claim
from sweeper.judging.request import ScoreRequest
from sweeper.judging.rows import ScoreRows
from sweeper.judging.score_table import ScoreTable, make_score_table
from sweeper.judging.table_evidence import MethodContest, MethodEvidence, compute_table_evidence


@dataclass(frozen=True)
class Judgement:
    """Conclusions from scores; a notebook displays its headline."""

    table: ScoreTable
    contest: MethodContest
    """The methods; or, if there are too few runs for these, the networks."""
    choice: Choice
    answer: AnswerDocument

    def __repr__(self) -> str:
        return format_answer(self.answer, get_width())

    def _repr_markdown_(self) -> str:
        return self.answer._repr_markdown_()


def judge_scores(scores: ScoreRows, request: ScoreRequest) -> Judgement:
    """Judge these scores.

    Raises:
        ScoresError: with all of their problems.
        UsageError: if the claim is invalid or about other methods.
    """
    table = make_score_table(scores, request)
    if table.folds is not None:
        request = request.model_copy(update={"paired_seeds": True})
    methods = compute_table_evidence(table, request, "both" if table.images else "trainings")
    is_about_networks = table.images > 1 and min(len(runs) for runs in table.runs) < DECIDING_SEEDS
    contest = compute_table_evidence(table, request, "images") if is_about_networks else methods
    kind: Kind = "method" if scores.design is None else "loss"
    if is_about_networks:
        kind = "network"
    order = [each.family for each in contest.finalists]
    order.sort(key=lambda name: name != request.present)  # of equal ones the present one is used
    answer, choice = make_answer(contest, order, present=request.present, kind=kind)
    claim = [] if request.claim is None else [check_claim(request.claim, methods, request.level)]
    remarks = (*claim, *_list_remarks(scores, table, contest, is_about_networks=is_about_networks), *answer.remarks)
    step = NextStep(code="TRAIN_MORE", values={"seeds": DECIDING_SEEDS})
    more = [*_propose_present(scores, request), *([step, *scores.confirm] if is_about_networks else [])]
    document = AnswerDocument(
        **dict(answer.model_copy(update={"remarks": remarks, "next": (*more, *answer.next)})),
        study=scores.source,
        higher_is_better=table.higher_is_better,
        losses=set_cost([_make_row(table, each) for each in contest.finalists], answer),
        differences=make_difference_rows(contest),
        scope=contest.scope,
        images=table.images,
        groups=table.groups,
        constant_miou=contest.constant_miou,
    )
    return Judgement(table, contest, choice, document)


def _propose_present(scores: ScoreRows, request: ScoreRequest) -> Iterator[NextStep]:
    """Yield the command that compares with the method that people have, where no present one was named."""
    given = request.model_dump(exclude_defaults=True, exclude={"columns", "where", "ignore"})
    options = [[f"--{name.replace('_', '-')}", *[str(value)] * (value is not True)] for name, value in given.items()]
    for method in scores.usual:
        if request.present is None:
            words = ["sweeper", "judge", scores.source, "--present", method, *chain.from_iterable(options)]
            yield NextStep(code="PRESENT", values={"method": method}, command=shlex.join(words))


def _make_row(table: ScoreTable, each: MethodEvidence) -> LossRow:
    score = each.score if table.higher_is_better else negate_interval(each.score)
    shown = Gain(estimate=score.estimate, low=score.low, high=score.high) if math.isfinite(score.low) else None
    return LossRow(
        loss=each.family,
        seeds=len(each.runs),
        runs=each.runs,
        score=shown,
        mean=score.estimate,
        cost=None if each.regret is None else each.regret.bound,
    )


def _list_remarks(
    scores: ScoreRows, table: ScoreTable, contest: MethodContest, *, is_about_networks: bool
) -> Iterator[Remark]:
    """Yield what to mind about the scores."""
    if is_about_networks:
        yield make_remark("NETWORKS", seeds=DECIDING_SEEDS)
    if table.learning.unlearned:
        yield make_remark("UNLEARNED", classes=table.learning.unlearned)
    if scores.design is None:
        yield make_remark("TUNING")
        if not contest.paired and max(len(runs) for runs in table.runs) > 1:
            yield make_remark("UNPAIRED")
    if not table.images and table.folds is None:
        yield make_remark("WHOLE_RUNS")
    if table.left_out:
        yield make_remark("LEFT_OUT", images=table.left_out)
    for text in table.notes:
        yield make_remark("DATA", text=text.removesuffix("."))
