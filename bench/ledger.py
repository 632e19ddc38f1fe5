"""Make the ledger of the advice: which loss wins on which kind of data, by how much, with which values.

    python bench/ledger.py plan
    python bench/ledger.py collect OUT.jsonl [--part 1/2] [--seeds 2] [--point cracks-1% …] [--data FOLDER …]
    python bench/ledger.py table OUT.jsonl [OUT.jsonl …] > sweeper/fingerprint/ledger.csv
    python bench/ledger.py map OUT.jsonl [OUT.jsonl …]
    python bench/ledger.py check
    python bench/ledger.py kinds

- `plan` prints the number of trainings, and their time on one core of this machine.
- `collect` trains, and appends a line to OUT.jsonl for each training. If you interrupt it, run it again to continue;
  with `--part` several processes share the work. With `--data` it trains on folders of real images instead. First it
  trains cross-entropy and dice_ce at two learning rates: all families get the rate with the higher sum of validation
  scores. If neither learned, the steps are doubled, up to 400. Then it trains every configuration of `CONFIGURATIONS`
  on seed 0, and the one of each family with the best validation score on the other seeds.
- `table` prints a row for each data set and family. Run it in the folder in which `collect` ran.
- `map` prints the mean gains on the synthetic sets, the differences in test mIoU on seed 0 between each configuration
  and the first of its family, and how both change with ten times the imbalance.
- `check` leaves out each generator in turn, and all real sets at once, and prints how far the first loss of
  the advice is then below the best loss, next to two losses that are always the same.
- `kinds` prints each family's mean gain on the sets of each generator.

There are 43 synthetic data sets of six generators: four scenes of `sweeper synth`, and two of this file, `lesions` (one
object with a soft outline in each image) and `parcels` (images full of fields, whose classes become rarer). They differ
in foreground share, structure, blur, number of classes, imbalance and label noise; test images have correct labels. 40
of 120 images are test images, the same for all seeds; each seed divides the others again.

All trainings took 100 minutes on two cores (docs/atlas.md).
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.shared import BASELINE, append_row, compute_half_width, read_rows, resume_rows, select_part, train_to_end
from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, Dataset, TrialSpec
from sweeper.data import divide_images, load_dataset
from sweeper.data.scenes.canvas import DrawnImage, Field, Painter
from sweeper.data.synthetic import draw_image, parse_scene, spoil_labels
from sweeper.fingerprint.imbalance import measure_imbalance, profile_dataset
from sweeper.fingerprint.ledger import LedgerRow, compute_features, measure_nearness, rank_losses, read_ledger

IMAGES, TEST_IMAGES, SIDE = 120, 40, 96
LEARNING_RATES = (1.5e-3, 4e-3)
STEPS, MOST_STEPS = 100, 400
PRECISION = "bfloat16"
SMALL_RECIPE = {"decoder_width": 8, "size": 64}
"""What the default recipe on a CPU has."""
SECOND_FAMILY = "dice_ce"
"""Trained with the baseline to find the learning rate and the steps."""
CONFIGURATIONS: dict[str, tuple[dict[str, float], ...]] = {
    "cross_entropy": ({},),
    "weighted_ce": ({"power": 0.25}, {"power": 0.5}, {"power": 1.0}),
    "focal": ({"gamma": 2, "alpha": 0.5}, {"gamma": 1, "alpha": 0.75}, {"gamma": 3, "alpha": 0.25}),
    "dice": ({},),
    "tversky": ({"fn_weight": 0.3}, {"fn_weight": 0.7}),
    "dice_ce": ({"mix": 0.5, "power": 0}, {"mix": 0.5, "power": 0.5}, {"mix": 0.2, "power": 0.75}),
    "dice_focal": ({"mix": 0.5, "gamma": 2}, {"mix": 0.2, "gamma": 1}),
}
"""`power` is the exponent of the imbalance in pos_weight, or class_weight_power."""
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
"""Synthetic data sets: name → scene with its options."""


def draw_lesion(rng: np.random.Generator, values: Mapping[str, float]) -> DrawnImage:
    """Draw one uneven object of low contrast with a soft outline, among hairs and stains that belong to no object."""
    painter = Painter(rng, SIDE)
    y, x = painter.make_grid()
    share = values["foreground"] * rng.uniform(0.4, 1.6)
    centre = rng.uniform(0.25, 0.75, 2) * SIDE
    angle = np.arctan2(y - centre[0], x - centre[1])
    radius = np.ones_like(angle)
    for wave in range(2, 6):
        radius += rng.normal(0, 0.12 / (wave - 1)) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    distance = np.hypot(y - centre[0], x - centre[1]) / np.clip(radius, 0.3, None)
    limit = np.quantile(distance, min(share, 0.9))
    mask = distance <= limit
    cover = 1 / (1 + np.exp((distance - limit) / rng.uniform(1, 3)))
    skin = 0.6 + 0.05 * painter.make_field(SIDE / 4) + 0.02 * painter.make_field(2)
    dark = rng.uniform(0.1, 0.22) * (1 + 0.4 * painter.make_field(4))
    stains = 0.1 * np.clip(painter.make_field(6) - 1.2, 0, 1)
    tone = skin - dark * cover - stains
    for _ in range(int(rng.integers(0, 5))):
        slope, offset = rng.normal(0, 1), rng.uniform(0, SIDE)
        tone -= 0.15 * (np.abs(y - offset - slope * (x - SIDE / 2)) < 0.7 * np.hypot(1, slope))
    return DrawnImage(painter.expose(_tint_image(rng, tone, (1.1, 0.9, 0.8)), values["noise"]), mask.astype(np.uint8))


def draw_parcels(rng: np.random.Generator, values: Mapping[str, float]) -> DrawnImage:
    """Draw an image full of fields, each of one class; the classes differ a little in tone, tint and texture."""
    classes, number = int(values["classes"]), int(rng.integers(10, 18))
    painter = Painter(rng, SIDE)
    y, x = painter.make_grid()
    seeds = rng.uniform(0, SIDE, (number, 2))
    bend = 4 * np.stack([painter.make_field(10), painter.make_field(10)])
    distances = np.hypot((y + bend[0])[..., None] - seeds[:, 0], (x + bend[1])[..., None] - seeds[:, 1])
    field = distances.argmin(axis=2)
    share = values["ratio"] ** -np.arange(classes, dtype=float)
    labels = rng.choice(classes, number, p=share / share.sum())
    mask = labels[field].astype(np.uint8)
    tone = np.zeros((SIDE, SIDE))
    for label in range(classes):
        grain = 0.06 * painter.make_field(0.8 + 1.2 * label)
        tone = np.where(mask == label, 0.38 + 0.06 * (label % 4) + grain, tone)
    tone += np.array(rng.normal(0, 0.03, number))[field]
    image = _tint_image(rng, tone, (0.9, 1.05, 0.8))
    for label in range(classes):
        image[:, :, label % 3] += 0.05 * (mask == label)
    return DrawnImage(painter.expose(image, values["noise"]), mask)


def _tint_image(rng: np.random.Generator, tone: Field, tint: tuple[float, ...]) -> Any:
    """Return the colours (H, W, 3) of a tone (H, W), tinted a little differently in each image."""
    return np.repeat(tone[:, :, None], 3, axis=2) * (np.array(tint) + rng.normal(0, 0.02, 3))


GENERATORS: dict[str, Callable[[np.random.Generator, Mapping[str, float]], DrawnImage]] = {
    "lesions": draw_lesion,
    "parcels": draw_parcels,
}
"""Generators of this file; the others are scenes of `sweeper synth`."""


def get_generator(point: str) -> str:
    """Return the name of what draws the images of a synthetic data set."""
    return POINTS[point].partition("?")[0]


def draw_point_image(point: str, index: int) -> tuple[DrawnImage, bool]:
    """Draw an image of a synthetic data set; return it, and whether it is a test image, whose labels are correct."""
    scene, _, query = POINTS[point].partition("?")
    options = dict(pair.split("=") for pair in query.split("&") if pair)
    shift, missing = (float(options.pop(key, 0)) for key in ("shift", "missing"))
    if scene in GENERATORS:
        values = {"noise": 0.04, **{key: float(value) for key, value in options.items()}}
        drawing = GENERATORS[scene](np.random.default_rng([7, index]), values)
    else:
        pairs = {**options, "size": SIDE, "images": IMAGES}.items()
        drawing = draw_image(parse_scene(f"{scene}?{'&'.join(f'{key}={value}' for key, value in pairs)}"), index)
    is_test = index % (IMAGES // TEST_IMAGES) == 0
    if not is_test and (shift or missing):
        mask = spoil_labels(np.random.default_rng([7, index, 1]), drawing.mask, shift, missing)
        drawing = DrawnImage(drawing.image, mask)
    return drawing, is_test


def write_point(point: str, folder: Path) -> Path:
    """Write a synthetic data set with its test images and classes, if its folder does not exist; return the folder."""
    root = folder / point.replace("%", "")
    if (root / "split.csv").exists():
        return root
    draft = root.with_name(root.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    for kind in ("images", "masks"):
        (draft / kind).mkdir(parents=True)
    highest = 1
    with (draft / "split.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("stem", "split", "group"))
        for index in range(IMAGES):
            drawing, is_test = draw_point_image(point, index)
            stem = f"{index:05d}"
            Image.fromarray(drawing.image).save(draft / "images" / f"{stem}.png")
            Image.fromarray(drawing.mask).save(draft / "masks" / f"{stem}.png")
            highest = max(highest, int(drawing.mask.max()))
            lines.writerow((stem, "test" if is_test else "", stem))
    names = ["ground", *(f"class_{label}" for label in range(1, highest + 1))]
    (draft / "classes.txt").write_text("\n".join(names) + "\n")
    draft.rename(root)
    return root


def load_point(point: str) -> Dataset:
    """Load a synthetic data set of `POINTS`, or a folder."""
    source = str(write_point(point, Path(".sweeper/ledger"))) if point in POINTS else point
    return load_dataset(source, Path(".sweeper/cache"), lambda _: None)


def make_params(configuration: Mapping[str, float], dataset: Dataset, imbalance: float) -> dict[str, float]:
    """Return the parameters of the loss: those of the configuration, with the weights that its `power` gives."""
    params = dict(configuration)
    power = params.pop("power", None)
    if power is not None:
        if dataset.task == "binary":
            params["pos_weight"] = imbalance**power
        else:
            params["class_weight_power"] = power
    return params


class Point:
    """One data set, and its trainings so far."""

    def __init__(
        self,
        name: str,
        rows: list[dict[str, Any]],
        out: Path,
        *,
        configurations: Mapping[str, Sequence[dict[str, float]]] = CONFIGURATIONS,
        recipe: Mapping[str, Any] = SMALL_RECIPE,
        first_steps: int = STEPS,
    ) -> None:
        """Load the data set, which is drawn if it is missing.

        Args:
            name: one of `POINTS`, or a folder.
            rows: the trainings so far, of any data set; new ones are appended.
            out: file of JSON lines, to which new trainings are also appended.
            configurations: of each family, the parameters that are trained.
            recipe: fields of the recipe that are not its defaults.
            first_steps: steps of a training, before they are doubled.
        """
        self.name, self._rows, self._out = name, rows, out
        self.configurations, self._recipe, self._first_steps = configurations, recipe, first_steps
        self._dataset = load_point(name)

    def train(self, family: str, number: int, seed: int, lr: float, steps: int) -> dict[str, Any]:
        """Return the row of a training of the family's configuration `number`; train it if the row is missing."""
        key = {"point": self.name, "family": family, "number": number, "seed": seed, "lr": lr, "steps": steps}
        for row in self._rows:
            if all(row[name] == value for name, value in key.items()):
                return row
        recipe = Recipe(precision=PRECISION, steps=steps, confirm_steps=steps, evaluations=1, **self._recipe)
        conditions = Conditions(dataset=self._dataset, recipe=recipe, seed=seed)
        train = divide_images(self._dataset, test_seed=seed, seed=seed).train
        imbalance = measure_imbalance(self._dataset, train)
        params = make_params(self.configurations[family][number], self._dataset, imbalance)
        spec = TrialSpec(purpose="confirm", number=number, family=family, params=params, lr=lr, seed=seed, steps=steps)
        row = {**key, "params": params, **train_to_end(spec, conditions)}
        self._rows.append(row)
        append_row(self._out, row)
        return row

    def find_rate_and_steps(self) -> tuple[float, int]:
        """Return the learning rate and the number of steps that all trainings on this data set get."""
        steps = self._first_steps
        families = (BASELINE, SECOND_FAMILY)
        while True:
            pairs = {lr: [self.train(family, 0, 0, lr, steps) for family in families] for lr in LEARNING_RATES}
            if steps >= MOST_STEPS or any(row["learned"] for pair in pairs.values() for row in pair):
                return max(pairs, key=lambda lr: sum(row["val"] for row in pairs[lr])), steps
            steps *= 2


