"""A claim about two methods holds, is not shown, or is contradicted, by the interval of their difference."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

import sweeper
from sweeper.cli.options import CLAIM_CODES
from sweeper.core.errors import UsageError
from tests.cli.test_judge import Sweeper
from tests.judging.tables import draw_scores, make_table
from tests.support.schemas import problems


@pytest.mark.parametrize(
    ("claim", "outcome"),
    [
        ("a > b", "holds"),
        ("a>b by 0.02", "holds"),
        ("  a  >  b   by 5e-2 ", "holds"),
        ("a > b by 0.08", "not_shown"),
        ("a > b by 0.2", "contradicted"),
        ("b > a", "contradicted"),
        ("b > a by 0", "contradicted"),
    ],
)
def test_the_interval_decides_whether_a_claim_holds(claim: str, outcome: str) -> None:
    claimed = sweeper.judge(make_table(draw_scores(gap=0.08)), claim=claim).claim
    assert claimed.outcome == outcome
    edges = {"holds": claimed.ci_low > claimed.by, "contradicted": claimed.ci_high < claimed.by}
    assert edges.get(outcome, claimed.ci_low <= claimed.by <= claimed.ci_high)


def test_where_lower_scores_are_better_the_lower_method_is_the_better_one() -> None:
    distances = make_table(draw_scores(gap=0.08))
    assert sweeper.judge(distances, claim="b > a", lower_is_better=True).document.claim.outcome == "holds"


@pytest.mark.parametrize("runs", [1, 2])
def test_fewer_than_three_trainings_of_each_do_not_establish_a_claim(runs: int) -> None:
    claimed = sweeper.judge(make_table(draw_scores(gap=0.15, runs=runs, noise=0.01) - 0.2), claim="a > b").claim
    assert claimed.outcome == "not_shown" and "3 trainings of each are needed" in claimed.sentence


def test_scores_of_trainings_without_images_can_establish_a_claim() -> None:
    rows = [(name, run, level + 0.001 * run) for name, level in (("a", 0.8), ("b", 0.7)) for run in range(4)]
    claimed = sweeper.judge(pd.DataFrame(rows, columns=["method", "seed", "score"]), claim="a > b by 0.05").claim
    assert claimed.outcome == "holds"


@pytest.mark.parametrize(
    ("names", "claim"),
    [
        (("dice > ce", "b"), "dice > ce > b by 0.01"),
        (("gain by 0.1", "gain"), "gain by 0.1 > gain"),
        (("a", "a by night"), "a > a by night by 0.01"),
    ],
)
def test_names_may_hold_the_words_of_a_claim(names: tuple[str, str], claim: str) -> None:
    claimed = sweeper.judge(make_table(draw_scores(gap=0.08), names), claim=claim).claim
    assert (claimed.better, claimed.worse, claimed.outcome) == (*names, "holds")


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
        sweeper.judge(make_table(draw_scores(key=key, seed=0.01)), claim="a > b", margin=0.01).claim.outcome == "holds"
        for key in range(150)
    ]
    assert sum(passed) <= 10  # 2.5 % of 150 are 3.75: 11 or more have a probability of 0.002


def test_the_exit_status_of_the_command_follows_the_outcome(sweeper: Sweeper, tmp_path: Path) -> None:
    scores = tmp_path / "scores.csv"
    make_table(draw_scores(gap=0.08)).to_csv(scores, index=False)
    for claim, outcome in (("a > b", "holds"), ("a > b by 0.08", "not_shown"), ("b > a", "contradicted")):
        status, text, _ = sweeper("judge", str(scores), "--claim", claim, "--json")
        document = json.loads(text)
        assert status == CLAIM_CODES[outcome] and document["claim"]["outcome"] == outcome and not problems(document)
    status, text, _ = sweeper("judge", str(scores), "--claim", "b > a", "--out", str(tmp_path / "out"))
    assert status == 5 and text.startswith("The claim 'b > a' is contradicted: b − a is −0.0")
    assert "is contradicted" in (tmp_path / "out" / "report.md").read_text("utf-8")
