"""The judgement on a table of scores: verdict, reasons, what would settle it; and its text on a terminal."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace

from sweeper.core.records import Contest, Interval, Verdict
from sweeper.core.text import fill_words, format_count, format_upper_bound, replace_minus
from sweeper.evidence.interim_analyses import DECIDING_SEEDS
from sweeper.evidence.reasons import list_evidence_caveats
from sweeper.evidence.verdict import Decision, apply_verdict_rule
from sweeper.judging.claim import ClaimRow, check_claim
from sweeper.judging.judgement_document import (
    JudgementDocument,
    make_difference_rows,
    make_method_row,
    make_networks_row,
)
from sweeper.judging.rows import ScoreRequest, ScoreRows
from sweeper.judging.score_table import ScoreTable, make_score_table
from sweeper.judging.table_evidence import (
    MethodContest,
    compute_table_evidence,
    restore_score_direction,
)

TUNING = "Whether the methods were tuned alike is not known: a method that got more tuning scores higher just for that."
REASONS = 6
"""Number of reasons that are printed on a terminal; with many methods there is one for each."""


@dataclass(frozen=True)
class Judgement:
    """Conclusions from scores; a notebook displays its headline."""

    table: ScoreTable
    contest: MethodContest
    decision: Decision
    networks: tuple[MethodContest, Decision] | None
    """Conclusions about these networks, if there are too few runs for the methods."""
    level: float
    claim: ClaimRow | None = None
    """Whether a claim about two of the methods holds."""

    @property
    def verdict(self) -> Verdict:
        """Verdict on the methods."""
        return self.decision.verdict

    @property
    def named(self) -> str:
        """The method to take; if nothing is established about methods, that of the network to take."""
        contest, decision = self.networks or (self.contest, self.decision)
        return contest.finalists[decision.recommended or 0].family

    @property
    def headline(self) -> str:
        """Result, in one or two sentences, with the names unchanged."""
        if self.networks is None:
            return _format_headline(self.contest, self.decision, "method")
        contest, decision = self.networks
        networks = _format_headline(contest, decision, "network")
        return f"{networks} Of the methods nothing is shown: not all have {DECIDING_SEEDS} trainings."

    @property
    def decided_contest(self) -> MethodContest:
        """The methods, or these networks if nothing can be established about methods."""
        return self.contest if self.networks is None else self.networks[0]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reasons, each with its numbers."""
        return self.decision.reasons

    @property
    def next_steps(self) -> tuple[str, ...]:
        """Steps that would settle it."""
        if self.networks is None:
            return self.decision.next_steps
        second = (
            f"Train each method on {DECIDING_SEEDS} seeds or more, and score them on the same images: the spread "
            "between trainings, of which nothing is known here, then separates a method from a lucky network."
        )
        return (second, *self.networks[1].next_steps)

    @property
    def caveats(self) -> tuple[str, ...]:
        """Limits of the conclusions."""
        return (*_list_caveats(self.table, self.contest), *list_evidence_caveats(self.contest), *self.table.notes)

    @property
    def document(self) -> JudgementDocument:
        """The judgement for programs."""
        table, contest = self.table, self.contest
        return JudgementDocument(
            source=table.source,
            metric=table.scale.score,
            higher_is_better=table.higher_is_better,
            margin=table.margin,
            level=self.level,
            verdict=self.verdict,
            strength=self.decision.strength,
            named=self.named,
            scope=contest.scope,
            paired_seeds=contest.paired,
            images=table.images,
            groups=table.groups,
            left_out=table.left_out,
            methods=tuple(make_method_row(table, each) for each in self.decided_contest.finalists),
            baseline=None if contest.baseline is None else contest.finalists[contest.baseline].family,
            comparisons=make_difference_rows(contest),
            networks=None if self.networks is None else make_networks_row(*self.networks),
            claim=self.claim,
            reasons=self.reasons,
            next_steps=self.next_steps,
            caveats=self.caveats,
        )

    def __repr__(self) -> str:
        return format_judgement(self)

    def _repr_markdown_(self) -> str:
        return "\n\n".join([f"**{self.headline}**", *self.reasons[:3], self.caveats[0]])


def judge_scores(scores: ScoreRows, request: ScoreRequest) -> Judgement:
    """Judge these scores.

    Raises:
        ScoresError: with all of their problems.
        UsageError: if the claim is invalid or about other methods.
    """
    table = make_score_table(scores, request)
    if table.folds is not None:
        request = replace(request, paired_seeds=True)
    contest = compute_table_evidence(table, request, "both" if table.images else "trainings")
    networks = None
    if table.images > 1 and min(len(runs) for runs in table.runs) < DECIDING_SEEDS:
        on_images = compute_table_evidence(table, request, "images")
        networks = (on_images, _choose_method(on_images, request))
    claim = None if request.claim is None else check_claim(request.claim, contest, request.level)
    return Judgement(table, contest, _choose_method(contest, request), networks, request.level, claim)


