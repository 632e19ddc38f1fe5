"""Names that a script gives its images, and the images of a data set that they mean."""

from __future__ import annotations

import pytest

from sweeper.core.errors import ScriptError
from sweeper.core.records import Dataset
from sweeper.scripts.image_names import divide_as_before, divide_as_script, match_images
from tests.support import builders


def make_dataset(*stems: str) -> Dataset:
    plain = builders.dataset()
    images = tuple(plain.images[0].model_copy(update={"stem": stem, "split": None}) for stem in stems)
    return plain.model_copy(update={"images": images})


DATA = make_dataset("p1/scan1", "p1/scan2", "p2/scan2", "v1.2", "v1.3")


@pytest.mark.parametrize(
    ("name", "index"),
    [("p1/scan1", 0), ("scan1", 0), ("scan1.png", 0), ("/data/images/p2/scan2.nii", 2), ("v1.2", 3), ("v1.3.png", 4)],
)
def test_a_name_is_a_stem_a_file_or_a_path(name: str, index: int) -> None:
    assert match_images([name], DATA, "val") == [index]


@pytest.mark.parametrize("name", ["scan2", "scan3", "", "images"])
def test_a_name_that_fits_no_single_image_is_refused(name: str) -> None:
    with pytest.raises(ScriptError, match=r"1 name is not, such as .*; give s.add the images' file names"):
        match_images(["p1/scan1", name], DATA, "val")


def test_two_names_of_one_image_are_refused() -> None:
    with pytest.raises(ScriptError, match=r"'scan1' and 'scan1.png' are both 'p1/scan1'"):
        match_images(["scan1", "scan1.png"], DATA, "val")


def test_the_script_divides_the_data_and_a_resume_divides_them_as_before() -> None:
    divided = divide_as_script(DATA, ["p1/scan2"], ["p2/scan2", "v1.2"])
    sides = [image.split for image in divided.images]
    assert sides == ["train", "val", "test", "test", "train"]
    assert divide_as_before(DATA, divided) == divided


def test_a_patient_on_two_sides_of_the_split_of_the_script_is_a_warning() -> None:
    images = tuple(image.model_copy(update={"group": image.stem[:2]}) for image in DATA.images)
    grouped = DATA.model_copy(update={"images": images})
    divided = divide_as_script(grouped, ["p1/scan2"], ["p2/scan2", "v1.2", "v1.3"])
    (warning,) = set(divided.warnings) - set(grouped.warnings)
    assert warning.startswith("1 group is on several sides of the given split: p1 (train: p1/scan1; val: p1/scan2)")
    divided_again = divide_as_script(divided, ["p2/scan2"], ["v1.2", "v1.3"])  # the split before is not used
    assert not [text for text in divided_again.warnings if "several sides" in text]


def test_a_warning_names_scored_images_that_the_data_have_for_training() -> None:
    images = tuple(image.model_copy(update={"split": "train"}) for image in DATA.images[:2])
    data = DATA.model_copy(update={"images": (*images, *DATA.images[2:])})
    divided = divide_as_script(data, ["p1/scan2"], ["v1.2", "v1.3"])
    (warning,) = set(divided.warnings) - set(data.warnings)
    assert warning.startswith("the script scores 1 image that the split of the data has for training: p1/scan2.")
    assert divide_as_before(data, divided) == divided
