"""What a paper needs: a short paragraph, a table that LaTeX takes with the report's numbers, and what to cite."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sweeper.losses import FAMILIES
from sweeper.report import paper
from sweeper.report.facts import ReportFacts, collect_facts
from sweeper.version import __version__
from tests.support import builders
from tests.support.simulated_studies import conclude, cracks, street

CLEAR = {"dice_focal": 0.71, "dice_ce": 0.67, "cross_entropy": 0.65}


def make_facts(**changes: Any) -> ReportFacts:
    sweep, evidence = builders.sweep(**changes), builders.evidence(CLEAR)
    return collect_facts(sweep, conclude(sweep, evidence), evidence)


@pytest.mark.parametrize("make", [cracks, street])
def test_the_methods_are_a_paragraph_of_at_most_100_words(make: Any) -> None:
    study = make()
    facts = collect_facts(study.sweep, study.document, study.evidence)
    text = paper.describe_methods(facts)
    assert len(text.split()) <= 100 and "\n" not in text
    trials = len(study.sweep.trials)
    assert f"The search, {trials} trials scored on validation images, did not see the test images." in text
    assert f"the {facts.rules.point_name} that each training chose" in text and "24 synthetic test images" in text


def test_with_folds_the_methods_do_not_say_that_images_were_held_out() -> None:
    conditions = builders.conditions().model_copy(update={"folds": 5})
    assert "scored on validation images, saw the test images" in paper.describe_methods(
        make_facts(conditions=conditions)
    )


def test_the_latex_table_has_the_numbers_of_the_report_and_no_bare_special_character() -> None:
    facts = make_facts()
    begin, top, head, middle, *rows, bottom, end = paper.make_latex_table(facts).splitlines()
    assert (begin, end) == (r"\begin{tabular}{llllr}", r"\end{tabular}")
    assert (top, middle, bottom) == (r"\toprule", r"\midrule", r"\bottomrule")
    cells = [line.removesuffix(r" \\").split(" & ") for line in (head, *rows)]
    assert {len(row) for row in cells} == {5} and len(rows) == len(CLEAR)
    assert cells[1] == [
        r"dice\_focal", "mix 0.41, gamma 2.2", "0.710 [0.690, 0.730]", "+0.060 [+0.040, +0.080]", "3",
    ]  # fmt: skip
    assert cells[3][3] == "present"
    for line in (head, *rows):
        bare = re.sub(r"\\[_%&#${}]| & |\$-\$", "", line.removesuffix(r" \\"))
        assert not re.search(r"[_%&#${}~^\\`−]", bare), line


def test_sweeper_and_the_source_of_each_loss_are_cited() -> None:
    lines = paper.list_citations(make_facts())
    assert lines[0] == f"sweeper {__version__} (CITATION.cff)"
    assert lines[1:] == [f"`{name}`: {FAMILIES[name].source}" for name in CLEAR]