def _choose_method(contest: MethodContest, request: ScoreRequest) -> Decision:
    """Recommend a method; of several suitable ones prefer the baseline, then the highest score."""
    names = [each.family for each in contest.finalists]
    if contest.baseline is not None:
        names.insert(0, names.pop(contest.baseline))
    eligible = range(len(contest.finalists))
    return apply_verdict_rule(contest, eligible, names, None, keeps_baseline=request.keeps_baseline)


def _format_headline(contest: MethodContest, decision: Decision, kind: str) -> str:
    named = contest.finalists[decision.recommended or 0]
    others = len(contest.finalists) - 1
    rival = contest.finalists[1 - (decision.recommended or 0)].family if others == 1 else "every other"
    if decision.verdict is Verdict.CLEAR_WINNER:
        winner = "Clear winner:" if kind == "method" else "The network of"
        like = {"both": "at trainings and images", "trainings": "at trainings", "images": "on images"}[contest.scope]
        return f"{winner} {named.family} is better than {rival}, {like} like these."
    if decision.verdict is Verdict.EQUIVALENT:
        return f"Equivalent: no {kind} that may be the best differs by more than the margin. Take {named.family}."
    if decision.verdict is Verdict.SAFE_CHOICE:
        return (
            f"Safe choice: {named.family}. It is not shown which {kind} is the best, but none is better by more than "
            "the margin."
        )
    if decision.strength == "probable" and named.regret is not None:
        cost = format_upper_bound(named.regret.bound, contest.margin, contest.scale.digits)
        return f"No clear winner. {named.family} probably costs at most {cost} {contest.scale.score} (95 %)."
    return f"Open: no {kind} is clearly better, or as good. {named.family} scores best of those that may be taken."


def _list_caveats(table: ScoreTable, contest: Contest) -> list[str]:
    caveats = [table.design or TUNING]
    if not table.images and table.folds is None:
        caveats.append(
            "The scores are of whole runs: that other images might rank the methods differently is in no interval."
        )
    if table.design is None and not contest.paired and max(len(runs) for runs in table.runs) > 1:
        caveats.append(
            "Seeds are taken as unrelated: seed 1 of one method and of another are two trainings. Where they share "
            "initial weights, batches and order, --paired-seeds compares them pair by pair."
        )
    if not table.margin_given:
        caveats.append(
            f"A difference below {table.margin:g} is taken not to matter, as none was given; --margin says otherwise."
        )
    if table.left_out:
        caveats.append(
            f"{format_count(table.left_out, 'image was', 'images were')} left out, of which some run had no score: "
            "where that is because a method failed on them, it scores too high."
        )
    return caveats


# --- For a terminal -------------------------------------------------------------------------------------------


def format_judgement(judgement: Judgement, width: int | None = None) -> str:
    """Format verdict, methods, reasons, next steps and caveats, wrapped at `width` columns."""
    width = width or min(110, shutil.get_terminal_size((100, 24)).columns)
    table = judgement.table
    claim = [] if judgement.claim is None else [fill_words(judgement.claim.sentence, width), ""]
    lines = [*claim, fill_words(judgement.headline, width), "", f"  {_format_header(judgement)}"]
    longest = max(len(each.family) for each in judgement.contest.finalists)
    for each in judgement.decided_contest.finalists:
        mark = "→" if each.family == judgement.named else " "
        score = format_interval(restore_score_direction(table, each), table.scale.digits)
        lines.append(f"{mark} {each.family:{longest}}  {score}  ({format_count(len(each.runs), 'run')})")
    lines.append("")
    reasons = judgement.reasons if judgement.networks is None else judgement.networks[1].reasons
    if len(reasons) > REASONS:
        reasons = (*reasons[:REASONS], f"{len(reasons) - REASONS} more stand in the report (--out).")
    for heading, sentences in (
        ("", reasons),
        ("What would settle it:", judgement.next_steps),
        ("Mind:", judgement.caveats),
    ):
        if sentences:
            lines += [heading] if heading else []
            lines += [fill_words(s, width, first="- ", rest="  ") for s in sentences]
    return "\n".join(lines)


def _format_header(judgement: Judgement) -> str:
    table = judgement.table
    on = f", {format_count(table.images, 'image')}" if table.images else ""
    on += f" in {format_count(table.groups, 'group')}" if table.groups is not None else ""
    way = "" if table.higher_is_better else ", lower is better"
    return f"{table.scale.score}{way}, 95 % interval{on}, margin {table.margin:g}"


def format_interval(value: Interval, digits: int) -> str:
    """Format an interval: `0.710 [0.690, 0.730]`, without brackets if the error is unknown."""
    if not math.isfinite(value.low):
        return replace_minus(f"{value.estimate:.{digits}f}")
    return replace_minus(f"{value.estimate:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]")
