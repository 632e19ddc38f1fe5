"""`sweeper judge`: its output, its files and its exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project.test_architecture import loaded_by
from tests.support.schemas import problems

Sweeper = Callable[..., tuple[int, str, str]]
SCORES = Path(__file__).resolve().parents[2] / "reports" / "example-judged" / "scores.csv"


def test_the_answer_and_the_document_agree(sweeper: Sweeper) -> None:
    status, text, _ = sweeper("judge", str(SCORES), "--paired-seeds")
    assert status == 0 and text.startswith("Take dice_focal for now: another method may gain up to ")
    status, text, _ = sweeper("judge", str(SCORES), "--json")
    document = json.loads(text)
    assert status == 0 and document["sure"] == "open" and not problems(document)


def test_a_report_with_its_figure_is_written_on_request(sweeper: Sweeper, tmp_path: Path) -> None:
    out = tmp_path / "judged"
    status, text, _ = sweeper("judge", str(SCORES), "--present", "cross_entropy", "--out", str(out))
    assert status == 0 and f"Report: {out / 'report.md'}" in text
    report, page = ((out / name).read_text("utf-8") for name in ("report.md", "report.html"))
    assert "figures/differences.svg" in report and "data:image/svg+xml" in page
    assert "not known" in report and "`cross_entropy`" in report
    assert not problems(json.loads((out / "recommendation.json").read_text("utf-8")))


def test_a_method_without_an_error_is_drawn_and_names_are_escaped(sweeper: Sweeper, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>|[x](http://y)"
    scores = tmp_path / "scores.csv"
    scores.write_text(f"method,seed,score\n{hostile},1,0.71\n{hostile},2,0.72\n{hostile},3,0.74\nb,1,0.6\n")
    assert sweeper("judge", str(scores), "--out", str(tmp_path / "out"))[0] == 0
    report, page = ((tmp_path / "out" / name).read_text("utf-8") for name in ("report.md", "report.html"))
    assert "a dot without a line has none." in report and "inf" not in report.replace("info", "")
    assert "<script>" not in report and "<script>" not in page


@pytest.mark.parametrize(
    "words",
    [
        ("nowhere.csv",),
        *((str(SCORES), *words) for words in (("--column", "size=x"), ("--column", "seed"), ("--margin", "-1"))),
        (str(SCORES), "--level", "95"),
    ],
)
def test_invalid_tables_and_options_end_with_status_2(sweeper: Sweeper, words: tuple[str, ...]) -> None:
    status, out, error = sweeper("judge", *words)
    assert status == 2 and not out and error


def test_judge_loads_no_heavy_library() -> None:
    call = "import contextlib, io; f = io.StringIO(); o = contextlib.redirect_stdout(f); o.__enter__(); "
    call += f"from sweeper.cli.judge import command; command(['{SCORES}'], standalone_mode=False); "
    call += "o.__exit__(None, None, None)"
    assert not loaded_by(call) & {"torch", "optuna", "mlflow", "matplotlib", "rich"}