def collect(arguments: argparse.Namespace) -> None:
    """Append a row for each training."""
    from sweeper.training.hardware import settle_process

    settle_process(threads=1)
    out = Path(arguments.out)
    rows = resume_rows(out)
    names = arguments.data or arguments.point or list(POINTS)
    train_points([Point(name, rows, out) for name in select_part(names, arguments.part)], arguments.seeds)


def train_points(points: Sequence[Point], seeds: int) -> None:
    """Train every configuration on seed 0, and each family's best by validation on the other seeds."""
    for seed in range(seeds):
        for number, point in enumerate(points, 1):
            lr, steps = point.find_rate_and_steps()
            for family, configurations in point.configurations.items():
                first = [point.train(family, place, 0, lr, steps) for place in range(len(configurations))]
                best = max(first, key=lambda row: row["val"])
                if seed:
                    point.train(family, best["number"], seed, lr, steps)
            print(f"seed {seed}: {number}/{len(points)} {point.name}, {steps} steps", flush=True)


def print_table(arguments: argparse.Namespace) -> None:
    """Print a row for each data set and family: features, best configuration, score, gain with its 95 % interval.

    The intervals of a task use one standard deviation over seeds, pooled over its data sets and families.
    """
    runs: dict[tuple[str, str, int, float, int], dict[int, dict[str, Any]]] = {}
    for path in arguments.out:
        for row in read_rows(path):
            key = (row["point"], row["family"], row["number"], row["lr"], row["steps"])
            runs.setdefault(key, {})[row["seed"]] = row
    best = {(key[0], key[1]): (key, by_seed) for key, by_seed in runs.items() if len(by_seed) >= arguments.seeds}
    datasets = {point: load_point(point) for point in dict.fromkeys(point for point, _ in best)}
    gains = {
        (point, family): [by_seed[seed]["test"] - best[point, BASELINE][1][seed]["test"] for seed in sorted(by_seed)]
        for (point, family), (_, by_seed) in best.items()
    }
    spread = {}
    for task in {dataset.task for dataset in datasets.values()}:
        pooled = [
            values for (point, family), values in gains.items() if datasets[point].task == task and family != BASELINE
        ]
        freedom = sum(len(values) - 1 for values in pooled)
        spread[task] = (float(np.mean([np.var(values, ddof=1) for values in pooled])) ** 0.5, freedom)
    features = {point: compute_features(profile_dataset(dataset)) for point, dataset in datasets.items()}
    writer = csv.DictWriter(sys.stdout, list(LedgerRow.model_fields), lineterminator="\n")
    writer.writeheader()
    for (point, family), (key, by_seed) in best.items():
        task = datasets[point].task
        deviation, freedom = spread[task]
        gain = float(np.mean(gains[point, family]))
        half = 0.0
        if family != BASELINE:
            half = float(stats.t.ppf(0.975, freedom)) * deviation / len(by_seed) ** 0.5
        row = {
            "point": Path(point).name,
            "generator": get_generator(point) if point in POINTS else "real",
            "task": task,
            **{name: round(value, 4) for name, value in features[point].items()},
            "family": family,
            "params": " ".join(f"{name}={value:g}" for name, value in CONFIGURATIONS[family][key[2]].items()),
            "lr": key[3],
            "steps": key[4],
            "score": round(float(np.mean([row["test"] for row in by_seed.values()])), 4),
            "gain": round(gain, 4),
            "low": round(gain - half, 4),
            "high": round(gain + half, 4),
        }
        writer.writerow(row)


