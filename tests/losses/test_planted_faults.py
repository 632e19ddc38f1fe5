"""Faults that are planted in the losses' source text (tests/support/planted_faults.py) are found: by the formulas, or
by what `sweeper losses --certify NAME` would say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweeper.losses.families import FAMILIES
from tests.support.marks import rest_slow
from tests.support.planted_faults import FAULTS, UNCHANGED, Fault

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the faults are planted in forked processes")


@pytest.fixture(scope="module")
def finds() -> Iterator[Callable[[Fault], str | None]]:
    """Plants a fault and gives what finds it; from a process that has torch loaded and nothing of ours."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.support.planted_faults"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
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


def test_all_faults_can_be_planted_and_no_module_is_left_out():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for fault in (*FAULTS, UNCHANGED):
        assert fault.new != fault.old
        compile(fault.source(), fault.file, "exec")  # or says what stands in the table and no longer in the file
        family, task = fault.place.split("/")
        assert task in FAMILIES[family].tasks, fault.place
    modules = {f"losses/{family.module}.py" for family in FAMILIES.values() if family.module}
    # The symmetric form is a flag of the other one.
    assert modules - {"losses/symmetric_unified_focal.py"} <= {fault.file for fault in FAULTS}


def test_nothing_is_found_where_nothing_is_planted(finds):
    assert finds(UNCHANGED) is None


@pytest.mark.parametrize("fault", rest_slow([(f,) for f in FAULTS], 6), ids=lambda f: f.name.replace(" ", "-"))
def test_a_fault_is_found(finds, fault):
    assert finds(fault) is not None
