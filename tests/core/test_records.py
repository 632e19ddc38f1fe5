"""The record of a study: the command that repeats it, and whether its precision was measured."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from click.core import ParameterSource

from sweeper.cli.run import command
from sweeper.workflow.settings import Settings
from tests.support import builders

CPU = {"device": "cpu", "executor": "processes", "workers": 1}


def parse_command(line: str) -> dict[str, Any]:
    """Return what `sweeper run` takes from this command line."""
    words = shlex.split(line)
    assert words[:2] == ["sweeper", "run"]
    context = command.make_context("run", words[2:])
    is_from_line = lambda name: context.get_parameter_source(name) == ParameterSource.COMMANDLINE  # noqa: E731
    return Settings(**{name: value for name, value in context.params.items() if is_from_line(name)}).model_dump()


@pytest.mark.parametrize(
    ("options", "machine", "expected"),
    [
        ("x", CPU, {"data": "x", "device": "cpu", "workers": 1}),
        ("'my  masks' --precision bfloat16 --workers 3", CPU, {"data": "my  masks", "workers": 1}),
        ("x --seed=7 --engine deterministic", {**CPU, "device": "cuda"}, {"engine": "deterministic", "device": "cuda"}),
        ("--images 'a b/*.png' --masks '{stem}.png' --folds 5", {}, {"images": "a b/*.png", "folds": 5}),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_command_that_repeats_a_study_has_what_was_detected_on_its_machine(
    options: str, machine: dict[str, Any], expected: dict[str, Any], precision: str
) -> None:
    conditions = builders.conditions(precision=precision, encoder_weights="none")
    sweep = builders.sweep(command=f"sweeper run {options}", machine=machine, conditions=conditions)
    parsed = parse_command(sweep.rerun)
    assert parsed.items() >= {"precision": precision, "seed": conditions.seed, "encoder_weights": "none"}.items()
    assert parsed.items() >= expected.items()


@pytest.mark.parametrize(
    ("options", "machine", "is_measured"),
    [("", CPU, True), (" --precision float32", CPU, False), ("", {**CPU, "device": "cuda"}, False)],
)
def test_a_precision_is_measured_only_on_a_cpu_without_the_option(
    options: str, machine: dict[str, Any], is_measured: bool
) -> None:
    sweep = builders.sweep(command=f"sweeper run x{options}", machine=machine)
    assert sweep.is_precision_measured is is_measured
