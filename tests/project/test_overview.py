"""The picture of README is drawn by its script from a table of the documents, and is legible on both backgrounds."""

from __future__ import annotations

import re
import runpy
import warnings
from pathlib import Path

import pytest

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
    assert not changed, f"{changed} are not those of the table; make them with `make docs`"


def test_the_home_page_shows_each_version() -> None:
    text = (ROOT / "docs" / "index.md").read_text("utf-8")
    images = re.findall(r'(?:srcset|src)="\.\./reports/(overview-[^"]+)"', text)
    assert sorted(images) == sorted(SCRIPT["draw_all"]())


@pytest.mark.parametrize("scheme", GROUNDS)
def test_letters_have_enough_contrast_to_the_background(scheme: str) -> None:
    ends = sorted(compute_luminance(colour) for colour in (SCRIPT["INKS"][scheme], GROUNDS[scheme]))
    assert (ends[1] + 0.05) / (ends[0] + 0.05) >= 4.5
    text = (ROOT / "reports" / f"overview-wide-{scheme}.svg").read_text("utf-8")
    assert SCRIPT["INKS"][scheme] in text and SCRIPT["INK"].lower() not in text.lower()


def test_rows_are_those_of_the_table_with_the_longest_training_of_each_set() -> None:
    rows = {row.name: row for row in SCRIPT["read_rows"]((ROOT / "docs" / "transfer.md").read_text("utf-8"))}
    assert len(rows) == 12
    street, defects = rows["street (generated)"], rows["industrial defects"]
    assert (street.answer, street.study, street.realistic) == (
        "change to dice_ce",
        (0.187, None, None),
        (0.053, 0.028, 0.077),
    )
    assert (defects.answer, defects.study) == ("no answer", None)
    assert rows["nuclei (2 classes)"].realistic == (-0.001, -0.006, 0.003)
    assert rows["parcels (generated)"].realistic == (0.003, None, None)


def test_a_set_without_a_realistic_gain_is_refused() -> None:
    with pytest.raises(SystemExit, match="must have a realistic gain"):
        SCRIPT["read_rows"]("| set | a | b | c | d |\n|---|---|---|---|---|\n| x | keep | – | – | 3 |\n")
