"""Measure speed and memory of the data path, next to the limits that docs/formats.md promises.

    python bench/data.py [start memory decode feed doctor] [--folder FOLDER]

- `start`: second start from the store with 10,000 images (below 1 s).
- `memory`: resident memory with 20,000 images of 512² (below 2 GiB).
- `decode`: decoding, next to torch's DataLoader with 8 workers (not slower).
- `feed`: share of a training step on a CPU that making its batch takes (below 5 %).
- `doctor`: images per second of doctor and profile, and of the search for near-duplicates.

Prints a line or two for each part; without arguments all parts run. The images are drawn into a temporary folder, and
deleted. `memory` uses sparse files: 21 GB that take no space on the disk, but fill pages of memory when they are read,
as real files do.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sweeper.core.records import Dataset, ImageInfo
from sweeper.data import load_dataset, open_store
from sweeper.data.store import FORMAT


def draw_images(folder: Path, count: int, size: int, suffix: str = ".png", distinct: int = 0) -> Path:
    """Write `count` noisy images with discs and their masks; only `distinct` of them differ, if it is not 0."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    for index in range(distinct or count):
        centre, radius = rng.uniform(0, size, 2), rng.uniform(size / 20, size / 4)
        mask = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2).astype(np.uint8)
        smooth = np.kron(rng.uniform(60, 160, (8, 8, 3)), np.ones((-(-size // 8), -(-size // 8), 1)))[:size, :size]
        image = smooth + 40 * mask[:, :, None] + rng.normal(0, 6, (size, size, 3))
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{index:05d}{suffix}")
        Image.fromarray(mask).save(folder / "masks" / f"{index:05d}.png")
    for index in range(distinct or count, count):
        for name, ending in (("images", suffix), ("masks", ".png")):
            os.link(folder / name / f"{index % distinct:05d}{ending}", folder / name / f"{index:05d}{ending}")
    return folder


def run_code(code: str, *arguments: object) -> str:
    """Run the code in a fresh process, so that only the page cache is warm; return its standard output."""
    run = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True)
    return run.stdout


def measure_start(folder: Path) -> None:
    """Print the seconds of a first and of a second start."""
    data = draw_images(folder / "data", 10_000, 32, distinct=500)
    began = time.perf_counter()
    load_dataset(str(data), folder / "cache")
    print(f"first start, 10,000 images of 32²: {time.perf_counter() - began:.1f} s")
    code = (
        "import sys, time; from pathlib import Path; from sweeper.data import load_dataset, open_store\n"
        "began = time.perf_counter(); d = load_dataset(sys.argv[1], Path(sys.argv[2])); open_store(d.store)\n"
        "print(time.perf_counter() - began, time.process_time())"
    )
    runs = [run_code(code, data, folder / "cache").split() for _ in range(5)]
    seconds = sorted(float(run[0]) for run in runs)
    processor = min(float(run[1]) for run in runs)
    print(
        f"second start, in a fresh process: {seconds[2]:.2f} s (median of 5, {seconds[0]:.2f} to {seconds[-1]:.2f}); "
        f"{processor:.2f} s of processor time, imports included"
    )


def make_sparse_store(folder: Path, count: int, size: int) -> Dataset:
    """Make a store of `count` images whose pixels are holes in a file; every hundredth mask has a foreground line."""
    store = folder / "store"
    store.mkdir()
    for name, channels in (("images", 3), ("masks", 1)):
        with (store / f"{name}.bin").open("wb") as file:
            file.truncate(count * size * size * channels)
    with (store / "masks.bin").open("r+b") as file:
        for index in range(0, count, 100):
            file.seek(index * size * size + size * size // 2)
            file.write(b"\x01" * size)
    sums = {"images.bin": 0, "masks.bin": 0}  # only loading a data set verifies them
    description = {"format": FORMAT, "channels": 3, "sizes": [[size, size]] * count, "crc32": sums}
    (store / "index.json").write_text(json.dumps(description))
    marked = [size if i % 100 == 0 else 0 for i in range(count)]
    images = tuple(
        ImageInfo(stem=f"{i:05d}", height=size, width=size, pixels=(size * size - n, n)) for i, n in enumerate(marked)
    )
    return Dataset(
        name="sparse", source="sparse", digest="sha256:0", task="binary", classes=("background", "line"), channels=3,
        synthetic=True, store=str(store), images=images,
    )  # fmt: skip


MEMORY_CODE = """
import sys
from pathlib import Path
from sweeper.core.records import Dataset
dataset = Dataset.model_validate_json(Path(sys.argv[1]).read_text())
if sys.argv[2] == "profile":
    from sweeper.fingerprint.imbalance import profile_dataset
    profile_dataset(dataset)
elif sys.argv[2] == "doctor":
    from sweeper.fingerprint.label_checks import examine_labels
    examine_labels(dataset, 2)
else:
    from sweeper.data import divide_images, open_store
    from sweeper.training.batches import FORGET, cut_crops, draw_crops
    store, train = open_store(dataset.store), divide_images(dataset, test_seed=0, seed=0).train
    for step in range(int(sys.argv[3])):
        cut_crops(store, draw_crops(store, train, size=256, batch_size=16, step=step, seed=0)[0], 256, 256)
        if step % FORGET == FORGET - 1:
            store.release_memory()
lines = Path("/proc/self/status").read_text().splitlines()
values = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in lines if line.startswith(("Rss", "VmHWM"))}
print(values["VmHWM"], values["RssAnon"], values["RssFile"])
"""


def measure_memory(folder: Path) -> None:
    """Print the memory of profile, doctor and 1,500 batches of 16 crops of 256²."""
    dataset = make_sparse_store(folder, 20_000, 512)
    (folder / "dataset.json").write_text(dataset.model_dump_json())
    for task, steps in (("profile", 0), ("doctor", 0), ("1,500 batches", 1500)):
        began = time.perf_counter()
        peak, anonymous, files = run_code(MEMORY_CODE, folder / "dataset.json", task, steps).split()
        print(
            f"{task}: peak {int(peak)} MiB resident; at the end {anonymous} MiB anonymous, {files} MiB of mapped files "
            f"({time.perf_counter() - began:.0f} s)"
        )


def measure_decoding(folder: Path) -> None:
    """Print images per second and processor time of the store and of a DataLoader, for PNG and JPEG."""
    import torch
    from torch.utils.data import DataLoader
    from torch.utils.data import Dataset as TorchDataset

    count = 300
    for suffix in (".png", ".jpg"):
        data = draw_images(folder / suffix[1:], count, 512, suffix)

        class Pairs(TorchDataset):  # type: ignore[type-arg]
            def __init__(self, root: Path, ending: str) -> None:
                self.root, self.ending = root, ending

            def __len__(self) -> int:
                return count

            def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
                image = np.array(Image.open(self.root / "images" / f"{index:05d}{self.ending}").convert("RGB"))
                mask = np.array(Image.open(self.root / "masks" / f"{index:05d}.png"))
                return torch.from_numpy(image), torch.from_numpy(mask)

        ours, theirs, work = [], [], [0.0, 0.0]
        for turn in range(3):
            began, worked = time.perf_counter(), time.process_time()
            load_dataset(str(data), folder / f"cache{suffix}{turn}")
            ours.append(time.perf_counter() - began)
            work[0] += time.process_time() - worked
            began, worked = time.perf_counter(), time.process_time() + measure_children()
            for _ in DataLoader(Pairs(data, suffix), batch_size=8, num_workers=8):
                pass
            theirs.append(time.perf_counter() - began)
            work[1] += time.process_time() + measure_children() - worked
        print(
            f"{count} {suffix} of 512²: into the store (decoded, checked, hashed, written) "
            f"{count / sorted(ours)[1]:.0f} a second; DataLoader of 8 workers (decoded) {count / sorted(theirs)[1]:.0f}"
            f"; processor time {1000 * work[0] / count / 3:.1f} and {1000 * work[1] / count / 3:.1f} ms an image"
        )


def measure_children() -> float:
    """Return the processor time of child processes that have ended, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure_batches(folder: Path) -> None:
    """Print the milliseconds of a training step, and of making its batch."""
    import torch

    from sweeper.core.recipe import Recipe
    from sweeper.core.records import Conditions, TrialSpec
    from sweeper.data import divide_images
    from sweeper.training.batches import cut_crops, draw_crops
    from sweeper.training.engine import StudyTraining
    from sweeper.training.hardware import settle_process
    from sweeper.training.training_context import open_context

    settle_process(1)
    torch.set_num_threads(1)
    dataset = load_dataset(str(draw_images(folder / "data", 200, 512)), folder / "cache")
    store, split = open_store(dataset.store), divide_images(dataset, test_seed=0, seed=0)
    recipe = Recipe(
        encoder="resnet18", encoder_depth=3, size=96, batch_size=8, steps=20, confirm_steps=20, evaluations=1,
        precision="bfloat16", encoder_weights="none",
    )  # fmt: skip
    spec = TrialSpec(purpose="search", number=0, family="dice_ce", params={}, lr=1e-3, seed=0, steps=20)
    training = StudyTraining(spec, open_context(Conditions(dataset=dataset, recipe=recipe, seed=0), "cpu"))
    training.advance()
    step = 1000 * (training.make_result("complete").seconds_per_step or 0.0)
    batch = 1000 * measure_seconds(
        lambda n: cut_crops(store, draw_crops(store, split.train, size=96, batch_size=8, step=n, seed=0)[0], 96, 96),
        repeats=200,
    )
    print(f"training step {step:.1f} ms, of which making its batch {batch:.2f} ms: {100 * batch / step:.1f} %")


def measure_seconds(action: Callable[[int], object], repeats: int) -> float:
    """Return the mean seconds of an action, which gets the number of its repetition."""
    began = time.perf_counter()
    for number in range(repeats):
        action(number)
    return (time.perf_counter() - began) / repeats


def measure_doctor(folder: Path) -> None:
    """Print the pace of doctor, profile and the search for near-duplicates."""
    from sweeper.fingerprint.imbalance import profile_dataset
    from sweeper.fingerprint.label_checks.measure import measure_all
    from sweeper.fingerprint.label_checks.near_duplicates import find_near_duplicates

    dataset = load_dataset(str(draw_images(folder / "data", 300, 512)), folder / "cache")
    workers = len(os.sched_getaffinity(0))
    features = print_pace("doctor, images of 512²", lambda: measure_all(dataset, workers), 300)
    print_pace("profile, images of 512²", lambda: profile_dataset(dataset), 300)
    rng = np.random.default_rng(0)
    thumbnails = [each.thumbnail for each in features]
    while len(thumbnails) < 20_000:
        noise = rng.normal(size=(32, 32))
        thumbnails.append((noise / np.linalg.norm(noise)).astype(np.float16))
    print_pace("near-duplicates among 20,000 images", lambda: find_near_duplicates(thumbnails), 20_000)


def print_pace(name: str, action: Callable[[], Any], count: int) -> Any:
    """Run an action on `count` images, print its pace by the clock and in processor time, and return its result."""
    began, worked = time.perf_counter(), time.process_time()
    result = action()
    seconds, processor = time.perf_counter() - began, time.process_time() - worked
    print(
        f"{name}: {count / seconds:.0f} a second in {seconds:.1f} s; "
        f"{1000 * processor / count:.1f} ms of processor time each"
    )
    return result


PARTS = {
    "start": measure_start,
    "memory": measure_memory,
    "decode": measure_decoding,
    "feed": measure_batches,
    "doctor": measure_doctor,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="all parts if there is none")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    arguments = parser.parse_args()
    for name in arguments.part or PARTS:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            PARTS[name](Path(folder))


if __name__ == "__main__":
    main()
