"""What a script imports: `sweeper_trial`, in this process; its counts are those of sweeper's own evaluation."""

from __future__ import annotations

import copy
import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

import sweeper_trial
from sweeper.core.metrics import count_at_point
from sweeper.core.records.training import BINS, LOGIT_RANGE, TAUS
from sweeper.core.tasks import compute_log_shares
from sweeper.losses import build_loss, per_pixel
from sweeper.losses.families import FAMILIES
from sweeper.scripts.contract import (
    HELPER,
    HELPER_VERSION,
    VALIDATED,
    ScriptProgress,
    TrialDocument,
    read_events,
    read_split_scores,
    write_trial_folder,
)
from sweeper.training.counters import HistogramCounter, MulticlassCounter

TWO, FOUR = ["background", "thing"], ["sky", "road", "tree", "car"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a training's folder, which SWEEPER_TRIAL names."""
    monkeypatch.setenv("SWEEPER_TRIAL", str(tmp_path / "one"))
    return tmp_path / "one"


def write_trial(folder: Path, **fields: Any) -> None:
    values = {"kind": "confirm", "family": "cross_entropy", "params": {}, "seed": 3, **fields}
    write_trial_folder(folder, TrialDocument(**values))


def make_batch(classes: int, *sides: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    target = torch.randint(0, classes, (3, *sides))
    target[0, :2] = 255
    return 6 * torch.randn(3, classes if classes > 2 else 1, *sides), target


def test_losses_of_neighbouring_pixels_refuse_volumes(folder: Path) -> None:
    assert {*sweeper_trial.IMAGES_ONLY} == {name for name, family in FAMILIES.items() if family.images_only}
    write_trial(folder, family="soft_cldice", params={"skeleton_weight": 0.5})
    t, (z, y) = sweeper_trial.trial(TWO), make_batch(2, 4, 8, 8)
    with pytest.raises(sweeper_trial.TrialError, match="soft_cldice takes images only"):
        t.loss(z, y)
    with t.scoring("val") as s:  # volumes of a network that was trained on their slices
        s.add(z, y, [*"abc"])


def test_the_loss_of_an_auxiliary_output_does_not_count_as_a_call(folder: Path) -> None:
    write_trial(folder, kind="probe", family="dice")
    t, (z, y) = sweeper_trial.trial(TWO), make_batch(2, 8, 8)
    assert torch.equal(t.auxiliary_loss(z, y), build_loss("dice", task="binary")(z, y))
    t.loss(z, y)
    t.stop_after(1)
    assert [event.calls for event in read_events(folder) if event.event == "epoch"] == [1]


def test_the_constants_of_the_helper_are_those_of_sweeper() -> None:
    assert (sweeper_trial.BINS, sweeper_trial.LOGIT_RANGE) == (BINS, LOGIT_RANGE) and sweeper_trial.TAUS == TAUS
    assert (sweeper_trial.VERSION, sweeper_trial.VALIDATED) == (HELPER_VERSION, VALIDATED)
    assert Path(sweeper_trial.__file__) == HELPER


def test_without_sweeper_the_script_has_its_seed_rate_length_and_cross_entropy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SWEEPER_TRIAL", raising=False)
    t = sweeper_trial.trial(TWO, seed=11)
    assert (t.seed, t.lr(0.3), t.start, t.length(7), t.fold, t.family) == (11, 0.3, 0, 7, None, "cross_entropy")
    z, y = make_batch(2, 4, 5)
    labelled = y != 255
    expected = F.binary_cross_entropy_with_logits(z[:, 0][labelled], y[labelled].float())
    assert t.loss(z, y).item() == pytest.approx(expected.item())
    four = sweeper_trial.trial(FOUR)
    z, y = make_batch(4, 4, 5)
    assert four.loss(z, y).item() == pytest.approx(F.cross_entropy(z, y, ignore_index=255).item())
    assert not t.stop_after(1) and t.wants("test")
    with t.scoring("val") as s:
        s.add(torch.tensor([[[[9.0, -9.0]]]]), torch.tensor([[[1, 1]]]), ["a"])
    t.score("test", ["a", "b"], [0.25, 0.75])
    words = capsys.readouterr().err
    assert "val: mIoU 0.5000: thing 0.5000 (1 images)" in words and "test: 0.5000 (2 images)" in words


def test_without_sweeper_a_fully_ignored_batch_has_loss_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWEEPER_TRIAL", raising=False)
    for classes in (TWO, FOUR):
        z, y = make_batch(len(classes), 4, 4)
        assert sweeper_trial.trial(classes).loss(z, torch.full_like(y, 255)).item() == 0


def test_in_a_sweep_seed_rate_length_and_loss_are_those_of_the_trial(folder: Path) -> None:
    write_trial(folder, lr_factor=3.0, share=0.25, family="dice", splits=("val",))
    t = sweeper_trial.trial(TWO)
    assert (t.seed, t.lr(0.1), t.length(100), t.length(1), t.family) == (3, pytest.approx(0.3), 25, 1, "dice")
    assert t.wants("val") and not t.wants("test") and not t.stop_after(1)
    (folder / "stop").touch()
    assert t.stop_after(2)
    assert [event.event for event in read_events(folder)] == ["start", "epoch", "epoch"]


SHAPES = {
    "one channel": lambda z, y: (z, y),
    "two channels of a softmax": lambda z, y: (torch.cat([z * 0 - 1, z - 1], 1), y),
    "a target with a channel": lambda z, y: (z, y.unsqueeze(1)),
    "no channel": lambda z, y: (z[:, 0], y),
    "a float target": lambda z, y: (z, y.float().unsqueeze(1)),
    "a target of bytes": lambda z, y: (z, y.to(torch.uint8)),
    "a volume": lambda z, y: (z.unflatten(2, (2, 2)), y.unflatten(1, (2, 2))),
}


@pytest.mark.parametrize("family", ["cross_entropy", "dice"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_loss_of_every_usual_shape_is_that_of_sweeper(folder: Path, family: str, shape: str) -> None:
    write_trial(folder, family=family)
    z, y = make_batch(2, 4, 6)
    expected = build_loss(family, task="binary")(z, y)
    assert sweeper_trial.trial(TWO).loss(*SHAPES[shape](z, y)).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Dynamo, about the calls at which it leaves the graph
def test_a_compiled_step_of_the_training_has_the_same_loss(folder: Path) -> None:
    write_trial(folder, calls=0)
    t, (z, y) = sweeper_trial.trial(TWO), make_batch(2, 8, 8)
    step = torch.compile(lambda scale: t.loss(scale * z, y), backend="eager")
    scales = torch.linspace(1, 2, 3, requires_grad=True)
    compiled = [step(scale).item() for scale in scales]
    assert compiled == pytest.approx([t.loss(scale * z, y).item() for scale in scales])


@pytest.mark.parametrize("ignored", [-100, 254, 255])
def test_another_ignored_label_is_accepted(folder: Path, ignored: int) -> None:
    write_trial(folder)
    z, y = make_batch(4, 4, 6)
    labels = torch.where(y == 255, ignored, y)
    expected = build_loss("cross_entropy", task="multiclass")(z, y)
    assert sweeper_trial.trial(FOUR, ignore_index=ignored).loss(z, labels).item() == pytest.approx(expected.item())


def test_boolean_targets_and_half_precision_are_accepted(folder: Path) -> None:
    write_trial(folder)
    z, y = make_batch(2, 4, 6)
    t = sweeper_trial.trial(TWO)
    assert t.loss(z.half(), y == 1).dtype == torch.float32
    z.requires_grad_()
    t.loss(torch.cat([-z, z], 1), y == 1).backward()
    assert z.grad is not None and z.grad.abs().sum() > 0


WRONG = {
    "a class too many": (torch.zeros(1, 1, 2, 2), torch.full((1, 2, 2), 2), "class labels 0 to 1, or 255"),
    "shares": (torch.zeros(1, 1, 2, 2), torch.full((1, 2, 2), 0.5), "got 0.5"),
    "NaN": (torch.zeros(1, 1, 2, 2), torch.full((1, 2, 2), float("nan")), "got nan"),
    "one-hot": (torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2), "give target.argmax(1) if it is one-hot"),
    "another size": (
        torch.zeros(1, 1, 4, 4),
        torch.zeros(1, 2, 2),
        "got logits (1, 1, 4, 4) and target (1, 2, 2); give F.interpolate(logits, target.shape[-2:], mode='bilinear')",
    ),
    "a list of outputs": ([torch.zeros(1, 1, 2, 2)], torch.zeros(1, 2, 2), "must be tensors, got list and Tensor"),
    "an array": (torch.zeros(1, 1, 2, 2), np.zeros((1, 2, 2)), "got Tensor and ndarray; give each output"),
    "three channels": (torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2), "one channel for each of 2 classes (or one)"),
}


@pytest.mark.parametrize("calls_before", [0, 6])
@pytest.mark.parametrize("name", WRONG)
def test_invalid_logits_and_targets_are_refused_and_recorded(folder: Path, name: str, calls_before: int) -> None:
    write_trial(folder)
    z, y, words = WRONG[name]
    t = sweeper_trial.trial(TWO)
    for _ in range(calls_before):
        t.loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2))
    for compute in (t.loss, t.auxiliary_loss):
        with pytest.raises(sweeper_trial.TrialError) as caught:
            compute(z, y)
        assert words in str(caught.value)
    assert [event.text for event in read_events(folder) if event.event == "problem"] == 2 * [str(caught.value)]


