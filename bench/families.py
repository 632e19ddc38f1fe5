"""Which family wins where, and by how much over cross-entropy: every family at its default and at random draws.

    python bench/families.py collect OUT.jsonl [--scene thin …] [--family dice …] [--draws 8] [--seeds 3] [--keep 2]
                             [--steps 100] [--size 96] [--batch 8] [--images 60] [--part 1/2]
    python bench/families.py table OUT.jsonl

Scenes: thin (cracks), blobs (touching cells), small (many small objects), rare (five rare classes), noisy (a third of
the objects unlabelled, the others two pixels off; tested on the right labels). `collect` trains each family's default,
and random draws of its hyper-parameters, on the first seed, each at a learning rate that all families share; the
default and the `--keep` draws that validate best are trained on the other seeds, too, unless the family's best stays
more than `--margin` below cross-entropy's. The splits are one for all, a seed has its own weights and batches. It can
be cut off and continues where it was; several processes share the work with `--part`. `table` takes, for each family,
the configuration with the best mean on the validation images of all seeds, and compares what it reads on the test
images with cross-entropy's best in the same way, seed by seed.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import shutil
import statistics
import zlib
from pathlib import Path
from typing import Any

import optuna

from sweeper.core import metrics
from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, Dataset, SearchSpace, TrialSpec
from sweeper.data import load_dataset
from sweeper.data.synthetic import write_scenes
from sweeper.fingerprint.imbalance import compute_imbalance
from sweeper.losses import FAMILIES
from sweeper.space import load_space, suggest_choice
from sweeper.space.search_space import TrialChoice, make_default_choice

SCENES = {
    "thin": "cracks?spread=0",
    "blobs": "blobs?",
    "small": "shapes?foreground=0.01&object=6",
    "rare": "shapes?classes=6&ratio=3&foreground=0.2",
    "noisy": "shapes?foreground=0.05",
}
NOISE = {"noisy": "&missing=0.3&shift=2"}
"""Of the labels that are trained and validated on."""
SPACES = {"binary": "full", "multiclass": "full_multiclass"}
BASELINE = "cross_entropy"
LEARNING_RATES = (1e-3, 2e-3, 5e-4, 4e-3)
"""Of the default and of each draw in turn, the same for every family: none wins by the luck of its learning rate."""


def drawn(scene: str, images: int, size: int, folder: Path) -> Path:
    """Draw a folder of the scene with given splits and clean test masks; made once."""
    root = folder / f"{scene}-{images}-{size}"
    if (root / "split.csv").exists():
        return root
    shutil.rmtree(root, ignore_errors=True)
    query = f"{SCENES[scene]}&images={images}&size={size}".replace("?&", "?")
    write_scenes(query + NOISE.get(scene, ""), root)
    stems = sorted(path.stem for path in (root / "masks").iterdir())
    sides = {stem: ("train", "train", "train", "val", "test")[at % 5] for at, stem in enumerate(stems)}
    if scene in NOISE:
        right = folder / f"{root.name}-right"
        shutil.rmtree(right, ignore_errors=True)
        write_scenes(query, right)
        for stem in (stem for stem, side in sides.items() if side == "test"):
            shutil.copy(right / "masks" / f"{stem}.png", root / "masks" / f"{stem}.png")
        shutil.rmtree(right)
    with (root / "split.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("stem", "split", "group"))
        writer.writerows((stem, side, stem) for stem, side in sides.items())
    return root


def choices(family: str, space: SearchSpace, imbalance: float, draws: int) -> list[TrialChoice]:
    """Return the family's default, then draws of its hyper-parameters that depend only on its name and their number."""
    (own,) = (known for known in space.families if known.family == family)
    alone = space.model_copy(update={"families": (own,)})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=zlib.crc32(family.encode())))
    found = [
        make_default_choice(own, space, imbalance),
        *(suggest_choice(study.ask(), alone, imbalance) for _ in range(draws)),
    ]
    rates = itertools.cycle(LEARNING_RATES)
    return [choice.model_copy(update={"lr": rate}) for choice, rate in zip(found, rates, strict=False)]


