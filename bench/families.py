"""Which loss family wins on which kind of scene, and by how much over cross-entropy.

    python bench/families.py collect OUT.jsonl [--scene thin …] [--family dice …] [--draws 8] [--seeds 3] [--keep 2]
                             [--steps 100] [--size 96] [--batch 8] [--images 60] [--part 1/2]
    python bench/families.py table OUT.jsonl

`collect` trains each family's default, and random draws of its hyper-parameters, on the first seed. All families share
the learning rates. The default and the `--keep` draws with the best validation scores are also trained on the other
seeds, unless the family's best validation score is more than `--margin` below cross-entropy's. All trainings share the
split; a seed decides the weights and the batches. OUT.jsonl gets a line for each training. If you interrupt the
command, run it again to continue; with `--part` several processes share the work.

`table` takes, for each family, the configuration with the best mean validation score over all seeds. It prints the
family's gain in test mIoU over cross-entropy (which is chosen in the same way): the mean over the seeds, and the range.

The scenes: thin (cracks), blobs (touching cells), small (many small objects), rare (five rare classes), noisy (a third
of the objects without a label, the others two pixels off; tested on correct labels).

docs/losses-measured.md has the results of 1,264 trainings. A training takes a few seconds.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import shutil
import statistics
import sys
import zlib
from pathlib import Path
from typing import Any

import optuna

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.shared import BASELINE, append_row, read_rows, resume_rows, select_part, train_to_end
from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, SearchSpace, TrialSpec
from sweeper.data import load_dataset
from sweeper.data.synthetic import write_scenes
from sweeper.fingerprint.imbalance import measure_imbalance
from sweeper.losses import FAMILIES
from sweeper.space import load_space, suggest_choice
from sweeper.space.space_file import TrialChoice, make_default_choice

SCENES = {
    "thin": "cracks?spread=0",
    "blobs": "blobs?",
    "small": "shapes?foreground=0.01&object=6",
    "rare": "shapes?classes=6&ratio=3&foreground=0.2",
    "noisy": "shapes?foreground=0.05",
}
LABEL_NOISE = {"noisy": "&missing=0.3&shift=2"}
"""Noise of the labels for training and validation, by scene."""
SPACES = {"binary": "full", "multiclass": "full_multiclass"}
LEARNING_RATES = (1e-3, 2e-3, 5e-4, 4e-3)
"""Of the default and of each draw in turn; the same for every family, so that none wins by its learning rate."""


def write_scene(scene: str, images: int, size: int, folder: Path) -> Path:
    """Write a scene with its split and correct test masks, if its folder does not exist; return the folder."""
    root = folder / f"{scene}-{images}-{size}"
    if (root / "split.csv").exists():
        return root
    shutil.rmtree(root, ignore_errors=True)
    query = f"{SCENES[scene]}&images={images}&size={size}".replace("?&", "?")
    write_scenes(query + LABEL_NOISE.get(scene, ""), root)
    stems = sorted(path.stem for path in (root / "masks").iterdir())
    sides = {stem: ("train", "train", "train", "val", "test")[place % 5] for place, stem in enumerate(stems)}
    if scene in LABEL_NOISE:
        correct = folder / f"{root.name}-right"
        shutil.rmtree(correct, ignore_errors=True)
        write_scenes(query, correct)
        for stem in (stem for stem, side in sides.items() if side == "test"):
            shutil.copy(correct / "masks" / f"{stem}.png", root / "masks" / f"{stem}.png")
        shutil.rmtree(correct)
    with (root / "split.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("stem", "split", "group"))
        writer.writerows((stem, side, stem) for stem, side in sides.items())
    return root


def list_choices(family: str, space: SearchSpace, imbalance: float, draws: int) -> list[TrialChoice]:
    """Return the family's default, then draws of its hyper-parameters, which depend only on its name and their number.

    The n-th choice has the n-th of `LEARNING_RATES`, which are repeated.
    """
    (configured,) = (each for each in space.families if each.family == family)
    space_of_family = space.model_copy(update={"families": (configured,)})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=zlib.crc32(family.encode())))
    choices = [
        make_default_choice(configured, space, imbalance),
        *(suggest_choice(study.ask(), space_of_family, imbalance) for _ in range(draws)),
    ]
    rates = itertools.cycle(LEARNING_RATES)
    return [choice.model_copy(update={"lr": rate}) for choice, rate in zip(choices, rates, strict=False)]


def collect(arguments: argparse.Namespace) -> None:
    """Append a row for each training: scene, number (0 = the default), family, parameters, rate, seed, scores."""
    from sweeper.training.hardware import probe_device, settle_process

    settle_process(threads=1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    steps = {"steps": arguments.steps, "confirm_steps": arguments.steps, "evaluations": 1}
    recipe = Recipe(precision=probe_device("cpu").precision, size=arguments.size, batch_size=arguments.batch, **steps)
    for seeds in (range(1), range(1, arguments.seeds)):  # the first seed decides what the others train
        for scene in arguments.scene or SCENES:
            data = write_scene(scene, arguments.images, arguments.image_size, Path(".sweeper/families"))
            dataset = load_dataset(str(data), Path(".sweeper/cache"), lambda line: None)
            space = load_space(SPACES[dataset.task], dataset.task)
            train = tuple(place for place, image in enumerate(dataset.images) if image.split == "train")
            imbalance = measure_imbalance(dataset, train)
            names = [configured.family for configured in space.families]
            families = [name for name in arguments.family or names if name in names]
            for family, seed in itertools.product(select_part(families, arguments.part), seeds):
                choices = list_choices(family, space, imbalance, arguments.draws)
                rows = resume_rows(arguments.out)
                done = {(row["scene"], row["family"], row["number"], row["seed"]) for row in rows}
                for number in select_numbers(rows, scene, family, arguments) if seed else range(len(choices)):
                    if (scene, family, number, seed) in done:
                        continue
                    choice = choices[number]
                    fields = {"family": family, "params": choice.params, "lr": choice.lr, "seed": seed}
                    spec = TrialSpec(purpose="confirm", number=number, steps=arguments.steps, **fields)
                    scores = train_to_end(spec, Conditions(dataset=dataset, recipe=recipe, seed=seed))
                    append_row(arguments.out, {"scene": scene, "number": number, **fields, **scores})


def select_numbers(rows: list[dict[str, Any]], scene: str, family: str, arguments: argparse.Namespace) -> list[int]:
    """Return the choices that are trained on the other seeds: the default and the best draws; none of a poor family."""
    first = [row for row in rows if (row["scene"], row["seed"]) == (scene, 0)]
    scores = {row["number"]: row["val"] for row in first if row["family"] == family}
    baseline = [row["val"] for row in first if row["family"] == BASELINE]
    if len(baseline) < arguments.draws + 1:
        raise SystemExit(
            f"the other seeds of {family} need all {arguments.draws + 1} trainings of {BASELINE} on the first seed of "
            f"{scene}, and {arguments.out} has {len(baseline)}: run this command with --family {BASELINE} (or the part "
            "that has it), then run it again"
        )
    if max(scores.values()) < max(baseline) - arguments.margin:
        return []
    return [0, *sorted((number for number in scores if number), key=scores.__getitem__, reverse=True)[: arguments.keep]]


def print_table(arguments: argparse.Namespace) -> None:
    """Print a row for each family; for each scene the gain of its best configuration, and that of its default."""
    rows = read_rows(arguments.out)
    scenes = list(dict.fromkeys(row["scene"] for row in rows))
    best = {scene: select_scores([row for row in rows if row["scene"] == scene]) for scene in scenes}
    default = {
        scene: select_scores([row for row in rows if row["scene"] == scene and row["number"] == 0]) for scene in scenes
    }
    print("| family | " + " | ".join(f"{scene} | default" for scene in scenes) + " |")
    print("|---|" + "---|---|" * len(scenes))
    for family in FAMILIES:
        cells = []
        for scene in scenes:
            cells += [format_gain(family, best[scene]), format_gain(family, default[scene])]
        if any(cells):
            print(f"| {family} | " + " | ".join(cells) + " |")


def select_scores(rows: list[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """Return, by family and seed, the test scores of the configuration with the best mean validation score.

    A family's configurations that were not trained on all of its seeds are left out.
    """
    runs: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for row in rows:
        runs.setdefault(row["family"], {}).setdefault(row["number"], []).append(row)
    scores = {}
    for family, by_number in runs.items():
        seeds = max(len(each) for each in by_number.values())
        complete = [each for each in by_number.values() if len(each) == seeds]
        best = max(complete, key=lambda each: statistics.mean(row["val"] for row in each))
        scores[family] = {row["seed"]: row["test"] for row in best}
    return scores


def format_gain(family: str, scores: dict[str, dict[int, float]]) -> str:
    """Return the mean gain over cross-entropy and its range over the common seeds; of cross-entropy its own mean."""
    by_seed, baseline = scores.get(family, {}), scores.get(BASELINE, {})
    if not by_seed:
        return ""
    if family == BASELINE:
        return f"{statistics.mean(by_seed.values()):.3f}"
    gains = [by_seed[seed] - baseline[seed] for seed in by_seed if seed in baseline]
    if not gains:
        return "–"
    if len(gains) == 1:
        return f"{gains[0]:+.3f}"
    return f"{statistics.mean(gains):+.3f} ({min(gains):+.3f} … {max(gains):+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("out")
    collecting.add_argument("--scene", action="append", choices=list(SCENES), help="only this one; may be repeated")
    collecting.add_argument("--family", action="append", choices=list(FAMILIES), help="only this one; may be repeated")
    for name, value in {"draws": 8, "seeds": 3, "keep": 2, "steps": 100, "size": 96, "batch": 8, "images": 60}.items():
        collecting.add_argument(f"--{name}", type=int, default=value)
    collecting.add_argument("--image-size", type=int, default=192)
    collecting.add_argument("--margin", type=float, default=1.0, help="in mIoU, see above")
    collecting.add_argument("--part", default="1/1", help="K/N: every N-th family from the K-th on")
    collecting.set_defaults(call=collect)
    printing = commands.add_parser("table")
    printing.add_argument("out")
    printing.set_defaults(call=print_table)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
