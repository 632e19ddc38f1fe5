"""The file with one loss: to the last digit the registry's, and torch is all that it needs."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from sweeper.core.errors import LossError
from sweeper.losses import build_loss
from sweeper.losses.families import FAMILIES
from sweeper.scripts.loss_file import make_loss_text
from tests.support import loss_cases
from tests.support.pasting import run_text

CASES = [case for case in loss_cases.CASES if FAMILIES[case[0]].needs_map is None]


def list_params(name: str, task: Any) -> dict[str, float]:
    """Return the family's defaults; of what has none, another value than 1."""
    free = FAMILIES[name].coordinates[task]
    return {
        key: 1.5 if coordinate.default is None else coordinate.default
        for key, coordinate in free.items()
        if key not in ("alpha", "fp_weight")
    }


@pytest.mark.parametrize(("name", "task"), CASES)
def test_the_loss_of_the_file_equals_that_of_the_registry(name: str, task: Any) -> None:
    frequencies = None if task == "binary" else (90.0, 8.0, 2.0)
    params = list_params(name, task)
    text = make_loss_text(name, params, task, frequencies)
    assert {line.split()[1] for line in text.splitlines() if re.match(r"\s*(import|from) ", line)} <= {
        "__future__", "math", "collections.abc", "functools", "typing", "torch", "torch.nn",
    }  # fmt: skip
    namespace = run_text(text)
    torch.manual_seed(1)
    target = torch.randint(0, 3 if frequencies else 2, (2, 16, 16))
    target[0, :3] = 255
    logits = torch.randn(2, 3 if frequencies else 1, 16, 16).requires_grad_()
    copy = logits.detach().clone().requires_grad_()
    loss = namespace["criterion"](logits, target)
    expected = build_loss(name, task=task, class_frequencies=frequencies, **params)(copy, target)
    loss.backward()
    expected.backward()
    assert loss.item() == expected.item() and torch.equal(logits.grad, copy.grad)
    if not FAMILIES[name].images_only:
        volume = logits.detach().unflatten(2, (4, 4)), target.unflatten(1, (4, 4))
        assert namespace["criterion"](*volume) == loss


@pytest.mark.parametrize(("name", "task"), CASES)
def test_the_loss_of_the_file_accepts_and_refuses_what_the_registry_does(name: str, task: Any) -> None:
    frequencies = None if task == "binary" else (90.0, 8.0, 2.0)
    namespace = run_text(make_loss_text(name, list_params(name, task), task, frequencies))
    target = torch.randint(0, 3 if frequencies else 2, (2, 16, 16))
    logits = torch.randn(2, 3 if frequencies else 1, 16, 16)
    expected = namespace["criterion"](logits, target)
    assert namespace["criterion"](logits, target.unsqueeze(1)) == expected
    assert namespace["criterion"](logits, target.unsqueeze(1).float()) == expected
    for wrong in (target.float() / 2, target - 1, target * 100):
        with pytest.raises(ValueError, match="target must be class labels 0 to") as file_error:
            namespace["criterion"](logits, wrong)
        with pytest.raises(LossError) as registry_error:
            build_loss(name, task=task, class_frequencies=frequencies, **list_params(name, task))(logits, wrong)
        assert str(file_error.value) == str(registry_error.value)
    if frequencies is None:
        torch.testing.assert_close(namespace["criterion"](torch.cat([0 * logits, logits], 1), target), expected)
    for misshapen in (logits[:1], logits[:, :, :8], torch.randn(2, 1 if frequencies else 3, 16, 16)):
        with pytest.raises(ValueError, match="logits must be"):
            namespace["criterion"](misshapen, target)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_file_may_have_another_ignored_label(name: str, task: Any) -> None:
    classes = 2 if task == "binary" else 3
    logits, target = torch.randn(2, 1 if classes == 2 else 3, 16, 16), torch.randint(0, classes, (2, 16, 16))
    target[0, :5] = 255
    values, points = [], []
    for label in (255, -100):
        namespace = run_text(make_loss_text(name, list_params(name, task), task, (90.0, 8.0, 2.0)[:classes], label))
        labels = torch.where(target == 255, label, target)
        values.append(namespace["criterion"](logits, labels))
        if task == "binary":
            points.append(namespace["choose_threshold"]([(logits, labels)]))
        else:
            points.append(namespace["choose_tau"]([(logits, labels)], torch.log(torch.tensor([0.9, 0.08, 0.02]))))
    assert values[0] == values[1] and points[0] == points[1]


def test_one_file_serves_both_tasks_where_the_loss_is_the_same() -> None:
    namespace = run_text(make_loss_text("dice", {}, None))
    for channels, task in ((1, "binary"), (4, "multiclass")):
        logits, target = torch.randn(2, channels, 8, 8), torch.randint(0, max(2, channels), (2, 8, 8))
        assert namespace["criterion"](logits, target) == build_loss("dice", task=task)(logits, target)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.needs_map])
def test_a_loss_that_needs_maps_of_the_labels_is_refused(name: str) -> None:
    with pytest.raises(LossError, match=f"needs? logits and labels only, got {name}"):
        make_loss_text(name, {}, "binary")


def test_a_loss_without_its_class_frequencies_is_refused() -> None:
    with pytest.raises(LossError, match="needs `class_frequencies`"):
        make_loss_text("weighted_ce", {"class_weight_power": 0.5}, "multiclass")
