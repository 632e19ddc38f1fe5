"""The certificate finds every fault that is planted in the losses' source text (tests/planted_faults.py).

Each is tried on one family and task, named with it, by what `sweeper losses --certify NAME` would do there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweeper.losses.families import FAMILIES
from tests.marks import EXHAUSTIVE
from tests.planted_faults import FAULTS, UNCHANGED, Fault

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the faults are planted in forked processes")
QUICK = frozenset(
    {
        "smoothing doubled",
        "255 hard-coded, fused path",
        "pixel weights squared in the overlap, sigmoid, plain path",
        "centre lines: recall is precision",
        "gradient under ignore, softmax, fused path",
        "Matthews: a class that is everywhere is as any other",
    }
)
"""Stand for the others in the quick run."""


@pytest.fixture(scope="module")
def certified() -> Iterator[Callable[[Fault], str | None]]:
    """Plants a fault and gives the check that finds it; from a process that has torch loaded and nothing of ours."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.planted_faults"],
        cwd=Path(__file__).parents[1],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(fault: Fault) -> str | None:
            print(fault.name, file=process.stdin, flush=True)
            answer = json.loads(process.stdout.readline())
            assert "error" not in answer, answer["error"]
            return answer["found"]

        yield ask
        process.stdin.close()


def test_faults_are_many_and_can_all_be_planted():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40
    assert {fault.name for fault in FAULTS} >= QUICK
    for fault in (*FAULTS, UNCHANGED):
        assert fault.source()  # or says what stands in the table and no longer in the file
        assert fault.new != fault.old
        compile(fault.source(), fault.file, "exec")
        for place in fault.tried_on:
            family, task = place.split("/")
            assert task in FAMILIES[family].tasks, place


def test_a_text_that_is_gone_is_said():
    gone = FAULTS[0]._replace(old="what was never there")
    with pytest.raises(LookupError, match=r"must find its text once in sweeper/losses/kernel\.py, found 0 times"):
        gone.source()


def test_nothing_is_found_where_nothing_is_planted(certified):
    assert certified(UNCHANGED) is None


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            fault,
            id=fault.name.replace(" ", "-"),
            # Half of those that are slow wait for the exhaustive run.
            marks=() if fault.name in QUICK else EXHAUSTIVE if at % 2 else pytest.mark.slow,
        )
        for at, fault in enumerate(FAULTS)
    ],
)
def test_the_certificate_finds(certified, fault):
    assert certified(fault) is not None
