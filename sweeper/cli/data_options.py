"""What commands that read a data set and train nothing are asked: the data, and which part of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sweeper.cli.bar import Bar
from sweeper.cli.settings_options import setting
from sweeper.core import paths
from sweeper.core.records import Dataset
from sweeper.data import load_dataset
from sweeper.data.cache import hold
from sweeper.data.class_map import read_class_map
from sweeper.data.formats.file_patterns import asked_patterns
from sweeper.data.variants import read_exclusions, resized, without

as_json_option = click.option(
    "--json", "as_json", envvar="SWEEPER_JSON", is_flag=True, help="Print one JSON document and nothing else."
)


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument DATA and its options; `asked_dataset` takes their values."""
    for option in reversed(
        (
            click.argument("data", required=False),
            setting("images"),
            setting("masks"),
            click.option(
                "--format", "format_", help="Format of DATA (folder, labelme, coco, …).  [default: what is found there]"
            ),
            click.option(
                "--cache",
                type=click.Path(file_okay=False, path_type=Path),
                default=paths.CACHE,
                show_default=True,
                help="Folder for decoded images.",
            ),
            setting("class_map", default="all as they are"),
            setting("exclude", default="none"),
            setting("resize", default="native"),
        )
    ):
        command = option(command)
    return command


def asked_dataset(asked: dict[str, Any]) -> Dataset:
    """Read the data set that `data_options` name; its store is held until the command ends.

    Raises:
        click.UsageError: no data are named.
        SweeperError: they cannot be read.
    """
    source, patterns = asked_patterns(asked["data"], asked["images"], asked["masks"])
    if source is None:
        raise click.UsageError("Missing argument 'DATA', or --images with --masks.")
    cache: Path = asked["cache"]
    classes = None if asked["class_map"] is None else read_class_map(asked["class_map"])
    with Bar("decoding") as bar:
        dataset = load_dataset(
            source,
            cache,
            lambda line: click.echo(line, err=True),
            format=asked["format_"],
            patterns=patterns,
            class_map=classes,
            tick=bar.update,
        )
    if asked["exclude"] is not None:
        dataset = without(dataset, read_exclusions(asked["exclude"]), cache)
    if asked["resize"] is not None:
        with Bar("shrinking") as bar:
            dataset = resized(dataset, asked["resize"], cache, bar.update)
    click.get_current_context().with_resource(hold(Path(dataset.store)))
    return dataset
