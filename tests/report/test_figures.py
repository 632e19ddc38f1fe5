"""The figures: real images on disk, captions whose numbers come from the records."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib import font_manager

from sweeper.core.metrics import at_point, image_mious
from sweeper.core.records import Predictions, TestDetail
from sweeper.evidence.recommendation import recommend
from sweeper.report.facts import Facts, collect
from sweeper.report.figures import FIGURES, WITH_PIXELS, Drawn, draw_all
from sweeper.report.figures.confusion import confusion
from sweeper.report.figures.images import DETAIL, _detail, answers_of, mosaic, predictions
from sweeper.report.figures.imbalance import imbalance
from sweeper.report.figures.style import class_label, new_figure, plain, save, save_themed
from sweeper.report.seed_runs import image_scores, image_wins
from tests.report.test_simulated import Study, cracks, pixels, snippet, street
from tests.support import builders
from tests.support.marks import rest_slow


@pytest.fixture(scope="module", params=rest_slow([street, cracks]))
def study(request: pytest.FixtureRequest) -> Study:
    made: Study = request.param(trials=30)
    return made


def facts_of(study: Study) -> Facts:
    return collect(study.sweep, study.recommendation)


def literal(levels: dict[str, float], **changes: object) -> Facts:
    answer = recommend(builders.evidence(levels), task="binary", order=builders.ORDER, snippet=snippet)
    return collect(builders.sweep(**changes), answer)  # type: ignore[arg-type]


def test_every_figure_is_titled_900_pixels_wide_and_dark_where_the_theme_is(study: Study, tmp_path: Path) -> None:
    (tmp_path / "gain.png").write_bytes(b"of an earlier version")
    drawn = draw_all(facts_of(study), tmp_path, study.pixels)
    expected = {*FIGURES, *WITH_PIXELS}
    expected -= {"reliability"}  # this study kept no confidence
    if facts_of(study).binary:
        expected.remove("per_class_iou")
    assert {name for name, result in drawn.items() if isinstance(result, Drawn)} == expected
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.svg" for name in expected}
    for name in expected:
        root = ElementTree.parse(tmp_path / f"{name}.svg").getroot()
        assert root.get("width") == "900" and 150 < int(root.get("height") or 0) < 2000
        result = drawn[name]
        assert isinstance(result, Drawn) and result.figure.get_suptitle() == plain(result.alt, 90)
        shapes = [e for e in root.iter() if e.tag.endswith(("path", "use"))]
        assert len(shapes) > 10 and not [e for e in root.iter() if e.get("style")]
        (style,) = [e.text or "" for e in root.iter() if e.tag.endswith("style")]
        assert style.startswith("@media (prefers-color-scheme: dark)")
        assert ('[fill="#0072b2"]' in style) is not result.photographs  # classes keep the colours of their pixels
        assert '[fill="#ffffff"]' in style and any(e.get("fill") == "#ffffff" for e in shapes)


@pytest.mark.parametrize("name", ["finalists", "search"])
def test_the_same_study_gives_the_same_bytes(study: Study, tmp_path: Path, name: str) -> None:
    for folder in ("a", "b"):
        result = FIGURES[name](facts_of(study))
        assert isinstance(result, Drawn)
        save_themed(result, tmp_path / folder)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_drawing_leaves_matplotlibs_global_state_alone(study: Study) -> None:
    before = dict(matplotlib.rcParams)
    for draw in FIGURES.values():
        draw(facts_of(study))
    assert dict(matplotlib.rcParams) == before


def test_captions_carry_the_numbers_of_the_record() -> None:
    facts = literal({"dice_focal": 0.71, "cross_entropy": 0.65})
    result = FIGURES["finalists"](facts)
    assert isinstance(result, Drawn)
    assert "`dice_focal` has the highest test mIoU, 0.710 [0.690, 0.730]" in result.caption
    assert "scores 0.490" in result.caption
    assert isinstance(FIGURES["per_class_iou"](facts), str)  # of two classes the table says all


def test_a_class_whose_difference_rounds_to_0_is_not_counted_as_won() -> None:
    three = {"precision": (0.9,) * 3, "recall": (0.9,) * 3, "fg_iou": None}
    changed = {
        "dice_focal": {"iou": (0.9004, 0.6, 0.3), **three},
        "cross_entropy": {"iou": (0.9, 0.5, 0.4), **three},
    }
    found = builders.evidence({"dice_focal": 0.71, "cross_entropy": 0.65}, finalists=changed, classes=builders.STREET)
    answer = recommend(found, task="multiclass", order=builders.ORDER, snippet=snippet)
    drawn = FIGURES["per_class_iou"](collect(builders.sweep(data=builders.dataset(builders.STREET)), answer))
    assert isinstance(drawn, Drawn)
    assert "ahead of `cross_entropy` on 1 of 3" in drawn.caption
    assert "from −0.100 on sign to +0.100 on animal" in drawn.caption


def test_the_search_figure_counts_every_trial_once_and_marks_collapsed_ones_at_the_edge() -> None:
    trials = [builders.trial("dice", 0.7 + i / 100, i) for i in range(3)]
    trials += [builders.trial("focal", 0.68, 3, state="pruned")]
    trials += [builders.trial("dice_ce", 0.466, 4, state="pruned", collapse="no_better_than_constant")]
    result = FIGURES["search"](literal({"dice": 0.71}, trials=trials, confirmations=[]))
    assert isinstance(result, Drawn)
    assert "3 trials completed, 2 were stopped early; 1 of these collapsed." in result.caption
    assert "1 collapsed trial is drawn at the left edge (its value: 0.466)." in result.caption
    (axes,) = result.figure.axes
    drawn = {line.get_label(): np.asarray(line.get_xdata(), dtype=float) for line in axes.lines}
    assert drawn["complete"].tolist() == [0.7, 0.71, 0.72]
    assert drawn["stopped early"].tolist() == [0.68]
    assert drawn["collapsed"].tolist() == [axes.get_xlim()[0]]
    assert axes.get_xlim()[0] > 0.6


@pytest.mark.parametrize("name", ["search", "landscape"])
def test_stopped_and_complete_trials_are_drawn_by_the_same_images(name: str) -> None:
    """On all images the complete trials read lower than the stopped one did on its part."""
    trials = [
        builders.trial(
            "dice", 0.5 + i / 100, i, evaluations=builders.curve_on_part((0.5, 0.6, 0.7, 0.7 + i / 100), 0.5 + i / 100)
        )
        for i in range(3)
    ]
    trials += [builders.trial("dice", 0.6, 3, state="pruned", evaluations=builders.curve_on_part((0.5, 0.6)))]
    result = FIGURES[name](literal({"dice": 0.71}, trials=trials, confirmations=[]))
    assert isinstance(result, Drawn)
    axes = result.figure.axes[0]
    lines = [np.asarray(line.get_xdata() if name == "search" else line.get_ydata(), dtype=float) for line in axes.lines]
    drawn = np.concatenate(
        [*lines, *(np.ma.getdata(c.get_offsets())[:, 1] for c in axes.collections if name != "search")]
    )
    assert {0.6, 0.7, 0.71, 0.72} <= set(np.round(drawn, 6)) and not {0.5, 0.51, 0.52} & set(np.round(drawn, 6))
    assert "8 of 20 validation images that every evaluation was scored on" in result.caption
    if name == "search":
        assert axes.get_xlabel() == "validation mIoU at the last evaluation, on 8 of the 20 images"
        assert "with 0.520 on all validation images" in result.caption


def test_the_imbalance_caption_names_the_rarest_class_and_the_absent_ones() -> None:
    data = builders.dataset(builders.STREET)
    profile = builders.profile(data)
    gone = profile.classes[1].model_copy(update={"pixel_share": 0.0})
    profile = profile.model_copy(update={"classes": (profile.classes[0], gone, profile.classes[2])})
    result = imbalance(collect(builders.sweep([], [], data, profile=profile), cracks(trials=14).recommendation))
    assert isinstance(result, Drawn)
    assert result.caption.startswith("sign has")
    assert "Without a single pixel: animal." in result.caption


def side_by_side(first: npt.ArrayLike, second: npt.ArrayLike, kept: int) -> Facts:
    """Two finalists with these foreground IoU (seeds, images), of whose first seed `kept` images were kept."""
    runs = []
    for family, levels in (("dice_focal", np.asarray(first)), ("cross_entropy", np.asarray(second))):
        for seed, own in zip((101, 102, 103), levels, strict=False):
            masks = tuple(np.zeros((20, 20), np.uint8) for _ in range(kept))
            shown = Predictions(pictures=tuple(range(kept)), masks=masks) if seed == 101 else None
            run = builders.confirmation(family, seed, builders.counts_from_iou(own), len(runs))
            runs.append(run.model_copy(update={"predictions": shown}))
    return literal({"dice_focal": 0.71, "cross_entropy": 0.65}, confirmations=runs)


def test_predictions_show_the_largest_wins_a_median_and_the_largest_losses_over_all_seeds() -> None:
    gaps = np.array([0.0, 0.3, -0.2, 0.1, -0.3, 0.2, 0.05, 0.4])
    luck = np.array([0.0, -0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])  # of one seed, which another makes up for
    first = 0.5 + np.array([gaps + luck, gaps - luck, gaps])
    asked: list[int] = []

    def seen(index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        asked.append(index)
        return np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), np.uint8)

    facts = side_by_side(first, np.full((3, 8), 0.5), kept=7)
    drawn = predictions(facts, seen)
    assert isinstance(drawn, Drawn)
    assert asked == [1, 5, 6, 2, 4]  # image 7 is ahead most, and nobody kept its predictions
    panels = np.asarray(drawn.figure.axes).reshape(5, 4)
    assert [axes.get_ylabel() for axes in panels[:, 0]] == ["ahead", "ahead", "median", "behind", "behind"]
    scored = image_scores(facts, *facts.finalists)
    assert scored is not None and panels[0, 2].get_xlabel() == f"mIoU {scored[1][0]:.3f}"
    assert "Of all 8 test images it is ahead on 5, behind on 2, level on 1" in drawn.caption
    asked.clear()
    assert isinstance(mosaic(facts, seen), Drawn)
    assert asked == [1, 6, 4]
    other = answers_of(facts, facts.finalists[1], seen)
    assert isinstance(other, Drawn) and other.alt == "Best, median and worst test image of cross_entropy"
    assert "`cross_entropy` on the test image" in other.caption
    assert (
        answers_of(facts, facts.finalists[1], None) == "the decoded images were not at hand when the report was written"
    )


def test_a_confusion_matrix_of_two_classes_is_from_all_images_and_seeds() -> None:
    counts = builders.histogram_counts(tp=[30, 10], fp=[5, 5], fn=[10, 30], tn=[95, 95])
    runs = [builders.confirmation(f, s, counts) for f in ("dice_focal", "cross_entropy") for s in (101, 102, 103)]
    drawn = confusion(literal({"dice_focal": 0.71, "cross_entropy": 0.65}, confirmations=runs), None)
    assert isinstance(drawn, Drawn)
    assert [t.get_text() for t in drawn.figure.axes[0].texts] == ["95", "5", "50", "50"]
    assert "50.0 % of crack is answered as background" in drawn.caption


def test_reliability_is_drawn_from_the_stored_confidence() -> None:
    bins = np.zeros((2, 4, 3))
    bins[:, 2] = (100, 50, 60)  # of 100 pixels answered at 0.6 half are right
    bins[:, 3] = (300, 270, 285)
    detail = TestDetail(
        pictures=(0, 1), boundary_pixels=2, boundary=np.zeros((2, 2, 3), np.int64),
        centreline=np.zeros((2, 2, 4), np.int64), confidence=bins,
    )  # fmt: skip
    runs = [
        builders.confirmation(f, s, detail=detail) for f in ("dice_focal", "cross_entropy") for s in (101, 102, 103)
    ]
    drawn = FIGURES["reliability"](literal({"dice_focal": 0.71, "cross_entropy": 0.65}, confirmations=runs))
    assert isinstance(drawn, Drawn)
    line = drawn.figure.axes[0].lines[-1]
    assert np.allclose(np.asarray(line.get_xydata()), [[0.6, 0.5], [0.95, 0.9]])
    assert "`dice_focal` 0.062" in drawn.caption


def test_the_gain_figure_holds_every_rival_its_interval_and_the_margin() -> None:
    drawn = FIGURES["gain"](literal({"dice_focal": 0.71, "dice_ce": 0.66, "cross_entropy": 0.65}))
    assert isinstance(drawn, Drawn)
    (axes,) = drawn.figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dice_focal", "dice_ce"]
    spans = [np.round(np.asarray(line.get_xdata(), dtype=float), 3).tolist() for line in axes.lines]
    assert [0.04, 0.08] in spans and [-0.01, 0.03] in spans
    assert "± 0.010" in drawn.caption and drawn.caption.endswith("Shown to be better: `dice_focal`.")
    assert isinstance(FIGURES["gain"](literal({"cross_entropy": 0.65})), str)


def test_predictions_are_left_out_with_a_reason() -> None:
    facts = facts_of(cracks(trials=14))

    def gone(index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        raise FileNotFoundError(index)

    def changed(index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        return np.zeros((5, 5, 3), np.uint8), np.zeros((5, 5), np.uint8)

    assert "not at hand" in str(predictions(facts, None))
    assert "could not be read (FileNotFoundError)" in str(predictions(facts, gone))
    assert "the data set was changed" in str(predictions(facts, changed))


def test_a_large_image_is_shown_where_the_answers_differ_most() -> None:
    differs = np.zeros((400, 500), dtype=bool)
    differs[10:12, 10:12] = True
    differs[300:320, 400:430] = True
    rows, columns = _detail(differs)
    assert differs[rows, columns].shape == DETAIL
    assert differs[rows, columns].sum() == 600
    assert differs[:50, :40][_detail(differs[:50, :40])].shape == (50, 40)


def test_grey_images_can_be_shown() -> None:
    assert isinstance(predictions(facts_of(cracks(trials=14)), lambda i: (pixels(i)[0][..., :1], pixels(i)[1])), Drawn)


def test_wins_are_counted_image_by_image() -> None:
    runs = [
        builders.confirmation("dice_focal", 101, builders.counts_from_iou([0.9, 0.9, 0.2, 0.5]), 0),
        builders.confirmation("cross_entropy", 101, builders.counts_from_iou([0.5, 0.5, 0.6, 0.5]), 1),
    ]
    facts = literal({"dice_focal": 0.71, "cross_entropy": 0.65}, confirmations=runs)
    assert image_wins(facts) == (2, 1, 1)
    pooled = [
        r.model_copy(update={"test": r.test.model_copy(update={"pooled_from": 4000})})
        for r in runs
        if r.test is not None
    ]
    assert image_wins(literal({"dice_focal": 0.71, "cross_entropy": 0.65}, confirmations=pooled)) is None


def test_an_images_miou_is_one_number_in_the_figure_and_in_the_counts_of_its_caption() -> None:
    """A false alarm on an image without foreground costs what it takes from the background, not half of everything."""
    truth = np.zeros((4, 20, 20), np.uint8)
    truth[0, :5], truth[1, :2] = 1, 1  # the last two images hold nothing but background
    first, second = truth.copy(), truth.copy()
    first[0, 4], first[2, 0, :3], first[3, 0] = 0, 1, 1
    second[1, 0], second[2, 0, :9], second[3, 1] = 0, 1, 1
    runs = []
    for number, (family, answers) in enumerate({"dice_focal": first, "cross_entropy": second}.items()):
        cells = [
            [int(((answers[i] == a) & (truth[i] == t)).sum()) for i in range(4)]
            for a, t in ((1, 1), (1, 0), (0, 1), (0, 0))
        ]
        kept = Predictions(pictures=(0, 1, 2, 3), masks=tuple(answers))
        run = builders.confirmation(family, 101, builders.histogram_counts(*cells), number)
        runs.append(run.model_copy(update={"predictions": kept}))
    facts = literal({"dice_focal": 0.71, "cross_entropy": 0.65}, confirmations=runs)
    drawn = predictions(facts, lambda i: (np.zeros((20, 20, 3), np.uint8), truth[i]))
    assert isinstance(drawn, Drawn)
    panels = np.asarray(drawn.figure.axes).reshape(4, 4)
    shown = [int(axes.get_xlabel().removeprefix("p")) for axes in panels[:, 0]]
    for side, run in enumerate(runs):
        assert run.test is not None
        printed = [axes.get_xlabel() for axes in panels[:, 2 + side]]
        values = image_mious(at_point(run.test, 0.5))
        assert printed == [f"mIoU {values[i]:.3f}" for i in shown]
    assert [axes.get_xlabel() for axes in panels[shown.index(2), 2:]] == ["mIoU 0.993", "mIoU 0.978"]
    assert image_wins(facts) == (2, 1, 1)
    assert "Of all 4 test images it is ahead on 2, behind on 1, level on 1" in drawn.caption


@pytest.mark.parametrize("name", ["$x_{", "日本語", "a" * 90, "\u202eabc", "\n", "x\\$y$"])
def test_any_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    data = builders.dataset(("background", name))
    facts = collect(builders.sweep([], [], data), cracks(trials=14).recommendation)
    figure = new_figure(1)
    figure.text(0.1, 0.5, class_label(facts.classes, 1))
    save(figure, tmp_path / "x.png")
    assert len(plain(name)) <= 28
    assert class_label(facts.classes, 1).strip()


def test_a_font_that_is_not_found_is_not_told_to_people(caplog: pytest.LogCaptureFixture) -> None:
    assert font_manager.findfont("No Such Font").endswith("DejaVuSans.ttf")
    assert caplog.text == ""
