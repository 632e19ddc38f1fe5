"""`sweeper profile DATA`: what the labels look like, and what that means for the loss."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweeper import paths
from sweeper.data import load_dataset
from sweeper.profile import consequences, profile_dataset
from sweeper.records import ClassProfile, Dataset, ImbalanceProfile


@click.command("profile")
@click.argument("data")
@click.option("--format", "format_", help="Format of DATA (folder, labelme, coco, …).  [default: what is found there]")
@click.option(
    "--json", "as_json", envvar="SWEEPER_JSON", is_flag=True, help="Print one JSON document and nothing else."
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=paths.CACHE,
    show_default=True,
    help="Folder for decoded pictures.",
)
def command(data: str, format_: str | None, as_json: bool, cache: Path) -> None:
    """Show the imbalance of DATA without training anything.

    DATA is a folder (images/ and masks/, LabelMe, COCO, Pascal VOC, YOLO, Cityscapes, nnU-Net; see docs/formats.md),
    an annotation file (COCO JSON, data.yaml, a CSV manifest), or synthetic:NAME.

    Pixel shares, prevalence, component sizes, thinness and suggested weights; label problems end it with status 2.
    """
    dataset = load_dataset(data, cache, lambda line: click.echo(line, err=True), format=format_)
    profile = profile_dataset(dataset)
    for warning in dataset.warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(_document(dataset, profile), ensure_ascii=False, allow_nan=False))
    else:
        _print(dataset, profile)


def _document(dataset: Dataset, profile: ImbalanceProfile) -> dict[str, object]:
    fields = {"name", "source", "format", "digest", "task", "classes", "channels", "synthetic"}
    return {
        "schema": "sweeper.profile/1",
        "dataset": dataset.model_dump(mode="json", include=fields),
        "profile": profile.model_dump(mode="json"),
        "consequences": list(consequences(profile)),
        "warnings": list(dataset.warnings),
    }


def _print(dataset: Dataset, profile: ImbalanceProfile) -> None:
    terminal = sys.stdout.isatty()
    # A pipe or a file has no width: rows stay whole there.
    console = Console(width=None if terminal else 200, highlight=False, markup=False, soft_wrap=not terminal)
    console.print(
        f"{dataset.name}: {dataset.task}, {profile.pictures} pictures, {len(dataset.classes)} classes, "
        f"{100 * profile.ignored_share:.2f} % of the pixels ignored, {profile.empty_pictures} pictures with nothing "
        f"but {dataset.classes[0]}"
    )
    table = Table(box=box.SIMPLE if terminal else None, pad_edge=False)
    table.add_column("class")
    for heading in ("pixels %", "pictures %", "components", "size 10/50/90 %", "thin %", "weight"):
        table.add_column(heading, justify="right")
    for row, weight in zip(profile.classes, profile.class_weights, strict=True):
        table.add_row(*_cells(row, weight))
    console.print(table)
    if profile.pos_weight is None:
        console.print(f"imbalance {profile.imbalance:.1f}:1 (commonest to rarest class); the weights above balance it")
    else:
        console.print(
            f"imbalance {profile.imbalance:.1f}:1; balanced by pos_weight = {profile.pos_weight:.1f} or "
            f"alpha = {profile.alpha:.4f}"
        )
    for sentence in consequences(profile):
        console.print(sentence)


def _cells(row: ClassProfile, weight: float) -> list[Text]:
    sizes = "–" if row.component_pixels is None else " / ".join(f"{size:.0f}" for size in row.component_pixels)
    cells = [
        row.name,
        f"{100 * row.pixel_share:.3f}",
        f"{100 * row.picture_share:.1f}",
        str(row.components),
        sizes,
        "–" if row.thinness is None else f"{100 * row.thinness:.1f}",
        f"{weight:.3g}",
    ]
    return [Text(cell) for cell in cells]  # never markup: names are data
