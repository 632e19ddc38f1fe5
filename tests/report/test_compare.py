"""Several studies side by side: which loss where, ordered by imbalance; refusals; names stay text."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from sweeper import storage as studies
from sweeper.cli.main import cli
from sweeper.core.errors import StudyError, UsageError
from sweeper.core.paths import ComparisonPaths
from sweeper.core.records import Recommendation, SweepRecord
from sweeper.evidence.recommendation import recommend
from sweeper.report import write_comparison
from sweeper.report.compare import comparison_json
from sweeper.report.compare_text import Side, comparison_text, families, headline, legend, limits, sides, study_table
from sweeper.report.figures.gains import gains
from sweeper.report.figures.style import Drawn
from sweeper.workflow.compare import compare_studies
from tests.report.test_html import Document
from tests.report.test_simulated import snippet
from tests.support import builders
from tests.support.schemas import problems

UI = "http://127.0.0.1:5000"
Study = tuple[SweepRecord, Recommendation]


def study(name: str, imbalance: float, levels: dict[str, float] | None, **changes: Any) -> Study:
    """A study of a data set of this imbalance; `levels` None: nothing was confirmed."""
    data = builders.dataset(name=name, digest=f"sha256:{name}", synthetic=changes.pop("synthetic", False))
    profile = builders.profile(data).model_copy(update={"imbalance": imbalance})
    evidence = None if levels is None else builders.evidence(levels, **changes.pop("evidence", {}))
    answered = recommend(evidence, task="binary", order=builders.ORDER, snippet=snippet)
    return builders.sweep(data=data, study=name, profile=profile, **changes), answered


MILD = study("cells", 3.0, {"dice_focal": 0.69, "cross_entropy": 0.72})
SEVERE = study("cracks", 90.0, {"dice_focal": 0.71, "dice_ce": 0.66, "cross_entropy": 0.65})


def said(*given: Study) -> str:
    return "\n".join(limits(sides(given)))


def test_studies_are_ordered_by_imbalance_whatever_the_order_they_are_named_in() -> None:
    for given in ((MILD, SEVERE), (SEVERE, MILD)):
        assert [(s.label, s.name) for s in sides(given)] == [("A", "cells"), ("B", "cracks")]
    assert sides([MILD] * 30)[26].label == "AA"


def test_the_head_says_which_loss_where() -> None:
    third = study("vessels", 9.0, {"dice_focal": 0.8, "cross_entropy": 0.7})
    text = headline(sides((MILD, SEVERE, third, study("none", 5.0, None))))
    assert text == (
        "Recommended: **`dice_focal`** for C vessels (clear winner) and D cracks (clear winner); **`cross_entropy`** "
        "for A cells (clear winner); no loss for B none (no recommendation)."
    )


def test_gains_over_cross_entropy_are_paired_differences_of_each_study() -> None:
    compared = sides((SEVERE, MILD))
    assert families(compared) == ("dice_ce", "dice_focal")
    text = comparison_text(compared, "figure", UI)
    assert "| loss | shown to be | A cells | B cracks |" in text
    assert "| `dice_ce` | 0 better, 0 worse, 1 open | – | +0.010 [−0.010, +0.030] |" in text
    assert "| `dice_focal` | 1 better, 1 worse, 0 open | −0.030 [−0.050, −0.010] | +0.060 [+0.040, +0.080] |" in text


def test_the_table_of_studies_links_runs_and_names_the_answer() -> None:
    text = study_table(sides((MILD, SEVERE)), UI)
    first, second = text.splitlines()[2:]
    assert "[cells](http://127.0.0.1:5000/#/experiments/1/runs/run-parent" in first and first.endswith("| baseline |")
    assert (
        "`dice_focal` `mix` 0.41, `gamma` 2.2 | clear winner | 90 | 2 | 24 | 0.710 | +0.060 [+0.040, +0.080] |"
        in second
    )


def test_of_two_configurations_of_a_family_the_better_one_by_the_metric_counts() -> None:
    made = [SimpleNamespace(family="dice", score=SimpleNamespace(estimate=value)) for value in (0.4, 0.5, 0.3)]
    assert Side("A", SimpleNamespace(finalists=made)).finalist("dice") is made[1]  # type: ignore[arg-type]
