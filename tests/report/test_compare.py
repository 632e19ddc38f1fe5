"""Several studies side by side: which loss where, ordered by imbalance; refusals; names stay text."""

from __future__ import annotations

import json
from pathlib import Path
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
from sweeper.report.compare_text import comparison_text, families, headline, legend, limits, sides, study_table
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
    text = comparison_text(compared, UI)
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


def test_of_two_configurations_of_a_family_the_better_counts() -> None:
    evidence = builders.evidence({"dice_focal": 0.71, "cross_entropy": 0.65, "dice": 0.6})
    twin = evidence.finalists[2].model_copy(update={"family": "dice_focal"})
    evidence = evidence.model_copy(update={"finalists": (*evidence.finalists[:2], twin)})
    answered = SEVERE[1].model_copy(update={"evidence": evidence})
    (only,) = sides([(SEVERE[0], answered)])
    gain = only.gain("dice_focal")
    assert gain is not None and gain.estimate == pytest.approx(0.06)
    by_metric = twin.model_copy(update={"own_score": twin.miou.model_copy(update={"estimate": 0.9})})
    evidence = evidence.model_copy(update={"finalists": (*evidence.finalists[:2], by_metric)})
    (only,) = sides([(SEVERE[0], SEVERE[1].model_copy(update={"evidence": evidence}))])
    assert only.finalist("dice_focal") == by_metric


def test_what_differs_between_studies_is_said_by_name() -> None:
    assert "All studies share recipe, budget and search space" in said(MILD, SEVERE)
    longer = builders.conditions(MILD[0].conditions.dataset, steps=500)
    text = said((MILD[0].model_copy(update={"conditions": longer, "trials_asked": 9}), MILD[1]), SEVERE)
    assert "`steps` (A 500, B 100)" in text and "`trials` (A 9, B 7)" in text
    assert "share recipe" not in text


def test_mixed_tasks_same_data_and_synthetic_images_are_said() -> None:
    many = builders.dataset(builders.STREET, name="street", digest="sha256:street")
    answered = recommend(None, task="multiclass", order=builders.ORDER, snippet=snippet)
    street = (builders.sweep([], [], many, study="street"), answered)
    text = said(MILD, SEVERE, street)
    assert "Tasks are mixed" in text and "Synthetic images: C." in text
    again = (SEVERE[0].model_copy(update={"study": "again"}), SEVERE[1])
    assert "B and C are of the same data" in said(MILD, SEVERE, again)
    assert "same data" not in said(MILD, SEVERE)


def test_a_comparison_is_written_for_people_and_programs(tmp_path: Path) -> None:
    paths = write_comparison((MILD, SEVERE), tmp_path, ui_url=UI)
    assert paths.folder == ComparisonPaths(tmp_path, ["cracks", "cells"]).folder
    page = Document(paths.html.read_text("utf-8"))
    assert "Which loss where: 2 studies compared" in page.text
    document = json.loads(paths.document.read_text("utf-8"))
    assert document["schema"] == "sweeper.comparison/1"
    assert [s["dataset"] for s in document["studies"]] == ["cells", "cracks"]
    gain = document["studies"][1]["gain_over_cross_entropy"]["dice_focal"]
    ends = {"ci_low": pytest.approx(0.04), "ci_high": pytest.approx(0.08)}
    assert gain == {"difference": pytest.approx(0.06), **ends, "level": 0.95}
    with pytest.raises(ValueError, match="at least 2 studies, got 1"):
        write_comparison((MILD,), tmp_path, ui_url=UI)


def test_a_gain_of_a_finalist_that_was_dropped_early_is_at_the_level_of_its_interim_analysis(tmp_path: Path) -> None:
    few, many = (101, 102, 103), (101, 102, 103, 104, 105)
    seeds = {"dice": {"seeds": few}, "focal": {"seeds": many}, "cross_entropy": {"seeds": many}}
    changes = {"analyses": builders.ANALYSES, "analysis_index": 1, "finalists": seeds}
    analysed = study("analysed", 30.0, {"focal": 0.8, "dice": 0.7, "cross_entropy": 0.6}, evidence=changes)
    document = json.loads(write_comparison((MILD, analysed), tmp_path, ui_url=UI).document.read_text("utf-8"))
    found = document["studies"][1]["gain_over_cross_entropy"]
    assert (found["dice"]["level"], found["focal"]["level"]) == (0.99, 0.985)
    assert "95\u00a0% to 99\u00a0%, by interim analysis" in legend(sides((MILD, analysed)))[0]


