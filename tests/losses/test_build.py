"""The registry, what `build_loss` refuses and says, and the text to paste."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core.calibration import Calibration
from sweeper.core.errors import LossError
from sweeper.core.expected_dice import best_edges
from sweeper.losses import FAMILIES, Family, build_loss, snippet
from sweeper.losses.coordinates import frequency_weights, kernel_settings
from sweeper.losses.families import LIMITS, MEANINGS
from sweeper.losses.snippet import Optimizer
from sweeper.training.training_steps import schedule
from tests.support.loss_cases import noise, point

CASES = [(name, task) for name, family in FAMILIES.items() for task in family.tasks]
FREQUENCIES = (0.9, 0.07, 0.03)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_a_family_survives_json(family):
    assert Family.model_validate_json(family.model_dump_json()) == family


@pytest.mark.parametrize(("family", "task"), CASES)
def test_alpha_and_pos_weight_are_never_searched_together(family, task):
    assert len({"alpha", "pos_weight", "class_weight_power"} & set(FAMILIES[family].coordinates[task])) <= 1


@pytest.mark.parametrize(("family", "task"), CASES)
def test_ranges_defaults_and_fixed_values_are_acceptable(family, task):
    entry = FAMILIES[family]
    assert not set(entry.fixed) & set(entry.coordinates[task])
    for name, free in entry.coordinates[task].items():
        assert name in MEANINGS and name in LIMITS
        if free.search is not None:
            assert free.start is not None
            assert free.search.low <= free.start <= free.search.high
            if free.search.kind != "power_of_imbalance":
                assert LIMITS[name].problem(free.search.low) is None
                assert LIMITS[name].problem(free.search.high) is None
        assert free.default is None or LIMITS[name].problem(free.default) is None


def test_listing_families_and_writing_snippets_does_not_import_torch():
    code = (
        "import sys, sweeper.losses as l; l.FAMILIES['dice']; l.snippet('dice', {}, 'binary', ['a', 'b']); "
        "import sweeper.space, sweeper.cli.losses; "
        "print('torch' in sys.modules, 'optuna' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_snippet_writes_down_the_frequencies_that_its_loss_is_made_with():
    family, task, counts = "unified_focal", "multiclass", (100, 1600, 100)
    names: dict[str, Any] = {}
    exec(snippet(family, {}, task, [str(c) for c in range(len(counts))], counts), names)
    logits, target = noise(task)
    ours = build_loss(family, task=task, class_frequencies=counts)(logits, target)
    torch.testing.assert_close(names["criterion"](logits, target), ours, rtol=1e-3, atol=0)
    other = build_loss(family, task=task, class_frequencies=tuple(1 / n for n in counts))
    assert abs(other(logits, target) - ours) > 0.01 * ours


@pytest.mark.parametrize(
    ("family", "task", "given", "words"),
    [
        ("focall", "binary", {}, ["family must be one of", "'focall'", "did you mean `focal`"]),
        ("focal", "multilable", {}, ["task of focal must be one of binary, multiclass"]),
        ("focal", "binary", {"gama": 2}, ["`gama` is not a hyper-parameter", "did you mean `gamma`", "takes `gamma`"]),
        ("dice", "binary", {"mix": 0.5}, ["`mix` is not a hyper-parameter of dice", "takes no hyper-parameters"]),
        ("focal", "binary", {"gamma": -1}, ["`gamma` must be at least 0", "got -1"]),
        ("focal", "binary", {"gamma": float("nan")}, ["`gamma` must be", "got nan"]),
        ("focal", "binary", {"alpha": 1.5}, ["`alpha` must be", "at most 1", "got 1.5"]),
        ("focal", "binary", {"gamma": None}, ["`gamma` must be a number", "None"]),
        ("focal", "binary", {"gamma": True}, ["`gamma` must be a number", "True"]),
        ("weighted_ce", "binary", {}, ["`pos_weight` of weighted_ce has no default", "give pos_weight="]),
        ("weighted_ce", "binary", {"pos_weight": 0}, ["`pos_weight` must be above 0", "got 0"]),
        ("weighted_ce", "multiclass", {}, ["`class_weight_power` needs `class_frequencies`", "got None"]),
        ("focal", "multiclass", {"alpha": 0.0}, ["`alpha` needs `class_frequencies`"]),
        ("logit_adjusted", "multiclass", {}, ["`tau` needs `class_frequencies`", "got None"]),
        ("tversky", "binary", {"fn_weight": 1.2}, ["`fn_weight` must be at most 1", "`fp_weight`"]),
        ("tversky", "binary", {"fn_weight": 0, "fp_weight": 0}, ["must not both be 0"]),
        ("tversky", "binary", {"overlap_exponent": 0}, ["`overlap_exponent` must be above 0"]),
        ("unified_focal", "binary", {"suppression": 1.0}, ["`suppression` must be", "below 1"]),
    ],
)
def test_what_cannot_be_built_is_refused_with_rule_and_value(family, task, given, words):
    with pytest.raises(LossError) as caught:
        build_loss(family, task=task, **given)
    for word in words:
        assert word in str(caught.value)


def test_all_problems_are_named_at_once():
    with pytest.raises(LossError) as caught:
        build_loss("focal", task="multiclass", gamma=-1, alpha=2, beta=3)
    for word in ("`gamma` must", "`alpha` must", "`beta` is not", "`class_frequencies`"):
        assert word in str(caught.value)


@pytest.mark.parametrize("frequencies", [[], [1.0], [0, 0], [1, -1], [1, float("nan")], [1, float("inf")], [1, 1e-300]])
def test_unusable_frequencies_are_refused(frequencies):
    with pytest.raises(LossError, match="class_frequencies"):
        build_loss("weighted_ce", task="multiclass", class_frequencies=frequencies)


@pytest.mark.parametrize(("task", "ignore"), [("binary", 0), ("binary", 1), ("binary", True), ("multiclass", 2.5)])
def test_an_ignore_label_that_cannot_be_one_is_refused(task, ignore):
    with pytest.raises(LossError, match="ignore_index"):
        build_loss("dice", task=task, ignore_index=ignore)


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.int64(1)])
def test_numpy_numbers_are_numbers(number):
    assert build_loss("dice_ce", task="binary", mix=number).coordinates["mix"] == float(number)


@pytest.mark.parametrize(
    ("task", "logits", "target", "words"),
    [
        ("binary", (2, 2, 4, 4), (2, 4, 4), ["(N, 1, H, W)", "(2, 2, 4, 4)"]),
        ("binary", (2, 4, 4), (2, 4, 4), ["(N, 1, H, W)"]),
        ("binary", (2, 1, 4, 4), (2, 1, 4, 4), ["(N, H, W) = (2, 4, 4)", "squeeze"]),
        ("binary", (2, 1, 4, 4), (2, 4, 5), ["(2, 4, 5)"]),
        ("multiclass", (2, 1, 4, 4), (2, 4, 4), ["C ≥ 2"]),
        ("multiclass", (2, 4, 4, 4), (2, 4, 4), ["(3)", "got 4"]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(task, logits, target, words):
    weighting = {"class_weight_power": 1.0} if task == "multiclass" else {}
    loss = build_loss("dice_ce", task=task, class_frequencies=FREQUENCIES, **weighting)
    with pytest.raises(LossError) as caught:
        loss(torch.zeros(logits), torch.zeros(target, dtype=torch.long))
    for word in words:
        assert word in str(caught.value)


def test_types_that_do_not_fit_are_refused():
    loss = build_loss("dice", task="binary")
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    with pytest.raises(LossError, match=r"target\.long"):
        loss(torch.zeros(1, 1, 4, 4), labels.float())
    with pytest.raises(LossError, match="floating point"):
        loss(labels.unsqueeze(1), labels)
    with pytest.raises(LossError, match="slices of a volume as images"):
        loss(torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 4, 4, 4, dtype=torch.long))
    with pytest.raises(LossError, match="distance must have the shape"):
        build_loss("boundary", task="binary")(torch.zeros(1, 1, 4, 4), labels, distance=torch.ones(1, 4, 4))


def test_the_module_says_what_it_is():
    shown = repr(build_loss("tversky", task="binary", fn_weight=0.8))
    assert shown == "KernelLoss(tversky, task=binary, fn_weight=0.8, overlap_exponent=1, ignore_index=255)"


@settings(deadline=None, max_examples=100)
@given(
    pixels=st.lists(st.integers(0, 10**8), min_size=2, max_size=12).filter(any),
    power=st.floats(0, 2),
)
def test_class_weights_keep_the_mean_weight_at_one_and_favour_the_rare(pixels, power):
    weights = frequency_weights(pixels, power)
    assert sum(f * w for f, w in zip(pixels, weights, strict=True)) / sum(pixels) == pytest.approx(1)
    present = [w for f, w in zip(pixels, weights, strict=True) if f]
    assert all(w == max(present) for f, w in zip(pixels, weights, strict=True) if not f)
    by_rarity = [w for f, w in sorted(zip(pixels, weights, strict=True), reverse=True) if f]
    assert all(rarer >= commoner * (1 - 1e-12) for commoner, rarer in itertools.pairwise(by_rarity))
    assert frequency_weights(pixels, 0) == pytest.approx([1] * len(pixels))


def run_snippet(text: str) -> torch.nn.Module:
    names: dict[str, object] = {}
    exec(compile(text, "snippet", "exec"), names)
    criterion = names["criterion"]
    assert isinstance(criterion, torch.nn.Module)
    return criterion


@pytest.mark.parametrize(("family", "task"), CASES)
def test_the_snippet_runs_and_gives_the_same_loss(family, task):
    values = {"pos_weight": 61.23456, "prior_odds": 61.23456, "fn_weight": 0.712345, "gamma": 1.98765}
    params = {name: value for name, value in values.items() if name in FAMILIES[family].coordinates[task]}
    classes = ["background", "crack"] if task == "binary" else ["a", "b", "c"]
    counts = (911, 60, 29) if task == "multiclass" else (911, 60)
    text = snippet(family, params, task, classes, counts)
    assert "loss = criterion(logits, target)" in text
    assert "4 significant digits" in text
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1 if task == "binary" else 3, 8, 8, generator=generator)
    target = torch.randint(0, len(classes), (2, 8, 8), generator=generator)
    exact = build_loss(family, task=task, class_frequencies=counts, **params)(logits, target)
    assert run_snippet(text)(logits, target).item() == pytest.approx(exact.item(), rel=1e-3)


def pasted(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(text, "snippet", "exec"), names)
    return names


def test_the_snippet_answers_at_the_operating_point():
    logits = torch.logit(torch.tensor([[[[0.1, 0.22, 0.24, 0.9]]]]))
    binary = pasted(snippet("dice", {}, "binary", ["a", "b"], point=0.23))
    assert binary["predict"](logits).tolist() == [[[0, 0, 1, 1]]]
    two = torch.tensor([0.0, -1.0, -1.5]).view(1, 3, 1, 1)
    plain = pasted(snippet("dice", {}, "multiclass", ["a", "b", "c"], (90, 9, 1), point=0.0))
    assert plain["predict"](two).tolist() == [[[0]]]
    adjusted = pasted(snippet("dice", {}, "multiclass", ["a", "b", "c"], (90, 9, 1), point=0.5))
    assert adjusted["predict"](two).tolist() == [[[2]]]  # 0 + 0.053, −1 + 1.204, −1.5 + 2.303
    assert "predict" not in snippet("dice", {}, "binary", ["a", "b"])


def test_the_snippet_answers_each_image_at_its_own_threshold():
    names = {}
    text = snippet("dice", {}, "binary", ["ground", "crack"], point=0.4, each=(0.6, -1.2))
    exec(compile(text, "snippet", "exec"), names)
    torch.manual_seed(0)
    logits = (3 * torch.randn(4, 1, 40, 30) + torch.tensor([-6.0, -3.0, 0.0, 2.0]).view(4, 1, 1, 1)).clamp(-11.9, 11.9)
    empty = torch.full((1, 1, 40, 30), -11.9)
    answers = names["predict_each"](torch.cat([logits, empty]))
    assert answers.shape == (5, 40, 30) and answers.dtype == torch.long and not answers[4].any()
    edges = torch.linspace(-12, 12, 513)
    for z, answer in zip(logits[:, 0], answers[:4], strict=True):
        pixels = torch.histogram(z.flatten(), edges).hist.numpy()
        best = edges[best_edges(pixels[None], Calibration(slope=0.6, bias=-1.2).of_bins)[0] + 1]
        assert abs(z[answer == 1].min() - best) < 0.2
        assert z[answer == 1].min() > z[answer == 0].max()
    assert "predict_each" not in snippet("dice", {}, "binary", ["ground", "crack"], point=0.4)


def test_the_snippet_makes_the_optimiser_of_the_trainings():
    text = snippet("dice", {}, "binary", ["a", "b"], optimizer=Optimizer(0.00145, 0.01, 0.05, 0.4))
    names = pasted(text)
    made = names["optimizer_of"](torch.nn.Linear(2, 2))
    assert isinstance(made, torch.optim.AdamW)
    assert made.defaults["lr"] == 0.00145 and made.defaults["weight_decay"] == 0.01
    for steps in (4, 50, 1000):
        ours = [names["rate_factor"](step, steps) for step in range(steps)]
        assert ours == pytest.approx([schedule(step, steps, 0.05, 0.4) for step in range(steps)])


def test_the_snippet_says_what_its_hyper_parameters_are():
    text = snippet("dice_ce", {"mix": 0.4, "pos_weight": 7.0}, "binary", ["a", "b"])
    assert "# mix: weight of the cross-entropy part; the overlap part has 1 − mix\n" in text
    assert "# pos_weight: weight of foreground pixels in the cross-entropy part\n" in text
    for family, entry in FAMILIES.items():
        for task in entry.tasks:
            given = point(family, task)
            lines = snippet(family, given, task, ["a", "b"], (9, 1)).splitlines()
            assert all(any(line.startswith(f"# {name}: ") for line in lines) for name in given), family
            assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", ["a\nraise SystemExit", "```", "a\r\u2028raise SystemExit", "{x}", "\\", "'''", '"""'])