def print_map(arguments: argparse.Namespace) -> None:
    """Print mean gains, and mean differences between configurations, with 95 % intervals, by task."""
    synthetic = [row for row in read_ledger() if row.generator != "real"]
    rates = {row.point: (row.lr, row.steps) for row in synthetic}
    scores = {
        (row["point"], row["family"], row["number"]): row["test"]
        for path in arguments.out
        for row in read_rows(path)
        if row["seed"] == 0 and (row["lr"], row["steps"]) == rates.get(row["point"])
    }
    print("| task | | mean | for ten times the imbalance |\n|---|---|---|---|")
    for task in ("binary", "multiclass"):
        decades = {row.point: row.log_imbalance for row in synthetic if row.task == task}
        for family, configurations in CONFIGURATIONS.items():
            gains = {row.point: row.gain for row in synthetic if row.family == family and row.task == task}
            if family != BASELINE:
                cells = _format_trend([decades[point] for point in gains], list(gains.values()))
                print(f"| {task} | {family} | {cells}")
            for number in range(1, len(configurations)):
                differences = [scores[point, family, number] - scores[point, family, 0] for point in decades]
                name = f"{family} {configurations[number]} less {configurations[0]}"
                print(f"| {task} | {name} | " + _format_trend(list(decades.values()), differences))


