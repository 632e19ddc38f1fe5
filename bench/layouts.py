"""Draw data sets with random layouts, and count how many are read right, proposed rightly, refused or read wrong.

    python bench/layouts.py [--number 500] [--seed 0] [--only NUMBER] [--keep FOLDER]

A layout is drawn from folder names in five languages and in none, prefixes and suffixes, folders of splits and of
patients, files that are no images or masks of the set, masks of one class or one object each or of two observers, 2 to
12 classes, and ways to store their numbers. *Right*: all labelled images, and their labels and splits, as drawn.
*Proposed*: refused, and options and commands that the refusals print, done as printed, read it right. *Misled*: they
read it otherwise. *Refused*: all other refusals. *Wrong*: read otherwise. To compare two versions, run it with each
checkout on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sweeper.core.errors import DataError, SweeperError
from sweeper.core.records import IGNORE, Dataset, Patterns
from sweeper.data import load_dataset, open_store
from sweeper.data.class_map import read_class_map

Labels = npt.NDArray[np.uint8]

IMAGE_WORDS = {
    "English": ("images", "image", "img", "photos", "frames", "scans", "pictures", "rgb", "raw", "input"),
    "German": ("Bilder", "Aufnahmen", "Fotos", "Bild", "Rohdaten"),
    "French": ("clichés", "photographies", "vues", "originaux", "prises"),
    "Spanish": ("imagenes", "imágenes", "fotografias", "tomas", "originales"),
    "Chinese": ("图像", "原图", "照片", "影像"),
    "none": ("x", "A", "in", "left", "set1", "source", "t1", "optical", "cam0"),
}
MASK_WORDS = {
    "English": ("masks", "mask", "labels", "label", "gt", "annotations", "segmentation", "ground_truth", "targets"),
    "German": ("Masken", "Beschriftungen", "Segmentierung", "Maske", "Wahrheit"),
    "French": ("masques", "étiquettes", "vérité", "contours", "décalques"),
    "Spanish": ("mascaras", "máscaras", "etiquetas", "anotaciones", "verdad"),
    "Chinese": ("标签", "掩码", "标注", "真值"),
    "none": ("y", "B", "out", "right", "set2", "result", "t2", "drawn", "ref"),
}
CLASSES = ("road", "car", "tree", "sky", "crack", "person", "water", "roof", "grass", "pole", "fence")
SPLITS = (
    ("train", "val", "test"),
    ("training", "validation", "testing"),
    ("Train", "Valid", "Test"),
    ("train", "test"),
)
FIRST_COLOURS = ((0, 0, 0), (200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30), (200, 30, 200), (30, 200, 200))
COLOURS = (*FIRST_COLOURS, (128, 64, 0), (64, 128, 0), (0, 64, 128), (128, 0, 64), (240, 240, 240))


@dataclass
class Scene:
    """One drawn image with its labels."""

    stem: str
    image: Labels
    labels: Labels
    split: str | None = None
    patient: str = ""
    path: Path = field(default_factory=Path)
    """Path of the written image."""


@dataclass
class Layout:
    """A drawn data set."""

    kind: str
    scenes: list[Scene]
    tolerance: float = 0.0
    """Largest share of pixels that may differ, for masks that are stored with loss."""
    drawings: list[list[Labels]] = field(default_factory=list)
    """The masks of further observers, one of which may be read."""


class Artist:
    """Draws one layout from a random generator."""

    def __init__(self, root: Path, rng: np.random.Generator) -> None:
        self.root, self.rng = root, rng

    def choose(self, *values: Any) -> Any:
        """Return one of the values."""
        return values[int(self.rng.integers(len(values)))]

    def is_drawn(self, share: float) -> bool:
        """Return True with this probability."""
        return bool(self.rng.random() < share)

    def draw_scene(self, stem: str, classes: int) -> Scene:
        """Draw a photograph of discs and boxes: smooth ground, texture, noise."""
        height, width = int(self.rng.integers(40, 56)), int(self.rng.integers(48, 64))
        picture = Image.new("L", (width, height))
        pen = ImageDraw.Draw(picture)
        for label in self.rng.permutation(np.arange(1, classes))[: max(1, classes - int(self.rng.integers(0, 3)))]:
            x, y, size = self.rng.integers(4, width - 8), self.rng.integers(4, height - 8), self.rng.integers(5, 12)
            box = [int(x), int(y), int(x + size), int(y + size)]
            (pen.ellipse if label % 2 else pen.rectangle)(box, fill=int(label))
        labels = np.array(picture)
        colour = np.random.default_rng(7).integers(30, 220, (12, 3))
        ground = np.array(Image.fromarray(self.rng.integers(0, 60, (5, 6), dtype=np.uint8)).resize((width, height)))
        image = colour[labels] + ground[..., None] - 30 + self.rng.normal(0, 9, (height, width, 3))
        return Scene(stem, image.clip(0, 255).astype(np.uint8), labels)

    def draw_stems(self, count: int) -> list[str]:
        """Return names of images in one of several styles."""
        start = int(self.rng.integers(0, 900))
        ids = [start + i * self.choose(1, 1, 3) for i in range(count)] if self.is_drawn(0.5) else [*range(count)]
        ids = [*dict.fromkeys(ids)] + [5000 + i for i in range(count - len({*ids}))]
        styles: dict[str, Callable[[int], str]] = {
            "zeros": lambda n: f"{n:05}",
            "plain": str,
            "prefix": lambda n: f"img_{n:03}",
            "camera": lambda n: f"IMG-{2000 + n}",
            "hex": lambda n: f"{abs(hash((n, 3))) % 16**12:012x}",
            "slice": lambda n: f"P{n % 4:02}_slice{n:03}",
            "words": lambda n: f"{CLASSES[n % 7]}site_{n}",
            "date": lambda n: f"2021{1 + n % 9:02}14-{n:04}",
            "blanks": lambda n: f"photo ({n})",
        }
        style = styles[self.choose(*styles)]
        return [style(number) for number in ids]

    def draw_words(self) -> tuple[str, str]:
        """Return names for images and masks, of one language or none."""
        language = self.choose(*IMAGE_WORDS)
        image, mask = self.choose(*IMAGE_WORDS[language]), self.choose(*MASK_WORDS[language])
        if language == "none":
            position = int(self.rng.integers(len(IMAGE_WORDS["none"])))
            image, mask = IMAGE_WORDS["none"][position], MASK_WORDS["none"][position]
        return image, mask

    def write_mask(self, labels: Labels, path: str, encoding: str) -> None:
        """Write a mask in one of several encodings."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if encoding == "index":
            Image.fromarray(labels).save(target)
        elif encoding == "deep":
            Image.fromarray(labels.astype(np.uint16)).save(target)
        elif encoding == "binary":
            Image.fromarray(np.where(labels > 0, 255, 0).astype(np.uint8)).save(target)
        elif encoding == "void":
            edge = labels.copy()
            edge[:, :2] = IGNORE
            Image.fromarray(edge).save(target)
        elif encoding == "palette":
            picture = Image.fromarray(labels)
            picture.putpalette([*sum(COLOURS, ()), *[0] * (768 - 3 * len(COLOURS))])
            picture.save(target)
        elif encoding in ("colours", "table"):
            Image.fromarray(np.array(COLOURS, np.uint8)[labels]).save(target)
        elif encoding == "grey":
            Image.fromarray((labels.astype(int) * (255 // max(1, self.classes - 1))).astype(np.uint8)).save(target)
        elif encoding == "jpeg":
            Image.fromarray(np.where(labels > 0, 255, 0).astype(np.uint8)).save(target, quality=90)
        else:  # soft
            picture = Image.fromarray(np.where(labels > 0, 255, 0).astype(np.uint8))
            picture.resize((picture.width * 2, picture.height * 2)).resize(picture.size, 2).save(target)

    def draw(self) -> Layout:
        """Draw and write a layout."""
        several = self.choose(*["one"] * 7, "classes", "objects", "observers")
        self.classes = 2 if several in ("objects", "observers") or self.is_drawn(0.4) else int(self.rng.integers(3, 13))
        if several == "classes":
            self.classes = int(self.rng.integers(3, 6))
        encodings = ["index", "index", "palette", "colours", "table", "deep", "void"]
        encodings += ["binary", "binary", "jpeg", "soft"] if self.classes == 2 else ["grey"] * (self.classes < 7)
        encoding = self.choose(*encodings) if several == "one" else "binary"
        count = int(self.rng.integers(7, 16))
        scenes = [self.draw_scene(stem, self.classes) for stem in self.draw_stems(count)]
        kinds = ["folders", "folders", "split outside", "split inside", "split joined", "patients", "patients inside"]
        kinds += ["cases", "same folder", "same folder"]
        kind = self.choose(*kinds)
        image_word, mask_word = self.draw_words()
        image_at, mask_at = self._place(kind, scenes, image_word, mask_word)
        image_suffix, mask_suffix = self._choose_suffixes(encoding, kind)
        tail, head = self._choose_affixes(kind, image_word, mask_word)
        layout = Layout(f"{several}, {kind}, {encoding}, {image_word}/{mask_word}", scenes)
        layout.tolerance = 0.05 if encoding in ("jpeg", "soft") else 0.0
        for scene in scenes:
            parts = {"split": scene.split or "", "patient": scene.patient, "stem": scene.stem}
            scene.path = self.root / (image_at.format(**parts) + image_suffix)
            scene.path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene.image).save(scene.path, quality=92)
            base = mask_at.format(**parts).rpartition("/")
            name = f"{base[0]}{base[1]}{head}{base[2]}{tail}"
            self._write_masks(layout, scene, (name, mask_suffix), several, encoding)
        if encoding == "void":
            for scene in scenes:
                scene.labels[:, :2] = IGNORE
        if encoding == "table":
            names = ["background", *CLASSES][: self.classes]
            lines = [f"{n}:{r},{g},{b}::\n" for n, (r, g, b) in zip(names, COLOURS, strict=False)]
            (self.root / "colors.txt").write_text("".join(lines))
        self._write_extras(scenes, image_at, image_suffix, kind)
        return layout

    def _write_masks(self, layout: Layout, scene: Scene, place: tuple[str, str], several: str, encoding: str) -> None:
        """Write the mask, or masks, of a scene at a path and with a suffix."""
        name, suffix = place
        if several == "one":
            self.write_mask(scene.labels, name + suffix, encoding)
        elif several == "classes":
            for label in range(1, self.classes):
                if (scene.labels == label).any() or label < 3:
                    self.write_mask(scene.labels == label, f"{name}_{CLASSES[label]}{suffix}", "binary")
        elif several == "objects":
            pieces = [scene.labels.copy() for _ in range(int(self.rng.integers(1, 4)))]
            for number, piece in enumerate(pieces):
                if len(pieces) > 1:
                    piece[: piece.shape[0] * number // len(pieces)] = 0
                    piece[piece.shape[0] * (number + 1) // len(pieces) :] = 0
                self.write_mask(piece, f"{name}_{number}{suffix}", "binary")
        else:
            other = np.roll(scene.labels, 1, axis=0)
            for who, drawn in (("obs1", scene.labels), ("obs2", other)):
                self.write_mask(drawn, f"{name}_{who}{suffix}", "binary")
            layout.drawings.append([scene.labels, other])

    def _place(self, kind: str, scenes: list[Scene], image: str, mask: str) -> tuple[str, str]:
        """Return forms of the paths of images and masks; give scenes their split or patient."""
        if kind.startswith("split"):
            names = self.choose(*SPLITS)
            for number, scene in enumerate(scenes):
                scene.split = names[number if number < len(names) else int(self.rng.integers(len(names)))]
        if kind.startswith(("patients", "cases")):
            for number, scene in enumerate(scenes):
                scene.patient = f"P{number // 3:02}" if kind != "cases" else f"case{number:03}"
        if kind == "split joined":
            return self.choose(
                (f"{{split}}_{image}/{{stem}}", f"{{split}}_{mask}/{{stem}}"),
                (f"{image}_{{split}}/{{stem}}", f"{mask}_{{split}}/{{stem}}"),
                ("{split}/{stem}", f"{{split}}_{mask}/{{stem}}"),
            )
        forms = {
            "folders": (f"{image}/{{stem}}", f"{mask}/{{stem}}"),
            "split outside": (f"{{split}}/{image}/{{stem}}", f"{{split}}/{mask}/{{stem}}"),
            "split inside": (f"{image}/{{split}}/{{stem}}", f"{mask}/{{split}}/{{stem}}"),
            "patients": (f"{{patient}}/{image}/{{stem}}", f"{{patient}}/{mask}/{{stem}}"),
            "patients inside": (f"{image}/{{patient}}/{{stem}}", f"{mask}/{{patient}}/{{stem}}"),
            "cases": (f"{{patient}}/{image}", f"{{patient}}/{mask}"),
            "same folder": ("{stem}", "{stem}"),
        }
        return forms[kind]

    def _choose_suffixes(self, encoding: str, kind: str) -> tuple[str, str]:
        """Return the suffixes of images and masks."""
        image = self.choose(".png", ".jpg", ".tif", ".bmp")
        mask = {"jpeg": ".jpg", "deep": ".png"}.get(encoding) or self.choose(".png", ".png", ".tif", ".bmp")
        return image, ".png" if encoding == "palette" and mask == ".tif" else mask

    def _choose_affixes(self, kind: str, image_word: str, mask_word: str) -> tuple[str, str]:
        """Return the tail and head of masks' names; next to their images they have one."""
        word = self.choose(mask_word, "m", "seg", "label", "gt", "mask")
        tail = f"{self.choose('_', '-', '.', ' ')}{word}"
        head = f"{word}_"
        if kind == "same folder":
            return self.choose((tail, ""), (tail, ""), ("", head))
        return self.choose(("", ""), ("", ""), (tail, ""), ("", head)) if kind != "cases" else ("", "")

    def _write_extras(self, scenes: list[Scene], image_at: str, suffix: str, kind: str) -> None:
        """Write files that are no images or masks of the set."""
        if self.is_drawn(0.5):
            (self.root / "README.md").write_text("about\n")
        if self.is_drawn(0.2):
            (self.root / "metrics.csv").write_text("epoch,loss\n1,0.5\n")
        if self.is_drawn(0.15):
            (self.root / "model.pt").write_bytes(b"x" * 99)
        if self.is_drawn(0.2):
            (self.root / "meta").mkdir()
            for scene in scenes:
                (self.root / "meta" / f"{scene.path.stem}-{scene.patient}.json").write_text('{"taken": "2021"}')
        if kind != "folders":
            return
        extra = self.choose("", "", "", "thumbs", "depth", "unlabelled", "overlays")
        for number, scene in enumerate(scenes if extra else ()):
            name = f"{extra}/{scene.stem}.png" if extra != "unlabelled" else f"testset/extra{number}.png"
            (self.root / name).parent.mkdir(exist_ok=True)
            smooth = np.array(Image.fromarray(scene.image).convert("L").resize((6, 5)).resize(scene.labels.shape[::-1]))
            pictures: dict[str, Any] = {
                "thumbs": Image.fromarray(scene.image).resize((16, 12)),
                "depth": Image.fromarray(smooth.astype(np.uint16) * 200),
                "unlabelled": Image.fromarray(scene.image[::-1]),
                "overlays": Image.fromarray(
                    np.where(scene.labels[..., None] > 0, scene.image // 2 + 100, scene.image).astype(np.uint8)
                ),
            }
            pictures[extra].save(self.root / name)


SPLIT_OF = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLIT_OF |= {"test": "test", "testing": "test"}


def is_right(dataset: Dataset, layout: Layout) -> bool:
    """Return whether a data set has the images, labels and splits of a layout."""
    if len(dataset.images) != len(layout.scenes):
        return False
    if not layout.drawings:
        return _has_labels(dataset, layout, [scene.labels for scene in layout.scenes])
    return any(_has_labels(dataset, layout, [pair[who] for pair in layout.drawings]) for who in (0, 1))


def _has_labels(dataset: Dataset, layout: Layout, labels: list[Labels]) -> bool:
    store, truth = open_store(dataset.store), {}
    for scene, mask in zip(layout.scenes, labels, strict=True):
        with Image.open(scene.path) as image:
            truth[np.asarray(image.convert("RGB")).tobytes()] = scene, mask
    pairs: Counter[tuple[int, int]] = Counter()
    for index, info in enumerate(dataset.images):
        pixels = store.get_image(index)
        found = truth.get(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))).tobytes())
        if found is None or (found[0].split and info.split != SPLIT_OF[found[0].split.lower()]):
            return False
        pairs.update(zip(found[1].ravel().tolist(), store.get_mask(index).ravel().tolist(), strict=True))
    best = {label: max((n, read) for (true, read), n in pairs.items() if true == label)[1] for label, _ in pairs}
    rest = sum(number for (true, read), number in pairs.items() if best[true] != read)
    fits = len({*best.values()}) == len(best) and best.get(0, 0) == 0 and best.get(IGNORE, IGNORE) == IGNORE
    return fits and rest <= layout.tolerance * pairs.total()


def judge(root: Path, layout: Layout, cache: Path) -> tuple[str, str]:
    """Return how a layout is read, and the last message; what a refusal prints is done as printed, four times."""
    options: dict[str, Any] = {}
    text = ""
    for step in range(5):
        try:
            dataset = load_dataset(str(root), cache, **options)
        except DataError as error:
            text = "\n".join(error.problems)
        except SweeperError as error:
            return "refused", str(error)
        else:
            right = is_right(dataset, layout)
            return ("right" if right else "wrong") if step == 0 else ("proposed" if right else "misled"), text
        patterns = re.search(r"--images '([^']+)' --masks '([^']+)'", text)
        command = re.search(r"`?(printf '[^`]+?' > ([^\s`]+))`?", text)
        asked = Patterns(images=patterns[1], masks=patterns[2]) if patterns else None
        if asked and asked != options.get("patterns"):
            options["patterns"] = asked
        elif command and not (root / command[2]).exists():
            subprocess.run(command[1], shell=True, cwd=root, check=True)
            if command[2].endswith(".yaml"):
                options["class_map"] = read_class_map(root / command[2])
        else:
            break
    return "refused", text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="draw this layout alone")
    parser.add_argument("--keep", type=Path, help="keep the files of layouts that are not right or proposed")
    settings = parser.parse_args()
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as top:
        for number in range(settings.number) if settings.only is None else [settings.only]:
            root = Path(top) / f"set{number}"
            root.mkdir()
            layout = Artist(root, np.random.default_rng([settings.seed, number])).draw()
            outcome, text = judge(root, layout, Path(top) / "cache")
            outcomes[outcome] += 1
            if outcome not in ("right", "proposed") or settings.only is not None:
                print(f"{number}: {outcome}: {layout.kind}: {text[:300]}")
                if settings.keep:
                    shutil.copytree(root, settings.keep / f"{settings.seed}-{number}", dirs_exist_ok=True)
            shutil.rmtree(root)
            shutil.rmtree(Path(top) / "cache", ignore_errors=True)
    total = outcomes.total()
    good = outcomes["right"] + outcomes["proposed"]
    print(f"{dict(outcomes)}; right or proposed rightly {good} of {total} ({100 * good / total:.1f} %)")


if __name__ == "__main__":
    main()