def test_labels_are_checked_by_the_code_of_the_registry() -> None:
    for name in ("settle_labels", "read_ends"):
        ours, theirs = (inspect.getsource(getattr(module, name)) for module in (sweeper_trial, per_pixel))
        assert ours == theirs


@pytest.mark.parametrize("classes", [TWO, FOUR], ids=["two classes", "four classes"])
def test_counts_equal_those_of_the_evaluation_of_sweeper(folder: Path, classes: list[str]) -> None:
    pixels = tuple(10**k for k in range(len(classes)))
    write_trial(folder, class_pixels=pixels)
    k = len(classes)
    z, y = make_batch(k, 9, 11)
    z[0, 0, 5, 5] = float("nan")
    t = sweeper_trial.trial(classes)
    with t.scoring("val") as s:
        s.add(z[:2], y[:2], ["a", "b"])
        s.add(z[2:], y[2:], "c")
    prior = torch.tensor(compute_log_shares(np.array(pixels)), dtype=torch.float32)
    cpu, images = torch.device("cpu"), (0, 1, 2)
    counter = HistogramCounter(images, (), cpu) if k == 2 else MulticlassCounter(images, k, cpu, prior)
    counter.add(torch.arange(3), torch.nan_to_num(z), y)
    scores = read_split_scores(folder, "val", "logits", k)
    assert scores.names == ("a", "b", "c")
    assert np.array_equal(scores.data, counter.make_counts().data)
    line = read_events(folder)[-1]
    assert line.event == "scores" and not line.finite


