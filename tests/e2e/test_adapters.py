"""Lightning, nnU-Net, MONAI and Hugging Face's Trainer, the real packages, through `sweeper confirm`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sweeper.scripts.comparison_plan import PLAN
from sweeper.scripts.contract import Split, SplitScored, SplitScores
from tests.support.script_commands import SUPPORT, python, train_once

ROOT = Path(__file__).resolve().parents[2]
Sweeper = Callable[..., tuple[int, str, str]]
FEW = ("--losses", "dice", "--rates", "none", "--seeds", "3", "--workers", "2", "--json")


@pytest.fixture(autouse=True)
def make_sweeper_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sweeper importable as where it is installed."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def check_answer(document: dict[str, Any], *, images: int) -> None:
    """Check that both losses were trained on three seeds, and differ."""
    assert document["images"] == images and {row["seeds"] for row in document["losses"]} == {3}
    (table,) = Path("reports").glob("*/trainings.csv")
    trainings = pd.read_csv(table)
    assert len(trainings) == 6 and trainings["test"].nunique() == 6 and set(trainings["state"]) == {"trained"}


@pytest.mark.slow
def test_a_lightning_module_without_a_target_is_refused(sweeper: Sweeper) -> None:
    pytest.importorskip("lightning", reason="needs the extra `adapters`")
    status, _, error = sweeper("probe", "--command", python(SUPPORT / "lightning_training.py", "forgets_the_target"))
    assert status == 2 and 'must return {"logits": …, "target": …, "names": …}, got [' in error


@pytest.mark.slow
def test_lightning_validates_the_checkpoint_that_it_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning", reason="needs the extra `adapters`")
    monkeypatch.chdir(tmp_path)
    command = python(SUPPORT / "lightning_training.py", "best", "overlaps")
    start = train_once(command, tmp_path / "trial", overlap=True)
    bright, brighter = start.read_scores()["test"].label_pixels.sum(0)
    assert bright > brighter > 0
    val, test = (start.last_scores[split] for split in ("val", "test"))
    scored = start.list_events(SplitScored)
    assert len(scored) > 4 and scored[0].network == val.network == test.network != ""


OTHERS = [("lightning", 4, {"exact"}), ("monai", 2, {"exact", "start"}), ("transformers", 4, {"exact"})]
SCRIPTS = {
    "lightning": "lightning_training.py",
    "monai": "monai_training.py",
    "transformers": "hugging_face_training.py",
}


@pytest.mark.slow
@pytest.mark.parametrize(("package", "images"), [case[:2] for case in OTHERS])
def test_a_framework_trains_with_the_loss(package: str, images: int, tmp_path: Path) -> None:
    pytest.importorskip(package, reason="needs the extras `adapters` and `oracles`")
    check_losses(python(SUPPORT / SCRIPTS[package]), tmp_path, images)


def check_losses(command: str, folder: Path, images: int) -> dict[Split, SplitScores]:
    """Check that each split has logits of this number of images, and others under another loss; return the first."""
    first, second = (train_once(command, folder / f, family=f).read_scores() for f in ("dice", "cross_entropy"))
    assert {split: len(scores.names) for split, scores in first.items()} == {"val": images, "test": images}
    assert {scores.what for scores in first.values()} == {"logits"}
    assert not any(scores.is_equal(second[split]) for split, scores in first.items())
    return first


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize(("package", "images", "pairings"), OTHERS)
def test_losses_can_be_compared_in_a_framework(sweeper: Sweeper, package: str, images: int, pairings: set[str]) -> None:
    pytest.importorskip(package, reason="needs the extras `adapters` and `oracles`")
    status, out, error = sweeper("probe", "--command", python(SUPPORT / SCRIPTS[package]), "--json")
    assert status == 0, error
    probe = json.loads(out)
    assert probe["images"] == {"val": images, "test": images} and probe["pairing"] in pairings


REGIONS = {"background": 0, "whole": [1, 2], "core": 2}


def write_tiny_dataset(folder: Path, labels: dict[str, Any]) -> None:
    """Write ten images of a bright disc with a core as nnU-Net's data set 42."""
    root, rng = folder / "raw" / "Dataset042_Tiny", np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    y, x = np.mgrid[:64, :64]
    for n in range(10):
        centre = rng.uniform(12, 52, 2)
        disc = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < 60
        image = rng.normal(100, 20, disc.shape) + 60 * disc
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / "imagesTr" / f"c{n:02d}_0000.png")
        core = disc & (np.abs(x - centre[0]) < 4) & ("core" in labels)
        mask = np.where((x < 8) & ("ignore" in labels), 3, disc.astype(np.uint8) + core).astype(np.uint8)
        Image.fromarray(mask).save(root / "labelsTr" / f"c{n:02d}.png")
    metadata = {"channel_names": {"0": "grey"}, "labels": labels, "numTraining": 10, "file_ending": ".png"}
    metadata |= {"regions_class_order": [1, 2]} if "core" in labels else {}
    (root / "dataset.json").write_text(json.dumps(metadata))


