"""`sweeper probe` and `sweeper confirm` on real scripts: the example whole, two processes, faults, kills."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from sweeper.system.locks import hold_folder
from tests.project.test_architecture import loaded_by

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
Sweeper = Callable[..., tuple[int, str, str]]


def python(*words: object) -> str:
    return shlex.join([sys.executable, *map(str, words)])


@pytest.fixture(autouse=True)
def found_as_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the helper importable without sweeper's help, as where sweeper is installed."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


FAULTS = {
    "crashes_at_once": "ended with status 1 before it called trial(); log.txt has it all. Its last lines:",
    "never_imports": "must call trial(), and did not; write `from sweeper_trial import trial`",
    "never_calls_the_loss": "must train with t.loss(logits, target), and never called it",
    "labels_of_3": "targets must be class labels 0 to 1, or 255 for pixels that do not count; got 3",
    "is_nan": "logits must be finite numbers, and are not in call 1 of the loss",
    "ignores_the_seed": "must follow the seed, and the first batch and logits are the same for seeds 1 and 2",
    "ignores_the_rate": "must follow the rate, and 48 calls of the loss are the same at 30 times the rate",
    "ignores_the_loss": "must train with the loss, and its call 4 is the same under cross-entropy and Dice",
    "crashes_in_the_middle": "ended with status 1 after call 4 of the loss or a later one, before its scores",
    "crashes_after_its_scores": "ended with status 1 after its scores of test and val",
    "scores_nan": "a score must be a finite number, got nan",
    "never_scores": "scores of val are wanted, and none came",
    "shares_images": "validation and test must share no image, and 1 image is in both, such as 'image16'",
    "masks_of_255": "targets must have pixels of 'thing', and have none but 984 pixels that do not count",
    "scores_another_network": "scores of val must be of the network that was trained, and after ",
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_script_with_a_fault_ends_in_the_right_sentence(sweeper: Sweeper, fault: str) -> None:
    command = python(SUPPORT / "own_training.py", fault)
    status, out, error = sweeper("probe", "--command", command, "--json")
    document = json.loads(out)
    assert status == 2 and document["error"]["kind"] == "ScriptError"
    assert FAULTS[fault] in document["error"]["problems"][0] and FAULTS[fault] in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "pairing", "words"),
    [
        ("nothing", "exact", ""),
        ("shuffles_unseeded", "none", "trainings are compared unpaired"),
        ("accumulates_8_batches", "exact", ""),
        ("prints_100_mb", "exact", "one start printed 100 MB"),
    ],
)
def test_what_is_no_obstacle_is_said(sweeper: Sweeper, fault: str, pairing: str, words: str) -> None:
    status, out, _ = sweeper("probe", "--command", python(SUPPORT / "own_training.py", fault), "--json")
    document = json.loads(out)
    assert status == 0 and document["pairing"] == pairing
    assert document["images"] == {"val": 4, "test": 4} and document["length"] == 8
    assert words in str(document["notes"]) and bool(words) == bool(document["notes"])


@pytest.mark.slow
def test_a_script_that_hangs_is_ended_after_its_time(sweeper: Sweeper) -> None:
    status, _, error = sweeper("probe", "--time-limit", "2", "--command", python(SUPPORT / "own_training.py", "hangs"))
    assert status == 2 and "must end within 2 s, and did not, before it called trial()" in error
    assert error.rstrip().endswith("waiting for the data")


@pytest.mark.slow
def test_the_example_trains_by_itself_and_under_the_probe(sweeper: Sweeper, tmp_path: Path) -> None:
    assert sweeper("synth", "cracks?images=20&size=64&foreground=0.08", tmp_path / "data")[0] == 0
    words = [sys.executable, str(ROOT / "examples" / "train_plain.py"), "data"]
    run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    *_, val, test = run.stderr.strip().splitlines()
    assert val.startswith("val: mIoU 0.") and test.startswith("test: mIoU 0.") and test.endswith("(4 images)")
    status, out, _ = sweeper("probe", "--command", shlex.join(words))
    assert status == 0 and "pairing  exact" in out and "val: logits of 4 images; test: logits of 4 images" in out


def get_first_script() -> str:
    """Return the first script of the page, as a user copies it."""
    page = (ROOT / "docs/how-to/your-training.md").read_text("utf-8")
    return page.split('```python title="train.py"\n')[1].split("```")[0]


@pytest.mark.slow
def test_the_first_script_of_the_page_can_be_compared_as_it_stands(sweeper: Sweeper, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(get_first_script(), "utf-8")
    command = python("train.py")
    status, out, error = sweeper("probe", "--command", command)
    assert status == 0 and "pairing  exact" in out, error
    words = ("confirm", "--losses", "dice_ce", "--command", command, "--rates", "none", "--seeds", "3")
    status, out, error = sweeper(*words)
    assert status == 0 and "cross_entropy" in out, error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fixed", "drawn"),
    [(", generator=fixed", ""), (".manual_seed(0)", '.manual_seed(trial(classes=["background", "crack"]).seed)')],
    ids=["with no seed", "with t.seed"],
)
def test_data_that_are_drawn_are_refused_by_the_probe(sweeper: Sweeper, tmp_path: Path, fixed: str, drawn: str) -> None:
    text = get_first_script()
    assert fixed in text
    (tmp_path / "train.py").write_text(text.replace(fixed, drawn), "utf-8")
    status, _, error = sweeper("probe", "--command", python("train.py"))
    assert status == 2 and "labels of an image must be the same in each training, and 'image 12' of val has" in error


@pytest.mark.slow
def test_two_processes_are_one_training(sweeper: Sweeper) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    status, out, error = sweeper("probe", "--command", python(*launcher, SUPPORT / "ddp_training.py"), "--json")
    assert status == 0, error
    document = json.loads(out)
    assert document["images"] == {"val": 5, "test": 5} and document["scores"] == {"val": "logits", "test": "logits"}
    assert document["pairing"] in {"exact", "start"} and document["length"] == 4


def test_the_helper_is_written_and_nothing_is_started(sweeper: Sweeper, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise SystemExit(9)")
    status, out, _ = sweeper("probe", "--command", "python train.py", "--write-helper")
    assert status == 0 and out == "sweeper_trial.py is written\n"
    assert (tmp_path / "sweeper_trial.py").read_bytes() == (ROOT / "sweeper_trial.py").read_bytes()


def test_a_time_limit_of_nothing_is_refused(sweeper: Sweeper) -> None:
    assert sweeper("probe", "--command", "python train.py", "--time-limit", "0")[0] == 2


def test_sweeper_itself_loads_no_torch_for_a_probe() -> None:
    assert not loaded_by("import sweeper.cli.probe, sweeper.scripts.probe") & {"torch", "optuna", "mlflow", "pandas"}


@pytest.mark.parametrize("words", [["--name", "none", "--resume"], ["--command", "python x.py", "--losses", "dicee"]])
def test_a_comparison_that_is_refused_loads_no_mlflow(words: list[str], tmp_path: Path) -> None:
    arguments = ["confirm", *words]
    run = f"import contextlib, os; os.chdir({str(tmp_path)!r}); sys.argv[1:] = {arguments!r}"
    ended = "exec('with contextlib.suppress(SystemExit): main()')"
    loaded = loaded_by(f"{run}; from sweeper.cli.main import main; {ended}")
    assert "sweeper" in loaded and not loaded & {"torch", "mlflow"}


def confirm_words(*more: object) -> list[str]:
    command = python(SUPPORT / "own_training.py", "nothing")
    words = ("confirm", "--losses", "dice", "--command", command, "--seeds", "3", "--rates", "none", "--json", *more)
    return [sys.executable, "-m", "sweeper", *map(str, words)]


def wait_for(condition: Callable[[], bool], seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_comparison_resumes_to_the_same_answer(tmp_path: Path) -> None:
    """By SIGKILL, which leaves the script running, then by SIGTERM, which does not."""
    places = {name: tmp_path / name for name in ("whole", "killed")}
    for place in places.values():
        place.mkdir()
    whole = subprocess.run(
        confirm_words("--workers", 2), cwd=places["whole"], capture_output=True, text=True, check=False
    )
    assert whole.returncode == 0, whole.stderr
    trainings = places["killed"] / ".sweeper" / "confirm" / "own_training-losses"
    quiet = {"cwd": places["killed"], "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    first = subprocess.Popen(confirm_words(), **quiet)
    wait_for(lambda: len(list(trainings.glob("confirm-*/results.jsonl"))) >= 2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    first_ended = len(list(trainings.glob("confirm-*/ended.json")))
    assert first_ended >= 1
    second = subprocess.Popen(confirm_words("--resume"), **quiet)
    wait_for(lambda: len(list(trainings.glob("confirm-*/ended.json"))) > first_ended)
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 143
    mark = f"SWEEPER_TRIAL={trainings}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            assert mark not in (process / "environ").read_bytes()
    third = subprocess.run(confirm_words("--resume"), cwd=places["killed"], capture_output=True, text=True, check=False)
    assert third.returncode == 0, third.stderr
    one, two = (json.loads(run.stdout) for run in (whole, third))
    assert one["judgement"] == two["judgement"] and one["head"] == two["head"]
    assert (places["killed"] / "reports" / "own_training-losses" / "report.md").is_file()
    client = MlflowClient(f"sqlite:///{places['killed'] / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("own_training-losses")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"} and len(runs) == 1 + len(two["trainings"])
    assert "MLflow: sweeper ui own_training-losses" in third.stderr
    (places["killed"] / "out").mkdir()
    (places["killed"] / "out" / "own_training-losses").write_text("where the report's folder should be")
    failed = subprocess.run(
        confirm_words("--resume", "--out", "out"), cwd=places["killed"], capture_output=True, check=False
    )
    assert failed.returncode != 0
    parents = client.search_runs([experiment.experiment_id], "tags.`sweeper.kind` = 'sweep'")
    assert [run.info.status for run in parents] == ["FAILED"]


@pytest.mark.slow
def test_a_comparison_keeps_to_its_plan(sweeper: Sweeper, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text((SUPPORT / "own_training.py").read_text("utf-8"), "utf-8")
    command = python("train.py", "nothing")
    status, out, error = sweeper("confirm", "--losses", "dice", "--command", command, "--dry-run")
    assert status == 0 and "Losses can be compared in this script" in out and "Cost: 8 to 12 whole trainings" in error
    words = ("confirm", "--losses", "dice", "--command", command, "--rates", "none", "--seeds", "3")
    status, out, error = sweeper(*words, "--time-limit", "1")
    assert status == 2 and "it must end within 1 s" in error and "\n    --resume continues if the script" in error
    status, _, error = sweeper(*words)
    assert (
        status == 2 and "a comparison 'train-losses' was begun; `sweeper confirm --name train-losses --resume`" in error
    )
    status, _, error = sweeper("confirm", "--name", "train-losses", "--resume", "--folds", "3", "--seeds", "3")
    assert status == 2 and "folds was None, and is now 3" in error
    with (tmp_path / "train.py").open("a") as file:
        file.write("# changed\n")
    status, _, error = sweeper("confirm", "--name", "train-losses", "--resume")
    assert status == 2 and "train.py changed, so that trainings would no longer be of one script" in error


SCORES_ONLY = """
import torch
from sweeper_trial import trial

