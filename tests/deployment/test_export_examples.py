"""The code that trains elsewhere with the recommended loss is run: by itself, or on a stand-in of nnU-Net."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from sweeper.core.records import Recommended
from sweeper.deployment.export_code import examples
from sweeper.losses import build_loss, snippet
from sweeper.losses.snippet import Optimizer
from tests.support import builders

STREET = builders.dataset(classes=builders.STREET)


def texts(task: str, family: str = "dice_ce") -> dict[str, str]:
    data = builders.dataset() if task == "binary" else STREET
    params = {"mix": 0.5}
    if family == "boundary":
        params = {}
    optimizer = Optimizer(0.002, 0.01, 0.05, 0.3)
    frequencies = [float(n) for n in data.class_pixels()]
    text = snippet(
        family,
        params,
        data.task,
        data.classes,
        frequencies,
        point=0.4 if task == "binary" else 0.5,
        optimizer=optimizer,
    )
    chosen = Recommended(
        family=family,
        params=params,
        lr=0.002,
        threshold=0.4 if task == "binary" else None,
        tau=None if task == "binary" else 0.5,
        snippet=text,
    )
    sweep = builders.sweep([], []).model_copy(update={"conditions": builders.conditions(data)})
    return examples(sweep, chosen)


def run(text: str, monkeypatch: pytest.MonkeyPatch, **modules: ModuleType) -> dict[str, Any]:
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name.replace("__", "."), module)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(text, "example.py", "exec"), names)
    return names


def module(**names: object) -> ModuleType:
    made = ModuleType("stand-in")
    vars(made).update(names)
    return made


def batch(task: str) -> tuple[torch.Tensor, torch.Tensor]:
    classes = 2 if task == "binary" else 3
    torch.manual_seed(0)
    return torch.randn(2, classes, 8, 12), torch.randint(0, classes, (2, 8, 12))


def expected(task: str, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if task == "binary":
        logits = logits[:, 1:] - logits[:, :1]
    result: torch.Tensor = build_loss("dice_ce", task=task, mix=0.5)(logits, labels)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_plain_loop_runs_and_learns(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = texts(task)["train_plain.py"]
    (tmp_path / "train_plain.py").write_text(text, "utf-8")
    if task == "binary":  # as its user runs it
        ran = subprocess.run(
            [sys.executable, "train_plain.py"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert "labels: torch.Size([1, 32, 32])" in ran.stdout
    names = run(text, monkeypatch)
    images, masks = torch.randn(2, 3, 16, 16), torch.zeros(2, 16, 16, dtype=torch.long)
    masks[:, 4:8] = 1
    images[:, 0] += 4 * masks
    network = torch.nn.Conv2d(3, len(names["PRIOR"]), 1)
    names["start_at_prior"](network)
    assert network.bias is not None and network.bias.tolist() == pytest.approx(names["PRIOR"])
    losses = names["fit"](network, iter([(images, masks)] * 60), 60)
    assert len(losses) == 60 and losses[-1] < losses[0]


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_trainer_class_gives_nnunet_the_same_loss(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Trainer:
        label_manager = SimpleNamespace(has_regions=False, ignore_label=9)
        enable_deep_supervision = True
        is_ddp = False

        def _get_deep_supervision_scales(self) -> list[int]:
            return [1, 2, 4]

        def _do_i_compile(self) -> bool:
            return False

    wrapped: list[Any] = []
    names = run(
        texts(task)["nnUNetTrainerSweeper.py"],
        monkeypatch,
        nnunetv2__training__loss__deep_supervision=module(
            DeepSupervisionWrapper=lambda loss, weights: wrapped.append(weights) or loss
        ),
        nnunetv2__training__nnUNetTrainer__nnUNetTrainer=module(nnUNetTrainer=Trainer),
    )
    loss = names["nnUNetTrainerSweeper"]()._build_loss()
    assert wrapped[0] == pytest.approx([2 / 3, 1 / 3, 0])
    Trainer.is_ddp = True
    names["nnUNetTrainerSweeper"]()._build_loss()
    assert 0 < wrapped[1][-1] < 1e-5  # a weight of 0 leaves parameters without a gradient
    logits, labels = batch(task)
    ignored = labels.clone()
    ignored[0, :3] = 255
    target = torch.where(ignored == 255, 9, ignored)[:, None].float()
    wanted = expected(task, logits, ignored)
    torch.testing.assert_close(loss(logits, target), wanted)
    # A volume of one slice is that slice, of two the same pixels.
    torch.testing.assert_close(loss(logits[:, :, None], target[:, :, None]), wanted)
    halves = logits.reshape(2, -1, 2, 4, 12), target.reshape(2, 1, 2, 4, 12)
    torch.testing.assert_close(loss(*halves), wanted)


def test_a_loss_that_needs_distance_maps_has_no_examples() -> None:
    assert texts("binary", "boundary") == {}
