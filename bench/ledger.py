"""The ledger of `sweeper advise`: which loss wins on which kind of data, by how much, with which values.

    python bench/ledger.py plan
    python bench/ledger.py collect OUT.jsonl [--part 1/2] [--seeds 2] [--point cracks-1% …] [--data FOLDER …]
    python bench/ledger.py table OUT.jsonl [OUT.jsonl …] > sweeper/fingerprint/ledger.csv
    python bench/ledger.py map OUT.jsonl [OUT.jsonl …]
    python bench/ledger.py check
    python bench/ledger.py kinds

43 data sets of six generators: four scenes of `sweeper synth`, and two of this file, `lesions` (one soft object an
image) and `parcels` (an image full of fields, classes of falling share). Their foreground share, structure, blur,
number of classes, imbalance and label noise are chosen; the labels of test images have no noise. 40 of 120 images are
test images, the same for all seeds; the others are divided again by each seed.

`collect` first trains cross-entropy and dice_ce at two learning rates; the rate with the higher sum of validation
values is that of all families. Where neither learned, the steps are doubled, to 400 at most. Then every configuration
of `CONFIGURATIONS` is trained on seed 0, and each family's best, by validation, on the other seeds. It appends a line
for each training, can be cut off and continues where it was; several processes share the work with `--part`. `plan`
says how many trainings that are, and how long they take on one core of this machine. `--data` trains on real sets
instead. `table` prints one row for each data set and family; run it where `collect` was. `map` prints the mean gains on
the drawn sets, what each configuration reads above the first of its family on seed 0, and how both change with ten
times the imbalance. `check` leaves one generator out, and all real sets, and says what the first choice of
`sweeper advise` costs there, against fixed choices. `kinds` prints each family's mean gain on each generator's sets.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.families import rows, trained
from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, Dataset, TrialSpec
from sweeper.data import divide_images, load_dataset
from sweeper.data.scenes.canvas import DrawnImage, Field, expose_image, make_grid, make_smooth_field
from sweeper.data.synthetic import draw_image, parse_scene, spoil_labels
from sweeper.fingerprint.imbalance import compute_imbalance, profile_dataset
from sweeper.fingerprint.ledger import LedgerRow, compute_features, measure_nearness, rank_losses, read_ledger

IMAGES, TEST, SIDE = 120, 40, 96
LEARNING_RATES = (1.5e-3, 4e-3)
STEPS, MOST_STEPS = 100, 400
PRECISION = "bfloat16"
SMALL = {"decoder_width": 8, "size": 64}
"""The CPU's recipe."""
BASELINE = "cross_entropy"
SECOND = "dice_ce"
"""Trained with the baseline to find the rate and the steps."""
CONFIGURATIONS: dict[str, tuple[dict[str, float], ...]] = {
    "cross_entropy": ({},),
    "weighted_ce": ({"power": 0.25}, {"power": 0.5}, {"power": 1.0}),
    "focal": ({"gamma": 2, "alpha": 0.5}, {"gamma": 1, "alpha": 0.75}, {"gamma": 3, "alpha": 0.25}),
    "dice": ({},),
    "tversky": ({"fn_weight": 0.3}, {"fn_weight": 0.7}),
    "dice_ce": ({"mix": 0.5, "power": 0}, {"mix": 0.5, "power": 0.5}, {"mix": 0.2, "power": 0.75}),
    "dice_focal": ({"mix": 0.5, "gamma": 2}, {"mix": 0.2, "gamma": 1}),
}
"""`power` is that of the imbalance in pos_weight, or class_weight_power. The first of each family finds the rate."""

