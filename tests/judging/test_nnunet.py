"""Trees of nnU-Net's results: folds are one rotation, result folders are trainings, Dice is its foreground mean."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest

import sweeper
from sweeper.cli.main import cli
from sweeper.evidence.phrases import STEPS, format_headline, format_remark
from sweeper.judging.rows import ScoresError
from sweeper.scripts.comparison_plan import parse_losses

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
    """Write two models, `folds` folds of six cases each; return each foreground mean of the last run, by fold, too."""
    rng, means = np.random.default_rng(0), dict[str, Any]()
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
                means[f"{model} {fold}"] = summarise(part)["foreground_mean"]["Dice"]
            folder = root / place / "Dataset001_X" / model / "crossval_results_folds_0_1_2_3_4"
            write_json(folder / "summary.json", summarise(all_cases))
            write_json(folder / "postprocessed" / "summary.json", summarise(all_cases))
            means[model] = summarise(all_cases)["foreground_mean"]["Dice"]
    return means


def test_five_folds_are_judged_as_a_table_of_their_means_is(tmp_path: Path) -> None:
    means = write_tree(tmp_path)
    judgement = sweeper.judge(tmp_path)
    table = [(model, fold, means[f"{model} {fold}"]) for model in MODELS for fold in range(5)]
    expected = sweeper.judge(pd.DataFrame(table, columns=["method", "fold", "Dice"]), metric="Dice")
    assert format_headline(judgement.answer) == format_headline(expected.answer)
    assert judgement.answer.use.loss == MODELS[1]
    for one, other in zip(judgement.answer.differences, expected.answer.differences, strict=True):
        assert one.model_dump() == pytest.approx(other.model_dump())
    assert all(row.runs == tuple(f"1, fold {fold}" for fold in range(5)) for row in judgement.answer.losses)
    assert "as nnU-Net does" in str(judgement.answer.remarks)


def test_where_the_folds_are_missing_their_common_summary_is_one_training(tmp_path: Path) -> None:
    means = write_tree(tmp_path)
    for path in tmp_path.rglob("fold_*/validation/summary.json"):
        path.unlink()
    answer = sweeper.judge(tmp_path).answer
    assert (answer.images, answer.kind, answer.use.loss) == (30, "network", MODELS[1])
    steps = {step.code: step for step in answer.next}
    assert [*steps][:3] == ["PRESENT", "TRAIN_MORE", "CONFIRM"]
    assert steps["CONFIRM"].command.startswith("sweeper confirm --losses ")
    words = "Whether it holds in your own training script: 12 to 18 trainings."
    assert format_remark(steps["CONFIRM"], answer, STEPS) == words
    assert {row.loss: row.mean for row in answer.losses} == pytest.approx({name: means[name] for name in MODELS})


def test_the_trainer_that_people_have_is_proposed_as_the_present_one(tmp_path: Path) -> None:
    write_tree(tmp_path)
    first = sweeper.judge(tmp_path, metric="IoU", common=True).answer.next[0]
    assert (first.code, first.values) == ("PRESENT", {"method": MODELS[0]})
    program, name, *words = shlex.split(first.command)
    command = cli.get_command(click.Context(cli), name)
    assert program == "sweeper" and command is not None
    given = command.make_context(name, words).params
    assert (given["scores"], given["present"]) == (str(tmp_path), MODELS[0])
    assert (given["metric"], given["common"]) == ("IoU", True)
    judged = sweeper.judge(tmp_path, present=MODELS[0]).answer
    assert judged.present == MODELS[0] and "PRESENT" not in {step.code for step in judged.next}
    for model in tmp_path.glob(f"*/{MODELS[0]}"):
        model.rename(model.with_name("nnUNetTrainerCELoss__nnUNetPlans__2d"))
    assert "PRESENT" not in {step.code for step in sweeper.judge(tmp_path).answer.next}


def test_several_result_folders_are_several_trainings(tmp_path: Path) -> None:
    write_tree(tmp_path, ("seed0", "seed1", "seed2"))
    judgement = sweeper.judge(tmp_path, metric="IoU")
    assert [len(row.runs) for row in judgement.answer.losses] == [3, 3] and judgement.answer.kind != "network"
    assert (judgement.answer.sure, judgement.answer.use.loss) == ("established", MODELS[1])
    assert {len(list(model.glob("fold_*"))) for model in tmp_path.glob(f"*/*/{MODELS[0]}")} == {5}
    for path in tmp_path.rglob("fold_*/validation/summary.json"):
        path.unlink()
    assert "here K = 5" in str(judgement.answer.remarks)
    crossval = sweeper.judge(tmp_path, metric="IoU")
    # The crossval summaries name their folds, too.
    assert crossval.answer.differences == judgement.answer.differences
    for folder in list(tmp_path.rglob("crossval_results_folds_*")):
        folder.rename(folder.with_name("crossval_results_folds_all"))
    without_folds = sweeper.judge(tmp_path, metric="IoU").answer.differences[0]  # as if there were no folds
    assert judgement.answer.differences[0].se_image == pytest.approx(math.sqrt(5 / 4) * without_folds.se_image)


def test_evaluated_folders_of_predictions_are_methods(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for better, name in enumerate(("a", "b")):
        write_json(
            tmp_path / name / "test" / "summary.json",
            summarise(draw_cases([f"c_{k:02}" for k in range(12)], better, rng)),
        )
    assert {row.loss for row in sweeper.judge(tmp_path).answer.losses} == {"a/test", "b/test"}


def test_files_that_are_not_test_results_are_refused_or_left_out(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match=r"must have nnU-Net.s `summary.json` files"):
        sweeper.judge(tmp_path)
    write_tree(tmp_path)
    training = tmp_path / "Dataset001_X" / MODELS[0] / "fold_all" / "validation" / "summary.json"
    write_json(training, summarise(draw_cases(["case_00"], 9, np.random.default_rng(0))))
    assert "its own training images" in str(sweeper.judge(tmp_path).answer.remarks)
    write_json(tmp_path / "Dataset002_Y" / MODELS[0] / "fold_0" / "validation" / "summary.json", {"results": {}})
    with pytest.raises(ScoresError, match="one data set can be judged") as error:
        sweeper.judge(tmp_path)
    assert len(error.value.problems) == 3  # the file, and folds that are missing


@pytest.mark.parametrize("content", ["", "{}", "[" * 100_000, '{"metric_per_case": [{"metrics": 1}]}', None])
def test_a_file_that_is_no_summary_is_named(tmp_path: Path, content: str | None) -> None:
    write_tree(tmp_path)
    path = tmp_path / "Dataset001_X" / MODELS[0] / "fold_3" / "validation" / "summary.json"
    path.unlink()
    path.mkdir() if content is None else path.write_text(content)
    with pytest.raises(
        ScoresError, match=re.escape(f"{path} must be a summary of nnU-Net with Dice, got none (")
    ) as error:
        sweeper.judge(tmp_path)
    assert error.value.problems[0].endswith("; evaluate its folder again, or remove it")


def test_missing_folds_and_a_missing_rival_lead_to_the_command_that_trains_them(tmp_path: Path) -> None:
    write_tree(tmp_path)
    for fold in (2, 3, 4):
        (tmp_path / "Dataset001_X" / MODELS[1] / f"fold_{fold}" / "validation" / "summary.json").unlink()
    with pytest.raises(ScoresError) as error:
        sweeper.judge(tmp_path)
    (problem,) = error.value.problems
    assert (
        "lacks 2, 3 and 4: nnUNetv2_train Dataset001_X 2d 2 -tr nnUNetTrainerDiceCELoss -p nnUNetPlans; or" in problem
    )
    assert sweeper.judge(tmp_path, common=True).answer.find("LEFT_OUT").values == {"images": 18}
    with pytest.raises(ScoresError) as error:
        sweeper.judge(tmp_path / "Dataset001_X" / MODELS[0])
    train, cost, confirm = error.value.problems[0].partition(
        "; or compare losses in this training, 48 to 78 trainings: "
    )
    assert cost
    assert train.endswith("Dataset001_X 2d 0 -tr nnUNetTrainerCELoss -p nnUNetPlans")
    script = "python -m sweeper.adapters.nnunet Dataset001_X 2d 0 -p nnUNetPlans"
    _, *words = shlex.split(confirm)
    assert words[-3:] == [script, "--folds", "5"]
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None and command.make_context("confirm", words[1:]).params["command"] == script
    losses = [loss.name for loss in parse_losses(words[2], present=words[4])]
    assert losses == ["dice_ce:mix=0.5", "dice_focal", "tversky"]


def test_ensembles_regions_and_copies_count_once(tmp_path: Path) -> None:
    write_tree(tmp_path, folds=3)
    root, rng = tmp_path / "Dataset001_X", np.random.default_rng(3)
    cases = draw_cases([f"case_{k:02}" for k in range(18)], 3, rng)
    for place in ("ensembles/ensemble___a___b___0_1_2", "ensembles/ensemble___a___b___0_1_2/postprocessed"):
        write_json(root / place / "summary.json", summarise(cases))
    names = {row.loss for row in sweeper.judge(tmp_path).answer.losses}
    assert names == {*MODELS, "Dataset001_X/ensembles/ensemble___a___b___0_1_2"}
    for model in MODELS:
        regions = {name: {"(1, 2)": labels["1"], "(2,)": labels["1"]} for name, labels in cases.items()}
        write_json(tmp_path / "regions" / model / "summary.json", summarise(regions))
        cases = draw_cases(list(cases), 5, rng)
    answer = sweeper.judge(tmp_path / "regions").answer
    assert answer.images == 18 and {row.loss for row in answer.losses} == {*MODELS}


@pytest.mark.parametrize(
    "copies", [("validation_raw_postprocessed",), ("../cv_niftis_raw", "../cv_niftis_postprocessed")]
)
def test_version_1_is_read_with_its_configuration(tmp_path: Path, copies: tuple[str, ...]) -> None:
    """Case as of nnU-Net 1: labels next to the references in `results.all`, a folder above the task."""
    rng, expected = np.random.default_rng(0), dict[str, list[float]]()
    for configuration, gain in (("2d", 0.0), ("3d_fullres", 0.05)):
        name = "nnUNetTrainerV2__nnUNetPlansv2.1"
        for fold in range(5):
            dice = [float(score) for score in 0.8 + gain + rng.normal(0, 0.02, 4)]
            cases = [
                {
                    "0": {"Dice": 0.99, "Jaccard": 0.9},
                    "1": {"Dice": score, "Jaccard": 0.6},
                    "reference": f"/x/c{fold}{number}.nii.gz",
                    "test": "/x/p.nii.gz",
                }
                for number, score in enumerate(dice)
            ]
            expected.setdefault(f"{name}__{configuration}", []).append(float(np.mean(dice)))
            folder = tmp_path / "nnUNet" / configuration / "Task004_Hippo" / name / f"fold_{fold}"
            for place in ("validation_raw", *copies):
                document = {"author": "x", "name": name, "results": {"all": cases, "mean": {"1": {"Dice": 0.5}}}}
                write_json(folder / place / "summary.json", document)
            if configuration == "2d" and fold == 0:
                with pytest.raises(
                    ScoresError, match=r": nnUNet_train 2d nnUNetTrainerV2_Loss_CE Task004_Hippo 0 -p nnUN"
                ):
                    sweeper.judge(tmp_path)
    answer = sweeper.judge(tmp_path).answer
    assert {row.loss: row.mean for row in answer.losses} == pytest.approx(
        {name: np.mean(scores) for name, scores in expected.items()}
    )
    assert answer.sure == "established" and len(answer.losses[0].runs) == 5