@pytest.mark.parametrize("sides", [(8, 9), (3, 8, 9)], ids=["images", "volumes"])
def test_classes_that_overlap_have_the_losses_and_counts_of_sweeper(folder: Path, sides: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    z, y = 6 * torch.randn(2, 3, *sides), torch.randint(0, 2, (2, 3, *sides))
    y[0, :, :2] = 255
    for family in ("cross_entropy", "dice", "lovasz"):
        write_trial_folder(folder, TrialDocument(kind="confirm", family=family, params={}, seed=3), "multilabel")
        t = sweeper_trial.Trial(["a", "b", "c"], overlap=True)
        torch.testing.assert_close(t.loss(z, y), build_loss(family, task="multilabel")(z, y))
    with t.scoring("val") as s:
        s.add(z, y, ["one", "two"])
    scores = read_split_scores(folder, "val", "logits", 3, overlap=True)
    for c in range(3):
        inside, labelled = (y == 1)[:, c].flatten(1), (y != 255)[:, c].flatten(1)
        answer = (z[:, c] >= 0).flatten(1)
        tp, fp, fn = ((part & labelled).sum(1) for part in (inside & answer, ~inside & answer, inside & ~answer))
        counts = count_at_point(scores.make_counts(), 0.5)[:, c]
        assert counts.tolist() == torch.stack([tp, fp, fn], 1).tolist()
    assert scores.label_pixels is not None and scores.label_pixels.tolist() == (y == 1).flatten(2).sum(2).tolist()


def test_a_probe_of_overlapping_classes_takes_a_loss_for_any_classes(folder: Path) -> None:
    write_trial(folder, kind="probe", family="dice")
    t = sweeper_trial.trial(["a", "b"], overlap=True)
    z, y = torch.randn(2, 2, 8, 8), torch.randint(0, 2, (2, 2, 8, 8))
    y[:, 1] = 1 - y[:, 0]  # each class is where the other is not
    y[0, :, 0] = 255
    assert torch.equal(t.loss(z, y), build_loss("dice", task="multilabel")(z, y))
    t.stop_after(1)
    (done,) = [event for event in read_events(folder) if event.event == "epoch"]
    assert done.labelled == 2 * 64 - 8 and done.pixels == (*(y == 1).sum((0, 2, 3)).tolist(), 8)
    assert done.lone == (0, 1)
    with pytest.raises(sweeper_trial.TrialError, match=r"must both be \(N, 2, H, W\), a plane a class, got"):
        t.loss(z, y[:, 0])
    with pytest.raises(sweeper_trial.TrialError, match="target must be class labels 0 to 1"):
        t.loss(z, 2 * y)


def test_two_channels_are_counted_as_their_difference(folder: Path) -> None:
    write_trial(folder)
    z, y = make_batch(2, 9, 11)
    t = sweeper_trial.trial(TWO)
    for split, logits in (("val", z), ("test", torch.cat([z * 0, z], 1))):
        with t.scoring(split) as s:
            s.add(logits, y.unsqueeze(1), ("a", "b", "c"))
    val, test = (read_split_scores(folder, split, "logits", 2) for split in ("val", "test"))
    assert val.is_equal(test)


def score_network(t: sweeper_trial.Trial, net: torch.nn.Module, split: str) -> None:
    """Score three images, other ones in each split."""
    x, y = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(len(split))), make_batch(2, 8, 8)[1]
    with torch.no_grad(), t.scoring(split) as s:
        for n in range(3):
            s.add(net(x[n : n + 1]), y[n : n + 1], f"{split} {n}")


