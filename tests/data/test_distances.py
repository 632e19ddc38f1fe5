"""Distance maps: what they are, how they are kept, and that they follow the batch."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweeper.core.errors import SweeperError
from sweeper.core.records import IGNORE, Dataset
from sweeper.data import open_store
from sweeper.data.label_maps import FARTHEST, DistanceStore, signed_distances
from sweeper.data.store import PixelStore, StoreWriter
from sweeper.losses import build_loss
from sweeper.losses.label_maps import distance_maps
from sweeper.training.augment import augment, augment_maps
from sweeper.training.batches import crops, map_batch
from tests.support.batches import training_batch


def brute_force(present: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    out = np.zeros(present.shape)
    for i, j in np.argwhere(labelled):
        others = np.argwhere(labelled & (present != present[i, j]))
        far = np.hypot(*(others - (i, j)).T).min() - 0.5 if len(others) else FARTHEST
        out[i, j] = min(far, FARTHEST) * (-1 if present[i, j] else 1)
    return out


@pytest.mark.parametrize("seed", range(5))
def test_distances_are_those_to_the_nearest_pixel_of_the_other_kind(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labelled = rng.random((9, 11)) < 0.8
    present = (rng.random((9, 11)) < 0.3) & labelled
    np.testing.assert_allclose(signed_distances(present, labelled), brute_force(present, labelled), rtol=1e-6)


def test_an_absent_class_is_as_far_as_can_be_and_a_full_one_as_deep() -> None:
    everywhere, nowhere = np.ones((3, 400), dtype=bool), np.zeros((3, 400), dtype=bool)
    assert (signed_distances(nowhere, everywhere) == FARTHEST).all()
    assert (signed_distances(everywhere, everywhere) == -FARTHEST).all()
    assert (signed_distances(nowhere, nowhere) == 0).all()
    edge = nowhere.copy()
    edge[:, 0] = True
    assert signed_distances(edge, everywhere)[0, [0, 1, 2, 399]].tolist() == [-0.5, 0.5, 1.5, FARTHEST]


@pytest.fixture
def store(tmp_path: Path) -> PixelStore:
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path, 1) as writer:
        for size in ((30, 40), (20, 25), (64, 16)):
            mask = (rng.random(size) < 0.1).astype(np.uint8)
            mask[:4] = IGNORE
            writer.append(np.zeros((*size, 1), dtype=np.uint8), mask)
        writer.finish()
        return open_store(writer.publish("content"))


def test_maps_are_made_once_and_read_again(store: PixelStore) -> None:
    first = DistanceStore(store, (1,)).maps(0)
    assert first.shape == (1, 30, 40) and first.dtype == np.float16
    mask = store.mask(0)
    np.testing.assert_allclose(first[0], signed_distances(mask == 1, mask != IGNORE), rtol=1e-3)
    file = next(store.folder.glob("distances-*/0.npy"))
    stamp = file.stat().st_mtime_ns
    again = DistanceStore(store, (1,)).maps(0)
    assert np.array_equal(first, again) and file.stat().st_mtime_ns == stamp
    assert not again.flags.writeable
    assert not list(store.folder.glob("distances-*/1.npy"))  # lazily: nobody asked


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", b"junk" * 100])
def test_a_damaged_file_is_made_again(store: PixelStore, damage: bytes) -> None:
    expected = DistanceStore(store, (0, 1)).maps(1).copy()
    next(store.folder.glob("distances-*/1.npy")).write_bytes(damage)
    assert np.array_equal(DistanceStore(store, (0, 1)).maps(1), expected)


def test_a_place_that_cannot_be_written_is_said(store: PixelStore) -> None:
    distances = DistanceStore(store, (1,))
    distances.folder.write_text("a file where the folder should be")
    with pytest.raises(SweeperError, match="must be written to"):
        distances.maps(0)


def _ask(folder: str, barrier: object, answers: object) -> None:
    distances = DistanceStore(open_store(folder), (0, 1))
    barrier.wait()  # type: ignore[attr-defined]
    answers.put(sum(float(np.abs(distances.maps(i).astype(float)).sum()) for i in range(3)))  # type: ignore[attr-defined]


@pytest.mark.slow
def test_several_processes_may_ask_at_once(store: PixelStore) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_ask, args=(str(store.folder), barrier, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    sums = {answers.get(timeout=120) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(sums) == 1
    assert sorted(p.name for p in next(store.folder.glob("distances-*")).iterdir()) == ["0.npy", "1.npy", "2.npy"]


def test_the_store_is_still_whole_with_maps_beside_it(store: PixelStore) -> None:
    DistanceStore(store, (1,)).maps(0)
    assert len(open_store(store.folder)) == 3
    shutil.rmtree(store.folder)


@pytest.mark.parametrize("size", [16, 48])
def test_maps_are_cut_and_flipped_like_the_labels(store: PixelStore, size: int) -> None:
    """Labels of 0 and 1 are the sign of the map of class 1, wherever the crop lies."""
    distances = DistanceStore(store, (1,))
    for step in range(4):
        keys = {"size": size, "batch_size": 3, "step": step, "seed": 5}
        _, masks, draws = training_batch(store, (0, 1, 2), **keys)
        places, again = crops(store, (0, 1, 2), **keys)
        assert all(torch.equal(a, b) for a, b in zip(draws[:3], again[:3], strict=True))
        maps = augment_maps(map_batch(distances, places, size), draws, "distance")
        masks = augment(masks.float().unsqueeze(1), masks, draws)[1]
        assert torch.equal(maps[:, 0] < 0, masks == 1)
        assert torch.equal(maps[:, 0] > 0, masks == 0)
        assert torch.equal(maps[:, 0] == 0, masks == IGNORE)


def test_maps_turn_and_grow_like_the_labels(store: PixelStore) -> None:
    """Away from contours, where nearest and bilinear sampling differ, and from what is padding."""
    distances = DistanceStore(store, (1,))
    keys: dict[str, Any] = {"size": 32, "batch_size": 3, "seed": 5, "augmentation": "full"}
    checked = 0
    for step in range(6):
        _, masks, draws = training_batch(store, (0, 1, 2), step=step, **keys)
        places, _ = crops(store, (0, 1, 2), step=step, **keys)
        maps = augment_maps(map_batch(distances, places, 32), draws, "distance")[:, 0].float()
        labels = augment(masks.float().unsqueeze(1), masks.long(), draws)[1]
        inside, outside = (labels == 1) & (maps.abs() > 2), (labels == 0) & (maps.abs() > 2)
        assert (maps[inside] < 0).all() and (maps[outside] > 0).all()
        checked += int(inside.sum() + outside.sum())
    assert checked > 100


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_without_maps_the_loss_makes_them_itself(task: str) -> None:
    rng = torch.Generator().manual_seed(0)
    channels = 1 if task == "binary" else 3
    target = torch.randint(0, 3 if task == "multiclass" else 2, (2, 12, 12), generator=rng)
    target[..., :2, :] = IGNORE
    logits = torch.randn(2, channels, 12, 12, generator=rng)
    loss = build_loss("boundary", task=task, distance_mix=0.3)
    maps = distance_maps(target, task, channels, IGNORE)
    assert maps.shape == logits.shape
    assert torch.equal(loss(logits, target), loss(logits, target, distance=maps))
    assert loss(logits, target, distance=2 * maps) > loss(logits, target)


def test_a_far_false_positive_costs_more_than_a_near_one() -> None:
    target = torch.zeros(1, 1, 30, dtype=torch.long)
    target[..., :5] = 1
    loss = build_loss("boundary", task="binary", distance_mix=1.0)
    costs = []
    for place in (6, 12, 28):
        logits = torch.where(target == 1, 20.0, -20.0).unsqueeze(1)
        logits[..., place] = 20.0
        costs.append(loss(logits, target).item() * 30)
    assert costs == pytest.approx([1.5, 7.5, 23.5], rel=1e-4)


def test_training_with_the_boundary_loss_uses_the_kept_maps(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.training.test_training import train

    def refuse(*_: object) -> None:
        raise AssertionError("computed from the labels of the batch")

    monkeypatch.setattr("sweeper.losses.loss_module.made_map", refuse)
    assert train(tiny, family="boundary").state == "complete"
    assert list(Path(tiny.store).glob("distances-*/*.npy"))
