"""The last step of every reader: make a `Dataset` from a finished store and facts about its images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sweeper.core.records import Dataset, ImageInfo
from sweeper.core.tasks import guess_task
from sweeper.core.text import abbreviate, escape_for_display, format_count
from sweeper.data.class_words import describe_absent_classes
from sweeper.data.store import StoreWriter, compute_content_digest, compute_pixel_hash, count_labels
from sweeper.data.text_tables import SplitAssignment


def assemble(
    writer: StoreWriter,
    *,
    name: str,
    source: str,
    format_name: str | None,
    classes: tuple[str, ...],
    stems: Sequence[str],
    sides: Mapping[str, SplitAssignment] = {},
    turns: Mapping[str, int] = {},
    warnings: Sequence[str] = (),
    is_multilabel: bool = False,
) -> Dataset:
    """Finish, digest and publish the store of `writer`, and describe it.

    Args:
        writer: holds the unpublished folder; its image i is `stems[i]`.
        name: for display.
        source: data source as the user gave it.
        format_name: the reader's name; None for synthetic images.
        classes: names in index order; without a background in a multi-label set.
        stems: names of the images, ascending.
        sides: given split and group of images, by their names.
        turns: EXIF orientations that labels may still need, by the names of the images.
        warnings: warnings of the reader, to which more are added.
        is_multilabel: whether the masks hold bits of classes.
    """
    store = writer.finish()
    hashes, counts = [], []
    for index in range(len(store)):
        mask = store.get_mask(index)
        hashes.append((compute_pixel_hash(store.get_image(index)), compute_pixel_hash(mask)))
        counts.append(count_labels(mask, len(classes) * is_multilabel)[int(is_multilabel) :])
    given = [sides.get(stem, SplitAssignment()) for stem in stems]
    digest = compute_content_digest(classes, hashes, given)
    folder = writer.publish(digest.removeprefix("sha256:"))
    images = tuple(
        ImageInfo(
            stem=stem,
            height=height,
            width=width,
            pixels=tuple(int(n) for n in row[: len(classes)]),
            ignored=int(row[-1]),
            split=side.split,
            group=side.group,
            open_turn=turns.get(stem, 1),
        )
        for stem, (height, width), row, side in zip(stems, store.sizes, counts, given, strict=True)
    )
    return Dataset(
        name=name,
        source=source,
        format=format_name,
        digest=digest,
        task="multilabel" if is_multilabel else guess_task(len(classes)),
        classes=classes,
        channels=store.channels,
        synthetic=format_name is None,
        store=str(folder),
        images=images,
        warnings=tuple(map(escape_for_display, (*warnings, *_list_warnings(images, classes, hashes)))),
    )


def _list_warnings(
    images: Sequence[ImageInfo], classes: Sequence[str], hashes: Sequence[tuple[str, str]]
) -> tuple[str, ...]:
    """Return warnings about absent classes, unlabelled images, cut groups and duplicates."""
    warnings = describe_absent_classes(classes, [any(p.pixels[i] for p in images) for i in range(len(classes))])
    bare = [p.stem for p in images if not p.labelled]
    if bare:
        warnings.append(
            f"{format_count(len(bare), 'image')} without any labelled pixel to learn from: {abbreviate(bare)}."
        )
    warnings += list_parted_groups(images)
    leak = "they leak between the sides of a split; remove one, or give both the same group in split.csv"
    warnings += _warn_of_equals(images, [h[0] for h in hashes], [*range(len(images))], "the same pixels", leak)
    # Masks of a single class are often identical by nature; others are not.
    drawn = [None if p.is_uniform else h[1] for p, h in zip(images, hashes, strict=True)]
    warnings += _warn_of_equals(
        images, drawn, [h[0] for h in hashes], "byte-identical masks", "one of the labels is probably wrong"
    )
    return tuple(warnings)


def list_parted_groups(images: Sequence[ImageInfo]) -> list[str]:
    """Return the warning about groups that are cut by the given split; [] if there are none."""
    sides_of_groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for image in images:
        if image.group and image.split:
            sides_of_groups[image.group][image.split].append(image.stem)
    cut = [
        f"{group} ({'; '.join(f'{side}: {abbreviate(stems, 3)}' for side, stems in sides.items())})"
        for group, sides in sides_of_groups.items()
        if len(sides) > 1
    ]
    if not cut:
        return []
    return [
        f"{format_count(len(cut), 'group is', 'groups are')} on several sides of the given split: "
        f"{abbreviate(cut, 3)}. The split is kept; scores may be too high if these images resemble each other."
    ]


def _warn_of_equals(
    images: Sequence[ImageInfo], keys: Sequence[str | None], marks: Sequence[object], what: str, reason: str
) -> list[str]:
    """Return a warning about images with equal keys, if there are any whose marks differ."""
    same: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        if key is not None:
            same[key].append(index)
    sets = [group for group in same.values() if len({marks[i] for i in group}) > 1]
    named = [f"({abbreviate([images[i].stem for i in group])})" for group in sets]
    return [f"{sum(map(len, sets))} images have {what}: {abbreviate(named, 3)}; {reason}."] if sets else []