def shrink_network(plans: Path) -> None:
    """Make the planned network small enough for a test."""
    content = json.loads(plans.read_text())
    configuration = content["configurations"]["2d"]
    configuration["batch_size"] = 2
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": 3, "features_per_stage": [4, 8, 16], "kernel_sizes": [[3, 3]] * 3,
        "strides": [[1, 1], [2, 2], [2, 2]], "n_conv_per_stage": [1] * 3, "n_conv_per_stage_decoder": [1] * 2,
    }  # fmt: skip
    plans.write_text(json.dumps(content))


@pytest.fixture
def nnunet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Return the command that trains on the tiny data set, which is prepared."""
    pytest.importorskip("nnunetv2", reason="needs the extra `adapters`")
    write_tiny_dataset(tmp_path, getattr(request, "param", {"background": 0, "thing": 1}))
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    planning = [Path(sys.executable).parent / "nnUNetv2_plan_and_preprocess", "-d", "42", "-c", "2d", "-np", "1"]
    subprocess.run([*planning, "-npfp", "1"], check=True, capture_output=True, env=os.environ)
    shrink_network(tmp_path / "preprocessed" / "Dataset042_Tiny" / "nnUNetPlans.json")
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    return python("-m", "sweeper.adapters.nnunet", "42", "2d", "0", "-device", "cpu", "--epochs", "0.08")


@pytest.mark.slow
def test_nnunet_is_trained_with_the_loss_and_tested_on_its_fold(tmp_path: Path, nnunet: str) -> None:
    scores = check_losses(nnunet, tmp_path / "trainings", images=2)
    check_places(tmp_path, {*scores["test"].names})


@pytest.mark.slow
@pytest.mark.parametrize(
    "nnunet",
    [
        pytest.param(REGIONS, id="labelled", marks=pytest.mark.exhaustive),
        pytest.param(REGIONS | {"ignore": 3}, id="ignored"),
    ],
    indirect=True,
)
def test_regions_of_nnunet_are_classes_that_overlap(
    tmp_path: Path, nnunet: str, request: pytest.FixtureRequest
) -> None:
    start = train_once(nnunet, tmp_path / "training", family="dice_ce", overlap=True)
    scores = start.read_scores()["test"]
    whole, core = scores.label_pixels.sum(0)
    assert whole > core > 0 and len(scores.names) == 2
    assert (scores.data.sum((-1, -2)) == 64 * (56 if "ignored" in request.node.name else 64)).all()
    check_places(tmp_path, {*scores.names})


@pytest.mark.slow
def test_another_trainer_of_nnunet_is_refused(sweeper: Sweeper, nnunet: str) -> None:
    status, _, error = sweeper("probe", "--command", f"{nnunet} -tr nnUNetTrainerNoDeepSupervision")
    assert status == 2 and "the trainer must be sweeper's, got -tr nnUNetTrainerNoDeepSupervision" in error


@pytest.mark.slow
@pytest.mark.exhaustive
def test_losses_are_compared_in_nnunet(sweeper: Sweeper, tmp_path: Path, nnunet: str) -> None:
    status, out, error = sweeper("confirm", "--study", "nn", "--command", nnunet, *FEW)
    assert status == 0, error
    document = json.loads(out)
    check_answer(document, images=2)
    (plan,) = Path(".sweeper").rglob(PLAN)
    assert json.loads(plan.read_text("utf-8"))["probe"]["length"] == 20
    check_places(tmp_path, list_tested_cases(tmp_path))


def check_places(folder: Path, tested: set[str]) -> None:
    """Check that nothing is where nnU-Net has its own results, and that the fold's cases were tested."""
    assert not [*(folder / "results").iterdir()] and not [*folder.rglob("checkpoint_*.pth")]
    split = json.loads((folder / "preprocessed" / "Dataset042_Tiny" / "splits_final.json").read_text())
    assert {image.split(".")[0] for image in split[0]["val"]} == tested


def list_tested_cases(folder: Path) -> set[str]:
    """Return the cases that the first training was tested on."""
    scored = next(iter(sorted((folder / ".sweeper" / "confirm" / "nn").glob("confirm-*/test.npz"))))
    with np.load(scored) as file:
        return {str(name) for name in file["names"]}