def _format_trend(decades: list[float], values: list[float]) -> str:
    line = stats.linregress(decades, values)
    half = float(stats.t.ppf(0.975, len(values) - 2)) * line.stderr
    low, high = line.slope - half, line.slope + half
    mean = f"{np.mean(values):+.3f} ± {compute_half_width(values):.3f}"
    return f"{mean} | {line.slope:+.3f} [{low:+.3f}, {high:+.3f}] |"


def print_check(arguments: argparse.Namespace) -> None:
    """Print what the advice costs on each generator, and on the real sets, if the ledger has no rows of them."""
    ledger = read_ledger()
    costs: dict[str, dict[str, list[float]]] = {}
    is_inside: list[bool] = []
    misses: list[float] = []
    unlike: list[str] = []
    curves: dict[str, list[list[float]]] = {}
    for point in dict.fromkeys(row.point for row in ledger):
        families = {row.family: row for row in ledger if row.point == point}
        baseline = families[BASELINE]
        others = [row for row in ledger if row.generator != baseline.generator]
        advice = rank_losses(baseline.task, baseline.features, others)
        best = max(row.gain for row in families.values())
        if measure_nearness(baseline.task, baseline.features, others).unlike:
            unlike.append(point)
        for each in advice:
            if each.gain is None or each.lowest is None or each.highest is None or each.family == BASELINE:
                continue
            gain = families[each.family].gain
            is_inside.append(each.lowest <= gain <= each.highest)
            misses.append(abs(each.gain - gain))
        picks = {"advice": advice[0].family, "always dice_ce": "dice_ce", "always cross_entropy": BASELINE}
        is_real = baseline.generator == "real"
        for kind in ("real sets",) if is_real else (baseline.generator, "all synthetic"):
            for name, family in picks.items():
                costs.setdefault(kind, {}).setdefault(name, []).append(best - families[family].gain)
        for name, order in (("advice", [each.family for each in advice]), ("registry", list(CONFIGURATIONS))):
            gains = np.maximum.accumulate([families[family].gain for family in order])
            kind = "real sets" if is_real else "synthetic sets"
            curves.setdefault(f"{kind}, {name}", []).append((best - gains).tolist())
    print("| left out | sets | " + " | ".join(picks) + " |\n|---|---|" + "---|" * len(picks))
    for kind, by_pick in costs.items():
        cells = [f"{np.mean(values):.4f} {_format_interval(values)}" for values in by_pick.values()]
        print(f"| {kind} | {len(by_pick['advice'])} | " + " | ".join(cells) + " |")
    print(f"\n{100 * np.mean(is_inside):.0f} % of the gains are within the range of the nearest sets.")
    print(f"The mean gain that is claimed is {np.mean(misses):.4f} off.")
    print(f"Nothing is claimed of sets that are unlike all others: {', '.join(unlike)}.\n")
    numbers = range(1, len(CONFIGURATIONS) + 1)
    print("| best of the first … families | " + " | ".join(map(str, numbers)) + " |\n|---|" + "---|" * len(numbers))
    for name, losses in curves.items():
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in np.mean(losses, axis=0)) + " |")


