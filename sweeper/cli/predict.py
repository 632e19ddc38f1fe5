"""`sweeper predict`: masks and overlays of new images."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.progress import PlainDisplay, show_progress
from sweeper.cli.settings_options import add_options, format_option_name, make_setting_option
from sweeper.cli.signals import StopRequest
from sweeper.cli.terminal import echo_result
from sweeper.core.options import make_options
from sweeper.core.paths import CACHE
from sweeper.core.tasks import RULES, format_point
from sweeper.core.text import format_count
from sweeper.deployment.predict import PredictionsDocument, load_from_file, load_from_study, predict_images
from sweeper.deployment.recommended_network import KeptNetwork
from sweeper.workflow.settings import PredictOptions


@click.command(cls=SweeperCommand)
@click.argument("study_and_images", metavar="[STUDY] IMAGES...", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    allow_from_autoenv=False,  # SWEEPER_OUT is the folder of the reports
    help="Folder for masks/, overlays/, classes.txt and predictions.json.",
)
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of weights to use instead of STUDY.",
)
@add_options(PredictOptions)
@make_setting_option("device", text="Device that predicts.")
@make_setting_option("storage")
@add_json_option()
def command(
    study_and_images: tuple[str, ...], *, weights: Path | None, storage: str, as_json: bool, **predict_options: Any
) -> int:
    """Predict masks of IMAGES (files, folders, patterns) with the network that STUDY recommends.

    The network is the last one of `sweeper train STUDY`; without one, the confirmation that the sweep kept. Images are
    read as in training (8 or 16 bits, any size; large ones in overlapping tiles). OUT/masks has class indices with the
    classes' colours, or a folder for each overlapping class; OUT/overlays is for viewing.

    \b
    sweeper predict STUDY new/ --out answers
    sweeper predict --weights model.safetensors 'new/**/*.png' --out answers
    """
    options = make_options(PredictOptions, predict_options, "the prediction", format_option_name)
    display = PlainDisplay()
    with StopRequest(display.warn, whole=True) as stop, redirect_stdout(sys.stderr):
        if weights is None:
            study, *images = study_and_images
            if not images:
                raise click.UsageError(
                    f"STUDY and IMAGES are needed, got only {study!r}; name a study (`sweeper studies` lists them), "
                    "then files, folders or patterns; --weights FILE takes the place of the study"
                )
            from sweeper.storage import open_storage

            source = load_from_study(open_storage(storage, create=False, warn=display.warn), study, CACHE)
        else:
            source, images = load_from_file(weights), list(study_and_images)
        with show_progress("predicting") as update:
            made = predict_images(source, images, options, stop=stop, progress=update)
    echo_result(made, _format_outcome(made, source, options.out), as_json=as_json)
    if made.unreadable:
        listed = "".join(f"\n  - {row.image}: {row.reason}" for row in made.unreadable)
        display.warn(f"{format_count(len(made.unreadable), 'image')} could not be read:{listed}")
    if not made.unreadable:
        return 0
    return 1 if made.images else 2


def _format_outcome(made: PredictionsDocument, source: KeptNetwork, out: Path) -> str:
    """Format what was done, as text."""
    record = source.record
    rules = RULES[record.task]
    point = format_point(getattr(made, rules.point_key))
    lines = [
        f"Network: {record.spec.family}, {record.spec.steps:,} steps on {record.on}; {rules.point_name} {point}",
        f"Weights: {source.path}",
    ]
    if made.images:
        count = format_count(len(made.images), "image")
        lines.append(f"Masks:   {count} in {out / 'masks'}, {out / 'overlays'}")
        for name in record.classes[rules.first_channel :]:
            shares = [row.shares[name] for row in made.images]
            occurring, mean = sum(share > 0 for share in shares), sum(shares) / len(shares)
            lines.append(f"  {name!r}: {100 * mean:.3g} % of the pixels, in {occurring} of {len(shares)} images")
    return "\n".join(lines)