POINTS: dict[str, str] = {
    "cracks-0.4%": "cracks?foreground=0.004",
    "cracks-1%": "cracks?foreground=0.01",
    "cracks-2.5%": "cracks?foreground=0.025",
    "cracks-6%": "cracks?foreground=0.06",
    "cracks-1.5%-grainy": "cracks?foreground=0.015&noise=0.12",
    "cracks-1%-shifted": "cracks?foreground=0.01&shift=1.5",
    "cracks-3%-missing": "cracks?foreground=0.03&missing=0.3",
    "blobs-3%": "blobs?foreground=0.03",
    "blobs-8%": "blobs?foreground=0.08",
    "blobs-18%": "blobs?foreground=0.18",
    "blobs-40%": "blobs?foreground=0.4",
    "blobs-10%-shifted": "blobs?foreground=0.1&shift=2",
    "blobs-18%-missing": "blobs?foreground=0.18&missing=0.3",
    "blobs-18%-grainy": "blobs?foreground=0.18&noise=0.15",
    "street": "street?",
    "street-grainy": "street?noise=0.12",
    "street-shifted": "street?shift=2",
    "street-missing": "street?missing=0.3",
    "shapes-0.3%-small": "shapes?foreground=0.003&object=6",
    "shapes-1%-small": "shapes?foreground=0.01&object=6",
    "shapes-1%-large": "shapes?foreground=0.01&object=12",
    "shapes-4%-thin": "shapes?foreground=0.04&object=16&elongation=16",
    "shapes-5%": "shapes?foreground=0.05",
    "shapes-5%-blurred": "shapes?foreground=0.05&blur=3",
    "shapes-20%-small": "shapes?foreground=0.2&object=6",
    "shapes-30%-large": "shapes?foreground=0.3&object=40",
    "shapes-5%-missing": "shapes?foreground=0.05&missing=0.3",
    "shapes-3-classes-5%": "shapes?classes=3&foreground=0.05&ratio=5",
    "shapes-4-classes-2%": "shapes?classes=4&foreground=0.02&ratio=2",
    "shapes-6-classes-20%": "shapes?classes=6&foreground=0.2&ratio=3",
    "shapes-6-classes-30%-even": "shapes?classes=6&foreground=0.3&ratio=1",
    "shapes-4-classes-10%-shifted": "shapes?classes=4&foreground=0.1&ratio=3&shift=2",
    "lesions-2%": "lesions?foreground=0.02",
    "lesions-6%": "lesions?foreground=0.06",
    "lesions-15%": "lesions?foreground=0.15",
    "lesions-40%": "lesions?foreground=0.4",
    "lesions-15%-shifted": "lesions?foreground=0.15&shift=3",
    "lesions-6%-missing": "lesions?foreground=0.06&missing=0.3",
    "parcels-3-classes-even": "parcels?classes=3&ratio=1",
    "parcels-4-classes": "parcels?classes=4&ratio=3",
    "parcels-4-classes-rare": "parcels?classes=4&ratio=6",
    "parcels-7-classes": "parcels?classes=7&ratio=2",
    "parcels-4-classes-shifted": "parcels?classes=4&ratio=3&shift=3",
}


def lesions(rng: np.random.Generator, asked: Mapping[str, float]) -> DrawnImage:
    """Draw one uneven object of low contrast and soft outline, between hairs and stains that are none."""
    y, x = make_grid(SIDE)
    share = asked["foreground"] * rng.uniform(0.4, 1.6)
    centre = rng.uniform(0.25, 0.75, 2) * SIDE
    angle = np.arctan2(y - centre[0], x - centre[1])
    radius = np.ones_like(angle)
    for wave in range(2, 6):
        radius += rng.normal(0, 0.12 / (wave - 1)) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    distance = np.hypot(y - centre[0], x - centre[1]) / np.clip(radius, 0.3, None)
    limit = np.quantile(distance, min(share, 0.9))
    mask = distance <= limit
    cover = 1 / (1 + np.exp((distance - limit) / rng.uniform(1, 3)))
    skin = 0.6 + 0.05 * make_smooth_field(rng, SIDE, SIDE / 4) + 0.02 * make_smooth_field(rng, SIDE, 2)
    dark = rng.uniform(0.1, 0.22) * (1 + 0.4 * make_smooth_field(rng, SIDE, 4))
    stains = 0.1 * np.clip(make_smooth_field(rng, SIDE, 6) - 1.2, 0, 1)
    tone = skin - dark * cover - stains
    for _ in range(int(rng.integers(0, 5))):
        slope, offset = rng.normal(0, 1), rng.uniform(0, SIDE)
        tone -= 0.15 * (np.abs(y - offset - slope * (x - SIDE / 2)) < 0.7 * np.hypot(1, slope))
    return DrawnImage(expose_image(rng, _coloured(rng, tone, (1.1, 0.9, 0.8)), asked["noise"]), mask.astype(np.uint8))


