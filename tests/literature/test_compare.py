"""The published comparisons, and what is said of a result next to them: only what the numbers carry."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core.records import ImbalanceProfile as Profile
from sweeper.literature.compare import STUDIES, Figures, Study, compare_with_literature, published
from sweeper.losses import FAMILIES
from tests.support import builders
from tests.support.builders import evidence

ROOT = Path(__file__).resolve().parents[2]


def profiled(share: float = 0.02, thinness: float = 0.3, classes: tuple[str, ...] = builders.BINARY) -> Profile:
    """A profile whose last class has this share and thinness."""
    found = builders.profile(builders.dataset(classes))
    rest = (1 - share) / (len(classes) - 1)
    changed = [c.model_copy(update={"pixel_share": rest}) for c in found.classes[:-1]]
    changed.append(found.classes[-1].model_copy(update={"pixel_share": share, "thinness": thinness}))
    return found.model_copy(update={"classes": tuple(changed), "imbalance": rest / share})


def study(**changes: Any) -> Study:
    values: dict[str, Any] = {
        "key": "x",
        "title": "Someone 2020, Something",
        "source": "arXiv:2001.00001",
        "seen": "the abstract",
        "compared": "a against b",
        "tasks": ("binary",),
        "volumes": False,
        "measure": "Dice",
        "claims": (("dice", "focal"),),
        "result": "a is better.",
    }
    return Study(**values | changes)


def figured(*pairs: tuple[float, float]) -> Study:
    figures = tuple(Figures(name=f"set {i}", values={"dice": a, "focal": b}) for i, (a, b) in enumerate(pairs))
    return study(claims=(), figures=figures)


# --- the table and its page ---


def test_the_committed_page_is_the_generated_one() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "site" / "literature_page.py"))["document"]()
    assert (ROOT / "docs" / "literature.md").read_text("utf-8") == made, "run `make docs`"


@pytest.mark.parametrize("entry", STUDIES, ids=lambda s: s.key)
def test_every_study_names_its_source_and_losses_that_exist(entry: Study) -> None:
    assert entry.families <= FAMILIES.keys()
    assert entry.tasks and (entry.claims or entry.figures), "a report can say nothing of it"
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\d+|https://", entry.source) and entry.seen
    assert all(0 < value < 1 for figures in entry.figures for value in figures.values.values())
    assert len({frozenset(f.values) for f in entry.figures}) <= 1
    assert not any((worse, better) in entry.claims for better, worse in entry.claims)
    assert entry.share is None or 0 <= entry.share[0] < entry.share[1] <= 1
    if not entry.figures:
        assert "quoted" in entry.result or "was read" in entry.result or "not the loss's alone" in entry.result


# --- what a study says ---


def test_a_direction_needs_three_quarters_of_the_data_sets() -> None:
    def direction(*pairs: tuple[float, float]) -> str:
        found = published(figured(*pairs), "dice", "focal")
        assert found is not None
        return found.direction

    assert direction((0.7, 0.6), (0.7, 0.6), (0.7, 0.6), (0.6, 0.61)) == "better"
    assert direction((0.7, 0.6), (0.7, 0.6), (0.6, 0.61), (0.6, 0.61)) == "mixed"
    assert direction((0.6, 0.7)) == "worse"
    assert direction((0.7, 0.6), (0.7, 0.6), (0.7, 0.6), (0.1, 0.9)) == "mixed"  # the mean points the other way
    # Claims in words have a direction, and no size.
    forth, back = published(study(), "dice", "focal"), published(study(), "focal", "dice")
    assert forth is not None and back is not None
    assert (forth.direction, forth.gain, back.direction) == ("better", None, "worse")
    assert published(study(), "dice", "tversky") is None


# --- comparing ---


def compared(levels: dict[str, float], entry: Study, profile: Profile | None = None, **more: Any) -> str:
    return compare_with_literature(profile or profiled(), evidence(levels, **more), [entry])[0]


@settings(deadline=None, max_examples=60)
@given(steps=st.integers(-200, 200), width=st.integers(1, 200), turned=st.booleans())
def test_agreement_and_conflict_follow_from_the_interval(steps: int, width: int, turned: bool) -> None:
    gap, half = steps / 1000, (width + 0.5) / 1000  # never equal
    entry = study(claims=(("focal", "dice") if turned else ("dice", "focal"),))
    text = compared({"dice": 0.6 + gap, "focal": 0.6}, entry, half=half)
    toward = -gap if turned else gap
    assert ("agrees on" in text) == (toward - half > 0)
    assert ("conflicts on" in text) == (toward + half < 0)
    assert ("not told apart here" in text) == (not abs(gap) > half)


def test_sizes_of_both_sides_are_told_and_a_study_that_points_both_ways_is_no_judge() -> None:
    text = compared({"dice": 0.65, "focal": 0.6}, figured((0.8, 0.7), (0.7, 0.66)), half=0.02)
    assert "agrees on dice against focal (published +0.070 Dice, ahead on 2 of 2; here +0.050 [+0.030, +0.070]" in text
    text = compared({"dice": 0.65, "focal": 0.6}, figured((0.8, 0.7), (0.6, 0.7)), half=0.02)
    assert "points both ways itself on dice against focal" in text and "agrees on" not in text


@pytest.mark.parametrize(
    ("entry", "profile", "inside"),
    [
        (study(share=(0.01, 0.05)), profiled(0.0051), True),
        (study(share=(0.01, 0.05)), profiled(0.0049), False),
        (study(share=(0.01, 0.05)), profiled(0.11), False),
        (study(thin=True), profiled(thinness=0.6), True),
        (study(thin=True), profiled(thinness=0.4), False),
        (study(tasks=("multiclass",)), profiled(), False),
        (study(tasks=("multiclass",)), profiled(classes=builders.STREET), True),
    ],
)
def test_what_was_not_studied_is_said_to_be_outside(entry: Study, profile: Profile, inside: bool) -> None:
    text = compared({"dice": 0.7, "focal": 0.6}, entry, profile)
    assert ("outside what was studied" in text) is not inside
    assert ("agrees on" in text) is inside


def test_studies_of_other_losses_say_nothing() -> None:
    other = study(title="Other, X", claims=(("lovasz", "jaccard"),))
    assert len(compare_with_literature(profiled(), evidence({"dice": 0.7, "focal": 0.6}), [study(), other])) == 1
    for nothing in (None, evidence({"dice": 0.7}), evidence({"dice": 0.7, "tversky": 0.6})):
        assert compare_with_literature(profiled(), nothing, [study(), other]) == []
    assert "(3D and foreground share not stated)" in compared({"dice": 0.7, "focal": 0.6}, study(volumes=True))
