"""Left-out images: the rest is as if they had never been there, and a study remembers."""

from __future__ import annotations

import numpy as np
import pytest

from sweeper.core.errors import DataError, StudyError, UsageError
from sweeper.data import load_dataset, open_store
from sweeper.data.variants import read_exclusions, without
from tests.support import annotated
from tests.support.folders import folder, mask
from tests.support.sweeping import sweep_in

SPLIT = "stem,split,group\na,train,g\nb,,\nc,val,\nd,test,\ne,,h\n"


def test_the_rest_is_as_if_it_had_been_read_alone(tmp_path):
    masks = {stem: mask(0, 1, shift=i) for i, stem in enumerate("abcde")}
    dataset = load_dataset(str(folder(tmp_path / "whole", masks, split=SPLIT)), tmp_path / "cache")
    smaller = without(dataset, ["b"], tmp_path / "cache")
    assert [p.stem for p in smaller.images] == list("acde") and smaller.excluded == ("b",)
    assert [(p.split, p.group) for p in smaller.images] == [
        ("train", "g"),
        ("val", None),
        ("test", None),
        (None, "h"),
    ]
    whole, part = open_store(dataset.store), open_store(smaller.store)
    for new, old in enumerate([0, 2, 3, 4]):
        assert np.array_equal(part.image(new), whole.image(old)) and np.array_equal(part.mask(new), whole.mask(old))
    for name in ("images", "masks"):
        (tmp_path / "whole" / name / "b.png").unlink()
    (tmp_path / "whole" / "split.csv").write_text(SPLIT.replace("b,,\n", ""))
    assert load_dataset(str(tmp_path / "whole"), tmp_path / "other").digest == smaller.digest != dataset.digest


def test_what_the_reader_said_is_still_said_and_the_rest_is_judged_anew(tmp_path):
    masks = {stem: mask(0, 1, shift=i) for i, stem in enumerate("abcde")}
    root = folder(tmp_path / "whole", masks, split="stem,split\na,test\nb,\nc,\nd,\ne,\n")
    (root / "masks" / "b.png").write_bytes((root / "masks" / "a.png").read_bytes())
    dataset = load_dataset(str(root), tmp_path / "cache")
    dataset = dataset.model_copy(update={"notes": ("2 files were passed over.",)})
    left = without(dataset, ["b"], tmp_path / "cache")
    assert any("byte-identical masks" in warning for warning in dataset.warnings)
    assert left.warnings == ("2 files were passed over.", "1 image was left out as asked: b.")


def test_nothing_is_copied_twice(tmp_path, monkeypatch):
    dataset = load_dataset("synthetic:blobs?images=5&size=64", tmp_path)
    first = without(dataset, ["00003", "00001"], tmp_path)
    monkeypatch.setattr("sweeper.data.variants._copied", lambda *args: pytest.fail("copied again"))
    assert without(dataset, ["00001", "00003"], tmp_path) == first


def test_all_faults_of_a_list_are_named(tmp_path):
    dataset = load_dataset("synthetic:blobs?images=4&size=64", tmp_path)
    with pytest.raises(DataError) as caught:
        without(dataset, ["x", "y", "00000", "00001"], tmp_path)
    assert len(caught.value.problems) == 3


def test_a_list_is_read_line_by_line(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("\ufeff a b \n\nc\nc\r\n", encoding="utf-8")
    assert read_exclusions(path) == ("a b", "c")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="text file"):
        read_exclusions(path)
    with pytest.raises(UsageError, match="text file"):
        read_exclusions(tmp_path / "missing.txt")


@pytest.mark.slow
def test_a_study_remembers_what_was_left_out(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("00003\n00007\n")
    first = sweep_in(tmp_path, trials=2, confirm_seeds=1, exclude=path)
    dataset = first.sweep.conditions.dataset
    assert dataset.excluded == ("00003", "00007") and len(dataset.images) == 13
    resumed = sweep_in(tmp_path, trials=3, confirm_seeds=1, resume=True, data=None)
    assert resumed.sweep.conditions.dataset.digest == dataset.digest
    assert "--exclude" in resumed.sweep.command
    path.write_text("00003\n")
    with pytest.raises(StudyError, match="cannot be resumed"):
        sweep_in(tmp_path, trials=3, confirm_seeds=1, resume=True, exclude=path)


def test_deep_images_keep_their_bits_and_channels(tmp_path):
    annotated.deep(tmp_path / "data", 12, np.uint16)
    dataset = load_dataset(str(tmp_path / "data"), tmp_path / "cache")
    smaller = without(dataset, [dataset.images[0].stem], tmp_path / "cache")
    whole, part = open_store(dataset.store), open_store(smaller.store)
    assert part.image(0).dtype == np.uint16 and np.array_equal(part.image(0), whole.image(1))
