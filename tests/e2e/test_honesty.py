"""The chain cannot be faked: what a sweep says of the test split follows from the labels of the test split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweeper.data import write_scenes
from tests.support.sweeping import sweep_in


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
