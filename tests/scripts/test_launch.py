"""A script as a process: its words, its environment, its end with all that it started, and a log that stays small."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sweeper.core.errors import ScriptError, UsageError
from sweeper.scripts import launch
from sweeper.scripts.contract import TrialDocument
from sweeper.scripts.launch import KEPT_BYTES, fill_places, run_script, split_command
from tests.support.waiting import wait_until

TRIAL = TrialDocument(kind="confirm", family="dice_ce", params={}, seed=12, lr_factor=0.5, share=0.25)


def make_words(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def list_processes(folder: Path) -> list[int]:
    return [process.pid for process in psutil.process_iter() if belongs_to(process, folder)]


def belongs_to(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get("SWEEPER_TRIAL") == str(folder)
    except psutil.Error:  # it has ended, or belongs to another user
        return False


def test_placeholders_of_a_command_become_the_values_of_the_trial(tmp_path: Path) -> None:
    words = split_command(
        "python 'my train.py' --seed={seed} lr*={lr_factor} -o {folder}/x {family} {share} {fold}. {{a}}"
    )
    assert fill_places(words, TRIAL, tmp_path) == [
        "python", "my train.py", "--seed=12", "lr*=0.5", "-o", f"{tmp_path}/x", "dice_ce", "0.25", ".", "{a}",
    ]  # fmt: skip


@pytest.mark.parametrize("braces", ['{"a": 1}', "{a.b}", "{}", "{1,2}"])
def test_other_braces_are_not_replaced(tmp_path: Path, braces: str) -> None:
    assert fill_places(split_command(f"run '{braces}'"), TRIAL, tmp_path) == ["run", braces]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "one program"),
        ("cd x && python train.py", "--command 'bash train.sh'"),
        ("python train.py > log", "one program"),
        ("python train.py | tee log", "one program"),
        ("cd x; python train.py", "one program"),
        ("python train.py 2>log", "one program"),
        ("CUDA_VISIBLE_DEVICES=1 python train.py", "one program"),
        ("python 'train.py", "as a shell takes them"),
        ("python train.py {sed}", "got {sed}, did you mean `seed`?"),
        ("python train.py {rate}", "takes {seed}, {lr_factor}"),
    ],
)
def test_text_that_is_not_a_single_command_is_refused(command: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_command(command)
    assert words in str(caught.value)


def test_quoted_characters_of_a_shell_are_words_of_the_command() -> None:
    assert split_command("run 'a;b' \"x > y\" --url=http://a?b~c #1 ''") == [
        "run", "a;b", "x > y", "--url=http://a?b~c", "#1", "",
    ]  # fmt: skip


def test_a_program_may_be_in_a_folder_with_an_equals_sign() -> None:
    assert split_command("/runs/lr=0.1/train.sh --a=1") == ["/runs/lr=0.1/train.sh", "--a=1"]


def test_a_script_finds_its_folder_and_the_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    code = "import os, json; print(json.dumps([os.environ['SWEEPER_TRIAL'], os.environ['PYTHONPATH'], os.getcwd()]))"
    ended = run_script(make_words(code), tmp_path, seconds=60)
    assert (ended.status, ended.is_late) == (0, False)
    printed = json.loads((tmp_path / "log.txt").read_text())
    assert printed == [str(tmp_path), f"{tmp_path}/python{os.pathsep}/mine", str(Path.cwd())]


def test_a_missing_program_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="no-such-program must be a program that can be started"):
        run_script(["no-such-program"], tmp_path, seconds=60)


def test_status_and_last_lines_are_returned_without_control_characters(tmp_path: Path) -> None:
    code = r"print('old'); print('\x1b[31mred\x1b[0m'); print('10 %\r20 %\x07'); print(b'\xff'); raise SystemExit(3)"
    ended = run_script(make_words(code), tmp_path, seconds=60)
    assert ended.status == 3 and ended.last[-3:] == ("red", "20 % ", r"b'\xff'")


def test_only_the_end_of_a_flood_of_output_is_kept(tmp_path: Path) -> None:
    code = "import sys\nfor n in range(300): sys.stdout.write('x' * 99_999 + '\\n')\nprint('the end')"
    ended = run_script(make_words(code), tmp_path, seconds=120)
    assert ended.printed > 30_000_000 and ended.last[-1] == "the end"
    size = (tmp_path / "log.txt").stat().st_size
    assert KEPT_BYTES <= size < 1.2 * KEPT_BYTES
    assert (tmp_path / "log.txt").read_text().endswith("the end\n")


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)
print('ready', flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["time.sleep(600)", "sys.exit(0)"], ids=["that hangs", "that ends"])
@pytest.mark.slow
def test_a_script_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """Neither the script, which ignores SIGTERM, nor what it started in another process group runs on."""
    monkeypatch.setattr(launch, "TERM_SECONDS", 0.5)
    monkeypatch.setattr(launch, "UPLOAD_SECONDS", 0.5)
    ended = run_script(make_words(STUBBORN.format(end=end)), tmp_path, seconds=3)
    assert ended.is_late == ("sleep" in end) and ended.last == ("ready",)
    assert list_processes(tmp_path) == []


def test_a_stopped_caller_leaves_no_process(tmp_path: Path) -> None:
    def interrupt_once_started() -> bool:
        if (tmp_path / "here").exists():
            raise KeyboardInterrupt
        return False

    code = f"import pathlib, time; pathlib.Path({str(tmp_path / 'here')!r}).touch(); time.sleep(600)"
    with pytest.raises(KeyboardInterrupt):
        run_script(make_words(code), tmp_path, seconds=300, is_done=interrupt_once_started)
    assert list_processes(tmp_path) == []


LEAVING = (
    "import subprocess, pathlib; p = subprocess.Popen(['sleep', '1001']); pathlib.Path('pid').write_text(str(p.pid))"
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_wait_for_processes_of_a_script_ends_them(tmp_path: Path, number: signal.Signals) -> None:
    words = ["-m", "sweeper", "probe", "--command", shlex.join(make_words(LEAVING))]
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        # A shell leaves SIGINT ignored for what it starts by &.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509
    )
    wait_until(lambda: (tmp_path / "pid").is_file() and not psutil.Process(process.pid).children(), 120, process)
    pid = int((tmp_path / "pid").read_text())
    assert psutil.pid_exists(pid)
    process.send_signal(number)
    assert process.wait(20) == 128 + number
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_the_wait_for_processes_of_a_script_is_measured_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "UPLOAD_SECONDS", 2.0)
    ended = run_script(make_words(LEAVING), tmp_path, seconds=300)
    assert ended.seconds > ended.waited >= 2 and list_processes(tmp_path) == []
    assert ended.remark == "it left processes that hold its output open: waited 2 s"
    assert run_script(make_words("print(1)"), tmp_path, seconds=300).remark == ""


def test_after_a_stop_processes_of_a_script_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run_script(make_words(LEAVING), tmp_path, seconds=300, is_done=(tmp_path / "pid").exists, grace=0.0)
    assert list_processes(tmp_path) == [] and ended.waited < launch.UPLOAD_SECONDS


def test_a_script_that_is_done_is_ended_after_its_grace(tmp_path: Path) -> None:
    ended = run_script(
        make_words("import time; time.sleep(600)"), tmp_path, seconds=300, is_done=lambda: True, grace=0.1
    )
    assert not ended.is_late and ended.status < 0
