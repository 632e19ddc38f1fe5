"""What `build_loss` accepts and refuses, and its messages."""

from __future__ import annotations

import numpy as np
import pytest

from sweeper.core.errors import LossError
from sweeper.losses import build_loss


@pytest.mark.parametrize(
    ("family", "task", "arguments", "words"),
    [
        ("focall", "binary", {}, ["no loss 'focall'", "did you mean `focal`"]),
        ("focal", "multilable", {}, ["no loss 'focal' for the task 'multilable'", "binary and multiclass"]),
        ("focal", "binary", {"gama": 2}, ["`gama` is not a hyper-parameter", "did you mean `gamma`", "takes gamma"]),
        ("dice", "binary", {"mix": 0.5}, ["`mix` is not a hyper-parameter of dice", "it takes none"]),
        ("focal", "binary", {"gamma": -1}, ["`gamma` must be a number at least 0", "got -1"]),
        ("focal", "binary", {"gamma": float("nan")}, ["`gamma` must be", "got nan"]),
        ("focal", "binary", {"alpha": 1.5}, ["`alpha` must be", "at most 1", "got 1.5"]),
        ("focal", "binary", {"gamma": "2"}, ["`gamma` must be a number", "got '2'"]),
        ("weighted_ce", "binary", {}, ["`pos_weight` must be a number above 0", "got None"]),
        ("weighted_ce", "binary", {"pos_weight": 0}, ["`pos_weight` must be a number above 0", "got 0"]),
        ("weighted_ce", "multiclass", {}, ["`class_weight_power` needs `class_frequencies`"]),
        ("focal", "multiclass", {"alpha": 0.0}, ["`alpha` needs `class_frequencies`"]),
        ("logit_adjusted", "multiclass", {}, ["`tau` needs `class_frequencies`"]),
        ("tversky", "binary", {"fn_weight": 1.2}, ["must be at least 0", "got 1.2 and -0.2"]),
        ("tversky", "binary", {"fn_weight": 0, "fp_weight": 0}, ["must be at least 0, not both 0"]),
        ("unified_focal", "binary", {"suppression": 1.0}, ["`suppression` must be", "below 1"]),
    ],
)
def test_wrong_arguments_are_refused_with_rule_and_value(family, task, arguments, words):
    with pytest.raises(LossError) as caught:
        build_loss(family, task=task, **arguments)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("frequencies", [[0, 0], [1, -1], [1, float("nan")], [1, float("inf")]])
def test_unusable_frequencies_are_refused(frequencies):
    with pytest.raises(LossError, match="class_frequencies"):
        build_loss("weighted_ce", task="multiclass", class_frequencies=frequencies)


@pytest.mark.parametrize(("task", "ignore"), [("binary", 0), ("binary", 1)])
def test_an_impossible_ignore_label_is_refused(task, ignore):
    with pytest.raises(LossError, match="ignore_index"):
        build_loss("dice", task=task, ignore_index=ignore)


def test_numbers_of_numpy_are_accepted():
    assert build_loss("dice_ce", task="binary", mix=np.float32(0.5), pos_weight=np.int64(1)).coordinates["mix"] == 0.5


def test_the_repr_of_a_loss_has_its_coordinates():
    text = repr(build_loss("tversky", task="binary", fn_weight=0.8))
    assert text == "KernelLoss(tversky, task=binary, fn_weight=0.8, overlap_exponent=1, ignore_index=255)"