def parcels(rng: np.random.Generator, asked: Mapping[str, float]) -> DrawnImage:
    """Draw an image full of fields, each of one class; its classes differ a little in tone, tint and texture."""
    classes, number = int(asked["classes"]), int(rng.integers(10, 18))
    y, x = make_grid(SIDE)
    seeds = rng.uniform(0, SIDE, (number, 2))
    bend = 4 * np.stack([make_smooth_field(rng, SIDE, 10), make_smooth_field(rng, SIDE, 10)])
    distances = np.hypot((y + bend[0])[..., None] - seeds[:, 0], (x + bend[1])[..., None] - seeds[:, 1])
    field = distances.argmin(axis=2)
    share = asked["ratio"] ** -np.arange(classes, dtype=float)
    labels = rng.choice(classes, number, p=share / share.sum())
    mask = labels[field].astype(np.uint8)
    tone = np.zeros((SIDE, SIDE))
    for label in range(classes):
        grain = 0.06 * make_smooth_field(rng, SIDE, 0.8 + 1.2 * label)
        tone = np.where(mask == label, 0.38 + 0.06 * (label % 4) + grain, tone)
    tone += np.array(rng.normal(0, 0.03, number))[field]
    image = _coloured(rng, tone, (0.9, 1.05, 0.8))
    for label in range(classes):
        image[:, :, label % 3] += 0.05 * (mask == label)
    return DrawnImage(expose_image(rng, image, asked["noise"]), mask)


def _coloured(rng: np.random.Generator, tone: Field, tint: tuple[float, ...]) -> Any:
    """(H, W, 3) of a tone, tinted a little differently in each image."""
    return np.repeat(tone[:, :, None], 3, axis=2) * (np.array(tint) + rng.normal(0, 0.02, 3))


OWN: dict[str, Callable[[np.random.Generator, Mapping[str, float]], DrawnImage]] = {
    "lesions": lesions,
    "parcels": parcels,
}


def generator_of(point: str) -> str:
    """Return what draws the point's images."""
    return POINTS[point].partition("?")[0]