@pytest.mark.parametrize("levels", [None, {"cross_entropy": 0.6}, {"dice": 0.6}, {"dice": 0.6, "cross_entropy": 0.6}])
def test_any_two_studies_can_be_compared(tmp_path: Path, levels: dict[str, float] | None) -> None:
    odd = study("odd", float("inf"), levels, trials=[], confirmations=[], experiment_id=None)
    for other in (odd, MILD):
        paths = write_comparison((odd, other), tmp_path, ui_url=UI)
        assert "nan" not in paths.markdown.read_text("utf-8")
        json.loads(paths.document.read_text("utf-8"))


@pytest.mark.parametrize("name", ["a|b", "<img src=x onerror=y>", "`t`", "\u202egnp", "../../up", "$x$"])
def test_hostile_names_of_data_and_studies_stay_text(tmp_path: Path, name: str) -> None:
    paths = write_comparison((MILD, study(name, 7.0, {"dice": 0.7, "cross_entropy": 0.6})), tmp_path, ui_url=UI)
    assert paths.folder.parent == tmp_path
    page = Document(paths.html.read_text("utf-8"))
    assert not page.of("img") and not page.of("script") and "\u202e" not in page.text
    assert all(set(a) <= {"href"} for a in page.of("a"))


# --- The command --------------------------------------------------------------------------------------------


def stored(folder: Path, *given: Study) -> str:
    url = f"sqlite:///{folder}/sweeper.db"
    opened = studies.open_storage(url)
    for sweep, _ in given:
        plan = studies.Plan(
            created=sweep.created, conditions=sweep.conditions, profile=sweep.profile, space=sweep.space,
            imbalance=sweep.imbalance, versions=sweep.versions,
        )  # fmt: skip
        studies.create_study(opened, sweep.study, plan)
    return url


def test_the_command_compares_and_prints_a_line_per_study(tmp_path: Path) -> None:
    url = stored(tmp_path, MILD, SEVERE)
    options = ["--storage", url, "--out", str(tmp_path / "reports")]
    result = CliRunner().invoke(cli, ["report", "--compare", "cracks", "cells", *options])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("A  cells") and lines[1].startswith("B  cracks") and "compare-" in lines[2]
    result = CliRunner().invoke(cli, ["report", "--compare", "cracks", "cells", "--json", *options])
    assert json.loads(result.output)["schema"] == "sweeper.comparison/1"


def test_a_comparison_of_fewer_than_two_or_of_unknown_studies_is_refused(tmp_path: Path) -> None:
    opened = studies.open_storage(stored(tmp_path, MILD, SEVERE), create=False)
    for names in (["cells"], ["cells", "cells"]):
        with pytest.raises(UsageError, match="at least two different studies, got 1: cells"):
            compare_studies(opened, names, out=tmp_path, ui_url=UI)
    with pytest.raises(StudyError, match="no study 'x', 'y' in this storage; the newest are: cells, cracks"):
        compare_studies(opened, ["cells", "x", "y"], out=tmp_path, ui_url=UI)
    assert not list(tmp_path.glob("compare-*"))


def test_two_studies_without_compare_are_a_wrong_usage(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["report", "a", "b", "--storage", f"sqlite:///{tmp_path}/x.db"])
    assert result.exit_code == 2 and "--compare" in result.output


def test_the_same_studies_share_a_folder_in_any_order_and_others_do_not(tmp_path: Path) -> None:
    first = ComparisonPaths(tmp_path, ["a", "b"]).folder
    assert first == ComparisonPaths(tmp_path, ["b", "a"]).folder
    assert first != ComparisonPaths(tmp_path, ["a", "c"]).folder != ComparisonPaths(tmp_path, ["a", "B"]).folder
    assert len(ComparisonPaths(tmp_path, ["x" * 200] * 30).folder.name) < 90


def test_the_document_has_no_infinite_numbers() -> None:
    odd = study("odd", float("inf"), None)
    document = comparison_json(sides((odd, MILD)))
    assert json.dumps(document, allow_nan=False) and not problems(document)