def copy_network(net: torch.nn.Module) -> torch.nn.Module:
    return copy.deepcopy(net).requires_grad_(False)


@pytest.mark.parametrize("best", [1, 2, 3])
@pytest.mark.parametrize("restore", ["in place", "another object", "a compiled one"])
def test_validation_is_of_the_network_that_is_tested(folder: Path, best: int, restore: str) -> None:
    write_trial(folder)
    t, net = (
        sweeper_trial.trial(TWO),
        torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Conv2d(4, 1, 1)),
    )
    scores, networks = {}, {}
    for epoch in (1, 2, 3):
        torch.nn.init.normal_(net[0].weight, generator=torch.Generator().manual_seed(epoch))
        score_network(t, net, "val")
        scores[epoch] = read_split_scores(folder, "val", "logits", 2)
        networks[epoch] = copy.deepcopy(net)
    net.load_state_dict(networks[best].state_dict())
    tested = {
        "in place": lambda: net,
        "another object": lambda: copy_network(networks[best]),
        "a compiled one": lambda: torch.compile(net, backend="eager"),
    }[restore]()
    score_network(t, tested, "test")
    assert read_split_scores(folder, "val", "logits", 2).is_equal(scores[best])
    last = {event.split: event for event in read_events(folder) if event.event == "scores"}
    assert last["val"].network == last["test"].network != ""
    assert not torch.nn.modules.module._global_forward_hooks