def collect(arguments: argparse.Namespace) -> None:
    """Append one line per training: scene, family, number (0 = the default), seed, values."""
    from sweeper.training.hardware import probe_device, settle_process

    settle_process(threads=1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    out, cache = Path(arguments.out), Path(".sweeper/cache")
    known = rows(out) if out.exists() else []
    steps = {"steps": arguments.steps, "confirm_steps": arguments.steps, "evaluations": 1}
    recipe = Recipe(precision=probe_device("cpu").precision, size=arguments.size, batch_size=arguments.batch, **steps)
    part, parts = (int(word) for word in arguments.part.split("/"))
    for stage in ("first seed", "other seeds"):
        for scene in arguments.scene or SCENES:
            data = drawn(scene, arguments.images, arguments.image_size, Path(".sweeper/families"))
            dataset = load_dataset(str(data), cache, lambda line: None)
            space = load_space(SPACES[dataset.task], dataset.task)
            train = [at for at, image in enumerate(dataset.images) if image.split == "train"]
            imbalance = compute_imbalance(dataset.count_class_pixels(train))
            here = [own.family for own in space.families]
            for family in [name for name in arguments.family or here if name in here][part - 1 :: parts]:
                drawings = dict(enumerate(choices(family, space, imbalance, arguments.draws)))
                done = {
                    r["number"]: r["val"] for r in known if (r["scene"], r["family"], r["seed"]) == (scene, family, 0)
                }
                kept = sorted((n for n in done if n), key=lambda n: done[n], reverse=True)[: arguments.keep]
                seeds = (0,) if stage == "first seed" else range(1, arguments.seeds)
                if stage == "other seeds":
                    best = best_of(rows(out), scene, BASELINE, arguments.draws + 1)
                    if max(done.values()) < best - arguments.margin:
                        continue
                for seed in seeds:
                    conditions = Conditions(dataset=dataset, recipe=recipe, seed=seed)
                    for number in drawings if seed == 0 else (0, *kept):
                        if any(
                            (r["scene"], r["family"], r["number"], r["seed"]) == (scene, family, number, seed)
                            for r in known
                        ):
                            continue
                        choice = drawings[number]
                        given = {"family": family, "params": choice.params, "lr": choice.lr, "seed": seed}
                        spec = TrialSpec(purpose="confirm", number=number, steps=arguments.steps, **given)
                        row = {"scene": scene, "number": number, **given, **trained(spec, conditions, dataset)}
                        known.append(row)
                        with out.open("a") as file:
                            file.write(json.dumps(row) + "\n")


def best_of(found: list[dict[str, Any]], scene: str, family: str, wanted: int) -> float:
    """Return the best validation value of a family on the first seed, of `wanted` configurations."""
    values = [r["val"] for r in found if (r["scene"], r["family"], r["seed"]) == (scene, family, 0)]
    if len(values) < wanted:
        raise SystemExit(
            f"others are compared with {family}, of which {len(values)} of {wanted} trainings of the first seed on "
            f"{scene} are there: train these first (--family {family}, or the part that has it), then this again"
        )
    return max(values)


def trained(spec: TrialSpec, conditions: Conditions, dataset: Dataset) -> dict[str, Any]:
    """Return a training's validation and test scores at the operating point chosen on validation."""
    from sweeper.training.engine import StudyTraining
    from sweeper.training.training_context import open_context

    training = StudyTraining(spec, open_context(conditions, "cpu"))
    while not training.is_finished:
        training.advance()
    result = training.make_result("complete")
    test = 0.0
    if result.test is not None:
        test = metrics.compute_scores(metrics.count_at_point(result.test, result.evaluations[-1].point)).miou
    return {"val": result.value, "test": test, "learned": result.collapse.learned, "seconds": result.seconds}


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the trainings of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(arguments: argparse.Namespace) -> None:
    """Print a row for each family, a column for each scene: test mIoU less cross-entropy's, over seeds."""
    found = rows(Path(arguments.out))
    scenes = list(dict.fromkeys(row["scene"] for row in found))
    best = {scene: chosen([row for row in found if row["scene"] == scene]) for scene in scenes}
    plain = {scene: chosen([r for r in found if r["scene"] == scene and r["number"] == 0]) for scene in scenes}
    print("| family | " + " | ".join(f"{scene} | default" for scene in scenes) + " |")
    print("|---|" + "---|---|" * len(scenes))
    for family in FAMILIES:
        cells = []
        for scene in scenes:
            cells += [gain(family, best[scene]), gain(family, plain[scene])]
        if any(cells):
            print(f"| {family} | " + " | ".join(cells) + " |")


def chosen(found: list[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """Test values by seed of each family's configuration with the best mean on the validation images."""
    by: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for row in found:
        by.setdefault(row["family"], {}).setdefault(row["number"], []).append(row)
    best = {}
    for family, numbers in by.items():
        seeds = max(len(rows) for rows in numbers.values())
        whole = [rows for rows in numbers.values() if len(rows) == seeds]
        rows = max(whole, key=lambda rows: statistics.mean(row["val"] for row in rows))
        best[family] = {row["seed"]: row["test"] for row in rows}
    return best


def gain(family: str, best: dict[str, dict[int, float]]) -> str:
    """Cross-entropy's own value; of another family the mean difference to it and the range over common seeds."""
    own, base = best.get(family, {}), best.get(BASELINE, {})
    if not own:
        return ""
    if family == BASELINE:
        return f"{statistics.mean(own.values()):.3f}"
    apart = [own[seed] - base[seed] for seed in own if seed in base]
    if not apart:
        return "–"
    if len(apart) == 1:
        return f"{apart[0]:+.3f}"
    return f"{statistics.mean(apart):+.3f} ({min(apart):+.3f} … {max(apart):+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("out")
    collecting.add_argument("--scene", action="append", choices=list(SCENES), help="only these")
    collecting.add_argument("--family", action="append", choices=list(FAMILIES), help="only these")
    for name, value in {"draws": 8, "seeds": 3, "keep": 2, "steps": 100, "size": 96, "batch": 8, "images": 60}.items():
        collecting.add_argument(f"--{name}", type=int, default=value)
    collecting.add_argument("--image-size", type=int, default=192)
    collecting.add_argument("--margin", type=float, default=1.0, help="mIoU below cross-entropy's best, see above")
    collecting.add_argument("--part", default="1/1", help="K/N: every N-th family from the K-th on")
    collecting.set_defaults(do=collect)
    printing = commands.add_parser("table")
    printing.add_argument("out")
    printing.set_defaults(do=table)
    arguments = parser.parse_args()
    arguments.do(arguments)


if __name__ == "__main__":
    main()
