"""The figures: files that are legible on any background, and captions with numbers from the records."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import matplotlib
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import to_rgb

from sweeper.core.metrics import compute_scores, count_at_point
from sweeper.core.records import Predictions
from sweeper.evidence.paired_comparisons import compute_evidence
from sweeper.report.facts import Pixels, ReportFacts, collect_facts, group_confirmations, score_images
from sweeper.report.figures import FIGURES, DrawnFigure, draw_all
from sweeper.report.figures.operating_points import _list_swept
from sweeper.report.figures.style import escape_figure_text, format_class_label, make_figure, save_figure
from tests.support import builders
from tests.support.simulated_studies import Study, conclude, cracks, street

BACKGROUNDS = ("#ffffff", "#16181b", "#0d1117")
"""Of the page in either theme, and of GitHub's dark one."""


class Figures(NamedTuple):
    facts: ReportFacts
    drawn: dict[str, DrawnFigure | str]
    folder: Path
    settings_changed: bool


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """Return the figures of one study, drawn once for all tests here, over those of an earlier report."""
    study, folder = street(), tmp_path_factory.mktemp("figures")
    (folder / "mosaic.svg").write_bytes(b"of an earlier version")
    facts = collect_facts(study.sweep, study.document, study.evidence, study.pixels)
    before = dict(matplotlib.rcParams)
    drawn = draw_all(facts, folder)
    return Figures(facts, drawn, folder, dict(matplotlib.rcParams) != before)


def make_facts(levels: dict[str, float], pixels: Pixels | None = None, **changes: object) -> ReportFacts:
    sweep, evidence = builders.sweep(**changes), builders.evidence(levels)  # type: ignore[arg-type]
    return collect_facts(sweep, conclude(sweep, evidence), evidence, pixels)


def draw(name: str, facts: ReportFacts) -> DrawnFigure:
    result = FIGURES[name].draw(facts)
    assert isinstance(result, DrawnFigure), result
    return result


# --- The files ----------------------------------------------------------------------------------------------


def get_contrast(colour: str, background: str) -> float:
    """Return the contrast of two colours, 1 to 21, as WCAG 2.2 defines it."""
    channels = np.array([to_rgb(colour), to_rgb(background)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ (0.2126, 0.7152, 0.0722))
    return float((high + 0.05) / (low + 0.05))


def test_every_figure_is_a_file_720_pixels_wide_without_text_script_or_address(figures: Figures) -> None:
    assert {name for name, result in figures.drawn.items() if isinstance(result, DrawnFigure)} == {*FIGURES}
    assert {path.name for path in figures.folder.iterdir()} == {f"{name}.svg" for name in FIGURES}
    for name in FIGURES:
        root = ElementTree.parse(figures.folder / f"{name}.svg").getroot()
        assert root.get("width") == "720" and 150 < int(root.get("height") or 0) < 2000
        assert not [e for e in root.iter() if e.tag.endswith(("}text", "}script", "}a"))]
        links = [value for e in root.iter() for key, value in e.attrib.items() if key.endswith("href")]
        assert all(link.startswith(("#", "data:image/png")) for link in links)
    assert not figures.settings_changed


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "predictions"])
def test_every_colour_is_visible_on_light_and_dark_backgrounds(figures: Figures, name: str) -> None:
    text = (figures.folder / f"{name}.svg").read_text("utf-8")
    styles = [style for style in re.findall(r'style="([^"]*)"', text) if "opacity" not in style]
    colours = {colour for style in styles for colour in re.findall(r"(?:fill|stroke): (#\w{6})", style)}
    assert colours and not {
        (colour, background) for colour in colours for background in BACKGROUNDS if get_contrast(colour, background) < 3
    }
    assert "#000000" not in text and "#ffffff" not in text  # no ground of its own, and no colour was forgotten


def test_the_same_study_gives_the_same_bytes(figures: Figures, tmp_path: Path) -> None:
    save_figure(draw("classes", figures.facts), tmp_path / "classes.svg")
    assert (tmp_path / "classes.svg").read_bytes() == (figures.folder / "classes.svg").read_bytes()