def test_the_first_rank_may_test_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_trial(folder)
    monkeypatch.setenv("WORLD_SIZE", "2")
    t, net, scores = sweeper_trial.trial(TWO), torch.nn.Conv2d(1, 1, 3, padding=1), []
    for value in (0.1, -0.2):
        torch.nn.init.constant_(net.weight, value)
        for rank in ("1", "0"):
            monkeypatch.setenv("RANK", rank)
            x, y = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(int(rank))), make_batch(2, 8, 8)[1]
            with torch.no_grad(), t.scoring("val") as s:
                s.add(net(x), y[:1], rank)
        scores.append(read_split_scores(folder, "val", "logits", 2))
    torch.nn.init.constant_(net.weight, 0.1)
    score_network(t, net, "test")
    val = read_split_scores(folder, "val", "logits", 2)
    assert val.names == ("0", "1") and val.is_equal(scores[0]) and not val.is_equal(scores[1])


def test_scores_of_other_weights_than_the_validated_ones_are_marked(folder: Path) -> None:
    write_trial(folder)
    t, net = sweeper_trial.trial(TWO), torch.nn.Conv2d(1, 1, 3, padding=1)
    score_network(t, net, "val")
    before = read_split_scores(folder, "val", "logits", 2)
    torch.nn.init.ones_(net.weight)
    score_network(t, net, "test")
    assert read_split_scores(folder, "val", "logits", 2).is_equal(before)
    val, test = (event for event in read_events(folder) if event.event == "scores")
    assert "" not in (val.network, test.network) and val.network != test.network
    with t.scoring("val") as s:  # logits that no module gives
        s.add(*make_batch(2, 8, 8), ["val 0", "val 1", "val 2"])
    assert read_events(folder)[-1].network == ""


def test_folds_in_one_training_are_refused(folder: Path) -> None:
    write_trial(folder)
    t = sweeper_trial.trial(TWO)
    t.score("test", ["a"], [0.5])
    t.score("test", ["b", "a"], [0.5, 0.75])  # a first look at a part
    with pytest.raises(sweeper_trial.TrialError, match=r"'a' is missing now; .* train one: t\.fold, with --folds"):
        t.score("test", ["b", "c"], [0.5, 0.75])


def test_slices_of_one_name_are_added_and_a_repeated_image_counts_once(folder: Path) -> None:
    write_trial(folder)
    z, y = make_batch(2, 9, 11)
    t = sweeper_trial.trial(TWO)
    with t.scoring("val") as s:
        s.add(z, y, ["patient", "patient", "other"])
        s.add(z[2:] + 1e-7, y[2:], ["other"])
    scores = read_split_scores(folder, "val", "logits", 2)
    assert scores.names == ("patient", "other")
    assert scores.data.sum((1, 2)).tolist() == [int((y[:2] != 255).sum()), int((y[2] != 255).sum())]


@pytest.mark.parametrize("name", [7, b"a"])
def test_one_image_may_have_one_name_of_any_type(folder: Path, name: object) -> None:
    write_trial(folder)
    z, y = make_batch(2, 4, 6)
    with sweeper_trial.trial(TWO).scoring("val") as s:
        s.add(z[:1], y[:1], name)
    assert read_split_scores(folder, "val", "logits", 2).names == (str(name),)


