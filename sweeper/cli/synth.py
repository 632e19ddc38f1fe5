"""`sweeper synth NAME OUT`: write a synthetic scene set as ordinary files."""

from __future__ import annotations

from pathlib import Path

import click

from sweeper.cli.options import SweeperCommand
from sweeper.data.synthetic import PARAMETERS, SCENES, Parameter, write_scenes


def _make_epilog() -> str:
    """Format the scenes with their parameters for `--help`."""
    lines = ["Scenes:"]
    for name, scene in SCENES.items():
        lines.append(f"  {name}: {scene.text}")
        for key, value in scene.own.items():
            lines.append(_format_line(key, value))
    lines.append("  all of them:")
    lines += [_format_line(key, value) for key, value in PARAMETERS.items()]
    return "\b\n" + "\n".join(lines)


def _format_line(key: str, value: Parameter) -> str:
    return f"    {key}={value.default:g}  ({value.low:.10g} to {value.high:.10g}) {value.text}"


@click.command("synth", cls=SweeperCommand, epilog=_make_epilog())
@click.argument("name")
@click.argument("out", type=click.Path(path_type=Path))
def command(name: str, out: Path) -> None:
    """Draw the scene set NAME, such as 'cracks' or 'cracks?foreground=0.005&images=300', into the folder OUT.

    OUT gets images/, masks/ and classes.txt, and must be new or empty. `sweeper run OUT` reads it back, where classes
    overlap with `--class-map OUT/overlap.yaml`.
    """
    scenes = write_scenes(name, out)
    click.echo(f"{out}: {scenes.canvas.images} images of {scenes.name}")
