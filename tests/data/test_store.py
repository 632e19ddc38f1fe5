"""The store of decoded images: exact, reused while nothing changes, and made again after damage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.label_planes import get_ignored_label, pack_planes, unpack_planes
from sweeper.core.records import IGNORE
from sweeper.data import load_dataset, open_store
from sweeper.data import read as reader
from sweeper.data import store as store_module
from sweeper.data.store import StoreWriter, count_labels, is_intact
from tests.support.folders import folder, image, load_folder, mask, write_pairs


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6),
    st.sampled_from([1, 3, 12]),
    st.sampled_from([np.uint8, np.uint16]),
    st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]),
)
def test_pixels_round_trip(tmp_path_factory, sizes, channels, dtype, mask_dtype):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, np.iinfo(dtype).max + 1, (*size, channels), dtype=dtype) for size in sizes]
    masks = [rng.integers(0, np.iinfo(mask_dtype).max, size, dtype=mask_dtype, endpoint=True) for size in sizes]
    cache = tmp_path_factory.mktemp("cache")
    with StoreWriter(cache, channels, dtype, mask_dtype) as writer:
        for image, labels in zip(images, masks, strict=True):
            writer.append(image, labels)
        writer.finish()
        written = writer.publish("abc")
    store = open_store(written)
    assert len(store) == len(sizes) and (store.dtype, store.mask_dtype) == (dtype, mask_dtype)
    assert ("mask_dtype" in json.loads((written / "index.json").read_text())) == (mask_dtype != np.uint8)
    for index in range(len(sizes)):
        assert np.array_equal(store.get_image(index), images[index])
        assert np.array_equal(store.get_mask(index), masks[index])
        assert not store.get_image(index).flags.writeable and not store.get_mask(index).flags.writeable
    assert [path.name for path in cache.iterdir()] == ["abc"]


@pytest.mark.parametrize("classes", [2, 7, 8, 20, 32])
def test_relabelled_masks_hold_bits_whose_pixels_are_counted(tmp_path, classes, monkeypatch):
    monkeypatch.setattr(store_module, "_CHUNK", 1000)
    monkeypatch.setattr(store_module, "_COUNTED", 700)
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, 4, (50, 40)).astype(np.uint8)
    planes = rng.random((4, classes)) < 0.5
    planes[3] = False
    bits = pack_planes(planes.T[:, :, None], np.array([[False], [False], [False], [True]])).ravel()
    with StoreWriter(tmp_path, 1) as writer:
        writer.append(np.zeros((50, 40, 1), np.uint8), labels)
        writer.finish()
        writer.relabel(bits.__getitem__, bits.dtype)
        store = writer.finish()
        packed = np.array(store.get_mask(0))
        assert is_intact(store.folder) and store.ignored_label == get_ignored_label(bits.dtype)
    expected = np.where(labels == 3, IGNORE, planes[labels].transpose(2, 0, 1))
    assert np.array_equal(unpack_planes(packed, classes), expected)
    counts = count_labels(packed, classes)
    assert counts[1 : classes + 1].tolist() == [int((plane == 1).sum()) for plane in expected]
    assert counts[IGNORE] == (labels == 3).sum() and counts[0] == (packed == 0).sum()


@pytest.mark.parametrize("name", ["images.bin", "masks.bin"])
@pytest.mark.parametrize("size", [0, 100, 2 * 64 * 64 - 1])
def test_reading_a_truncated_store_raises_an_error(tmp_path, name, size):
    writer = StoreWriter(tmp_path, 1)
    for _ in range(2):
        writer.append(np.ones((64, 64, 1), np.uint8), np.ones((64, 64), np.uint8))
    store = writer.finish()
    os.truncate(store.folder / name, size)
    read = store.get_image if name == "images.bin" else store.get_mask
    for index in (0, 1):
        with pytest.raises(SweeperError, match="were cut short; load the data set again"):
            read(index)


def test_an_unchanged_folder_is_not_decoded_again(tmp_path, monkeypatch):
    root = folder(tmp_path / "data")
    first = load_folder(root)

    def fail(*args):
        raise AssertionError("decoded again")

    for name in ("load.read_dataset", "read.read_image", "read.read_image_kind", "formats.patterns.read_mask"):
        monkeypatch.setattr(f"sweeper.data.{name}", fail)
    lines: list[str] = []
    assert load_folder(root, log=lines.append) == first
    assert lines == [f"{root}, format folder: images/ and masks/ (decoded earlier)"]
    monkeypatch.chdir(tmp_path)
    again = load_dataset("data", Path("cache"), class_map=first.class_map)
    assert (again.source, again.store, again.digest) == ("data", first.store, first.digest)


def rename_class_with_same_time(root):
    path = root / "classes.txt"
    stat = path.stat()
    path.write_text("z\ny\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


CHANGES = {
    "image": lambda root: image(7).save(root / "images" / "a.png"),
    "mask": lambda root: mask(0, 0, 0, 0, 1).save(root / "masks" / "a.png"),
    "split": lambda root: (root / "split.csv").write_text("stem,split\na,train\nb,\nc,\nd,\n"),
    "added": lambda root: write_pairs(root, ("images/e.png", "masks/e.png")),
    "same size and time": rename_class_with_same_time,
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_detected_and_changes_the_digest(tmp_path, change):
    root = folder(tmp_path / "data", classes="x\ny\n")
    before = load_folder(root).digest
    CHANGES[change](root)
    assert load_folder(root).digest != before


def test_the_digest_depends_only_on_content(tmp_path):
    root = folder(tmp_path / "data")
    first = load_folder(root)
    (root / "images" / "a.png").unlink()
    image(0).save(root / "images" / "a.bmp")  # the same pixels in another file
    copied = shutil.copytree(root, tmp_path / "other name")
    second = load_dataset(str(copied), tmp_path / "another cache")
    assert second.digest == first.digest
    assert second.name == "other name"


def flip_a_bit(path: Path) -> None:
    """Turn one bit of a file around."""
    content = bytearray(path.read_bytes())
    content[125] ^= 2
    path.write_bytes(content)


DAMAGES = {
    "images missing": lambda store: (store / "images.bin").unlink(),
    "masks short": lambda store: os.truncate(store / "masks.bin", 10),
    "index torn": lambda store: os.truncate(store / "index.json", 20),
    "index nonsense": lambda store: (store / "index.json").write_text('{"format": 2, "channels": 3, "sizes": [7]}'),
    "a bit": lambda store: flip_a_bit(store / "images.bin"),
    "another bit": lambda store: flip_a_bit(store / "masks.bin"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_made_again(tmp_path, damage):
    root = folder(tmp_path / "data")
    first = load_folder(root)
    store = Path(first.store)
    DAMAGES[damage](store)
    lines: list[str] = []
    if "bit" not in damage:
        with pytest.raises(SweeperError, match="complete store"):
            open_store(store)
    assert load_folder(root, log=lines.append) == first
    assert [line for line in lines if "damaged" in line and first.store in line] or "bit" not in damage
    assert is_intact(store) and np.array_equal(open_store(store).get_image(1), np.array(image(1)))
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(["sources", store.name])


def test_a_damaged_note_is_ignored_and_logged(tmp_path):
    root = folder(tmp_path / "data")
    first = load_folder(root)
    (note,) = (tmp_path / "cache" / "sources").iterdir()
    text = note.read_text()
    content = json.loads(text)
    content["dataset"]["images"][0]["pixels"][1] += 1
    for damaged in ("", "[]", '{"state": 1}', text[:200], json.dumps(content)):
        note.write_text(damaged)
        lines: list[str] = []
        assert load_folder(root, log=lines.append) == first
    assert any(f"cache entry {note} is corrupt" in line for line in lines)


def test_a_cache_that_cannot_be_written_is_a_usage_error(tmp_path):
    root = folder(tmp_path / "data")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="decoded images must be written below"):
        load_dataset(str(root), tmp_path / "file" / "cache")


def test_processes_may_decode_at_the_same_time(tmp_path):
    root = folder(tmp_path / "data", {f"{i:02d}": mask(0, 1, shift=i % 9) for i in range(30)})
    code = (
        "import sys; from pathlib import Path; from sweeper.data import load_dataset, open_store\n"
        "d = load_dataset(sys.argv[1], Path(sys.argv[2])); open_store(d.store); print(d.digest)"
    )
    command = [sys.executable, "-c", code, str(root), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    digests = {process.communicate(timeout=120)[0] for process in running}
    assert [process.returncode for process in running] == [0] * 4
    assert len(digests) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 2  # the store and the notes; nothing half-written


def test_images_are_streamed_and_not_held_in_memory(tmp_path, monkeypatch):
    root = folder(tmp_path / "data", {f"{i:02d}": mask(0, 1) for i in range(40)})
    read, written = [], []
    read_image, append = reader.read_image, StoreWriter.append

    def note_reading(*arguments):
        read.append(1)
        return read_image(*arguments)

    def note_writing(self, *arguments):
        written.append(1)
        assert len(read) - len(written) <= 16
        append(self, *arguments)

    monkeypatch.setattr(reader, "read_image", note_reading)
    monkeypatch.setattr(StoreWriter, "append", note_writing)
    load_folder(root)
    assert len(written) == 40


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_release_memory_frees_the_pages_of_a_store(tmp_path):
    def measure_resident() -> int:
        return int(Path("/proc/self/status").read_text().split("RssFile:")[1].split()[0])

    with StoreWriter(tmp_path, 3) as writer:
        image, labels = np.ones((1024, 1024, 3), np.uint8), np.ones((1024, 1024), np.uint8)
        for _ in range(24):
            writer.append(image, labels)
        store = writer.finish()
        before = measure_resident()
        assert all(store.get_image(i).sum() for i in range(24))
        read = measure_resident()
        store.release_memory()
        assert read - before > 50_000 > measure_resident() - before
