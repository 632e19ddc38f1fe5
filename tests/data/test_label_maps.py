"""Distances to the boundaries of labels: what they are, how they are stored, and how a loss uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweeper.core.errors import SweeperError
from sweeper.core.records import IGNORE, Dataset
from sweeper.data import open_store
from sweeper.data.label_maps import MAX_DISTANCE, MapStore, compute_signed_distances
from sweeper.data.store import PixelStore, StoreWriter
from sweeper.losses import build_loss
from sweeper.losses.other_losses import compute_distance_maps
from sweeper.training.augment import AugmentationDraws, augment, augment_distances
from sweeper.training.batches import draw_crops, map_batch
from tests.support.batches import training_batch


def compute_slowly(present: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    out = np.zeros(present.shape)
    for i, j in np.argwhere(labelled):
        others = np.argwhere(labelled & (present != present[i, j]))
        far = np.hypot(*(others - (i, j)).T).min() - 0.5 if len(others) else MAX_DISTANCE
        out[i, j] = min(far, MAX_DISTANCE) * (-1 if present[i, j] else 1)
    return out


@pytest.mark.parametrize("seed", range(5))
def test_distances_are_those_to_the_nearest_pixel_of_the_other_kind(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labelled = rng.random((9, 11)) < 0.8
    present = (rng.random((9, 11)) < 0.3) & labelled
    np.testing.assert_allclose(
        compute_signed_distances(present, labelled), compute_slowly(present, labelled), rtol=1e-6
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PixelStore:
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path_factory.mktemp("store"), 1) as writer:
        for size in ((30, 40), (20, 25), (64, 16)):
            mask = (rng.random(size) < 0.1).astype(np.uint8) + (rng.random(size) < 0.1).astype(np.uint8)
            mask[:2] = IGNORE
            writer.append(np.zeros((*size, 1), dtype=np.uint8), mask)
        writer.finish()
        return open_store(writer.publish("content"))


def test_maps_are_computed_once_and_then_read_from_their_file(store: PixelStore) -> None:
    map_store = MapStore(store, (0, 1, 2))
    first = map_store.get_maps(0)
    assert first.shape == (3, 30, 40) and not first.flags.writeable
    assert np.array_equal(first, map_store.compute_maps(store.get_mask(0)))
    file = map_store.folder / "0.npy"
    stamp = file.stat().st_mtime_ns
    assert np.array_equal(MapStore(store, (0, 1, 2)).get_maps(0), first) and file.stat().st_mtime_ns == stamp
    assert not (map_store.folder / "1.npy").exists()  # not requested


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", b"junk" * 100])
def test_a_damaged_map_file_is_computed_again(store: PixelStore, damage: bytes) -> None:
    expected = MapStore(store, (0, 1)).get_maps(1).copy()
    (MapStore(store, (0, 1)).folder / "1.npy").write_bytes(damage)
    assert np.array_equal(MapStore(store, (0, 1)).get_maps(1), expected)


def test_a_folder_of_maps_that_cannot_be_written_is_an_error(store: PixelStore) -> None:
    map_store = MapStore(store, (2,))
    map_store.folder.write_text("a file where the folder should be")
    with pytest.raises(SweeperError, match="must be written to"):
        map_store.get_maps(0)


@pytest.mark.parametrize(("augmentation", "size"), [("light", 16), ("light", 48), ("full", 24)])
def test_maps_are_cut_flipped_and_turned_like_the_labels(store: PixelStore, augmentation: Any, size: int) -> None:
    """The sign of each distance must match the label of its pixel after the augmentation."""
    for step in range(3):
        keys: dict[str, Any] = {"size": size, "batch_size": 3, "seed": 5, "step": step, "augmentation": augmentation}
        _, masks, draws = training_batch(store, (0, 1, 2), **keys)
        labels = augment(masks.float().unsqueeze(1), masks.long(), draws)[1]
        places, _ = draw_crops(store, (0, 1, 2), **keys)
        signs = augment_distances(map_batch(MapStore(store, (1,)), places, size), draws).squeeze(1).float().sign()
        # The sign of the distance to class 1 is whether a pixel is of it; what was turned is interpolated.
        expected = torch.where(labels == 1, -1.0, 1.0).masked_fill(labels == IGNORE, 0.0)
        if augmentation == "light":
            assert torch.equal(signs, expected)
        else:
            assert all((signs == expected)[labels == c].float().mean() > 0.6 for c in range(3))


@pytest.mark.parametrize("zoom", [0.8, 1.0, 1.25])
def test_distances_are_in_pixels_of_the_turned_image(zoom: float) -> None:
    """The distance to a straight boundary has a gradient of 1 per pixel, whatever the turn and the zoom."""
    half = np.arange(48) < np.full((48, 1), 24)
    maps = torch.from_numpy(compute_signed_distances(half, np.ones_like(half)))[None, None]
    one = torch.ones(1)
    draws = AugmentationDraws(one < 0, one, 0 * one, upside=one > 0, angle=0.4 * one, zoom=zoom * one)
    turned = augment_distances(maps, draws)[0, 0].numpy()
    assert np.hypot(*np.gradient(turned))[16:32, 16:32] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_without_maps_the_loss_computes_them(task: Any) -> None:
    rng = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3 if task == "multiclass" else 2, (2, 12, 12), generator=rng)
    target[..., :2, :] = IGNORE
    logits = torch.randn(2, 1 if task == "binary" else 3, 12, 12, generator=rng)
    loss = build_loss("boundary", task=task)
    maps = compute_distance_maps(target, task, logits.shape[1], IGNORE)
    assert torch.equal(loss(logits, target), loss(logits, target, distance=maps))
    other = torch.zeros_like(maps)
    other[..., 0] = 1
    assert loss(logits, target, distance=other) != loss(logits, target)


def test_training_uses_the_stored_maps(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.small_training import train

    def refuse(*_: object) -> None:
        raise AssertionError("computed from the labels of the batch")

    monkeypatch.setattr("sweeper.losses.build.compute_distance_maps", refuse)
    assert train(tiny, family="boundary").state == "complete"
    assert list(Path(tiny.store).glob("distance-*/*.npy"))
