"""The chain cannot be faked: what a sweep says follows from what the losses do and from the labels, and only so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

from sweeper.core.records import Verdict
from sweeper.data import write_scenes
from sweeper.losses import build_loss, gradient_distance
from sweeper.training import training_steps
from tests.support.sweeping import sweep_in

# Three families, each tried at several learning rates, the first of which (the default) is far too low.
SPACE = """
version: 1
task: binary
nuisance: {lr: {log: [1.0e-7, 1.0e-1]}}
losses: {cross_entropy: {}, dice: {}, tversky: {fn_weight: 0.5}}
"""


def replace(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], build: Callable[..., nn.Module]) -> None:
    """Give these families another loss, where trainings and the comparison of losses make one."""

    def built(family: str, **arguments: Any) -> nn.Module:
        return build() if family in names else build_loss(family, **arguments)

    for module in (training_steps, gradient_distance):
        monkeypatch.setattr(module, "build_loss", built)


def cross_entropy() -> nn.Module:
    return build_loss("cross_entropy", task="binary")


@pytest.fixture
def space(tmp_path: Path) -> str:
    path = tmp_path / "three.yaml"
    path.write_text(SPACE)
    return str(path)


LONG_ENOUGH = {"steps": 30, "confirm_steps": 40, "size": 64, "batch_size": 4, "confirm_seeds": 3}


@pytest.mark.slow
def test_aliases_of_cross_entropy_are_one_loss(tmp_path: Path, space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, ("dice", "tversky"), cross_entropy)
    # Something must be learned for a loss to be confirmed: large blobs at a fair rate are, in few steps.
    Path(space).write_text(SPACE.replace("1.0e-7", "1.0e-5"))
    blobs = "synthetic:blobs?images=15&size=64&foreground=0.3"
    outcome = sweep_in(tmp_path, data=blobs, space=space, trials=6, steps=16, confirm_steps=24)
    evidence = outcome.recommendation.evidence
    assert {(s.family, s.is_family) for s in outcome.sweep.same_losses} >= {("dice", "cross_entropy")}
    assert evidence is not None and [f.family for f in evidence.finalists] == ["cross_entropy"]
    assert outcome.recommendation.verdict is Verdict.EQUIVALENT
    assert "All that was tried is cross_entropy" in outcome.recommendation.reasons[0]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_swapped_labels_in_the_test_masks_change_the_test_numbers_and_nothing_before_them(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_scenes("cracks?images=15&size=64&foreground=0.05", data)
    stems = sorted(p.stem for p in (data / "images").iterdir())
    sides = ["train"] * 9 + ["val"] * 3 + ["test"] * 3
    rows = [f"{stem},{side}" for stem, side in zip(stems, sides, strict=True)]
    (data / "split.csv").write_text("\n".join(["stem,split", *rows]) + "\n")

    honest = sweep_in(tmp_path / "honest", data=str(data), trials=7, steps=8, confirm_steps=8)
    for stem in stems[12:]:
        path = data / "masks" / f"{stem}.png"
        mask = np.asarray(Image.open(path))
        Image.fromarray((mask == 0).astype(np.uint8) * (255 if mask.max() > 1 else 1)).save(path)
    swapped = sweep_in(tmp_path / "swapped", data=str(data), trials=7, steps=8, confirm_steps=8)

    assert honest.sweep.conditions.dataset.digest != swapped.sweep.conditions.dataset.digest
    for one, two in zip(honest.sweep.trials, swapped.sweep.trials, strict=True):
        assert one.spec == two.spec
        assert [e.value for e in one.evaluations] == [e.value for e in two.evaluations]
    for one, two in zip(honest.sweep.confirmations, swapped.sweep.confirmations, strict=True):
        assert one.spec == two.spec
        assert one.evaluations[-1].point == two.evaluations[-1].point
        assert one.val is not None and two.val is not None
        assert np.array_equal(one.val.data, two.val.data)
        assert one.test is not None and two.test is not None
        assert not np.array_equal(one.test.data, two.test.data)
        assert np.array_equal(one.test.data.sum(axis=1), two.test.data.sum(axis=1))  # the same predictions
    before, after = honest.recommendation.evidence, swapped.recommendation.evidence
    assert before is not None and after is not None
    assert {f.family: f.miou.estimate for f in before.finalists} != {f.family: f.miou.estimate for f in after.finalists}
    assert {f.family: f.val_score for f in before.finalists} == {f.family: f.val_score for f in after.finalists}
