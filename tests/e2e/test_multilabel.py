"""A whole study of classes that overlap, from the scene to the report and the code to paste."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.support.marks import rest_slow
from tests.support.pasting import run_text
from tests.support.sweeping import run_small_sweep


@pytest.mark.parametrize("metric", rest_slow(["miou", "boundary_iou"]))
def test_a_study_of_overlapping_classes_ends_in_a_threshold_for_each(tmp_path: Path, metric: str) -> None:
    settings = {"data": "synthetic:cells?images=24&size=64", "steps": 20, "confirm_steps": 20, "metric": metric}
    outcome = run_small_sweep(tmp_path, figures=metric == "miou", **settings)
    answer = json.loads(outcome.paths.recommendation.read_text("utf-8"))
    use = answer["use"]
    assert answer["dataset"]["task"] == "multilabel" and len(use["point"]) == 2
    pasted = run_text(use["snippet"])
    logits, target = torch.randn(1, 2, 8, 8), torch.ones(1, 2, 8, 8)
    assert pasted["criterion"](logits, target).isfinite()
    assert pasted["predict"](logits).shape == target.shape
    report = outcome.paths.markdown.read_text("utf-8")
    for name in answer["dataset"]["classes"]:
        effect, detail = (line for line in report.splitlines() if line.startswith(f"| {name} |"))
        assert effect.count("|") > 4 and detail.count("|") > 5
    shares = [row["share"] for row in answer["classes"]["rows"]]
    assert len(shares) == 2 and shares == sorted(shares)  # the rarest first, and no background
    assert f"threshold `{use['loss']}`" in report