def test_each_rank_writes_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_trial(folder)
    z, y = make_batch(2, 9, 11)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, places in (("0", [0, 1]), ("1", [2, 0])):  # a sampler fills up with the first image
        monkeypatch.setenv("RANK", rank)
        with sweeper_trial.trial(TWO).scoring("val") as s:
            s.add(z[places], y[places], [f"image{n}" for n in places])
    scores = read_split_scores(folder, "val", "logits", 2)
    assert scores.names == ("image0", "image1", "image2") and scores.data.sum() == int((y != 255).sum())
    assert [event.event for event in read_events(folder)] == ["start", "scores"]


def test_counts_and_scores_of_the_script_are_stored(folder: Path) -> None:
    write_trial(folder)
    t = sweeper_trial.trial(TWO)
    t.counts("val", {"a": [[5, 1, 0], [2, 0, 1]], "é/b": torch.tensor([[1, 0, 0], [0, 0, 0]])})
    t.score("test", ["a", 7], torch.tensor([0.5, 1.0]))
    counts, scores = read_split_scores(folder, "val", "counts", 2), read_split_scores(folder, "test", "score", 2)
    assert counts.names == ("a", "é/b") and counts.data.tolist()[0] == [[5, 1, 0], [2, 0, 1]]
    assert scores.names == ("a", "7") and scores.data.tolist() == [0.5, 1.0]
    t.score("test", None, 0.75)
    assert read_split_scores(folder, "test", "number", 2).data.tolist() == [0.75]


def test_scores_that_cannot_be_used_are_refused(folder: Path) -> None:
    write_trial(folder)
    t = sweeper_trial.trial(TWO)
    z, y = make_batch(2, 4, 4)
    for words, call in (
        ("finite number, got nan", lambda: t.score("val", ["a"], [float("nan")])),
        ("one score, got 1 names and 2", lambda: t.score("val", ["a"], [1, 2])),
        ("2 rows [tp, fp, fn]", lambda: t.counts("val", {"a": [[1, 2, 3]]})),
        ("2 rows [tp, fp, fn]", lambda: t.counts("val", {"a": [[1, 2, 3], [1, -2, 3]]})),
        ("whole numbers of pixels", lambda: t.counts("val", {"a": [[1, 2, 3], [1, 2.5, 3]]})),
        ("got [[1.0, 2.0, 3.0], [1.0, nan, 3.0]] of 'a'", lambda: t.counts("val", {"a": [[1, 2, 3], [1, np.nan, 3]]})),
        ('"val" or "test", got \'train\'', lambda: t.score("train", ["a"], [1])),
        ("3 images", lambda: t.scoring("val").add(z, y, ["a", "b"])),
        ("got 2;", lambda: t.scoring("val").add(z, y * 0 + 2, ["a", "b", "c"])),
    ):
        with pytest.raises(sweeper_trial.TrialError, match=words.replace("[", r"\[")):
            call()
    with pytest.raises(sweeper_trial.TrialError, match="got none"), t.scoring("val"):
        pass


def test_classes_must_be_names(folder: Path) -> None:
    write_trial(folder)
    for classes in ("crack", ["crack"], ["crack", "crack"], [str(n) for n in range(300)]):
        with pytest.raises(sweeper_trial.TrialError, match="2 to 254 different names"):
            sweeper_trial.trial(classes)


def test_a_start_of_the_probe_ends_at_its_last_call_despite_except_exception(folder: Path) -> None:
    write_trial(folder, kind="probe", calls=2, ends=True)
    t = sweeper_trial.trial(TWO)
    z, y = make_batch(2, 4, 6)
    assert t.length(100) == 2 and t.length(1) == 1
    t.loss(z, y)
    with pytest.raises(SystemExit) as caught:
        try:
            t.loss(z, y)
        except Exception:
            pytest.fail("the exception was caught")
    assert caught.value.code == 0
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "loss", "loss"]
    z = z.double()
    assert lines[1]["logits"] == pytest.approx([z.mean().item(), z.std(correction=0).item(), z.max().item()])
    assert lines[1]["target"] == lines[2]["target"]


