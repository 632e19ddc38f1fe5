"""The picture of README is drawn by its script from the committed example, and is legible on both backgrounds."""

from __future__ import annotations

import json
import re
import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest

from sweeper.data.synthetic import draw_image, parse_scene

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "docs" / "site" / "overview.py"))
GROUNDS = {"light": "#ffffff", "dark": "#0d1117"}
"""GitHub's page in each scheme."""


def compute_luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2 of `#rrggbb`."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_committed_pictures_are_those_of_the_script() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a class that is not in the image, there is no IoU
        pictures = SCRIPT["draw_all"]()
    assert {path.name for path in (ROOT / "reports").glob("overview*")} == set(pictures)
    changed = [name for name, text in pictures.items() if (ROOT / "reports" / name).read_text("utf-8") != text]
    assert not changed, f"{changed} are not those of the example; make them with `make docs`"


def test_readme_and_home_page_show_each_version() -> None:
    for page in ("README.md", "docs/index.md"):
        images = re.findall(r'(?:srcset|src)="(?:\.\./)?reports/(overview-[^"]+)"', (ROOT / page).read_text("utf-8"))
        assert sorted(images) == sorted(SCRIPT["draw_all"]())


@pytest.mark.parametrize("scheme", GROUNDS)
def test_letters_have_enough_contrast_to_the_background(scheme: str) -> None:
    ends = sorted(compute_luminance(colour) for colour in (SCRIPT["INKS"][scheme], GROUNDS[scheme]))
    assert (ends[1] + 0.05) / (ends[0] + 0.05) >= 4.5
    text = (ROOT / "reports" / f"overview-wide-{scheme}.svg").read_text("utf-8")
    assert SCRIPT["INKS"][scheme] in text and SCRIPT["INK"].lower() not in text.lower()


def test_photograph_and_truth_are_those_of_a_test_image() -> None:
    document = json.loads((SCRIPT["EXAMPLE"] / "recommendation.json").read_text("utf-8"))
    image = SCRIPT["read_median_image"](document)
    scenes = parse_scene(document["dataset"]["name"])
    samples = [draw_image(scenes, int(stem)) for stem in document["split"]["test"]]
    same = [one for one in samples if np.array_equal(one.image, image.photograph)]
    assert len(same) == 1 and np.array_equal(same[0].mask, image.truth)
    rare = SCRIPT["list_rare_classes"](document)
    part = SCRIPT["find_window"](np.isin(image.truth, rare))
    assert np.isin(image.truth[part], rare).sum() == np.isin(image.truth, rare).sum() > 0


def test_hits_misses_and_false_alarms_have_their_colours() -> None:
    truth = np.array([[0, 1, 1, 2, 0]], np.uint8)
    answer = np.array([[0, 1, 0, 1, 2]], np.uint8)
    image = SCRIPT["MedianImage"](np.full((1, 5, 3), 100, np.uint8), truth, ())
    overlay = SCRIPT["draw_overlay"](image, answer, [1, 2])[0]
    hex_colours = [f"#{bytes(pixel).hex().upper()}" for pixel in overlay]
    assert hex_colours == ["#3C3C3C", SCRIPT["HIT"], SCRIPT["MISS"], SCRIPT["FALSE_ALARM"], SCRIPT["FALSE_ALARM"]]
    assert SCRIPT["measure_iou"](truth, answer, 1) == 1 / 3


def test_a_pixel_without_the_colour_of_a_class_is_refused() -> None:
    panel = np.full((2, 2, 3), 7, np.uint8)
    with pytest.raises(SystemExit, match="no class's colour"):
        SCRIPT["decode_labels"](panel, 5)
