"""sweeper in a script or in CI: exit statuses that tell, documents with a schema, errors as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweeper.cli import run as run_module
from sweeper.core.paths import ReportPaths
from sweeper.core.records import Verdict
from sweeper.evidence.recommendation import recommend
from sweeper.fingerprint.label_checks import Finding
from sweeper.workflow.conclude import Outcome
from tests.support import builders
from tests.support.folders import folder, mask


@pytest.mark.parametrize(
    ("found", "asked", "status"),
    [
        ("error", [], 0),
        ("error", ["--fail-on", "warning"], 1),
        ("warning", ["--fail-on", "error"], 0),
        ("warning", ["--fail-on", "warning"], 1),
    ],
)
def test_a_profile_fails_on_what_was_asked(
    sweeper: Any, monkeypatch: pytest.MonkeyPatch, found: Any, asked: list[str], status: int
) -> None:
    finding = Finding(kind="x", severity=found, text="Something is found.")
    monkeypatch.setattr("sweeper.cli.profile.examine", lambda *_: [finding])
    ended, out, err = sweeper("profile", "synthetic:cracks?images=20&size=64", *asked)
    assert ended == status and f"{found}: Something is found." in out, err


def test_the_verdicts_exit_codes_are_documented_and_no_others(tmp_path: Path) -> None:
    codes = run_module.VERDICT_CODES
    assert set(codes) == set(Verdict) and len(set(codes.values())) == len(codes)
    assert not set(codes.values()) - {0} & {1, 2, 3, 129, 130, 143}
    readme = (Path(__file__).parents[2] / "docs/reference/commands.md").read_text("utf-8")
    said = ", ".join(f"{code} {verdict.value.replace('_', ' ')}" for verdict, code in codes.items() if code)
    assert said in readme


@pytest.mark.parametrize(("by_verdict", "status"), [([], 0), (["--exit-code-by-verdict"], 12)])
def test_a_run_ends_with_its_verdicts_code_where_that_is_asked(
    sweeper: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_verdict: list[str], status: int
) -> None:
    paths = ReportPaths(tmp_path, "toy")
    paths.folder.mkdir()
    paths.recommendation.write_text("{}")
    found = recommend(
        builders.evidence({"dice": 0.7}, baseline=None), task="binary", order=builders.ORDER, snippet=lambda *_: ""
    )
    outcome = Outcome(builders.sweep(), found, paths)
    monkeypatch.setattr("sweeper.workflow.run.run_sweep", lambda *_, **__: outcome)
    ended, out, _ = sweeper("run", "--executor", "inline", *by_verdict)
    assert ended == status and "Nothing was compared: dice alone was confirmed." in out


def test_an_error_is_a_document_under_json(sweeper: Any, tmp_path: Path) -> None:
    root = folder(tmp_path / "data", {s: mask(0, 1) for s in "abcd"})
    (root / "masks" / "a.png").unlink()
    for words in (["profile", root], ["run", "--data", root, "--executor", "inline"]):
        status, out, err = sweeper(*words, "--json")
        document = json.loads(out)
        assert (status, document["schema"], document["exit_status"]) == (2, "sweeper.error/1", 2)
        assert document["error"]["kind"] == "DataError" and "has no mask" in err
        assert any("images/a.png: has no mask" in problem for problem in document["error"]["problems"])
    status, out, _ = sweeper("run", "--trails", "3", "--json")
    assert status == 2 and json.loads(out)["error"]["kind"] == "UsageError"
