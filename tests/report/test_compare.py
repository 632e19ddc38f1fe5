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
from sweeper.core.records import Recommendation, SweepRecord
from sweeper.evidence.recommendation import recommend
from sweeper.report.compare import comparison, comparison_text
from sweeper.workflow.studies import compare_studies
from tests.support import builders
from tests.support.schemas import problems
from tests.support.simulated_studies import snippet

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
        first, second, _, *gains = comparison_text(given).replace("\u00a0", " ").splitlines()
        assert first.split() == ["1", "cells", "imbalance", "3", "cross_entropy", "clear", "winner"]
        assert second.split() == ["2", "cracks", "imbalance", "90", "dice_focal", "clear", "winner"]
        assert [line.strip() for line in gains] == [
            "dice_focal      1: −0.030 [−0.050, −0.010] (95 %); 2: +0.060 [+0.040, +0.080] (95 %)",
            "dice_ce         2: +0.010 [−0.010, +0.030] (95 %)",
        ]


def test_what_differs_between_studies_is_named() -> None:
    longer = builders.conditions(MILD[0].conditions.dataset, steps=500)
    text = comparison_text((SEVERE, (MILD[0].model_copy(update={"conditions": longer}), MILD[1])))
    assert text.endswith("may come from what else differs: steps.")


def test_a_gain_has_the_level_of_its_interim_analysis() -> None:
    few, many = (101, 102, 103), (101, 102, 103, 104, 105)
    seeds = {"dice": {"seeds": few}, "focal": {"seeds": many}, "cross_entropy": {"seeds": many}}
    changes = {"analyses": builders.ANALYSES, "analysis_index": 1, "finalists": seeds}
    analysed = study("analysed", 30.0, {"focal": 0.8, "dice": 0.7, "cross_entropy": 0.6}, evidence=changes)
    found = comparison((analysed, MILD)).studies[1].gain_over_cross_entropy
    assert (found["dice"].level, found["focal"].level) == (0.99, 0.985)


@pytest.mark.parametrize("levels", [None, {"cross_entropy": 0.6}, {"dice": 0.6}])
def test_any_two_studies_can_be_compared(levels: dict[str, float] | None) -> None:
    odd = study("\u202egnp\n\x1b[31m", float("inf"), levels, trials=[], confirmations=[], experiment_id=None)
    text = comparison_text((odd, MILD))
    assert "nan" not in text and "\u202e" not in text and "\x1b" not in text
    document = comparison((odd, MILD)).document
    assert json.dumps(document, allow_nan=False) and not problems(document)


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
    options = ["--storage", url]
    result = CliRunner().invoke(cli, ["report", "--compare", "cracks", "cells", *options])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("1  cells") and lines[1].startswith("2  cracks")
    result = CliRunner().invoke(cli, ["report", "--compare", "cracks", "cells", "--json", *options])
    assert json.loads(result.output)["schema"] == "sweeper.comparison/1"
    result = CliRunner().invoke(cli, ["report", "cracks", "cells", *options])
    assert result.exit_code == 2 and "--compare" in result.output


def test_a_comparison_of_fewer_than_two_or_of_unknown_studies_is_refused(tmp_path: Path) -> None:
    opened = studies.open_storage(stored(tmp_path, MILD, SEVERE), create=False)
    for names in (["cells"], ["cells", "cells"]):
        with pytest.raises(UsageError, match="at least two different studies, got 1: cells"):
            compare_studies(opened, names)
    with pytest.raises(StudyError, match="no study 'x', 'y' in this storage; the newest are: cells, cracks"):
        compare_studies(opened, ["cells", "x", "y"])
