"""Any study can be concluded and reported: generated studies, most of them with failed or missing trainings."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeper.core.records import Collapse, Outcome, SweepRecord, TrialResult
from sweeper.report import write_report
from sweeper.report.facts import collect_facts
from sweeper.report.markdown import render_report
from sweeper.workflow.conclude import draw_conclusion, make_document
from tests.report.test_html import check_harmless
from tests.report.test_markdown import GFM, NO_FIGURES, get_head
from tests.support import builders

DATA = builders.dataset(images=15)
"""Three of its images are test images, as in the confirmations below."""
values = st.one_of(st.just(0.6), st.floats(0.0, 1.0))  # ties are common
reasons = st.text(st.characters(exclude_characters="n"), max_size=20)  # none that reads nan, None or inf by itself
outcomes = st.sampled_from(["complete", "complete", "pruned", "failed", "diverged", "collapsed", "bare"])


@st.composite
def draw_trials(draw: st.DrawFn, number: int) -> TrialResult:
    """Return a search trial that ended in any way."""
    family, outcome = draw(st.sampled_from(builders.ORDER)), draw(outcomes)
    trial = builders.trial(family, draw(values), number)
    changes: dict[str, Any] = {
        "complete": {},
        "pruned": {"state": "pruned", "evaluations": trial.evaluations[:1]},
        "failed": {"state": "failed", "value": None, "evaluations": (), "reason": draw(reasons)},
        "diverged": {"value": 0.0, "evaluations": (), "collapse": Collapse.DIVERGED, "seconds_per_step": None},
        "collapsed": {"collapse": Collapse.ALL_BACKGROUND, "collapse_at_default": Collapse.ALL_BACKGROUND},
        "bare": {"run_id": None, "seconds_per_step": None},
    }[outcome]
    return trial.model_copy(update=changes)


@st.composite
def draw_confirmations(draw: st.DrawFn, family: str, seed: int, number: int) -> TrialResult:
    """Return a confirmation training that ended in any way."""
    outcome = draw(st.sampled_from(["complete", "complete", "complete", "failed", "diverged", "nothing found"]))
    if outcome == "diverged":
        return builders.diverged(family, seed, number)
    level = 0.0 if outcome == "nothing found" else draw(values)
    run = builders.confirmation(family, seed, builders.counts_from_iou([level, 0.5, 0.1]), number)
    if outcome == "failed":
        lost = {"state": "failed", "value": None, "evaluations": (), "test": None, "predictions": None}
        return run.model_copy(update=lost)
    return run


@st.composite
def draw_studies(draw: st.DrawFn) -> SweepRecord:
    """Return a binary study with up to 10 trials and any confirmations of its families."""
    trials = [draw(draw_trials(i)) for i in range(draw(st.integers(0, 10)))]
    families = sorted({t.spec.family for t in trials if t.state == "complete"})
    chosen = [f for f in families if draw(st.booleans())][:4]
    seeds = draw(st.integers(1, 3))
    runs = [draw(draw_confirmations(f, 1000 + s, 10 * i + s)) for i, f in enumerate(chosen) for s in range(seeds)]
    at_rates = [t.model_copy(update={"spec": t.spec.model_copy(update={"purpose": "rate"})}) for t in trials[:2]]
    analyses = draw(st.sampled_from([(), builders.ANALYSES]))
    analyses_taken = draw(st.sampled_from([(), builders.ANALYSES_TAKEN]))
    return builders.sweep(
        trials,
        runs,
        DATA,
        at_rates=draw(st.sampled_from([(), tuple(at_rates)])),
        analyses_planned=analyses,
        analyses_taken=analyses_taken,
        experiment_id=draw(st.sampled_from([None, "1"])),
        trials_asked=draw(st.integers(0, 20)),
    )


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(draw_studies())
def test_any_study_is_concluded_and_reported(sweep: SweepRecord) -> None:
    conclusion = draw_conclusion(sweep)
    document = make_document(sweep, conclusion)
    text = render_report(collect_facts(sweep, document, conclusion.evidence), NO_FIGURES)
    tested = conclusion.evidence is not None and conclusion.evidence.test_images > 0
    assert (document.classes is not None) == tested and "The classes are imbalanced 19:1" in get_head(text)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(nan|None(?! of)|inf)\b", re.sub(r"`[^`]*`", "", prose))
    words = {Outcome.NONE: "No loss can", Outcome.CHANGE: "Change to", Outcome.KEEP: "Keep", Outcome.TAKE: "Take"}
    assert words[document.outcome] in get_head(text) and document.next
    tables = re.findall(r"<table>.*?</table>", GFM.render(text), re.DOTALL)
    for table in tables:
        widths = {len(re.findall(r"<t[hd]", line)) for line in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)}
        assert len(widths) == 1


@settings(deadline=None, max_examples=3, suppress_health_check=list(HealthCheck))
@given(draw_studies())
def test_any_study_has_figures_and_a_harmless_page(
    tmp_path_factory: pytest.TempPathFactory, sweep: SweepRecord
) -> None:
    conclusion = draw_conclusion(sweep)
    document = make_document(sweep, conclusion)
    paths = write_report(sweep, document, conclusion.evidence, tmp_path_factory.mktemp("states"))
    check_harmless(paths.html.read_text("utf-8"))
    json.loads(paths.recommendation.read_text("utf-8"))