t = trial(classes=["a", "b"])
torch.manual_seed(t.seed)
net = torch.nn.Conv2d(1, 1, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=t.lr(0.5))
for epoch in range(t.start, t.length(6)):
    x = torch.randn(2, 1, 8, 8)
    loss = t.loss(net(x), (x[:, 0] > 0).long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if t.stop_after(epoch + 1):
        break
score = net.weight.item() % 1
t.score("val", ["v"], [score])
t.score("test", ["t"], [score])
with open(__file__, "a") as file:
    file.write("# seen\\n")
"""


@pytest.mark.slow
def test_a_metric_of_own_scores_is_refused_and_a_source_that_changes_is_said(sweeper: Sweeper, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCORES_ONLY)
    words = ("confirm", "--losses", "dice", "--command", python("train.py"), "--rates", "none", "--seeds", "3")
    status, _, error = sweeper(*words, "--metric", "dice")
    assert status == 2 and "--metric is for logits and counts, and the script gives a score" in error
    status, out, error = sweeper(*words)
    assert status == 0, error
    assert "train.py changed meanwhile: later trainings may be of another script." in out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--losses", "dice"), "--command is needed"),
        (("--command", "python x.py"), "give a STUDY, or --losses"),
        (("--command", "python x.py", "--losses", "dicee"), "'dicee' is no family"),
        (("s", "--command", "python x.py", "--losses", "dice"), "leave one out"),
        (("--command", "python x.py", "--losses", "dice", "--rates", "0,1"), "must be above 0, got '0'"),
        (("--command", "python x.py", "--losses", "dice", "--rates", "a"), "a fraction such as 1/3"),
        (("--command", "python x.py", "--losses", "dice", "--rate-share", "2"), "must be at most 1"),
        (("--command", "python x.py", "--losses", "dice", "--rates", "none", "--rate-share", "1/2"), "leave one out"),
        (("--command", "python x.py", "--losses", "dice_ce:mix=2"), "`mix` must be"),
        (("--command", "python x.py", "--losses", "dice", "--seeds", "2"), "is not in the range"),
        (("--command", "python x.py | tee", "--losses", "dice"), "one program with its arguments"),
        (("--name", "none", "--resume"), "there is none in"),
        (("no-study", "--command", "python x.py"), "sweeper.db"),
    ],
)
def test_comparisons_that_cannot_be_are_refused(sweeper: Sweeper, words: tuple[str, ...], text: str) -> None:
    status, _, error = sweeper("confirm", *words)
    assert status == 2 and text in error


def test_two_processes_do_not_share_a_comparison(sweeper: Sweeper, tmp_path: Path) -> None:
    words = ("confirm", "--losses", "dice", "--command", "python x.py", "--name", "a")
    with hold_folder((tmp_path / ".sweeper" / "confirm" / "a").resolve(), "a"):
        status, _, error = sweeper(*words)
    assert status == 2 and "runs in another process" in error


# --- The whole search ---

SPACE = """\
version: 1
task: binary
nuisance: {lr: {log: [0.001, 0.1]}}
losses: {cross_entropy: {}, dice: {}}
"""


def run_words(folder: Path, script: Path, name: str) -> list[object]:
    where = [*("--storage", f"sqlite:///{folder}/s.db"), *("--tracking-uri", f"sqlite:///{folder}/m.db")]
    where += ["--out", folder / "reports", "--cache", folder / "cache"]
    words = ["run", folder / "data", "--command", python(script, folder / "data"), "--space", folder / "two.yaml"]
    return [*words, "--trials", 4, "--confirm-seeds", 2, "--study", name, *where]


@pytest.mark.slow
def test_the_whole_search_by_a_script_is_killed_resumed_and_ends_as_if_it_had_not_been(
    sweeper: Sweeper, tmp_path: Path
) -> None:
    sweeper("synth", "cracks?images=20&size=64&foreground=0.08", tmp_path / "data")
    (tmp_path / "two.yaml").write_text(SPACE, "utf-8")
    script = tmp_path / "code" / "train.py"
    script.parent.mkdir()
    example = (ROOT / "examples" / "train_plain.py").read_text("utf-8")
    script.write_text(example.replace("EPOCHS, RATE = 20", "EPOCHS, RATE = 8"), "utf-8")
    words = run_words(tmp_path, script, "whole")
    status, out, error = sweeper(*words, "--json")
    assert status == 0, error
    assert "losses can be compared in this script (pairing: exact; 4 images of val, 4 images of test" in error
    assert "as 1 % of a training takes" in error
    whole = json.loads(out)
    assert len(whole["finalists"]) == 2 and {f["seeds"] for f in whole["finalists"]} == {2}

    killed = [str(word) for word in run_words(tmp_path, script, "cut")]
    process = subprocess.Popen([sys.executable, "-m", "sweeper", *killed], stderr=subprocess.DEVNULL)
    trainings = tmp_path / "checkpoints" / "cut"
    while not [*trainings.glob("*/search-00002/results.jsonl")]:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    where = killed[killed.index("--storage") :]
    status, out, error = sweeper("run", "--study", "cut", "--resume", "--json", *where)
    assert status == 0, error
    resumed = json.loads(out)
    for finalist in (*whole["finalists"], *resumed["finalists"]):
        del finalist["mlflow_run_ids"]
    assert whole["finalists"] == resumed["finalists"] and whole["head"] == resumed["head"]

    status, out, error = sweeper("export", "cut", *where[:2], *where[4:])
    assert status == 0, error
    loss = (tmp_path / "reports" / "cut" / "export" / "loss.py").read_text("utf-8")
    assert "build_loss" in loss and "optimizer_of" not in loss  # the optimiser is the script's
    space = (tmp_path / "reports" / "cut" / "export" / "loss.yaml").read_text("utf-8")
    assert "log:" in space  # a factor of the script's rate is no rate for sweeper's own training
    report = (tmp_path / "reports" / "cut" / "report.md").read_text("utf-8")
    assert "× your learning rate" in report and "| `command` |" in report and "`encoder`" not in report
    assert "--encoder-weights" not in report and "had flattened" not in report
    status, out, error = sweeper("train", "cut", "--storage", killed[killed.index("--storage") + 1])
    assert status == 2 and "was trained by your script" in error
    script.write_text(script.read_text("utf-8") + "\n", "utf-8")
    status, out, error = sweeper("run", "--study", "cut", "--resume", "--trials", 5, *where)
    assert status == 2 and "train.py changed" in error


@pytest.mark.slow
def test_a_script_that_scores_other_images_than_the_data_has_is_refused_before_a_study_is_made(
    sweeper: Sweeper, tmp_path: Path
) -> None:
    sweeper("synth", "cracks?images=20&size=64&foreground=0.08", tmp_path / "data")
    where = ["--storage", f"sqlite:///{tmp_path}/s.db", "--tracking-uri", f"sqlite:///{tmp_path}/m.db"]
    command = python(SUPPORT / "own_training.py", "gives_logits")
    status, _, error = sweeper("run", tmp_path / "data", "--command", command, *where)
    assert status == 2 and "images of val must be named as in the data" in error
    assert not (tmp_path / "s.db").exists()