@pytest.mark.parametrize(
    "settings",
    [
        {"text.usetex": True},
        {"font.size": 40, "font.family": "monospace", "axes.titlesize": "xx-large"},
        {"figure.dpi": 20, "savefig.dpi": 20, "savefig.bbox": "tight", "lines.linewidth": 9},
        {"axes.facecolor": "black", "axes.prop_cycle": matplotlib.cycler(color="r"), "svg.fonttype": "none"},
    ],
    ids=lambda settings: next(iter(settings)),
)
@pytest.mark.slow
def test_a_users_matplotlibrc_changes_no_figure(figures: Figures, tmp_path: Path, settings: dict[str, object]) -> None:
    with matplotlib.rc_context(settings):  # type: ignore[arg-type]
        draw_all(figures.facts, tmp_path)
    for path in figures.folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


# --- What they show -----------------------------------------------------------------------------------------


def test_the_figure_of_the_classes_has_each_with_both_losses_their_intervals_and_its_share() -> None:
    sign = builders.class_evidence("sign", (0.5, 0.3, 0.1), gains=(0.4, 0.2, 0.0))
    road = builders.class_evidence("road", (0.9, 0.9, 0.95), gains=(-0.05, -0.05, 0.0))
    levels = {"dice_focal": 0.71, "dice_ce": 0.66, "cross_entropy": 0.65}
    classes = ("road", "日本語", "sign")
    third = builders.class_evidence(classes[1], (0.5, 0.5, 0.5), gains=(0.0, 0.0, 0.0))
    sweep = builders.sweep(data=builders.dataset(classes))
    evidence = builders.evidence(levels, classes=classes, per_class=(road, third, sign))
    facts = collect_facts(sweep, conclude(sweep, evidence), evidence)
    drawn = draw("classes", facts)
    (axes,) = drawn.figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        *("sign  0.500 %", "class 1  5.00 %", "road  94.5 %")
    ]
    dots = {line.get_label(): line for line in axes.lines if line.get_linestyle() == "None"}
    assert [*dots["cross_entropy"].get_xdata()] == [0.1, 0.5, 0.95]
    assert [*dots["dice_focal"].get_xdata()] == [0.5, 0.5, 0.9]
    spans = [np.round(np.asarray(line.get_xdata(), dtype=float), 3).tolist() for line in axes.lines]
    assert [0.08, 0.12] in spans and [0.48, 0.52] in spans
    assert drawn.alt == "3 of 3 classes, the rarest at the top" and "`cross_entropy` and `dice_focal`" in drawn.caption
    assert isinstance(FIGURES["classes"].draw(make_facts({"cross_entropy": 0.65})), str)


def make_two_finalists(first: npt.ArrayLike, second: npt.ArrayLike, mask_count: int, pixels: Pixels) -> ReportFacts:
    """Return two finalists with these foreground IoU (seeds, images), with so many masks of the first seed."""
    runs = []
    for family, levels in (("dice_focal", np.asarray(first)), ("cross_entropy", np.asarray(second))):
        for seed, ious in zip(builders.CONFIRM_SEEDS, levels, strict=False):
            masks = tuple(np.zeros((20, 20), np.uint8) for _ in range(mask_count))
            is_first = seed == builders.CONFIRM_SEEDS[0]
            predictions = Predictions(images=tuple(range(mask_count)), masks=masks) if is_first else None
            run = builders.confirmation(family, seed, builders.counts_from_iou(ious), len(runs))
            runs.append(run.model_copy(update={"predictions": predictions}))
    return make_facts({"dice_focal": 0.71, "cross_entropy": 0.65}, pixels, confirmations=runs)