def test_logits_after_a_softmax_are_marked(folder: Path) -> None:
    write_trial(folder, kind="probe")
    t, (z, y) = sweeper_trial.trial(FOUR), make_batch(4, 4, 6)
    for logits in (z, z.softmax(1)):
        t.loss(logits, y)
        with t.scoring("val") as scores:
            scores.add(logits, y, range(3))
    events = read_events(folder)
    assert [event.bounded for event in events if event.event == "loss"] == [False, True]
    assert [event.bounded for event in events if event.event == "scores"] == [False, True]


def test_a_start_of_the_probe_that_trains_to_its_end_counts_pixels_and_stops(folder: Path) -> None:
    write_trial(folder, kind="probe", calls=2)
    t = sweeper_trial.trial(TWO)
    z, y = make_batch(2, 4, 6)
    for stops in (False, True, True):
        t.loss(z, y)
        assert t.stop_after(1) is stops
    (*_, last) = read_events(folder)
    ignored, things = int((y == 255).sum()), int((y == 1).sum())
    assert last.event == "epoch" and last.pixels == (3 * (y.numel() - ignored - things), 3 * things, 3 * ignored)


def test_a_loss_without_gradients_does_not_count_as_a_call(folder: Path) -> None:
    write_trial(folder, kind="probe", calls=1, ends=True)
    t = sweeper_trial.trial(TWO)
    z, y = make_batch(2, 4, 6)
    with torch.no_grad():
        t.loss(z, y)
    assert [event.event for event in read_events(folder)] == ["start"]
    with pytest.raises(sweeper_trial.EndOfProbe):
        t.loss(z, y)


def test_the_mlflow_run_of_the_script_is_recorded_and_not_closed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    write_trial(folder)
    t = sweeper_trial.trial(TWO)
    t.score("val", ["a"], [0.5])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/own.db")
    with mlflow.start_run(experiment_id="0") as run:  # another test may have chosen one of another store
        t.stop_after(1)
        mlflow.log_metric("own", 1.0)
    metrics = mlflow.get_run(run.info.run_id).data.metrics
    t.score("test", ["b"], [0.5])  # its run has ended
    first, second, third = (event.runs for event in read_events(folder) if isinstance(event, ScriptProgress))
    assert first == {} and second == third == {"mlflow": run.info.run_id} and metrics == {"own": 1.0}


def test_a_tracker_that_fails_ends_no_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trial(folder)
    tracker = ModuleType("mlflow")  # an older one, without what is asked
    monkeypatch.setitem(sys.modules, "mlflow", tracker)
    sweeper_trial.trial(TWO).score("val", ["a"], [0.5])
    assert [e.runs for e in read_events(folder) if isinstance(e, ScriptProgress)] == [{}]
    assert "the script's own run is not noted" in capsys.readouterr().err


def test_a_process_has_one_trial(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_trial(folder)
    assert sweeper_trial.trial(TWO) is sweeper_trial.trial(TWO)
    assert [event.event for event in read_events(folder)] == ["start"]
    monkeypatch.delenv("SWEEPER_TRIAL")
    assert sweeper_trial.trial(TWO, seed=1).seed == 1 and sweeper_trial.trial(TWO, seed=2).seed == 2


def test_the_helper_needs_neither_numpy_nor_sweeper(folder: Path) -> None:
    write_trial(folder)
    code = (
        "import sys; sys.modules['sweeper'] = sys.modules['numpy'] = None\nimport torch; from sweeper_trial import "
        "trial\nt = trial(['a', 'b', 'c']); z = torch.randn(2, 3, 8, 8); y = torch.randint(0, 3, (2, 8, 8))\n"
        "t.loss(z.requires_grad_(), y).backward()\nwith t.scoring('val') as s: s.add(z, y, ['p', 'q'])"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=HELPER.parent)
    assert read_split_scores(folder, "val", "logits", 3).names == ("p", "q")
