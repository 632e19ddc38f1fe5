"""The text for a paper: every shipped loss has a source to cite, and the paragraph describes the study."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sweeper.losses import FAMILIES
from sweeper.report.facts import collect_facts
from sweeper.report.paper import LIBRARIES, escape_latex, format_for_paper, make_loss_references
from tests.report.test_markdown import CLEAR, name_everything
from tests.support import builders
from tests.support.simulated_studies import conclude


def write_paper(evidence: dict[str, Any] | None = None, **changes: Any) -> str:
    sweep, record = builders.sweep(**changes), builders.evidence(CLEAR, **(evidence or {}))
    return format_for_paper(collect_facts(sweep, conclude(sweep, record), record)).replace("\u00a0", " ")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_shipped_loss_can_be_cited(family: str) -> None:
    entries = make_loss_references(family)
    assert len(entries) == FAMILIES[family].source.count("arXiv:") + FAMILIES[family].source.count("doi:")
    for key, text in entries.items():
        assert (
            re.fullmatch(r"[a-z]+\d{4}", key) and text.startswith("author = {") and text.count("{") == text.count("}")
        )
        assert "et al" not in text and re.search(r"eprint = \{\d{4}\.\d{4,5}\}|doi = \{10\.", text)


def test_sweeper_is_cited_as_its_citation_file_says() -> None:
    citation = (Path(__file__).parents[2] / "CITATION.cff").read_text("utf-8")
    title = re.search(r'^title: "(.*)"$', citation, re.MULTILINE)
    assert title is not None and f"title = {{{title[1]}}}" in LIBRARIES["sweeper"]


def test_paragraph_table_and_references_agree() -> None:
    text = write_paper({"analyses": builders.ANALYSES, "analysis_index": 1})
    assert "3 finalists were trained again on 3 new seeds, 200 steps each, and scored on 24 images that the" in text
    assert r"chosen with sweeper~0.1.0~\cite{sweeper}." in text and "sweeper~0" not in write_paper(versions={})
    assert r"intervals are at 95\,\% over all interim analyses" in text
    assert r"The answer: Change to dice\_focal: at least +0.040, about +0.060 mIoU~\cite{zhu2019}." in text
    assert r"\texttt{dice\_ce} & 0.670 [0.650, 0.690] & +0.020 [0.000, +0.040] \\" in text
    assert r"\texttt{cross\_entropy} & 0.650 [0.630, 0.670] & present \\" in text
    cited = {key for keys in re.findall(r"\\cite\{([^}]*)\}", text) for key in keys.split(",")}
    assert cited == set(re.findall(r"^@misc\{(\w+),$", text, re.MULTILINE)) == {"sweeper", "optuna", "smp", "zhu2019"}


def test_the_paragraph_says_how_the_study_was_made() -> None:
    script = write_paper(conditions=builders.conditions(command="python own.py"))
    assert "our training script, at most" in script and "smp" not in script
    assert "in 4 folds, which the search had seen" in write_paper(
        {"folds": 4}, conditions=builders.conditions().model_copy(update={"folds": 4})
    )
    assert "each training at the threshold chosen on its own validation images." in script
    assert make_loss_references("my_loss") == {}


def test_names_are_escaped_and_nothing_is_written_where_no_losses_were_compared() -> None:
    sweep, alone = builders.sweep(), builders.evidence({"dice": 0.7})
    assert format_for_paper(collect_facts(sweep, conclude(sweep, alone), alone)) == "% No losses were compared.\n"
    assert escape_latex("a_b & 50 % ~ \\x") == r"a\_b \& 50 \% \textasciitilde{} \textbackslash{}x"
    assert "\\input{x}" not in format_for_paper(collect_facts(*name_everything(("background", "cr_ack"), "\\input{x}")))
