"""`sweeper export`: the recommended loss and a network that was trained with it, as files."""

from __future__ import annotations

from typing import Any

import click

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.settings_options import make_setting_option
from sweeper.cli.terminal import echo_result
from sweeper.core.paths import CACHE
from sweeper.core.text import format_confirm_command


@click.command(cls=SweeperCommand)
@click.argument("study")
@make_setting_option("storage")
@make_setting_option("out")
@click.option(
    "--onnx", is_flag=True, help="Also write the network as model.onnx (needs the extra `onnx`), checked against torch."
)
@add_json_option()
def command(study: str, *, storage: str, as_json: bool, **options: Any) -> None:
    """Write the loss that STUDY recommends as Python and YAML, and weights that were trained with it.

    The weights are those of the last `sweeper train STUDY`, else of the recommended loss's first confirmation
    (averaged, with BatchNorm statistics), in safetensors. model.py next to them loads them with only
    segmentation-models-pytorch.
    """
    from sweeper.deployment.export import export_study
    from sweeper.storage import open_storage

    made = export_study(open_storage(storage, create=False), study, cache=CACHE, **options)
    lines = [f"{made.family} ({made.outcome}, {made.sure})"]
    lines.append(f"  loss:    {made.loss} (Python), {made.space} (for --space)")
    if made.examples is not None:
        lines.append(f"  code:    {made.examples} (a plain loop, nnU-Net)")
    if made.command is not None:
        lines.append(f"  weights: none, as the network is your script's: {made.command}")
    elif made.weights is None:
        lines.append(f"  weights: none are kept in {CACHE.parent}; a sweep keeps them where it confirms the loss")
    else:
        lines.append(f"  weights: {made.weights} ({made.megabytes:.1f} MB), loaded by {made.model}")
    if made.onnx is not None:
        lines.append(f"  ONNX:    {made.onnx} (differs from torch by {made.onnx_difference:.1g} at most)")
    if made.command is None:
        lines.append(f"  check:   {format_confirm_command(study, storage)} (whether it holds in your own training)")
    echo_result(made, "\n".join(lines), as_json=as_json)