def images_of(point: str, index: int) -> tuple[DrawnImage, bool]:
    """Image and mask of a data set; whether it is a test image, whose labels have no noise."""
    scene, _, query = POINTS[point].partition("?")
    asked = dict(pair.split("=") for pair in query.split("&") if pair)
    shift, missing = (float(asked.pop(key, 0)) for key in ("shift", "missing"))
    if scene in OWN:
        values = {"noise": 0.04, **{key: float(value) for key, value in asked.items()}}
        drawn = OWN[scene](np.random.default_rng([7, index]), values)
    else:
        given = "&".join(f"{key}={value}" for key, value in {**asked, "size": SIDE, "images": IMAGES}.items())
        drawn = draw_image(parse_scene(f"{scene}?{given}"), index)
    test = index % (IMAGES // TEST) == 0
    if not test and (shift or missing):
        mask = spoil_labels(np.random.default_rng([7, index, 1]), drawn.mask, shift, missing)
        drawn = DrawnImage(drawn.image, mask)
    return drawn, test


def written(point: str, folder: Path) -> Path:
    """Write a folder of images and masks with its test images named; made once."""
    root = folder / point.replace("%", "")
    if (root / "split.csv").exists():
        return root
    draft = root.with_name(root.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    for side in ("images", "masks"):
        (draft / side).mkdir(parents=True)
    highest = 1
    with (draft / "split.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("stem", "split", "group"))
        for index in range(IMAGES):
            drawn, test = images_of(point, index)
            stem = f"{index:05d}"
            Image.fromarray(drawn.image).save(draft / "images" / f"{stem}.png")
            Image.fromarray(drawn.mask).save(draft / "masks" / f"{stem}.png")
            highest = max(highest, int(drawn.mask.max()))
            lines.writerow((stem, "test" if test else "", stem))
    names = ["ground", *(f"class_{at}" for at in range(1, highest + 1))]
    (draft / "classes.txt").write_text("\n".join(names) + "\n")
    draft.rename(root)
    return root


def coordinates(configuration: Mapping[str, float], dataset: Dataset, imbalance: float) -> dict[str, float]:
    """Return what `build_loss` takes."""
    given = dict(configuration)
    power = given.pop("power", None)
    if power is not None:
        if dataset.task == "binary":
            given["pos_weight"] = imbalance**power
        else:
            given["class_weight_power"] = power
    return given


def dataset_of(point: str) -> Dataset:
    """Return the data set of a point, or of a folder."""
    place = str(written(point, Path(".sweeper/ledger"))) if point in POINTS else point
    return load_dataset(place, Path(".sweeper/cache"), lambda _: None)


class Point:
    """One data set, and its trainings so far."""

    def __init__(
        self,
        name: str,
        known: list[dict[str, Any]],
        out: Path,
        *,
        configurations: Mapping[str, Sequence[dict[str, float]]] = CONFIGURATIONS,
        recipe: Mapping[str, Any] = SMALL,
        first_steps: int = STEPS,
    ) -> None:
        """Draw or find the data set: one of `POINTS`, or a folder."""
        self.name, self._known, self._out = name, known, out
        self.configurations, self._recipe, self._first_steps = configurations, recipe, first_steps
        self._dataset = dataset_of(name)

    def trained(self, family: str, number: int, seed: int, lr: float, steps: int) -> dict[str, Any]:
        """Return the row of a training, which is trained if it is missing."""
        key = {"point": self.name, "family": family, "number": number, "seed": seed, "lr": lr, "steps": steps}
        for row in self._known:
            if all(row[name] == value for name, value in key.items()):
                return row
        recipe = Recipe(precision=PRECISION, steps=steps, confirm_steps=steps, evaluations=1, **self._recipe)
        conditions = Conditions(dataset=self._dataset, recipe=recipe, seed=seed)
        train = divide_images(self._dataset, test_seed=seed, seed=seed).train
        imbalance = compute_imbalance(self._dataset.count_class_pixels(train))
        params = coordinates(self.configurations[family][number], self._dataset, imbalance)
        spec = TrialSpec(purpose="confirm", number=number, family=family, params=params, lr=lr, seed=seed, steps=steps)
        row = {**key, "params": params, **trained(spec, conditions, self._dataset)}
        self._known.append(row)
        with self._out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        return row

    def rate_and_steps(self) -> tuple[float, int]:
        """Return the learning rate and the steps of all trainings here."""
        steps = self._first_steps
        while True:
            tried = {lr: [self.trained(name, 0, 0, lr, steps) for name in (BASELINE, SECOND)] for lr in LEARNING_RATES}
            if steps >= MOST_STEPS or any(row["learned"] for both in tried.values() for row in both):
                return max(tried, key=lambda lr: sum(row["val"] for row in tried[lr])), steps
            steps *= 2


def collect(arguments: argparse.Namespace) -> None:
    """Append one line for each training."""
    from sweeper.training.hardware import settle_process

    settle_process(threads=1)
    out = Path(arguments.out)
    known = rows(out) if out.exists() else []
    part, parts = (int(word) for word in arguments.part.split("/"))
    wanted = arguments.data or arguments.point or list(POINTS)
    points = [Point(name, known, out) for name in wanted[part - 1 :: parts]]
    collect_families(points, arguments.seeds)


def collect_families(points: Sequence[Point], seeds: int) -> None:
    """Train every configuration on the first seed, and each family's best on the others."""
    for seed in range(seeds):
        for at, point in enumerate(points, 1):
            lr, steps = point.rate_and_steps()
            for family, configurations in point.configurations.items():
                first = [point.trained(family, number, 0, lr, steps) for number in range(len(configurations))]
                best = max(first, key=lambda row: row["val"])
                if seed:
                    point.trained(family, best["number"], seed, lr, steps)
            print(f"seed {seed}: {at}/{len(points)} {point.name}, {steps} steps", flush=True)


def table(arguments: argparse.Namespace) -> None:
    """Print a row for each data set and family: fingerprint, best configuration, score, gain with its interval."""
    found: dict[tuple[str, str, int, float, int], dict[int, dict[str, Any]]] = {}
    for path in arguments.out:
        for row in rows(Path(path)):
            key = (row["point"], row["family"], row["number"], row["lr"], row["steps"])
            found.setdefault(key, {})[row["seed"]] = row
    best = {(key[0], key[1]): (key, by) for key, by in found.items() if len(by) >= arguments.seeds}
    names = list(dict.fromkeys(point for point, _ in best))
    profiles = {point: (dataset_of(point).task, profile_dataset(dataset_of(point))) for point in names}
    gains = {
        (point, family): [by[seed]["test"] - best[point, BASELINE][1][seed]["test"] for seed in sorted(by)]
        for (point, family), (_, by) in best.items()
    }
    spread = {}
    for task in ("binary", "multiclass"):
        here = [given for (point, family), given in gains.items() if profiles[point][0] == task and family != BASELINE]
        spread[task] = (float(np.mean([np.var(given, ddof=1) for given in here])) ** 0.5, len(here))
    writer = csv.DictWriter(sys.stdout, list(LedgerRow.model_fields), lineterminator="\n")
    writer.writeheader()
    for (point, family), (key, by) in best.items():
        task, profile = profiles[point]
        deviation, number = spread[task]
        gain = float(np.mean(gains[point, family]))
        half = float(stats.t.ppf(0.975, number)) * deviation / len(by) ** 0.5 if family != BASELINE else 0.0
        chosen = CONFIGURATIONS[family][key[2]]
        row = {
            "point": Path(point).name,
            "generator": generator_of(point) if point in POINTS else "real",
            "task": task,
            **{name: round(value, 4) for name, value in compute_features(profile).items()},
            "family": family,
            "params": " ".join(f"{name}={value:g}" for name, value in chosen.items()),
            "lr": key[3],
            "steps": key[4],
            "score": round(float(np.mean([row["test"] for row in by.values()])), 4),
            "gain": round(gain, 4),
            "low": round(gain - half, 4),
            "high": round(gain + half, 4),
        }
        writer.writerow(row)


def show_map(arguments: argparse.Namespace) -> None:
    """Mean gains and differences of configurations, with 95 % intervals, by task."""
    drawn = [row for row in read_ledger() if row.generator != "real"]
    rates = {row.point: (row.lr, row.steps) for row in drawn}
    trainings = {
        (row["point"], row["family"], row["number"]): row["test"]
        for path in arguments.out
        for row in rows(Path(path))
        if row["seed"] == 0 and (row["lr"], row["steps"]) == rates.get(row["point"])
    }
    print("| task | | mean | for ten times the imbalance |\n|---|---|---|---|")
    for task in ("binary", "multiclass"):
        decades = {row.point: row.log_imbalance for row in drawn if row.task == task}
        for family, configurations in CONFIGURATIONS.items():
            gains = {row.point: row.gain for row in drawn if row.family == family and row.task == task}
            if family != BASELINE:
                print(f"| {task} | {family} | " + _trend([decades[point] for point in gains], list(gains.values())))
            for number in range(1, len(configurations)):
                apart = [trainings[point, family, number] - trainings[point, family, 0] for point in decades]
                name = f"{family} {configurations[number]} less {configurations[0]}"
                print(f"| {task} | {name} | " + _trend(list(decades.values()), apart))


def _trend(decades: list[float], values: list[float]) -> str:
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    line = stats.linregress(decades, values)
    wide = float(stats.t.ppf(0.975, len(values) - 2)) * line.stderr
    low, high = line.slope - wide, line.slope + wide
    return f"{np.mean(values):+.3f} ± {half:.3f} | {line.slope:+.3f} [{low:+.3f}, {high:+.3f}] |"


def check(arguments: argparse.Namespace) -> None:
    """Print the cost of the first choice on generators, and real sets, that the ledger was not made of."""
    ledger = read_ledger()
    costs: dict[str, dict[str, list[float]]] = {}
    inside: list[bool] = []
    misses: list[float] = []
    unlike: list[str] = []
    order: dict[str, list[list[float]]] = {}
    for point in dict.fromkeys(row.point for row in ledger):
        own = {row.family: row for row in ledger if row.point == point}
        first = own[BASELINE]
        others = [row for row in ledger if row.generator != first.generator]
        advised = rank_losses(first.task, first.features, others)
        top = max(row.gain for row in own.values())
        if measure_nearness(first.task, first.features, others).unlike:
            unlike.append(point)
        for one in advised:
            if one.gain is not None and one.lowest is not None and one.highest is not None and one.family != BASELINE:
                inside.append(one.lowest <= own[one.family].gain <= one.highest)
                misses.append(abs(one.gain - own[one.family].gain))
        picks = {"advise": advised[0].family, "always dice_ce": "dice_ce", "always cross_entropy": BASELINE}
        for where in ("real sets",) if first.generator == "real" else (first.generator, "all drawn"):
            for name, family in picks.items():
                costs.setdefault(where, {}).setdefault(name, []).append(top - own[family].gain)
        for name, families in (("advice", [found.family for found in advised]), ("registry", list(CONFIGURATIONS))):
            tried = [max(own[family].gain for family in families[:number]) for number in range(1, len(families) + 1)]
            sets = "real sets" if first.generator == "real" else "drawn sets"
            order.setdefault(f"{sets}, {name}", []).append([top - value for value in tried])
    print("| left out | sets | " + " | ".join(picks) + " |\n|---|---|" + "---|" * len(picks))
    for where, found in costs.items():
        number = len(next(iter(found.values())))
        cells = [f"{np.mean(values):.4f} {_interval(values)}" for values in found.values()]
        print(f"| {where} | {number} | " + " | ".join(cells) + " |")
    print(f"\n{100 * np.mean(inside):.0f} % of the gains lie within the range of the nearest sets.")
    print(f"The mean gain that is claimed is {np.mean(misses):.4f} off.")
    print(f"Nothing is claimed of what is unlike all others: {', '.join(unlike)}.\n")
    print("| best of the first … families | " + " | ".join(map(str, range(1, 8))) + " |\n|---|" + "---|" * 7)
    for name, curves in order.items():
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in np.mean(curves, axis=0)) + " |")


def show_kinds(arguments: argparse.Namespace) -> None:
    """Print each family's mean gain on a generator's sets, with a 95 % interval over sets; real sets one by one."""
    families = [family for family in CONFIGURATIONS if family != BASELINE]
    kinds: dict[str, dict[str, list[float]]] = {}
    for row in read_ledger():
        kind = row.point if row.generator == "real" else f"{row.generator}, {row.task}"
        kinds.setdefault(kind, {}).setdefault(row.family, []).append(row.gain)
    print("| sets | number | " + " | ".join(families) + " |\n|---|---|" + "---|" * len(families))
    for kind, gains in kinds.items():
        cells = []
        for family in families:
            values = gains[family]
            number = len(values)
            half = stats.t.ppf(0.975, number - 1) * np.std(values, ddof=1) / number**0.5 if number > 2 else None
            cells.append(f"{np.mean(values):+.3f}" + (f" ± {half:.3f}" if half is not None else ""))
        print(f"| {kind} | {number} | " + " | ".join(cells).replace("-", "−") + " |")


def _interval(values: list[float]) -> str:
    """95 % interval of the mean, by the bootstrap."""
    if len(values) < 3:
        return ""
    draws = np.random.default_rng(0).choice(values, (4000, len(values))).mean(axis=1)
    return "[{:.4f}, {:.4f}]".format(*np.quantile(draws, (0.025, 0.975)))


def plan(arguments: argparse.Namespace) -> None:
    """Print how many trainings, and for how long."""
    first = 2 + sum(len(found) for found in CONFIGURATIONS.values())
    number = len(POINTS) * (first + (arguments.seeds - 1) * len(CONFIGURATIONS))
    started = time.monotonic()
    out = Path(".sweeper/ledger/plan.jsonl")
    out.parent.mkdir(parents=True, exist_ok=True)
    Point("blobs-18%", [], out).trained(BASELINE, 0, 0, LEARNING_RATES[0], STEPS)
    seconds = time.monotonic() - started
    print(
        f"{number} trainings of {len(POINTS)} data sets; {number * seconds / 60:.0f} min on one core", file=sys.stderr
    )


def main() -> None:
    """Collect, or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    planned = commands.add_parser("plan")
    planned.set_defaults(call=plan)
    collecting = commands.add_parser("collect")
    collecting.add_argument("out")
    collecting.add_argument("--point", action="append", choices=list(POINTS))
    collecting.add_argument("--data", action="append", help="folders of real sets, in place of the points")
    collecting.add_argument("--part", default="1/1")
    collecting.set_defaults(call=collect)
    printing = commands.add_parser("table")
    printing.add_argument("out", nargs="+")
    printing.set_defaults(call=table)
    mapping = commands.add_parser("map")
    mapping.add_argument("out", nargs="+")
    mapping.set_defaults(call=show_map)
    commands.add_parser("check").set_defaults(call=check)
    commands.add_parser("kinds").set_defaults(call=show_kinds)
    for command in (planned, collecting, printing):
        command.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
