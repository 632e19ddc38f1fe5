"""Lightning, nnU-Net, MONAI and Hugging Face's Trainer, the real packages, through `sweeper confirm`."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
Sweeper = Callable[..., tuple[int, str, str]]
FEW = ("--losses", "dice", "--rates", "none", "--seeds", "3", "--workers", "2", "--json")


@pytest.fixture(autouse=True)
def found_as_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sweeper importable as where it is installed."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def check_answer(document: dict[str, Any], *, images: int) -> None:
    """Check that both losses were trained on three seeds, and differ."""
    assert document["judgement"]["images"] == images and document["seeds"] == 3
    scores = {(row["loss"], row["seed"]): row["test"] for row in document["trainings"]}
    assert len(scores) == 6 and len(set(scores.values())) == 6
    assert all(row["state"] == "trained" for row in document["trainings"])


@pytest.mark.slow
def test_lightning_is_compared_whole(sweeper: Sweeper) -> None:
    pytest.importorskip("lightning", reason="needs the extra `adapters`")
    script = ROOT / "tests" / "support" / "lightning_training.py"
    status, out, error = sweeper("confirm", "--command", shlex.join([sys.executable, str(script)]), *FEW)
    assert status == 0, error
    document = json.loads(out)
    check_answer(document, images=4)
    assert document["probe"]["pairing"] == "exact" and document["probe"]["images"] == {"val": 4, "test": 4}
    assert document["probe"]["length"] == 4


@pytest.mark.slow
def test_a_lightning_module_that_returns_too_little_is_refused(sweeper: Sweeper) -> None:
    pytest.importorskip("lightning", reason="needs the extra `adapters`")
    script = ROOT / "tests" / "support" / "lightning_training.py"
    words = [sys.executable, str(script), "forgets_the_target"]
    status, _, error = sweeper("probe", "--command", shlex.join(words))
    assert status == 2 and 'must return {"logits": …, "target": …, "names": …}, got [' in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "script", "images", "pairings"),
    [
        ("monai", "monai_training.py", 2, {"exact", "start"}),
        ("transformers", "hugging_face_training.py", 4, {"exact"}),
    ],
)
def test_a_training_by_another_framework_can_be_compared(
    sweeper: Sweeper, package: str, script: str, images: int, pairings: set[str]
) -> None:
    pytest.importorskip(package, reason="needs the extras `adapters` and `oracles`")
    path = ROOT / "tests" / "support" / script
    status, out, error = sweeper("probe", "--command", shlex.join([sys.executable, str(path)]), "--json")
    assert status == 0, error
    document = json.loads(out)
    assert document["images"] == {"val": images, "test": images} and document["length"] == 3
    assert document["scores"] == {"val": "logits", "test": "logits"} and document["pairing"] in pairings


def write_tiny_dataset(folder: Path) -> None:
    """Write ten images of a bright disc as nnU-Net's data set 42."""
    root, rng = folder / "raw" / "Dataset042_Tiny", np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    y, x = np.mgrid[:64, :64]
    for n in range(10):
        centre = rng.uniform(12, 52, 2)
        disc = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < 60
        image = rng.normal(100, 20, disc.shape) + 60 * disc
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / "imagesTr" / f"c{n:02d}_0000.png")
        Image.fromarray(disc.astype(np.uint8)).save(root / "labelsTr" / f"c{n:02d}.png")
    labels = {"background": 0, "thing": 1}
    described = {"channel_names": {"0": "grey"}, "labels": labels, "numTraining": 10, "file_ending": ".png"}
    (root / "dataset.json").write_text(json.dumps(described))


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


@pytest.mark.slow
def test_nnunet_is_compared_whole(sweeper: Sweeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nnunetv2", reason="needs the extra `adapters`")
    write_tiny_dataset(tmp_path)
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    planning = [Path(sys.executable).parent / "nnUNetv2_plan_and_preprocess", "-d", "42", "-c", "2d", "-np", "1"]
    subprocess.run([*planning, "-npfp", "1"], check=True, capture_output=True, env=os.environ)
    prepared = tmp_path / "preprocessed" / "Dataset042_Tiny"
    shrink_network(prepared / "nnUNetPlans.json")
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    words = (sys.executable, "-m", "sweeper.adapters.nnunet", "42", "2d", "0", "-device", "cpu", "--epochs", "0.08")
    status, out, error = sweeper("confirm", "--name", "nn", "--command", shlex.join(words), *FEW)
    assert status == 0, error
    document = json.loads(out)
    check_answer(document, images=2)
    assert document["probe"]["scores"] == {"val": "logits", "test": "logits"} and document["probe"]["length"] == 20
    assert document["probe"]["images"] == {"val": 2, "test": 2}
    assert not [*(tmp_path / "results").iterdir()] and not [*tmp_path.rglob("checkpoint_*.pth")]
    split = json.loads((prepared / "splits_final.json").read_text())
    assert {image.split(".")[0] for image in split[0]["val"]} == names_of_test(tmp_path)


def names_of_test(folder: Path) -> set[str]:
    """Return the cases that the first training was tested on."""
    scored = next(iter(sorted((folder / ".sweeper" / "confirm" / "nn").glob("confirm-*/test.npz"))))
    with np.load(scored) as file:
        return {str(name) for name in file["names"]}
