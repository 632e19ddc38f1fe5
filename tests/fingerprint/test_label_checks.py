"""The label doctor: it finds every planted fault and raises few alarms on sound data sets."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweeper.core.records import IGNORE, Dataset
from sweeper.data import load_dataset, open_store, write_scenes
from sweeper.data.open_image import turn_upright
from sweeper.data.synthetic import draw_image, parse_scene
from sweeper.fingerprint.label_checks import Finding, Severity, examine_labels
from sweeper.fingerprint.label_checks.edges import MISFIT_AGREEMENT, EdgeFit, measure_edge_fit
from sweeper.fingerprint.label_checks.measure import ImageFeatures, make_thumbnail, measure_all
from sweeper.fingerprint.label_checks.near_duplicates import find_near_duplicates
from sweeper.fingerprint.label_checks.rules import judge_labels
from tests.support.builders import counted_dataset

BLOBS = parse_scene("blobs?images=12&size=96")


def select_findings(findings: tuple[Finding, ...], kind: str) -> list[Finding]:
    return [finding for finding in findings if finding.kind == kind]


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Write twelve images of cells as files, which tests then damage."""
    write_scenes(BLOBS.name, tmp_path / "data")
    return tmp_path / "data"


def find_in_folder(root: Path, kind: str) -> list[Finding]:
    return select_findings(examine_labels(load_dataset(str(root), root.parent / "cache")), kind)


def paint(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    with Image.open(path) as image:
        pixels = np.array(image)
    Image.fromarray(change(pixels)).save(path)


# --- Edges ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cracks", "blobs", "street"])
def test_masks_fit_their_image_and_not_another_one(name):
    scenes = parse_scene(f"{name}?images=24")
    drawn = [draw_image(scenes, i) for i in range(24)]
    true = [measure_edge_fit(d.image, d.mask) for d in drawn]
    foreign = [measure_edge_fit(d.image, drawn[(i + 7) % 24].mask) for i, d in enumerate(drawn)]
    assert all(fit is not None and fit.agreement > MISFIT_AGREEMENT for fit in true)
    assert np.mean([fit is not None and fit.agreement < MISFIT_AGREEMENT for fit in foreign]) >= 0.85


def test_masks_without_contour_edges_or_surroundings_are_not_judged():
    image = draw_image(BLOBS, 0).image
    assert measure_edge_fit(image, np.zeros(image.shape[:2], np.uint8)) is None  # no contour
    assert measure_edge_fit(np.full_like(image, 7), draw_image(BLOBS, 0).mask) is None  # no edge
    assert measure_edge_fit(image[:20, :20], draw_image(BLOBS, 0).mask[:20, :20]) is None  # no elsewhere
    one = np.zeros(image.shape[:2], np.uint8)
    one[40, 40] = 1
    assert measure_edge_fit(image, one) is None


# --- Looks ----------------------------------------------------------------------------------------------------


def draw_scene(index: int) -> np.ndarray:
    return draw_image(parse_scene("street?images=40&size=128"), index).image


def compress_as_jpeg(image: np.ndarray, quality: int = 40, side: int = 90) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).resize((side, side)).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (compress_as_jpeg, ""),
        (lambda image: (image // 2 + 60).astype(np.uint8), ""),
        (lambda image: image[:, ::-1], "mirrored"),
        (np.rot90, "turned by"),
        (lambda image: np.rot90(image)[:, ::-1], "mirrored and turned"),
    ],
)
def test_near_duplicates_are_recognised_after_compression_mirroring_and_turning(change, how):
    images = [draw_scene(i) for i in range(12)]
    images.append(change(images[4]))
    pairs = find_near_duplicates([make_thumbnail(image) for image in images])
    assert [(pair.first, pair.second) for pair in pairs] == [(4, 12)]
    assert pairs[0].how.startswith(how) and bool(pairs[0].how) == bool(how)


@pytest.mark.slow
def test_different_scenes_of_one_kind_are_no_near_duplicates():
    assert find_near_duplicates([make_thumbnail(draw_scene(i)) for i in range(40)]) == []
    assert (
        find_near_duplicates([make_thumbnail(draw_image(parse_scene("cracks?images=60"), i).image) for i in range(60)])
        == []
    )


