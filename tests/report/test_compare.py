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
from sweeper.report.compare import comparison_text, sides, write_comparison
from sweeper.workflow.studies import compare_studies
from tests.report.test_html import Document
from tests.report.test_simulated import snippet
from tests.support import builders
from tests.support.schemas import problems

UI = "http://127.0.0.1:5000"
Study = tuple[SweepRecord, Recommendation]


def study(name: str, imbalance: float, levels: dict[str, float] | None, **changes: Any) -> Study:
    """A study of a data set of this imbalance; `levels` None: nothing was confirmed."""
    data = builders.dataset(name=name, digest=f"sha256:{name}")
    profile = builders.profile(data).model_copy(update={"imbalance": imbalance})
    evidence = None if levels is None else builders.evidence(levels, **changes.pop("evidence", {}))
    answered = recommend(evidence, task="binary", order=builders.ORDER, snippet=snippet)
    return builders.sweep(data=data, study=name, profile=profile, **changes), answered


MILD = study("cells", 3.0, {"dice_focal": 0.69, "cross_entropy": 0.72})
SEVERE = study("cracks", 90.0, {"dice_focal": 0.71, "dice_ce": 0.66, "cross_entropy": 0.65})


def test_studies_stand_by_imbalance_with_their_answers_and_paired_gains_in_whatever_order_they_are_named() -> None:
    for given in ((MILD, SEVERE), (SEVERE, MILD)):
        text = comparison_text(sides(given), UI)
        first, second = text.splitlines()[4:6]
        assert "[cells](http://127.0.0.1:5000/#/experiments/1/runs/run-parent" in first
        assert first.startswith("| 1 | cells") and first.endswith("| baseline |")
        assert "`dice_focal` `mix` 0.41, `gamma` 2.2 | clear winner | 90 | 2 | 24 | 0.710 | +0.060 [+0.040" in second
        assert "| loss | 1 cells | 2 cracks |" in text
        assert "| `dice_ce` | – | +0.010 [−0.010, +0.030] |" in text
        assert "| `dice_focal` | −0.030 [−0.050, −0.010] | +0.060 [+0.040, +0.080] |" in text
        assert "Recipe or budget differs" not in text


def test_of_two_configurations_of_a_family_the_better_counts() -> None:
    evidence = builders.evidence({"dice_focal": 0.71, "cross_entropy": 0.65, "dice": 0.6})
    twin = evidence.finalists[2].model_copy(update={"family": "dice_focal"})
    evidence = evidence.model_copy(update={"finalists": (*evidence.finalists[:2], twin)})
    (only,) = sides([(SEVERE[0], SEVERE[1].model_copy(update={"evidence": evidence}))])
    gain = only.gain("dice_focal")
    assert gain is not None and gain.estimate == pytest.approx(0.06)


def test_what_differs_between_studies_is_named() -> None:
    longer = builders.conditions(MILD[0].conditions.dataset, steps=500)
    text = comparison_text(sides((SEVERE, (MILD[0].model_copy(update={"conditions": longer}), MILD[1]))), UI)
    assert "a difference between data sets may come from it: `steps`." in text


def test_a_comparison_is_written_for_people_and_programs_at_the_level_of_each_interim_analysis(tmp_path: Path) -> None:
    few, many = (101, 102, 103), (101, 102, 103, 104, 105)
    seeds = {"dice": {"seeds": few}, "focal": {"seeds": many}, "cross_entropy": {"seeds": many}}
    changes = {"analyses": builders.ANALYSES, "analysis_index": 1, "finalists": seeds}
    analysed = study("analysed", 30.0, {"focal": 0.8, "dice": 0.7, "cross_entropy": 0.6}, evidence=changes)
    paths = write_comparison((analysed, MILD), tmp_path, ui_url=UI)
    page = Document(paths.html.read_text("utf-8"))
    assert "Which loss where: 2 studies compared" in page.text and "at 95\u00a0% to 99\u00a0%" in page.text
    document = json.loads(paths.document.read_text("utf-8"))
    assert [s["dataset"] for s in document["studies"]] == ["cells", "analysed"] and not problems(document)
    found = document["studies"][1]["gain_over_cross_entropy"]
    assert (found["dice"]["level"], found["focal"]["level"]) == (0.99, 0.985)
    assert found["focal"]["difference"] == pytest.approx(0.2) and found["focal"]["ci_low"] < found["focal"]["ci_high"]


@pytest.mark.parametrize(
    ("levels", "name"),
    [
        (None, "../../up"),
        ({"cross_entropy": 0.6}, "a|b"),
        ({"dice": 0.6}, "<img src=x onerror=y>"),
        ({"dice": 0.6, "cross_entropy": 0.6}, "\u202egnp"),
    ],
)
def test_any_two_studies_can_be_compared_and_their_names_stay_text(
    tmp_path: Path, levels: dict[str, float] | None, name: str
) -> None:
    odd = study(name, float("inf"), levels, trials=[], confirmations=[], experiment_id=None)
    paths = write_comparison((odd, MILD), tmp_path, ui_url=UI)
    assert paths.folder.parent == tmp_path and not problems(json.loads(paths.document.read_text("utf-8")))
    page = Document(paths.html.read_text("utf-8"))
    assert not page.of("img") and not page.of("script") and "\u202e" not in page.text and "nan" not in page.text


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
    assert lines[0].startswith("1  cells") and lines[1].startswith("2  cracks") and "compare-" in lines[2]
    result = CliRunner().invoke(cli, ["report", "--compare", "cracks", "cells", "--json", *options])
    assert json.loads(result.output)["schema"] == "sweeper.comparison/1"
    result = CliRunner().invoke(cli, ["report", "cracks", "cells", *options])
    assert result.exit_code == 2 and "--compare" in result.output


def test_a_comparison_of_fewer_than_two_or_of_unknown_studies_is_refused(tmp_path: Path) -> None:
    opened = studies.open_storage(stored(tmp_path, MILD, SEVERE), create=False)
    for names in (["cells"], ["cells", "cells"]):
        with pytest.raises(UsageError, match="at least two different studies, got 1: cells"):
            compare_studies(opened, names, out=tmp_path, ui_url=UI)
    with pytest.raises(StudyError, match="no study 'x', 'y' in this storage; the newest are: cells, cracks"):
        compare_studies(opened, ["cells", "x", "y"], out=tmp_path, ui_url=UI)
    assert not list(tmp_path.glob("compare-*"))


def test_the_same_studies_share_a_folder_in_any_order_and_others_do_not(tmp_path: Path) -> None:
    first = ComparisonPaths(tmp_path, ["a", "b"]).folder
    assert first == ComparisonPaths(tmp_path, ["b", "a"]).folder
    assert first != ComparisonPaths(tmp_path, ["a", "c"]).folder != ComparisonPaths(tmp_path, ["a", "B"]).folder
    assert len(ComparisonPaths(tmp_path, ["x" * 200] * 30).folder.name) < 90
