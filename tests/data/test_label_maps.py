"""Distances, instances and skeletons of the labels: what they are, how they are kept, and what losses make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import label

from sweeper.core.errors import LossError, SweeperError
from sweeper.core.records import IGNORE, Dataset
from sweeper.data import open_store
from sweeper.data.label_maps import (
    FARTHEST,
    OF_LABELS,
    MapStore,
    instance_ids,
    instance_sizes,
    signed_distances,
    thinned,
    tubes,
)
from sweeper.data.store import PixelStore, StoreWriter
from sweeper.losses import build_loss
from sweeper.losses.map_losses import distance_maps
from sweeper.training.augment import augment, augment_maps
from sweeper.training.batches import crops, map_batch
from tests.support.batches import training_batch

KINDS = ("distance", *OF_LABELS)
FAMILY = {"distance": "boundary", "sizes": "instance_ce", "instances": "blob_dice", "skeleton": "skeleton_recall"}
SQUARE = np.ones((3, 3), dtype=bool)


def test_instances_are_what_touches_and_is_of_one_class() -> None:
    labels = np.array([[1, 0, 2, 2, 0], [0, 1, 2, 0, 0], [0, 0, 0, 0, 1], [255, 1, 1, 0, 1]])
    known = labels != IGNORE
    ids = instance_ids(labels, known)
    assert ids.tolist() == [[1, 0, 4, 4, 0], [0, 1, 4, 0, 0], [0, 0, 0, 0, 2], [0, 3, 3, 0, 2]]
    sizes = instance_sizes(labels, known)
    assert sizes[3, 0] == 0 and sizes[0, 1] == 10 and sizes[0, 0] == 2 and sizes[0, 2] == 3
    assert instance_sizes(np.zeros((2, 2), dtype=int), np.zeros((2, 2), dtype=bool)).tolist() == [[0, 0], [0, 0]]


def test_skeletons_are_thin_and_as_connected_as_their_class() -> None:
    rng = np.random.default_rng(3)
    smooth = rng.standard_normal((80, 90))
    for _ in range(6):
        smooth = (smooth + np.roll(smooth, 1, 0) + np.roll(smooth, 1, 1) + np.roll(smooth, -1, 0)) / 4
    present = smooth > 0.02
    line = thinned(present)
    assert not (line & ~present).any() and 0 < line.sum() < present.sum() / 3
    regions, number = label(present, SQUARE)
    _, pieces = label(line, SQUARE)
    assert number == pieces == len(np.unique(regions[line]))
    square = line[1:, 1:] & line[:-1, 1:] & line[1:, :-1] & line[:-1, :-1]
    assert square.sum() < 0.02 * line.sum()
    assert (thinned(line) == line).mean() > 0.999  # a line stays
    bar = np.zeros((9, 30), dtype=bool)
    bar[2:7, 3:27] = True
    assert np.unique(np.argwhere(thinned(bar))[:, 0]).tolist() == [4]
    assert thinned(np.zeros((4, 4), dtype=bool)).sum() == 0
    for height, width in ((1, 1), (2, 2), (1, 7), (3, 3)):
        assert thinned(np.ones((height, width), dtype=bool)).any()


def test_tubes_reach_two_pixels_and_stay_in_their_class() -> None:
    labels = np.zeros((11, 40), dtype=int)
    labels[:, :20], labels[3:8, 20:] = 1, 2
    tube = tubes(labels, labels >= 0)
    assert tube[labels == 0].sum() == 0
    assert tube[3:8, 25:35].all()  # two on each side of the middle
    assert tube[:, 10].sum() == 5
    labels[:, 30] = IGNORE
    assert tubes(labels, labels != IGNORE)[:, 30].sum() == 0


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


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_made_once_and_read_again(store: PixelStore, kind: str) -> None:
    made = MapStore(store, kind, (0, 1, 2))
    first = made.maps(0)
    assert first.shape == (made.channels, 30, 40) and not first.flags.writeable
    assert np.array_equal(first, made.of_mask(store.mask(0)))
    file = made.folder / "0.npy"
    stamp = file.stat().st_mtime_ns
    assert np.array_equal(MapStore(store, kind, (0, 1, 2)).maps(0), first) and file.stat().st_mtime_ns == stamp
    assert not (made.folder / "1.npy").exists()  # nobody asked


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", b"junk" * 100])
def test_a_damaged_file_is_made_again(store: PixelStore, damage: bytes) -> None:
    expected = MapStore(store, "distance", (0, 1)).maps(1).copy()
    (MapStore(store, "distance", (0, 1)).folder / "1.npy").write_bytes(damage)
    assert np.array_equal(MapStore(store, "distance", (0, 1)).maps(1), expected)


def test_a_place_that_cannot_be_written_is_said(store: PixelStore) -> None:
    distances = MapStore(store, "distance", (2,))
    distances.folder.write_text("a file where the folder should be")
    with pytest.raises(SweeperError, match="must be written to"):
        distances.maps(0)


@pytest.mark.parametrize(("augmentation", "size"), [("light", 16), ("light", 48), ("full", 24)])
def test_maps_are_cut_flipped_and_turned_like_the_labels(store: PixelStore, augmentation: Any, size: int) -> None:
    """Whole maps of which each pixel says where it was: the label there is the label here."""
    for step in range(3):
        keys: dict[str, Any] = {"size": size, "batch_size": 3, "seed": 5, "step": step, "augmentation": augmentation}
        _, masks, draws = training_batch(store, (0, 1, 2), **keys)
        labels = augment(masks.float().unsqueeze(1), masks.long(), draws)[1]
        places, _ = crops(store, (0, 1, 2), **keys)
        distances, instances, sizes, lines = (
            augment_maps(map_batch(MapStore(store, kind, classes), places, size), draws, kind).squeeze(1)  # type: ignore[arg-type]
            for kind, classes in (
                ("distance", (1,)),
                *((name, (0, 1, 2)) for name in ("instances", "sizes", "skeleton")),
            )
        )
        foreground = (labels > 0) & (labels != IGNORE)
        assert torch.equal(instances > 0, foreground) and torch.equal(sizes > 0, labels != IGNORE)
        assert int(instances.max()) <= size * size
        assert not lines[~foreground].any() and lines[foreground].any()
        for image, ids, areas in zip(labels, instances, sizes, strict=True):
            for own in (ids == number for number in ids.unique() if number > 0):
                assert len(image[own].unique()) == 1 and len(areas[own].unique()) == 1
                if augmentation == "light":
                    assert int(areas[own][0]) >= int(own.sum())  # what the crop cut off counts
        if augmentation == "light":  # the sign of the distance to class 1 is whether a pixel is of it
            known = torch.where(labels == 1, -1.0, 1.0).masked_fill(labels == IGNORE, 0.0)
            assert torch.equal(distances.float().sign(), known)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("kind", KINDS)
def test_without_maps_the_loss_makes_them_itself(kind: str, task: Any) -> None:
    rng = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3 if task == "multiclass" else 2, (2, 12, 12), generator=rng)
    target[..., :2, :] = IGNORE
    logits = torch.randn(2, 1 if task == "binary" else 3, 12, 12, generator=rng)
    loss = build_loss(FAMILY[kind], task=task)
    if kind == "distance":
        maps = distance_maps(target, task, logits.shape[1], IGNORE)
    else:
        of_labels = {"sizes": instance_sizes, "instances": instance_ids, "skeleton": tubes}[kind]
        maps = torch.stack([torch.from_numpy(of_labels(x.numpy(), x.numpy() != IGNORE)) for x in target])
    assert torch.equal(loss(logits, target), loss(logits, target, **{kind: maps}))
    given = torch.zeros_like(maps)
    given[..., 0] = 1
    assert loss(logits, target, **{kind: given}) != loss(logits, target)
    with pytest.raises(LossError, match=f"{kind} must have the .*shape"):
        loss(logits, target, **{kind: maps[..., 1:]})


def test_numbers_of_instances_may_be_any_within_the_image_and_no_others() -> None:
    rng = torch.Generator().manual_seed(0)
    logits, target = torch.randn(2, 1, 8, 8, generator=rng), torch.ones(2, 8, 8, dtype=torch.long)
    halves = torch.ones_like(target)
    halves[..., 4:] = 2  # two that touch, as a person drew them
    loss = build_loss("blob_dice", task="binary")
    renamed = torch.where(halves == 2, 64, 17)
    torch.testing.assert_close(loss(logits, target, instances=halves), loss(logits, target, instances=renamed))
    assert loss(logits, target, instances=halves) != loss(logits, target)
    for wrong in (-1, 65):
        with pytest.raises(LossError, match=f"from 0 .* the pixels of an image .64., got {wrong}"):
            loss(logits, target, instances=torch.full_like(target, wrong))


@pytest.mark.parametrize("kind", KINDS)
def test_training_uses_the_kept_maps(tiny: Dataset, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    from tests.support.small_training import train

    def refuse(*_: object) -> None:
        raise AssertionError("computed from the labels of the batch")

    monkeypatch.setattr("sweeper.losses.loss_module.made_map", refuse)
    assert train(tiny, family=FAMILY[kind]).state == "complete"
    assert list(Path(tiny.store).glob(f"{kind}-*/*.npy"))