def test_predictions_are_the_largest_wins_a_median_and_the_largest_losses() -> None:
    gaps = np.array([0.0, 0.3, -0.2, 0.1, -0.3, 0.2, 0.05, 0.4])
    luck = np.array([0.0, -0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])  # of one seed, which another makes up for
    first = 0.5 + np.array([gaps + luck, gaps - luck, gaps])
    indices: list[int] = []

    def load_pixels(index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        indices.append(index)
        return np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), np.uint8)

    facts = make_two_finalists(first, np.full((3, 8), 0.5), 7, load_pixels)
    drawn = draw("predictions", facts)
    assert indices == [1, 5, 6, 2, 4]  # the largest win is on image 7, whose predictions were not stored
    panels = np.asarray(drawn.figure.axes).reshape(5, 4)
    assert [axes.get_ylabel() for axes in panels[:, 0]] == ["ahead", "ahead", "median", "behind", "behind"]
    scored = score_images(facts, *facts.finalists)
    assert scored is not None and panels[0, 2].get_xlabel() == f"mIoU {scored[1][0]:.3f}"
    assert "Of all 8 test images it is ahead on 5, behind on 2, level on 1" in drawn.caption


@pytest.mark.parametrize("name", ["$x_{", "日本語", "a" * 90, "\n"])
def test_any_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    data = builders.dataset(("background", name))
    figure = make_figure(1)
    figure.text(0.1, 0.5, format_class_label(data.classes, 1))
    save_figure(DrawnFigure(figure, "", ""), tmp_path / "x.svg")
    assert len(escape_figure_text(name)) <= 28
    assert format_class_label(data.classes, 1).strip()


def test_the_curve_of_operating_points_weighs_groups_as_the_verdict_does() -> None:
    study = cracks()
    conditions = study.sweep.conditions
    infos = conditions.dataset.images
    images = (*(info.model_copy(update={"group": "a"}) for info in infos[:9]), *infos[9:])
    grouped = conditions.model_copy(
        update={
            "dataset": conditions.dataset.model_copy(update={"images": images}),
            "recipe": conditions.recipe.model_copy(update={"metric": "image_dice"}),
        }
    )
    facts = collect_facts(study.sweep.model_copy(update={"conditions": grouped}), study.document, study.evidence)
    for swept in _list_swept(facts):
        runs = group_confirmations(facts, swept.finalist)
        groups = grouped.dataset.list_groups(runs[0].test.images)  # type: ignore[union-attr]
        evidence = compute_evidence(
            runs, {runs[0].spec.family: runs[0]}, classes=facts.classes, groups=groups, metric="image_dice"
        )
        assert np.mean(swept.own) == pytest.approx(evidence.finalists[0].score.estimate)
        scores = [swept.values[seed, place] for seed, place in enumerate(map(swept.find_nearest, swept.chosen))]
        assert scores == pytest.approx(swept.own)


@pytest.mark.parametrize("study", [cracks(), street()])
def test_recall_and_precision_are_those_of_the_recommended_loss_at_every_operating_point(study: Study) -> None:
    facts = collect_facts(study.sweep, study.document, study.evidence)
    drawn = draw("threshold", facts)
    assert facts.chosen is not None
    tests = [run.test for run in group_confirmations(facts, facts.chosen) if run.test is not None]
    classes = slice(1, 2) if facts.rules.first_channel else slice(None)
    lines = [line for line in drawn.figure.axes[1].lines if len(line.get_xdata()) == len(tests[0].points)]
    for line, name in zip(lines, ("recall", "precision"), strict=True):
        for place in (3, len(tests[0].points) // 2, len(tests[0].points) - 4):
            point = tests[0].points[place]
            scores = compute_scores(np.concatenate([count_at_point(test, point) for test in tests]))
            expected = np.mean(getattr(scores, name)[classes])
            assert line.get_ydata()[place] == pytest.approx(expected)
        point = tests[0].points[int(np.abs(np.array(tests[0].points) - np.median(facts.chosen.points)).argmin())]
        scores = compute_scores(np.concatenate([count_at_point(test, point) for test in tests]))
        assert f"{name} {np.mean(getattr(scores, name)[classes]):.3f}" in drawn.caption
