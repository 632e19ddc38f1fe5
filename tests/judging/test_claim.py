"""A claim about two methods holds, is not shown, or is contradicted, by the interval of their difference."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import sweeper
from sweeper.cli.options import CLAIM_STATUS
from sweeper.core.errors import UsageError
from sweeper.core.records import Remark
from tests.cli.test_judge import Sweeper
from tests.judging.tables import draw_scores, make_table
from tests.support.schemas import problems


def find_claim(scores: Any, claim: str, **options: Any) -> Remark:
    """Return what is said of a claim about methods a and b."""
    return next(
        remark
        for remark in sweeper.judge(make_table(scores), claim=claim, **options).answer.remarks
        if remark.code.startswith("CLAIM_")
    )


@pytest.mark.parametrize(
    ("claim", "outcome"),
    [
        ("a > b", "CLAIM_HOLDS"),
        ("a>b by 0.02", "CLAIM_HOLDS"),
        ("  a  >  b   by 5e-2 ", "CLAIM_HOLDS"),
        ("a > b by 0.08", "CLAIM_NOT_SHOWN"),
        ("a > b by 0.2", "CLAIM_CONTRADICTED"),
        ("b > a", "CLAIM_CONTRADICTED"),
        ("b > a by 0", "CLAIM_CONTRADICTED"),
    ],
)
def test_the_interval_decides_whether_a_claim_holds(claim: str, outcome: str) -> None:
    claimed = find_claim(draw_scores(gap=0.08), claim)
    low, by, high = (claimed.values[name] for name in ("low", "by", "high"))
    assert claimed.code == outcome
    assert {"CLAIM_HOLDS": low > by, "CLAIM_CONTRADICTED": high < by}.get(outcome, low <= by <= high)


def test_where_lower_scores_are_better_the_lower_method_is_the_better_one() -> None:
    distances = make_table(draw_scores(gap=0.08))
    assert sweeper.judge(distances, claim="b > a", lower_is_better=True).answer.find("CLAIM_HOLDS")


@pytest.mark.parametrize("runs", [1, 2])
def test_fewer_than_three_trainings_of_each_do_not_establish_a_claim(runs: int) -> None:
    claimed = find_claim(draw_scores(gap=0.15, runs=runs, noise=0.01) - 0.2, "a > b")
    assert claimed.code in {"CLAIM_NOT_SHOWN", "CLAIM_UNKNOWN"}


def test_scores_of_trainings_without_images_can_establish_a_claim() -> None:
    rows = [(name, run, level + 0.001 * run) for name, level in (("a", 0.8), ("b", 0.7)) for run in range(4)]
    answer = sweeper.judge(pd.DataFrame(rows, columns=["method", "seed", "score"]), claim="a > b by 0.05").answer
    assert answer.find("CLAIM_HOLDS")


@pytest.mark.parametrize(
    ("names", "claim"),
    [
        (("dice > ce", "b"), "dice > ce > b by 0.01"),
        (("gain by 0.1", "gain"), "gain by 0.1 > gain"),
        (("a", "a by night"), "a > a by night by 0.01"),
    ],
)
def test_names_may_hold_the_words_of_a_claim(names: tuple[str, str], claim: str) -> None:
    claimed = sweeper.judge(make_table(draw_scores(gap=0.08), names), claim=claim).answer.find("CLAIM_HOLDS")
    assert (claimed.values["better"], claimed.values["worse"]) == names


@pytest.mark.parametrize(
    ("claim", "problem"),
    [
        ("a < b", "--claim must be"),
        ("a > b by much", "--claim must be"),
        ("a > b by -0.1", "--claim must be"),
        ("a > b by nan", "--claim must be"),
        ("a > a", "--claim must be"),
        ("", "--claim must be"),
        ("a > c", "got 'a > c'; there are a and b"),
        ("aa > b", "did you mean `a`"),
    ],
)
def test_text_that_claims_nothing_about_two_methods_is_refused(claim: str, problem: str) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)):
        sweeper.judge(make_table(draw_scores()), claim=claim)


def test_a_claim_about_equal_methods_seldom_holds() -> None:
    passed = [
        find_claim(draw_scores(key=key, seed=0.01), "a > b", margin=0.01).code == "CLAIM_HOLDS" for key in range(150)
    ]
    assert sum(passed) <= 10  # 2.5 % of 150 are 3.75: 11 or more have a probability of 0.002


def test_the_exit_status_of_the_command_follows_the_outcome(sweeper: Sweeper, tmp_path: Path) -> None:
    scores = tmp_path / "scores.csv"
    make_table(draw_scores(gap=0.08)).to_csv(scores, index=False)
    for claim, outcome in (
        ("a > b", "CLAIM_HOLDS"),
        ("a > b by 0.08", "CLAIM_NOT_SHOWN"),
        ("b > a", "CLAIM_CONTRADICTED"),
    ):
        status, text, _ = sweeper("judge", str(scores), "--claim", claim, "--json")
        document = json.loads(text)
        assert status == CLAIM_STATUS[outcome] and not problems(document)
        assert document["remarks"][0]["code"] == outcome
    status, text, _ = sweeper("judge", str(scores), "--claim", "b > a", "--out", str(tmp_path / "out"))
    assert status == 5 and "The claim is contradicted: b − a is −0.0" in " ".join(text.split())
    assert "is contradicted" in (tmp_path / "out" / "report.md").read_text("utf-8")