def print_kinds(arguments: argparse.Namespace) -> None:
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
            half = f" ± {compute_half_width(values):.3f}" if len(values) > 2 else ""
            cells.append(f"{np.mean(values):+.3f}{half}")
        print(f"| {kind} | {len(gains[families[0]])} | " + " | ".join(cells).replace("-", "−") + " |")


def _format_interval(values: list[float]) -> str:
    """Return the 95 % interval of the mean, by the bootstrap, from three values or more."""
    if len(values) < 3:
        return ""
    draws = np.random.default_rng(0).choice(values, (4000, len(values))).mean(axis=1)
    return "[{:.4f}, {:.4f}]".format(*np.quantile(draws, (0.025, 0.975)))


def print_plan(arguments: argparse.Namespace) -> None:
    """Print the number of trainings, and their time at the pace of one."""
    first = 2 + sum(len(configurations) for configurations in CONFIGURATIONS.values())
    number = len(POINTS) * (first + (arguments.seeds - 1) * len(CONFIGURATIONS))
    with tempfile.TemporaryDirectory() as folder:
        point = Point("blobs-18%", [], Path(folder) / "plan.jsonl")
        point.train(BASELINE, 0, 0, LEARNING_RATES[0], 1)  # loads the libraries
        started = time.monotonic()
        point.train(BASELINE, 0, 0, LEARNING_RATES[0], STEPS)
        seconds = time.monotonic() - started
    print(
        f"{number} trainings of {len(POINTS)} data sets: {number * seconds / 60:.0f} min on one core, and more where "
        f"{STEPS} steps are too few to learn"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    planning = commands.add_parser("plan")
    planning.set_defaults(call=print_plan)
    collecting = commands.add_parser("collect")
    collecting.add_argument("out")
    collecting.add_argument("--point", action="append", choices=list(POINTS), help="only this set; may be repeated")
    collecting.add_argument("--data", action="append", help="a folder of real images; may be repeated")
    collecting.add_argument("--part", default="1/1", help="K/N: every N-th set from the K-th on")
    collecting.set_defaults(call=collect)
    printing = commands.add_parser("table")
    printing.add_argument("out", nargs="+")
    printing.set_defaults(call=print_table)
    mapping = commands.add_parser("map")
    mapping.add_argument("out", nargs="+")
    mapping.set_defaults(call=print_map)
    commands.add_parser("check").set_defaults(call=print_check)
    commands.add_parser("kinds").set_defaults(call=print_kinds)
    for command in (planning, collecting, printing):
        command.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