# --- Findings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("turns", "side"), [(3, "left"), (1, "right")])
def test_a_turned_mask_is_found_with_its_turn_and_no_other(cells, turns, side):
    """Also where it was stretched to the size of its image."""
    for place in ("images", "masks"):
        for path in (cells / place).iterdir():
            paint(path, lambda pixels: pixels[:72])
    path = cells / "masks" / "00004.png"
    paint(path, lambda mask: np.array(Image.fromarray(np.rot90(mask, turns)).resize(mask.shape[::-1], 0)))
    (finding,) = find_in_folder(cells, "turned")
    assert finding.severity == Severity.ERROR and finding.images == ("00004",)
    assert f"1 mask fits the edges of the image only if turned by 90°: 00004 (to the {side}: " in finding.text
    assert not [one for one in find_in_folder(cells, "misfit") if "00004" in one.images]


def test_swapped_masks_are_found_without_duplicates(cells):
    first, second = cells / "masks" / "00002.png", cells / "masks" / "00007.png"
    first_content, second_content = first.read_bytes(), second.read_bytes()
    first.write_bytes(second_content)
    second.write_bytes(first_content)
    (finding,) = find_in_folder(cells, "misfit")
    assert finding.images and set(finding.images) == {"00002", "00007"}
    assert finding.severity == Severity.WARNING


def test_displaced_labels_are_one_finding(cells):
    for path in (cells / "masks").iterdir():
        paint(path, lambda mask: np.roll(mask, (5, 7), axis=(0, 1)))
    (finding,) = find_in_folder(cells, "displaced")
    assert finding.severity == Severity.ERROR and "00000 (5 pixels up and 7 to the left)" in finding.text
    assert len(finding.images) == 12


def test_repeated_images_are_judged_by_labels_splits_and_groups(cells):
    for copy, original in (("b", "00004"), ("c", "00002"), ("d", "00003"), ("e", "00001")):
        for folder in ("images", "masks"):
            shutil.copy(cells / folder / f"{original}.png", cells / folder / f"{copy}.png")
    paint(cells / "masks" / "b.png", lambda mask: mask[::-1])
    rows = {f"{i:05d}": ("train", "") for i in range(12)} | dict.fromkeys("bcde", ("train", ""))
    rows |= {"c": ("test", ""), "00003": ("", "g"), "d": ("", "g"), "00001": ("", ""), "e": ("", "")}
    split = "stem,split,group\n" + "".join(f"{stem},{side},{group}\n" for stem, (side, group) in rows.items())
    (cells / "split.csv").write_text(split)
    findings = {f.images: f for f in find_in_folder(cells, "repeated_image")}
    assert [(*key, f.severity.value) for key, f in findings.items()] == [  # errors come first
        ("00002", "c", "error"),
        ("00004", "b", "error"),
        ("00001", "e", "warning"),
    ]
    assert "2 different masks" in findings["00004", "b"].text
    assert "2 sides of the given split (test, train)" in findings["00002", "c"].text


