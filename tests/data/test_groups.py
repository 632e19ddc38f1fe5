"""Groups of images, which no split divides: by folders, names or --groups, with a warning where they are uncertain."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from sweeper.core.errors import DataError, UsageError
from sweeper.core.records import Dataset
from sweeper.data import divide_images, load_dataset
from sweeper.data.folds import divide_for_fold
from sweeper.data.groups import format_groups
from sweeper.data.split_warnings import describe_split
from sweeper.storage import list_plan_differences
from sweeper.workflow.prepare import resolve_dataset_request
from sweeper.workflow.settings import Settings
from tests.support import annotated, builders
from tests.support.faking import new_plan
from tests.support.folders import has_warning, load_folder
from tests.support.sweeping import Recorder


def write_images(root: Path, *names: str, masks: str = "masks/{}.png") -> Path:
    """Return a folder with images/NAME.png and a mask for each; a name with a slash before it is put where it says."""
    for index, name in enumerate(names):
        image = Path(name[1:]) if name.startswith("/") else Path("images") / f"{name}.png"
        mask = image.with_name(f"{image.stem}_mask.png") if name.startswith("/") else Path(masks.format(name))
        for path, picture in ((image, annotated.photo(index)), (mask, annotated.palette(annotated.truth(index)))):
            annotated.make_folders((root / path).parent)
            picture.save(root / path)
    return root


def map_groups(dataset: Dataset) -> dict[str, str | None]:
    """Return the group of each stem."""
    return {image.stem: image.group for image in dataset.images}


def list_groups(root: Path, **options: str) -> set[str | None]:
    return {*map_groups(load_folder(root, **options)).values()}


def number_names(begins: Iterable[str], form: str, several: int = 2) -> list[str]:
    """Return names of a form like `{}_{}`: each beginning with each number."""
    return [form.format(begin, n) for begin in begins for n in range(several)]


@pytest.mark.parametrize(
    ("names", "by", "groups"),
    [
        (number_names(("P01", "P02", "P03"), "{}/s{}"), "folder", {"P01", "P02", "P03"}),
        (number_names(("a", "b", "c"), "/{}/s{}.png"), "folder", {"a", "b", "c"}),
        (number_names(("train/a", "train/b", "val/c"), "{}/s{}"), "folder", {"a", "b", "c"}),
        (number_names(("a/left", "a/right", "b/left", "c/left"), "{}/{}"), "folder", {"a", "b", "c"}),
        (number_names(("x/1", "x/2", "y/3"), "{}/{}"), "folder", {"x/1", "x/2", "y/3"}),
        (
            number_names(("patient1", "patient2", "patient3"), "{}_slice00{}"),
            "name",
            {"patient1", "patient2", "patient3"},
        ),
        (number_names(("p-1", "p-2", "p-3"), "{}-visit1-{}"), "name", {"p-1", "p-2", "p-3"}),
        (number_names(("7", "8", "9"), "{}.{}"), "name", {"7", "8", "9"}),
        (["v1", "v1_flip", "v2", "v2_flip", "v3"], "name", {"v1", "v2"}),
        (
            number_names(("Patient1", "Patient2", "Patient3"), "{}Slice00{}"),
            "name",
            {"Patient1", "Patient2", "Patient3"},
        ),
        (number_names(("subj-1", "subj-2", "subj-3"), "{}z{}"), "name", {"subj-1", "subj-2", "subj-3"}),
        ([f"Image_0{n}{eye}" for n in range(3) for eye in "LR"], "name", {"Image_00", "Image_01", "Image_02"}),
        (
            number_names([f"city{'x' * n}" for n in range(10)], "{}/s{}"),
            "folder",
            {f"city{'x' * n}" for n in range(10)},
        ),
        (number_names(("left/5", "right/5", "left/6", "left/7"), "{}_{}"), "name", {"5", "6", "7"}),
        (number_names(("P01", "P02", "P03"), "slice_{1:03}_{0}"), "name", {"P01", "P02", "P03"}),
        (number_names(("case1", "case2", "case3"), "img_{1}_{0}_left"), "name", {"case1", "case2", "case3"}),
        (number_names(("city1", "city2", "city3"), "tile_{1}_256_{0}"), "name", {"city1", "city2", "city3"}),
        (
            number_names(("video-1", "video-2", "video-3"), "frame{1}-patch{1}-of-{0}"),
            "name",
            {f"video-{n}" for n in "123"},
        ),
        (
            number_names(("patient1", "patient2", "patient3"), "2019-01-0{1}_{0}_a"),
            "name",
            {f"patient{n}" for n in "123"},
        ),
        (["img1", "aug0_img1", "img2", "aug_img2", "img3", "flipped_img3"], "name", {"img1", "img2", "img3"}),
        (["left_01", "right_01", "left_02", "right_02", "left_03"], "name", {"01", "02", "03"}),
        (number_names(("frame1", "frame2", "frame3"), "{0}_tile_{1}"), "name", {"frame1", "frame2", "frame3"}),
        (number_names(("img_1", "img_2", "img_3"), "{0}_a{1}"), "name", {"img_1", "img_2", "img_3"}),
        (number_names(("12", "13", "14"), "{0}_scan{1}"), "name", {"12", "13", "14"}),
    ],
)
def test_folders_and_ids_in_names_make_groups(tmp_path, names, by, groups):
    dataset = load_folder(write_images(tmp_path / "data", *names))
    assert dataset.grouped_by == by and {*map_groups(dataset).values()} - {None} == groups
    assert f"{len(groups)} groups by {by} (" in str(format_groups(dataset))
    split = divide_images(dataset, test_seed=0, seed=0)
    for group in groups:
        members = {i for i, image in enumerate(dataset.images) if image.group == group}
        assert sum(not members.isdisjoint(side) for side in (split.train, split.val, split.test)) == 1


@pytest.mark.parametrize(
    "names",
    [
        number_names(("img",), "{}_00{}", 6),
        number_names(("2007", "2008", "2011"), "{}_00{}"),
        [f"f{n:03}" for n in range(6)],
        [f"{n}_x{n}" for n in range(6)],
        number_names(("COCO_train2014", "COCO_val2014"), "{}_{}", 3),
        number_names(("v1",), "{}_00{}", 6),
        number_names(("img_512x512",), "{}_00{}", 6),
        [f"cju{n}qkwl35piu099{m}l0dewei" for n in range(3) for m in range(2)],
        [f"img{n}of6" for n in range(6)],
        number_names(("train2017", "val2017"), "{}/{}a", 3),
    ],
)
def test_names_without_ids_make_no_groups(tmp_path, names):
    dataset = load_folder(write_images(tmp_path / "data", *names))
    assert {*map_groups(dataset).values()} == {None} and dataset.grouped_by is None and format_groups(dataset) is None
    assert not has_warning(dataset, "--groups")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (number_names(("A", "B"), "{}/s{}", 3), "(A, B)"),
        (number_names(("v1", "v2"), "{}_{}", 3), "(v1, v2)"),
        (number_names(("anna", "bert", "cleo"), "{}_{}"), "(anna, bert, cleo)"),
        (number_names(("video_anna", "video_bert", "video_cleo"), "{}_{}"), "(video_anna, video_bert, video_cleo)"),
        (number_names(("MT_Blowhole", "MT_Crack", "MT_Free"), "{}/s{}"), "--groups folder keeps those of each"),
    ],
)
def test_uncertain_groups_are_reported_until_the_user_decides(tmp_path, names, words):
    root = write_images(tmp_path / "data", *names)
    dataset = load_folder(root)
    assert {*map_groups(dataset).values()} == {None}
    (warning,) = (line for line in dataset.warnings if "--groups" in line)
    assert words in warning and "are trained on and tested one by one" in warning
    assert not has_warning(load_folder(root, groups="none"), "--groups")
    if "anna" in warning:
        pattern = warning.split("--groups '")[1].split("'")[0]
        assert load_folder(root, groups=pattern).images[0].group == names[0].rpartition("_")[0]


def test_split_csv_and_given_splits_precede_groups_by_folder(tmp_path):
    root = write_images(tmp_path / "data", *number_names("abc", "{}/{}"))
    stems = [*map_groups(load_folder(root))]
    table = root / "split.csv"
    table.write_text("stem,split,group\n" + "".join(f"{stem},,\n" for stem in stems))
    assert (load_folder(root).grouped_by, list_groups(root)) == ("split.csv", {None})
    table.write_text("stem,split,group\n" + "".join(f"{stem},,g{stem[-1]}\n" for stem in stems))
    assert list_groups(root) == {"g0", "g1"} == list_groups(root, groups="none")
    assert list_groups(root, groups="folder") == {"a", "b", "c"}
    table.write_text("stem,split\n" + "".join(f"{stem},\n" for stem in stems))
    assert load_folder(root).grouped_by == "folder"
    sides = ("train", "train", "val", "val", "test", "test")
    table.write_text("stem,split\n" + "".join(f"{stem},{side}\n" for stem, side in zip(stems, sides, strict=True)))
    assert load_folder(root).grouped_by is None  # nothing is left to divide


def test_the_groups_option_accepts_folder_or_a_pattern_that_matches_every_image(tmp_path):
    root = write_images(tmp_path / "data", "a1/x-0", "a1/y-1", "b1/x-2", "b1/y-3", "b1/z")
    assert list_groups(root, groups="folder") == {"a1", "b1"}
    with pytest.raises(DataError, match=r"found 2 .*--groups none: each image is one"):
        divide_images(load_folder(root, groups="folder"), test_seed=0, seed=0)
    with pytest.raises(
        DataError, match=r"must match the path of every image, found no match in images/b1/z.png"
    ) as caught:
        load_folder(root, groups="([xy])-")
    pattern = str(caught.value).split("--groups '")[1].split("'")[0]
    assert sorted(map(str, map_groups(load_folder(root, groups=pattern)).values())) == ["x", "x", "y", "y", "z"]
    assert list_groups(root, groups="[ab]1") == {"a1", "b1"}
    assert list_groups(root, groups="([0-9]*)") == {"1"}  # not the nothing before it
    with pytest.raises(DataError, match="two folders must hold several images each"):
        load_folder(write_images(tmp_path / "flat", "p", "q", "r"), groups="folder")
    with pytest.raises(UsageError, match="--groups is for files"):
        load_dataset("synthetic:cracks?images=4", tmp_path / "cache", groups="folder")
    for wrong in ("(", ""):
        with pytest.raises(ValueError, match="none, folder or a regular expression"):
            Settings(groups=wrong)


def test_folds_do_not_divide_groups_and_the_plan_lists_them(tmp_path):
    dataset = load_folder(write_images(tmp_path / "data", *number_names("abcde", "{}/{}")))
    for fold in range(5):
        split = divide_for_fold(dataset, folds=5, number=fold, test_seed=0, seed=0)
        assert len({dataset.images[i].group for i in split.test}) == 1
    assert describe_split(dataset)[0].endswith("; kept together: 5 groups by folder (a, b, c and 2 more)")


def test_a_study_keeps_its_groups_and_an_older_one_keeps_having_none(tmp_path):
    root, cache = write_images(tmp_path / "data", *number_names("abc", "{}/{}")), tmp_path / "cache"
    first = resolve_dataset_request(Settings(data=str(root), groups="b|.", cache=cache), None, Recorder())
    again = resolve_dataset_request(Settings(cache=cache), first, Recorder())
    assert (again.digest, again.groups, map_groups(again)) == (first.digest, "b|.", map_groups(first))
    new = resolve_dataset_request(Settings(data=str(root), cache=cache), None, Recorder())
    assert new.groups == "auto" and new.digest != first.digest
    plans = [new_plan(conditions=builders.conditions(one)) for one in (first, new)]
    (difference,) = list_plan_differences(*plans)
    assert "groups b|.," in difference.split(" → ")[0] and "groups auto," in difference.split(" → ")[1]
    before = Dataset.model_validate(load_folder(root, groups="none").model_dump(exclude={"groups", "grouped_by"}))
    again = resolve_dataset_request(Settings(cache=cache), before, Recorder())
    assert again.digest == before.digest and {*map_groups(again).values()} == {None}
