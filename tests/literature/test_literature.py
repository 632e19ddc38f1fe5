"""The published comparisons, and what is said of a result next to them: only what the numbers carry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core.records import Evidence, Scale
from sweeper.core.records import ImbalanceProfile as Profile
from sweeper.literature import compare_with_literature, explain
from sweeper.literature.compare import STUDIES, Figures, Study, published, signed
from sweeper.literature.docs_page import document
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
    assert (ROOT / "docs" / "literature.md").read_text("utf-8") == document(), (
        "run `python -m sweeper.literature.docs_page > docs/literature.md`"
    )


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


def test_claims_in_words_have_a_direction_and_no_size() -> None:
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


def test_studies_of_other_losses_are_counted_not_used() -> None:
    entries = [study(), study(title="Other, X", claims=(("lovasz", "jaccard"),))]
    sentences = compare_with_literature(profiled(), evidence({"dice": 0.7, "focal": 0.6}), entries)
    assert sentences[1].startswith("1 other published comparison cannot be compared with this result")
    none = compare_with_literature(profiled(), evidence({"dice": 0.7, "tversky": 0.6}), entries)
    assert none[0].startswith("None of 2 published comparisons")
    assert "(3D and foreground share not stated)" in compared({"dice": 0.7, "focal": 0.6}, study(volumes=True))
    for nothing in (None, evidence({"dice": 0.7})):
        assert compare_with_literature(profiled(), nothing) == []


def test_the_operating_point_is_named_as_a_difference_to_what_was_published() -> None:
    found = evidence({"dice": 0.7, "focal": 0.6}, finalists={"focal": {"miou_at_default": 0.55}})
    assert "gives focal up to 0.050 mIoU" in compare_with_literature(profiled(), found, [study()])[-1]


@settings(deadline=None, max_examples=20)
@given(st.permutations(sorted(builders.PARAMS)))
def test_the_real_table_never_fails_and_every_sentence_ends(order: list[str]) -> None:
    levels = {family: 0.5 + n / 50 for n, family in enumerate(order[:4])}
    for profile in (profiled(), profiled(thinness=0.9), profiled(0.001), profiled(classes=builders.STREET)):
        sentences = compare_with_literature(profile, evidence(levels))
        assert sentences and all(s.endswith(".") for s in sentences)


# --- explaining ---


def explained(found: Evidence | None, profile: Profile | None = None, **more: Any) -> str:
    return " ".join(explain(profile or profiled(), found, **more))


def test_the_profile_is_told_with_its_numbers() -> None:
    text = explained(None, profiled(0.01, thinness=0.83))
    assert "crack takes 1 % of the labelled pixels (1 to 99)" in text
    assert "a thin structure (83.0 % of its pixels within 2 pixels" in text
    many = explained(None, profiled(0.005, 0.2, builders.STREET))
    assert "The rarest class, sign, takes 0.5 %" in many and "not thin" in many


def test_a_moved_threshold_is_told_with_what_it_is_worth() -> None:
    found = evidence(
        {"dice": 0.7, "cross_entropy": 0.69},
        finalists={"cross_entropy": {"points": (0.2, 0.23, 0.3), "miou_at_default": 0.66}, "dice": {"points": (0.5,)}},
    )
    text = explained(found)
    assert (
        "cross_entropy reads best on validation at threshold 0.23 rather than 0.5: at 0.5 it marks too little" in text
    )
    assert "worth +0.030 mIoU (0.660 to 0.690)" in text
    own = {"own_score": found.finalists[1].miou.model_copy(update={"estimate": 0.5}), "own_score_at_default": 0.45}
    finalists = (found.finalists[0], found.finalists[1].model_copy(update=own))
    other = found.model_copy(update={"finalists": finalists, "scale": Scale(score="CC-Dice")})
    assert "worth +0.050 CC-Dice (0.450 to 0.500)" in explained(other)
    assert "dice reads best" not in text or "dice reads best on validation at threshold 0.50" in text
    assert (
        "At 0.5 dice and cross_entropy would differ by +0.030 mIoU, at each one's own operating point by +0.010" in text
    )


def test_precision_and_recall_say_who_misses_and_who_cries_wolf() -> None:
    found = evidence(
        {"dice": 0.7, "cross_entropy": 0.69},
        finalists={
            "dice": {"recall": (0.99, 0.7), "precision": (0.99, 0.6)},
            "cross_entropy": {"recall": (0.99, 0.6), "precision": (0.99, 0.8)},
        },
    )
    text = explained(found)
    assert "Of crack, dice finds 70.0 % and cross_entropy 60.0 % (recall)" in text
    assert "dice has fewer misses and more false alarms" in text
    assert "cross_entropy has more misses and fewer false alarms" in explained(found, chosen=1)
    same = evidence({"dice": 0.7, "cross_entropy": 0.69})
    assert "find the same share of crack (recall 0.630 and 0.630)" in explained(same)


def test_gains_by_class_are_told_by_share() -> None:
    names = builders.STREET
    changes = {
        "dice": {"iou": (0.9, 0.6, 0.5), "fg_iou": None, "points": (0.0,)},
        "cross_entropy": {"iou": (0.9, 0.62, 0.2), "fg_iou": None, "points": (0.0,)},
    }
    found = evidence({"dice": 0.7, "cross_entropy": 0.6}, finalists=changes, classes=names)
    text = explained(found, profiled(0.01, 0.3, names))
    assert "the IoU of the 1 rarest of 3 classes (at most 1 % of the pixels each) by +0.300 on average" in text
    assert "of the others by −0.010" in text
    assert "gains most on sign (+0.300, 1 % of the pixels) and least on animal (−0.020" in text


def test_a_weight_is_told_as_a_power_of_the_imbalance() -> None:
    found = evidence(
        {"weighted_ce": 0.7, "cross_entropy": 0.6}, finalists={"weighted_ce": {"params": {"pos_weight": 7}}}
    )
    assert "weighs the foreground 7-fold, the imbalance (49) to the power 0.50" in explained(found)


@pytest.mark.parametrize("levels", [{}, {"dice": 0.7}, {"dice": 0.7, "focal": 0.7, "cross_entropy": 0.6}])
def test_every_sentence_has_a_number_and_none_fails(levels: dict[str, float]) -> None:
    for profile in (profiled(), profiled(classes=builders.STREET), profiled(1.0)):
        found = evidence(levels) if levels else None
        if found is not None and len(profile.classes) == 3:
            three = {"iou": (0.9, None, 0.5), "recall": (0.9, None, 0.5), "precision": (0.9, None, 0.5)}
            changed = tuple(f.model_copy(update=three) for f in found.finalists)
            found = found.model_copy(update={"finalists": changed, "classes": builders.STREET})
        sentences = explain(profile, found)
        assert all(re.search(r"\d", s) and s.endswith(".") for s in sentences)


def test_undefined_precision_is_passed_over() -> None:
    changes = {"dice": {"precision": (0.9, None)}, "cross_entropy": {"iou": (0.9, None)}}
    assert "(recall)" not in explained(evidence({"dice": 0.7, "cross_entropy": 0.6}, finalists=changes))


def test_a_gain_that_rounds_to_nothing_has_no_sign() -> None:
    assert [signed(v) for v in (0.0004, -0.0004, 0.0006, -0.0006)] == ["0.000", "0.000", "+0.001", "−0.001"]
