"""The folder of a training: its files, and the check of each line that a script writes."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper.core.errors import LossError, ScriptError, UsageError
from sweeper.core.metrics import count_at_all_points
from sweeper.scripts import contract
from sweeper.scripts.contract import (
    HELPER,
    SplitScores,
    TrialDocument,
    read_events,
    read_split_scores,
    write_helper,
    write_trial_folder,
)
from tests.support.schemas import problems

START = {"event": "start", "seconds": 0.1, "version": 1, "classes": ["a", "b"], "ignore_index": 255}
CALL = {"event": "loss", "seconds": 0.2, "call": 1, "target": "ab", "logits": [0.1, 1.0, 2.0]}


def write_events(folder: Path, *lines: Any) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / "results.jsonl").write_text(text)
    return folder


def test_a_trial_folder_has_the_trial_the_loss_and_the_helper(tmp_path: Path) -> None:
    trial = TrialDocument(kind="search", family="tversky", params={"fn_weight": 0.7}, seed=4)
    write_trial_folder(tmp_path / "one", trial, "binary")
    document = json.loads((tmp_path / "one" / "trial.json").read_text())
    assert document["schema"] == "sweeper.trial/1" and document["params"] == {"fn_weight": 0.7}
    assert not problems(document)
    assert "fn_weight=0.7" in (tmp_path / "one" / "loss.py").read_text()
    assert [path.name for path in (tmp_path / "one" / "python").iterdir()] == [HELPER.name]


def test_a_loss_that_cannot_be_made_leaves_no_folder(tmp_path: Path) -> None:
    trial = TrialDocument(kind="search", family="boundary", params={}, seed=4)
    with pytest.raises(LossError):
        write_trial_folder(tmp_path / "one", trial, "binary")
    assert not (tmp_path / "one").exists()


def test_an_incomplete_last_line_is_ignored(tmp_path: Path) -> None:
    assert read_events(tmp_path) == ()
    write_events(tmp_path, START, CALL)
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"event": "lo')
    assert [event.event for event in read_events(tmp_path)] == ["start", "loss"]


@pytest.mark.parametrize(
    "line",
    [
        *("no JSON", "", "[]"),
        json.dumps({**CALL, "event": "rumour"}),
        json.dumps({**CALL, "more": 1}),
        json.dumps({**CALL, "logits": [1.0, 2.0]}),
        json.dumps({**CALL, "logits": [0.0, 1.0, float("nan")]}),
        json.dumps({**CALL, "seconds": float("inf")}),
        json.dumps({**START, "classes": []}),
        json.dumps({"event": "epoch", "seconds": 1, "done": 1, "calls": -1, "pixels": None, "length": None}),
    ],
)
def test_a_line_outside_the_contract_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(ScriptError, match="line 2 must be one of the contract"):
        read_events(write_events(tmp_path, START, line))


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(contract.MOST_BYTES, "results.jsonl", 200)
    with pytest.raises(ScriptError, match="it has more than 200 bytes"):
        read_events(write_events(tmp_path, START, CALL, CALL))


def make_counts(n: int, *shape: int) -> dict[str, Any]:
    return {"names": np.array([f"image{k}" for k in range(n)]), "data": np.ones((n, *shape), dtype=np.int64)}


def test_files_of_several_ranks_become_one_table(tmp_path: Path) -> None:
    first, second = make_counts(2, 2, 512), make_counts(2, 2, 512)
    second["names"], second["data"][1] = np.array(["image1", "image2"]), 5
    np.savez(tmp_path / "val.npz", sums=np.array([3.0, 4.0]), **first)
    np.savez(tmp_path / "val.1.npz", sums=np.array([4.0000001, 6.0]), **second)
    scores = read_split_scores(tmp_path, "val", "logits", 2)
    assert scores.names == ("image0", "image1", "image2")
    assert scores.data[:, 0, 0].tolist() == [1, 1, 5] and scores.sums.tolist() == [3.0, 4.0, 6.0]


def test_other_logits_of_one_name_count_as_another_part_of_the_image(tmp_path: Path) -> None:
    np.savez(tmp_path / "val.npz", sums=np.array([3.0]), **make_counts(1, 9, 3, 3))
    np.savez(tmp_path / "val.1.npz", sums=np.array([3.5]), **make_counts(1, 9, 3, 3))
    assert (read_split_scores(tmp_path, "val", "logits", 3).data == 2).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_counts_are_the_same_at_every_operating_point(classes: int) -> None:
    draw = np.random.default_rng(classes)
    labels, answers = draw.integers(0, classes, (2, 4, 50))
    hits = [(labels == c) & (answers == c) for c in range(classes)]
    false = [(labels != c) & (answers == c) for c in range(classes)]
    missed = [(labels == c) & (answers != c) for c in range(classes)]
    data = np.moveaxis(np.array([hits, false, missed]).sum(-1), (0, 1, 2), (2, 1, 0))
    scores = SplitScores("counts", ("d", "b", "c", "a"), data, np.zeros(4))
    counts = scores.make_counts([3, 1, 2, 0])
    assert (count_at_all_points(counts) == data[[3, 1, 2, 0]][:, None]).all() and counts.images == (0, 1, 2, 3)


def test_scores_are_compared_by_the_names_of_images(tmp_path: Path) -> None:
    for folder, order in (("one", [0, 1, 2]), ("two", [2, 0, 1])):
        (tmp_path / folder).mkdir()
        names, data = np.array(["a", "b", "c"])[order], np.array([0.1, 0.2, 0.3])[order]
        np.savez(tmp_path / folder / "test.npz", names=names, data=data)
    first, second = (read_split_scores(tmp_path / folder, "test", "score", 2) for folder in ("one", "two"))
    assert first.is_equal(second) and not first.is_equal(second._replace(data=second.data[::-1]))


HOSTILE = {
    "another shape": {**make_counts(2, 2, 511), "sums": np.ones(2)},
    "another number of names": {**make_counts(2, 2, 512), "names": np.array(["a"]), "sums": np.ones(2)},
    "no names": {"data": np.ones((2, 2, 512))},
    "numbers for names": {**make_counts(2, 2, 512), "names": np.arange(2)},
    "shares": {**make_counts(2, 2, 512), "data": np.full((2, 2, 512), 0.5)},
    "less than nothing": {**make_counts(2, 2, 512), "data": np.full((2, 2, 512), -1)},
    "objects": {**make_counts(2, 2, 512), "data": np.array([print, print], dtype=object)},
    "bytes, whose sums overflow": {**make_counts(2, 2, 512), "data": np.full((2, 2, 512), 200, dtype=np.uint8)},
    "more pixels than an image has": {**make_counts(2, 2, 512), "data": np.full((2, 2, 512), 2**62)},
    "no image": make_counts(0, 2, 512),
    "one name that is no list": {"names": np.array("a"), "data": np.ones((2, 512), dtype=np.int64)},
    "sums that are words": {**make_counts(1, 2, 512), "sums": np.array(["x"])},
    "sums that are NaN": {**make_counts(2, 2, 512), "sums": np.full(2, np.nan)},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_scores_outside_the_contract_are_refused(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "val.npz", **HOSTILE[name])
    with pytest.raises(ScriptError, match="must be scores as sweeper_trial writes them"):
        read_split_scores(tmp_path, "val", "logits", 2)


def test_a_missing_a_broken_and_a_huge_file_of_scores_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ScriptError, match="No such file"):
        read_split_scores(tmp_path, "val", "score", 2)
    (tmp_path / "val.npz").write_bytes(b"\x80\x04 no zip")
    with pytest.raises(ScriptError, match="zip"):
        read_split_scores(tmp_path, "val", "score", 2)
    with zipfile.ZipFile(tmp_path / "val.npz", "w") as file:
        file.writestr("names.npy", b"not of NumPy")
        file.writestr("data.npy", b"not of NumPy")
    with pytest.raises(ScriptError, match="must be scores as sweeper_trial writes them"):
        read_split_scores(tmp_path, "val", "score", 2)
    monkeypatch.setitem(contract.MOST_BYTES, "npz", 10_000)
    with zipfile.ZipFile(tmp_path / "val.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("data.npy", b"\0" * 20_000)
    with pytest.raises(ScriptError, match="more than 10,000 bytes"):
        read_split_scores(tmp_path, "val", "score", 2)


def test_a_flipped_bit_changes_no_score_without_an_error(tmp_path: Path) -> None:
    path = tmp_path / "val.npz"
    np.savez_compressed(path, names=np.array(["a", "b"]), data=np.array([0.5, 0.25]), sums=np.zeros(2))
    written, scores = path.read_bytes(), read_split_scores(tmp_path, "val", "score", 2)
    refused = 0
    for bit in range(0, 8 * len(written), 11):
        damaged = bytearray(written)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert read_split_scores(tmp_path, "val", "score", 2).is_equal(scores)
        except ScriptError:
            refused += 1
    assert refused > 200


def test_an_image_with_two_scores_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "val.npz", names=np.array(["a", "a"]), data=np.array([0.5, 0.25]))
    with pytest.raises(ScriptError, match="one score, got two of 'a'"):
        read_split_scores(tmp_path, "val", "score", 2)
    np.savez(tmp_path / "val.npz", names=np.array(["", ""]), data=np.array([0.5, 0.25]))
    with pytest.raises(ScriptError, match="one rank must give the number for all images, got several"):
        read_split_scores(tmp_path, "val", "number", 2)


def test_the_helper_is_written_next_to_the_script_and_never_over_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "train.py").touch()
    words = ["torchrun", "sub/train.py", "--lr", "1"]
    for _ in range(2):
        assert write_helper(words).read_bytes() == HELPER.read_bytes()
    assert (tmp_path / "sub" / HELPER.name).is_file()
    assert write_helper(["my-training"]) == Path(HELPER.name)
    (tmp_path / HELPER.name).write_text("mine")
    with pytest.raises(UsageError, match="is not sweeper's"):
        write_helper(["my-training"])
