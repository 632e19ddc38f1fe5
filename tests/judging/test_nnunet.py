"""Trees of nnU-Net's results: folds are one rotation, result folders are trainings, Dice is its foreground mean."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sweeper
from sweeper.judging.rows import ScoresError

MODELS = ("nnUNetTrainer__nnUNetPlans__2d", "nnUNetTrainerDiceCELoss__nnUNetPlans__2d")


def summarise(cases: Mapping[str, Mapping[str, tuple[int, int, int]]]) -> dict[str, Any]:
    """Return what nnU-Net 2 writes of (tp, fp, fn) per case and label; as JSON of Python, with NaN."""
    per_case = []
    for name, labels in cases.items():
        scores = {}
        for label, (tp, fp, fn) in labels.items():
            union = tp + fp + fn
            scores[label] = {
                "Dice": 2 * tp / (2 * tp + fp + fn) if union else float("nan"),
                "IoU": tp / union if union else float("nan"),
                "TP": tp, "FP": fp, "FN": fn, "TN": 9, "n_pred": tp + fp, "n_ref": tp + fn,
            }  # fmt: skip
        per_case.append(
            {"metrics": scores, "prediction_file": f"/out/{name}.nii.gz", "reference_file": f"C:\\raw\\{name}.nii.gz"}
        )
    labels = per_case[0]["metrics"]
    mean = {label: {"Dice": float(np.nanmean([c["metrics"][label]["Dice"] for c in per_case]))} for label in labels}
    return {
        "metric_per_case": per_case,
        "mean": mean,
        "foreground_mean": {"Dice": float(np.mean([row["Dice"] for row in mean.values()]))},
    }


def draw_cases(names: list[str], better: int, rng: np.random.Generator) -> dict[str, dict[str, tuple[int, int, int]]]:
    """Draw counts: label 2 is only in every third case; in others it is sometimes predicted falsely."""
    counts = {}
    for name in names:
        wrong = int(rng.integers(8, 20)) - better
        rare = (30 - wrong, wrong, wrong) if int(name[-2:]) % 3 == 0 else (0, int(rng.integers(0, 2)), 0)
        counts[name] = {"1": (100 - wrong, wrong, wrong), "2": rare}
    return counts


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")


def write_tree(root: Path, results: tuple[str, ...] = ("",), folds: int = 5) -> dict[str, float]:
    """Write two models, `folds` folds of six cases each; return their foreground means over the first run's cases."""
    rng, means = np.random.default_rng(0), {}
    for place in results:
        for better, model in zip((0, 6), MODELS, strict=True):
            all_cases = {}
            for fold in range(folds):
                part = draw_cases([f"case_{6 * fold + k:02}" for k in range(6)], better, rng)
                write_json(
                    root / place / "Dataset001_X" / model / f"fold_{fold}" / "validation" / "summary.json",
                    summarise(part),
                )
                all_cases |= part
            folder = root / place / "Dataset001_X" / model / "crossval_results_folds_0_1_2_3_4"
            write_json(folder / "summary.json", summarise(all_cases))
            write_json(folder / "postprocessed" / "summary.json", summarise(all_cases))
            means.setdefault(model, summarise(all_cases)["foreground_mean"]["Dice"])
    return means


def test_five_folds_are_one_training_over_all_images_scored_as_nnunet_does(tmp_path: Path) -> None:
    means = write_tree(tmp_path)
    judgement = sweeper.judge(tmp_path)
    assert judgement.document.images == 30 and judgement.document.metric == "Dice"
    assert {row.name: row.score for row in judgement.document.methods} == pytest.approx(means)
    assert all(row.runs == ("Dataset001_X",) for row in judgement.document.methods)
    assert judgement.document.networks is not None and judgement.document.networks.named == MODELS[1]
    assert any("as nnU-Net does" in caveat for caveat in judgement.caveats)
    for folder in tmp_path.rglob("fold_*"):
        for path in folder.rglob("summary.json"):
            path.unlink()
    # The crossval summaries contain the same.
    assert sweeper.judge(tmp_path).document.methods == judgement.document.methods


def test_several_result_folders_are_several_trainings(tmp_path: Path) -> None:
    write_tree(tmp_path, ("seed0", "seed1", "seed2"))
    judgement = sweeper.judge(tmp_path, metric="IoU")
    assert [len(row.runs) for row in judgement.document.methods] == [3, 3] and judgement.document.networks is None
    assert (judgement.verdict, judgement.named) == ("clear_winner", MODELS[1])
    assert {len(list(model.glob("fold_*"))) for model in tmp_path.glob(f"*/*/{MODELS[0]}")} == {5}
    for path in tmp_path.rglob("fold_*/validation/summary.json"):
        path.unlink()
    assert any("here K = 5" in caveat for caveat in judgement.caveats)
    crossval = sweeper.judge(tmp_path, metric="IoU")
    # The crossval summaries name their folds, too.
    assert crossval.document.comparisons == judgement.document.comparisons
    for folder in list(tmp_path.rglob("crossval_results_folds_*")):
        folder.rename(folder.with_name("crossval_results_folds_all"))
    without_folds = sweeper.judge(tmp_path, metric="IoU").document.comparisons[0]  # as if there were no folds
    assert judgement.document.comparisons[0].se_image == pytest.approx(math.sqrt(5 / 4) * without_folds.se_image)


def test_evaluated_folders_of_predictions_are_methods(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for better, name in enumerate(("a", "b")):
        write_json(
            tmp_path / name / "test" / "summary.json",
            summarise(draw_cases([f"c_{k:02}" for k in range(12)], better, rng)),
        )
    assert {row.name for row in sweeper.judge(tmp_path).document.methods} == {"a/test", "b/test"}


def test_files_that_are_not_test_results_are_refused_or_left_out(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match=r"must hold nnU-Net.s `summary.json` files"):
        sweeper.judge(tmp_path)
    write_tree(tmp_path)
    training = tmp_path / "Dataset001_X" / MODELS[0] / "fold_all" / "validation" / "summary.json"
    write_json(training, summarise(draw_cases(["case_00"], 9, np.random.default_rng(0))))
    assert any("its own training images" in caveat for caveat in sweeper.judge(tmp_path).caveats)
    (tmp_path / "Dataset001_X" / MODELS[0] / "fold_3" / "validation" / "summary.json").unlink()
    with pytest.raises(ScoresError, match=r"12 scores are missing .* \('case_18', class 1, "):
        sweeper.judge(tmp_path)
    assert sweeper.judge(tmp_path, common=True).document.left_out == 6
    write_json(tmp_path / "Dataset002_Y" / MODELS[0] / "fold_0" / "validation" / "summary.json", {"results": {}})
    with pytest.raises(ScoresError, match="one data set can be judged") as error:
        sweeper.judge(tmp_path)
    assert len(error.value.problems) == 2
