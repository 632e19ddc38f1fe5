"""Find the images of a data set by the names that a script gives them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from sweeper.core.errors import ScriptError
from sweeper.core.records import Dataset, SplitName
from sweeper.core.text import abbreviate, format_count
from sweeper.data.make_dataset import list_parted_groups


def match_images(names: Sequence[str], dataset: Dataset, what: str) -> list[int]:
    """Return the index of each named image in the data set.

    A name is the image's stem, its file name, or a path that ends in one of them: `patient3/scan7`, `scan7.png`,
    `/data/images/scan7.png`. `what` is the split of the images, for the message.

    Raises:
        ScriptError: if a name fits no image, or two names fit the same one.
    """
    index_of: dict[str, int | None] = {}
    for number, image in enumerate(dataset.images):
        for key in _list_endings(image.stem):
            # A shorter ending that several images share is ambiguous.
            is_clear = key not in index_of or key == image.stem
            index_of[key] = number if is_clear else None
    name_of: dict[int, str] = {}
    unknown: list[str] = []
    indices = []
    for name in names:
        found = map(index_of.get, _list_keys(name))
        index = next((i for i in found if i is not None), None)
        if index is None:
            unknown.append(name)
            continue
        if index in name_of:
            rule = f"each image of {what} must have one name, and {name_of[index]!r} and {name!r} are both "
            raise ScriptError(dataset.name, [f"{rule}{dataset.images[index].stem!r}; give one of them"])
        name_of[index] = name
        indices.append(index)
    if unknown:
        count = format_count(len(unknown), "name is", "names are")
        rule = f"images of {what} must be named as in the data, such as {dataset.images[0].stem!r}, and {count} not"
        raise ScriptError(dataset.name, [f"{rule}, such as {unknown[0]!r}; give s.add the images' file names"])
    return indices


def divide_as_script(dataset: Dataset, val: Sequence[str], test: Sequence[str]) -> Dataset:
    """Return the data set with the script's split; images that the script does not score are for training.

    Raises:
        ScriptError: if names fit no image.
    """
    sides: dict[int, SplitName] = dict.fromkeys(match_images(val, dataset, "val"), "val")
    sides |= dict.fromkeys(match_images(test, dataset, "test"), "test")
    return _assign_sides(dataset, [sides.get(number, "train") for number in range(len(dataset.images))])


def divide_as_before(dataset: Dataset, before: Dataset) -> Dataset:
    """Return the data set with the split that it had in a study; new images are for training."""
    side_of = {image.stem: image.split for image in before.images}
    divided = _assign_sides(dataset, [side_of.get(image.stem) or "train" for image in dataset.images])
    script = {name: getattr(before, name) for name in ("script_ignores", "script_scores")}
    return divided.model_copy(update=script)


def _assign_sides(dataset: Dataset, sides: Sequence[SplitName]) -> Dataset:
    before = list_parted_groups(dataset.images)  # warnings about the split that came with the data, which is not used
    images = [image.model_copy(update={"split": side}) for image, side in zip(dataset.images, sides, strict=True)]
    warnings = [*(text for text in dataset.warnings if text not in before), *list_parted_groups(images)]
    other = [one.stem for one, side in zip(dataset.images, sides, strict=True) if one.split == "train" != side]
    if other:
        warnings.append(
            f"the script scores {format_count(len(other), 'image')} that the split of the data has for training: "
            f"{abbreviate(other, 3)}. If the script also trains on them, their scores are too high."
        )
    return dataset.model_copy(update={"images": tuple(images), "warnings": tuple(warnings)})


def _list_endings(stem: str) -> Iterator[str]:
    parts = PurePath(stem).parts
    return ("/".join(parts[n:]) for n in range(len(parts)))


def _list_keys(name: str) -> Iterator[str]:
    """List possible keys of a name, the longest first: as it is, and without its last extension."""
    for text in (name, str(PurePath(name).with_suffix(""))) if name else ():
        yield from _list_endings(text)