def test_near_duplicates_are_summarised_by_split_and_group(cells):
    for number in range(3):
        for name, original in ((f"x{number}", "00001"), (f"y{number}", "00002")):
            for folder in ("images", "masks"):
                shutil.copy(cells / folder / f"{original}.png", cells / folder / f"{name}.png")
            light = np.uint8(40 + 9 * number)
            paint(cells / "images" / f"{name}.png", lambda pixels, light=light: pixels // 2 + light)
    rows = {f"{i:05d}": "train" for i in range(12)} | {f"x{i}": "test" for i in range(3)}
    rows |= {f"y{i}": "" for i in range(3)}
    split = "stem,split\n" + "".join(f"{stem},{side}\n" for stem, side in rows.items())
    (cells / "split.csv").write_text(split)
    across, loose = find_in_folder(cells, "look_alike")
    assert "different sides" in across.text and across.images == ("00001", "x0", "x1", "x2")
    assert "no common group" in loose.text and loose.images == ("00002", "y0", "y1", "y2")
    assert across.severity == Severity.WARNING


def test_blank_images_and_empty_or_inverted_masks_are_found(cells):
    paint(cells / "images" / "00000.png", lambda image: np.full_like(image, 30))
    paint(cells / "masks" / "00002.png", lambda mask: np.where(mask == 1, 0, 1).astype(np.uint8))
    paint(cells / "masks" / "00003.png", lambda mask: np.full_like(mask, IGNORE))
    paint(cells / "masks" / "00004.png", lambda mask: np.where(np.arange(96) < 70, IGNORE, mask).astype(np.uint8))
    paint(cells / "masks" / "00005.png", np.zeros_like)
    for kind, stem in (("blank", "00000"), ("inverted", "00002"), ("empty", "00005")):
        assert [finding.images for finding in find_in_folder(cells, kind)] == [(stem,)]


def make_set_with_shares(shares: np.ndarray) -> tuple[Dataset, list[ImageFeatures]]:
    """Return a set whose classes have these shares (N, 3 or 4) of each image, and images that look different."""
    rng = np.random.default_rng(1)
    views = [rng.standard_normal((32, 32)) for _ in shares]
    views = [(view - view.mean()) / np.linalg.norm(view - view.mean()) for view in views]
    features = [
        make_blank_features(str(i))._replace(thumbnail=view.astype(np.float16), flat=False)
        for i, view in enumerate(views)
    ]
    return counted_dataset([tuple(round(10_000 * share) for share in row) for row in shares]), features


@pytest.mark.parametrize("swapped", [1, 3])
@pytest.mark.parametrize("common", [0.9, 0.6])
def test_swapped_labels_are_found_among_several_classes(swapped, common):
    """The most common class and another have changed places in one image of thirty."""
    rng = np.random.default_rng(0)
    rest = (1 - common) * np.array([0.5, 0.3, 0.2])
    rows = rng.dirichlet([40 * common, *(40 * rest)], 30)
    rows[7] = [common, *rest]
    assert select_findings(judge_labels(*make_set_with_shares(rows)), "inverted") == []
    rows[7, [0, swapped]] = rows[7, [swapped, 0]]
    (finding,) = select_findings(judge_labels(*make_set_with_shares(rows)), "inverted")
    assert finding.images == ("0007",) and f"0007 (mostly c{swapped})" in finding.text


@pytest.mark.parametrize("swapped", [4, 15])
def test_up_to_half_of_binary_masks_are_found_inverted_unless_shares_vary_gradually(swapped):
    rare = np.random.default_rng(0).uniform(0.005, 0.05, 31)
    rows = np.stack([1 - rare, rare], axis=1)
    assert select_findings(judge_labels(*make_set_with_shares(rows)), "inverted") == []
    rows[:swapped] = rows[:swapped, ::-1]
    (finding,) = select_findings(judge_labels(*make_set_with_shares(rows)), "inverted")
    assert finding.images == tuple(f"{i:04d}" for i in range(swapped))
    rows[16:20] = [[share, 1 - share] for share in (0.3, 0.4, 0.6, 0.7)]  # images of all shares: close-ups
    assert select_findings(judge_labels(*make_set_with_shares(rows)), "inverted") == []


@pytest.mark.parametrize(("empty", "severity"), [(1, "warning"), (3, "warning"), (8, "note"), (20, "warning")])
def test_the_severity_of_empty_masks_depends_on_their_number(empty, severity):
    """The one among thirty is a slip; some are images without objects; most of a set is not labelled."""
    rows = np.tile([0.7, 0.2, 0.1], (30, 1))
    rows[:empty] = [1, 0, 0]
    (finding,) = select_findings(judge_labels(*make_set_with_shares(rows)), "empty")
    assert finding.severity.value == severity and len(finding.images) == empty


def make_blank_features(name: str) -> ImageFeatures:
    return ImageFeatures(name, name, None, np.zeros((32, 32), np.float16), True)


def test_identical_masks_are_summarised_with_all_suspects():
    dataset = counted_dataset([(90, 10)] * 16)
    features = [make_blank_features(str(i))._replace(mask_digest=str(i // 2), flat=False) for i in range(16)]
    values = [-0.4, 12.0] * 4 + [9.0, 9.0, 0.1, 0.1]  # of the last ones, two pairs fit alike and two cannot be judged
    fits = [EdgeFit(value, None) for value in values] + [None] * 4
    wrong, doubtful = select_findings(
        judge_labels(dataset, [s._replace(fit=fit) for s, fit in zip(features, fits, strict=True)]), "identical_masks"
    )
    assert wrong.severity == Severity.ERROR and wrong.images == ("0000", "0002", "0004", "0006")
    assert "0000 carries the mask of 0001" in wrong.text and "and 1 more" in wrong.text
    assert doubtful.severity == Severity.WARNING and len(doubtful.images) == 8
    assert "4 masks are byte-identical" in doubtful.text and "0008 = 0009" in doubtful.text


def test_no_misfit_is_reported_if_no_labels_follow_edges():
    dataset = counted_dataset([(90, 10)] * 4)
    features = [make_blank_features(str(i))._replace(fit=EdgeFit(1.0 + i / 10, None)) for i in range(4)]
    assert select_findings(judge_labels(dataset, features), "misfit") == []


def test_the_number_of_threads_does_not_change_the_features(tmp_path):
    dataset = load_dataset("synthetic:blobs?images=8&size=64", tmp_path)
    steps: list[tuple[int, int]] = []
    features = measure_all(dataset, 1, lambda done, total: steps.append((done, total)))
    assert steps == [(i, 8) for i in range(1, 9)]
    assert [s.fit for s in measure_all(dataset, 3)] == [s.fit for s in features]


@pytest.mark.parametrize("tag", [2, 3, 4, 6, 8])
def test_edges_decide_how_a_mask_fits_an_image_with_an_exif_orientation(cells, tag):
    """Both images are turned in their files; the mask of the first is drawn on these pixels, the other upright."""
    back = {6: 8, 8: 6}.get(tag, tag)
    for stem in ("00003", "00005"):
        path = cells / "images" / f"{stem}.png"
        exif = Image.Exif()
        exif[0x0112] = tag
        with Image.open(path) as image:
            pixels = np.ascontiguousarray(turn_upright(np.array(image), back))
        Image.fromarray(pixels).save(path, exif=exif)
    paint(cells / "masks" / "00003.png", lambda mask: np.ascontiguousarray(turn_upright(mask, back)))
    dataset = load_dataset(str(cells), cells.parent / "cache")
    findings = examine_labels(dataset)
    before, after = select_findings(findings, "turned")
    assert (before.severity, before.images) == (Severity.ERROR, ("00003",)) and "exiftool" in before.text
    assert (after.severity, after.images) == (Severity.NOTE, ("00005",)) and f"tag {tag}" in after.text
    assert not select_findings(findings, "displaced") and not select_findings(findings, "misfit")
    (text,) = [warning for warning in dataset.warnings if "EXIF" in warning]
    assert text.startswith("2 images with an EXIF orientation that sizes cannot check")


# --- Real images --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.real_data
def test_the_wrong_mask_of_cracks_cfd_is_found(tmp_path, real_data):
    findings = examine_labels(load_dataset(str(real_data / "cracks_cfd"), tmp_path))
    first = findings[0]
    assert (first.kind, first.severity, first.images) == ("identical_masks", Severity.ERROR, ("042",))
    assert "042 carries the mask of 065" in first.text
    others = {stem for finding in findings for stem in finding.images} - {"042", "065"}
    assert len(others) <= 5, others


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", ["camvid", "facade_coco", "fruits_both"])
def test_sound_real_data_sets_raise_few_alarms(tmp_path, real_data, name):
    findings = examine_labels(load_dataset(str(real_data / name), tmp_path))
    assert [f.text for f in findings if f.severity != Severity.NOTE] == []
    assert all(len(f.text) < 600 for f in findings)


@pytest.mark.real_data
def test_masks_swapped_in_real_data_sets_are_found(tmp_path, real_data):
    for name in ("cracks_cfd", "camvid", "facade_coco"):
        store = open_store(load_dataset(str(real_data / name), tmp_path).store)
        pairs = [(i, (i + len(store) // 2) % len(store)) for i in range(0, len(store), 4)]
        fits = [
            measure_edge_fit(store.get_image(i), store.get_mask(j))
            for i, j in pairs
            if store.sizes[i] == store.sizes[j]
        ]
        assert np.mean([fit is not None and fit.agreement < MISFIT_AGREEMENT for fit in fits]) > 0.9
