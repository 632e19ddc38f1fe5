"""Bad input ends in a list of named problems and status 2, or in a stated warning; never in a traceback."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sweeper.cli.main import main
from tests.support import annotated
from tests.support.hostile import CASES
from tests.support.marks import EXHAUSTIVE

MEMORY_KIB = 1 << 20
"""One GiB."""
# Not getrusage: on Linux its peak is inherited from the process that started this one, which made the bombs.
CHILD = (
    "import sys; from sweeper.cli.main import main\n"
    "try:\n    main()\n"
    "finally:\n"
    "    lines = open('/proc/self/status').read().splitlines()\n"
    "    print(*(line.split()[1] for line in lines if line.startswith('VmHWM')), file=sys.stderr)\n"
)


def spoiled(tmp_path, name):
    """A small set with this fault; the command that looks at it."""
    root = tmp_path / "data"
    annotated.FORMATS[CASES[name].format](root)
    CASES[name].spoil(root)
    return ["profile", str(root), "--cache", str(tmp_path / "cache"), "--format", CASES[name].format]


def check(name, status, out, err):
    case = CASES[name]
    assert "Traceback" not in err
    assert status == (2 if case.ends == "problem" else 0), err
    if case.ends == "problem":
        assert re.search(r"\b(1 problem|\d+ problems) in the data set", err)
        assert "nothing was trained" in err and out == ""
        assert all(line.startswith(("sweeper: ", "  - ", "reading ", "decoding: ")) for line in err.splitlines()), err
    else:
        assert ("warning: " in err) == (case.ends == "warning"), err
    for words in case.words:
        assert words in err
    assert len(err) < 300_000 and all(c.isprintable() or c == "\n" for c in err)


def test_there_are_enough_of_them():
    assert sum(case.ends != "fine" for case in CASES.values()) >= 40


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.heavy])
def test_bad_input_is_named(tmp_path, monkeypatch, capfd, name):
    monkeypatch.setattr(sys, "argv", ["sweeper", *spoiled(tmp_path, name)])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capfd.readouterr()
    check(name, int(caught.value.code or 0), out, err)


def marks_of(name: str) -> Sequence[pytest.MarkDecorator]:
    """Two cases that take seconds stand for those like them."""
    if name == "enormous images below the limit":
        return [pytest.mark.slow]
    return EXHAUSTIVE if "MB" in name or "enormous" in name else []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux's /proc")
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=marks_of(n)) for n, case in CASES.items() if case.heavy],
)
def test_bombs_stay_within_a_gibibyte(tmp_path, name):
    command = [sys.executable, "-c", CHILD, *spoiled(tmp_path, name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, cwd=tmp_path)
    *said, peak = done.stderr.splitlines()
    check(name, done.returncode, done.stdout, "\n".join(said))
    assert int(peak) < MEMORY_KIB, f"{int(peak) >> 10} MiB"