def test_class_names_cannot_break_out_of_the_snippet(name):
    text = snippet("dice", {}, "binary", ["background", name])
    assert "`" not in text
    run_snippet(text)


@settings(deadline=None, max_examples=100)
@given(mix=st.floats(0, 1), power=st.floats(0, 2), frequencies=st.lists(st.integers(1, 10**7), min_size=3, max_size=3))
def test_the_snippet_stays_within_the_limits_when_it_rounds(mix, power, frequencies):
    text = snippet("dice_ce", {"mix": mix, "class_weight_power": power}, "multiclass", ["a", "b", "c"], frequencies)
    built = run_snippet(text).coordinates
    assert built["mix"] == pytest.approx(mix, rel=1e-3, abs=1e-300)
    assert built["class_weight_power"] == pytest.approx(power, rel=1e-3, abs=1e-300)


def test_kernel_settings_leave_out_weights_that_say_nothing():
    entry = FAMILIES["dice_ce"]
    assert kernel_settings(entry, "binary", {"mix": 0.5, "pos_weight": 1.0}, None).class_weights is None
    plain = kernel_settings(entry, "multiclass", {"mix": 0.5, "class_weight_power": 0.0}, FREQUENCIES)
    assert plain.class_weights is None


@pytest.mark.parametrize(("tau", "written"), [(-0.25, "logits + 0.25 * log_prior"), (0.5, "logits - 0.5 * log_prior")])
def test_a_negative_logit_adjustment_is_written_as_a_sum(tau: float, written: str) -> None:
    text = snippet("cross_entropy", {}, "multiclass", ["a", "b", "c"], [5, 3, 2], point=tau)
    assert written in text and "- -" not in text
