"""The text to paste: it computes what was trained and measured, whatever the names of the classes."""

from __future__ import annotations

import pytest
import torch

from sweeper.core.records.training import THRESHOLDS
from sweeper.losses import build_loss, make_snippet
from sweeper.losses.snippet import OptimizerSettings
from sweeper.training.training_steps import compute_rate_factor
from tests.support.loss_cases import CASES, draw_batch, pick_point
from tests.support.pasting import run_text


@pytest.mark.parametrize(("family", "task"), CASES)
def test_the_snippet_gives_the_same_loss_and_explains_its_hyper_parameters(family, task):
    values = {"pos_weight": 61.23456, "prior_odds": 61.23456, "fn_weight": 0.712345, "gamma": 1.98765}
    params = {name: values.get(name, value) for name, value in pick_point(family, task).items()}
    classes = ["background", "crack"] if task == "binary" else ["a", "b", "c"]
    counts = (60, 911, 29) if task == "multiclass" else (911, 60)  # the most common of several is not the first
    text = make_snippet(family, params, task, classes, counts)
    assert "loss = criterion(logits, target)" in text
    assert "4 significant digits" in text
    logits, target = draw_batch(task)
    exact = build_loss(family, task=task, class_frequencies=counts, **params)(logits, target)
    assert run_text(text)["criterion"](logits, target).item() == pytest.approx(exact.item(), rel=1e-3)
    lines = text.splitlines()
    assert all(any(line.startswith(f"# {name}: ") for line in lines) for name in params)
    assert max(map(len, lines)) <= 100


def test_the_snippet_predicts_at_the_operating_point():
    logits = torch.logit(torch.tensor([[[[0.1, 0.22, 0.24, 0.9]]]]))
    binary = run_text(make_snippet("dice", {}, "binary", ["a", "b"], point=0.23))
    softmax = torch.cat([0.5 - logits, torch.full_like(logits, 0.5)], 1)  # two channels, whose difference they are
    assert binary["predict"](logits).tolist() == binary["predict"](softmax).tolist() == [[[0, 0, 1, 1]]]
    two = torch.tensor([0.0, -1.0, -1.5]).view(1, 3, 1, 1)
    for tau, label in ((0.0, 0), (0.5, 2), (-0.5, 0)):  # at ½: 0 + 0.053, −1 + 1.204, −1.5 + 2.303
        adjusted = run_text(make_snippet("dice", {}, "multiclass", ["a", "b", "c"], (90, 9, 1), point=tau))
        assert adjusted["predict"](two).tolist() == [[[label]]]
        assert adjusted["predict"](two.flip(1)).tolist() == [[[0 if tau < 0 else 2]]]


def test_the_snippet_predicts_at_other_points_and_explains_its_default():
    logits = torch.logit(torch.tensor([[[[0.1, 0.22, 0.24, 0.9]]]]))
    text = make_snippet("dice", {}, "binary", ["a", "b"], point=0.96)
    assert run_text(text)["predict"](logits, 0.15).tolist() == [[[0, 1, 1, 1]]]
    assert "Choose it on your network; 0.96 was this one's: it was chosen on validation images" in text
    assert "it is the plain one" in make_snippet("dice", {}, "binary", ["a", "b"], point=0.5)
    extreme = make_snippet(
        "dice", {}, "binary", ["a", "b"], point=THRESHOLDS[-1]
    )  # 3 digits make 1 of it: never reached
    assert run_text(extreme)["predict"](torch.full((1, 1, 1, 1), 12.0)).item() == 1
    several = run_text(make_snippet("dice", {}, "multiclass", ["a", "b", "c"], (90, 9, 1), point=0))
    two = torch.tensor([0.0, -1.0, -1.5]).view(1, 3, 1, 1)
    assert [several["predict"](two, tau).item() for tau in (-0.5, 0.0, 0.5)] == [0, 0, 2]
    plain = run_text(
        make_snippet("dice", {}, "multiclass", ["a", "b", "c"], point=0)
    )  # no frequencies, nothing to adjust
    assert plain["predict"](two).item() == 0


def test_the_snippet_makes_the_optimiser_of_the_trainings():
    text = make_snippet("dice", {}, "binary", ["a", "b"], optimizer=OptimizerSettings(0.00145, 0.01, 0.05, 0.4))
    names = run_text(text)
    optimizer = names["make_optimizer"](torch.nn.Linear(2, 2))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["lr"] == 0.00145 and optimizer.defaults["weight_decay"] == 0.01
    for steps in (4, 50, 1000):
        ours = [names["compute_rate_factor"](step, steps) for step in range(steps)]
        assert ours == pytest.approx([compute_rate_factor(step, steps, 0.05, 0.4) for step in range(steps)])


@pytest.mark.parametrize("name", ["a\nraise SystemExit", "```", "a\r\u2028raise SystemExit", "{x}", "\\", "'''", '"""'])
def test_class_names_cannot_break_out_of_the_snippet(name):
    text = make_snippet("dice", {}, "binary", ["background", name])
    assert "`" not in text
    run_text(text)
