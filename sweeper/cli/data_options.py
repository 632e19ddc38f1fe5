"""What commands that read a data set and train nothing are asked: the data, and which part of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sweeper.cli.progress import PlainDisplay
from sweeper.cli.settings_options import setting
from sweeper.core.records import Dataset
from sweeper.data.cache import hold
from sweeper.workflow.prepare import dataset_of
from sweeper.workflow.settings import Settings


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument DATA and its options; `asked_dataset` takes their values."""
    for option in reversed(
        (
            click.argument("data", required=False),
            setting("images"),
            setting("masks"),
            setting("format"),
            setting("cache"),
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
    settings = Settings(**asked)
    if settings.data is None and settings.images is None and settings.masks is None:
        raise click.UsageError("Missing argument 'DATA', or --images with --masks.")
    dataset = dataset_of(settings, None, PlainDisplay())
    click.get_current_context().with_resource(hold(Path(dataset.store)))
    return dataset
