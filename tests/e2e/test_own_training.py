"""`sweeper probe` and `sweeper confirm` on real scripts: the example whole, two processes, faults, kills."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from sweeper import confirm
from sweeper.core.training_files import get_checkpoints_dir
from sweeper.evidence.document import AnswerDocument
from sweeper.losses import FAMILIES
from sweeper.losses.own_losses import OWN as OWN_LOSSES
from sweeper.system.locks import hold_folder
from tests.project.test_architecture import loaded_by
from tests.support.marks import rest_slow
from tests.support.script_commands import SUPPORT, python, train_once
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
Sweeper = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def make_helper_importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the helper importable without sweeper's help, as where sweeper is installed; forget own losses."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    FAMILIES.pop("Twin", None)
    OWN_LOSSES.pop("Twin", None)


FAULTS = {
    "crashes_at_once": "ended with status 1 before it called trial(); log.txt has it all. Its last lines:",
    "never_imports": "must call trial(), and did not; write `from sweeper_trial import trial`",
    "is_nan": "logits must be finite numbers, and are not in call 1 of the loss",
    "ignores_the_seed": "must follow the seed, and the first batch and logits are the same for seeds 1 and 2",
    "ignores_the_rate": "must follow the rate, and 48 calls of the loss are the same at 30 times the rate",
    "ignores_the_loss": "must train with the loss, and its call 4 is the same under cross-entropy and Dice",
    "masks_of_255": "targets must have pixels of 'thing', and have none but 984 pixels that do not count",
    "scores_another_network": "scores of val must be of the network that was trained, and after ",
}
"""Faults that need a real training. tests/scripts/test_probe.py tries every conclusion on literal starts."""


@pytest.mark.parametrize("fault", rest_slow(FAULTS, 0, 4))
def test_a_script_with_a_fault_is_refused_with_its_sentence(sweeper: Sweeper, fault: str) -> None:
    command = python(SUPPORT / "own_training.py", fault)
    status, out, error = sweeper("probe", "--command", command, "--json")
    document = json.loads(out)
    assert status == 2 and document["error"]["kind"] == "ScriptError"
    assert FAULTS[fault] in document["error"]["problems"][0] and FAULTS[fault] in error


@pytest.mark.slow
def test_a_script_that_hangs_is_ended_after_its_time(sweeper: Sweeper) -> None:
    status, _, error = sweeper("probe", "--time-limit", "2", "--command", python(SUPPORT / "own_training.py", "hangs"))
    assert status == 2 and "must end within 2 s, and did not, before it called trial()" in error
    assert error.rstrip().endswith("waiting for the data")


@pytest.mark.slow
def test_the_example_trains_without_sweeper(sweeper: Sweeper, tmp_path: Path) -> None:
    assert sweeper("synth", "cracks?images=20&size=64&foreground=0.08", tmp_path / "data")[0] == 0
    words = [sys.executable, str(ROOT / "examples" / "train_plain.py"), "data"]
    run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    *_, val, test = run.stderr.strip().splitlines()
    assert val.startswith("val: mIoU 0.") and test.startswith("test: mIoU 0.") and test.endswith("(4 images)")


def get_first_script() -> str:
    """Return the first script of the page, as a user copies it."""
    page = (ROOT / "docs/how-to/your-training.md").read_text("utf-8")
    return page.split('```python title="train.py"\n')[1].split("```")[0]


@pytest.mark.slow
def test_losses_are_compared_in_the_first_script_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(get_first_script(), "utf-8")
    answer = confirm(losses="dice_ce", command=python("train.py"), rates="none", seeds=3)
    probe = json.loads((tmp_path / ".sweeper/confirm/train-losses/plan.json").read_text("utf-8"))["probe"]
    assert probe["pairing"] == "exact" and not probe["notes"]
    assert isinstance(answer, AnswerDocument) and {row.loss for row in answer.losses} == {"cross_entropy", "dice_ce"}
    assert (tmp_path / "reports/train-losses/report.md").exists()


@pytest.mark.slow
def test_two_processes_of_a_script_count_as_one_training(tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    start = train_once(python(*launcher, SUPPORT / "ddp_training.py"), tmp_path / "one", classes=3)
    assert {split: len(scores.names) for split, scores in start.read_scores().items()} == {"val": 5, "test": 5}


def test_the_helper_is_written_and_nothing_is_started(sweeper: Sweeper, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise SystemExit(9)")
    status, out, _ = sweeper("probe", "--command", "python train.py", "--write-helper")
    assert status == 0 and out == "sweeper_trial.py is written\n"
    assert (tmp_path / "sweeper_trial.py").read_bytes() == (ROOT / "sweeper_trial.py").read_bytes()


def test_sweeper_itself_loads_no_torch_for_a_probe() -> None:
    assert not loaded_by("import sweeper.cli.probe, sweeper.scripts.probe") & {"torch", "optuna", "mlflow", "pandas"}


@pytest.mark.parametrize("words", [["--study", "none", "--resume"], ["--command", "python x.py", "--losses", "dicee"]])
def test_a_comparison_that_is_refused_loads_no_mlflow(words: list[str], tmp_path: Path) -> None:
    arguments = ["confirm", *words]
    run = f"import contextlib, os; os.chdir({str(tmp_path)!r}); sys.argv[1:] = {arguments!r}"
    ended = "exec('with contextlib.suppress(SystemExit): main()')"
    loaded = loaded_by(f"{run}; from sweeper.cli.main import main; {ended}")
    assert "sweeper" in loaded and not loaded & {"torch", "mlflow"}


SECRETS = ("--password", "canary-1", "--api-key=canary-2", "postgresql://me:canary-3@host/db")
OWN = "bench.twin:Twin"
COMPARE = ("confirm", "--losses", "dice", "--present", OWN, "--command", python(SUPPORT / "own_training.py", *SECRETS))
COMPARE = (*COMPARE, "--seeds", "3", "--rates", "none", "--json")


@pytest.mark.slow
def test_a_killed_comparison_resumes_to_the_same_answer(
    sweeper: Sweeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SIGKILL, which leaves the script running, then by SIGTERM, which does not."""
    folder = Path(".sweeper") / "confirm" / "own_training-losses"
    places = {name: tmp_path / name for name in ("whole", "killed")}
    (places["killed"] / folder).mkdir(parents=True)
    places["whole"].mkdir()
    monkeypatch.chdir(places["whole"])
    status, whole, error = sweeper(*COMPARE, "--workers", 2)
    assert status == 0, error
    shutil.copy(folder / "plan.json", places["killed"] / folder)  # of what was probed
    monkeypatch.chdir(places["killed"])
    trainings = places["killed"] / folder
    resume = [sys.executable, "-m", "sweeper", *COMPARE, "--resume"]
    first = subprocess.Popen(resume, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(list(trainings.glob("confirm-*/results.jsonl"))) >= 2, 240)
    first.send_signal(signal.SIGKILL)
    first.wait()
    first_ended = len(list(trainings.glob("confirm-*/ended.json")))
    assert first_ended >= 1
    status, shown, _ = sweeper("studies", "show")
    assert status == 1 and "own_training-losses: running, confirm" in shown
    assert "is gone: sweeper confirm --study own_training-losses --resume" in shown
    second = subprocess.Popen(resume, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(list(trainings.glob("confirm-*/ended.json"))) > first_ended, 240)
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 143
    assert "stopped" in sweeper("studies")[1] and sweeper("studies", "show")[0] == 0
    mark = f"SWEEPER_TRIAL={trainings}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            assert mark not in (process / "environ").read_bytes()
    status, third, error = sweeper(*COMPARE, "--resume")
    assert status == 0, error
    expected, resumed = json.loads(whole), json.loads(third)
    for part in ("outcome", "sure", "use", "gain", "losses", "differences", "remarks"):
        assert expected[part] == resumed[part]
    assert expected["present"] == OWN and {row["loss"] for row in expected["losses"]} == {OWN, "dice"}
    assert Path("reports/own_training-losses/report.md").is_file()
    client = MlflowClient(f"sqlite:///{places['killed'] / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("own_training-losses")
    runs = client.search_runs([experiment.experiment_id])
    trainings_table = pd.read_csv("reports/own_training-losses/trainings.csv")
    assert {run.info.status for run in runs} == {"FINISHED"} and len(runs) == 1 + len(trainings_table)
    assert "MLflow: sweeper ui own_training-losses" in error
    files = [path for path in places["killed"].rglob("*") if path.is_file() and trainings not in path.parents]
    for text in (whole, error, third, *(path.read_bytes().decode("latin-1") for path in files)):
        assert "canary" not in text
    assert len(files) > 10 and "--password '***'" in resumed["command"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--losses", "dice"), '--command "python train.py" is needed'),
        (("--command", "python x.py"), "either a STUDY or --losses"),
        (("s", "--command", "python x.py", "--losses", "dice"), "either a STUDY or --losses"),
        (("--command", "python x.py", "--losses", "dice", "--rates", "0,1"), "at most 1,000,000, got '0'"),
        (("--command", "python x.py", "--losses", "dice", "--rates", "a"), "a fraction such as 1/3"),
        (("--command", "python x.py", "--losses", "dice", "--rate-share", "2"), "and at most 1, got '2'"),
        (("--command", "python x.py", "--losses", "dice", "--rates", "none", "--rate-share", "1/2"), "leave one out"),
        (("--command", "python x.py", "--losses", "dice", "--seeds", "2"), "greater than or equal to 3"),
        (("--study", "none", "--resume"), "begin one without --resume"),
        (("no-study", "--command", "python x.py"), "sweeper.db"),
    ],
)
def test_impossible_comparisons_are_refused(sweeper: Sweeper, words: tuple[str, ...], text: str) -> None:
    status, _, error = sweeper("confirm", *words)
    assert status == 2 and text in error


def test_a_comparison_that_another_process_runs_is_refused(sweeper: Sweeper, tmp_path: Path) -> None:
    words = ("confirm", "--losses", "dice", "--command", "python x.py", "--study", "a")
    with hold_folder((tmp_path / ".sweeper" / "confirm" / "a").resolve(), "a"):
        status, _, error = sweeper(*words)
    assert status == 2 and "runs in another process" in error


@pytest.mark.slow
def test_losses_are_compared_where_classes_overlap(sweeper: Sweeper, tmp_path: Path) -> None:
    command = python(SUPPORT / "own_planes.py")
    few = ["--rates", "none", "--seeds", 3, "--workers", 2, "--json", "--out", tmp_path / "out"]
    status, out, error = sweeper("confirm", "--losses", "dice_ce", "--command", command, *few)
    assert status == 0, error
    document = json.loads(out)
    assert {row["seeds"] for row in document["losses"]} == {3} and document["images"] == 4
    (folder,) = (tmp_path / "out").iterdir()
    trainings = pd.read_csv(folder / "trainings.csv")
    assert all(len(json.loads(point.replace("(", "[").replace(")", "]"))) == 2 for point in trainings["point"])
    assert trainings["test"].between(0.3, 1).all() and trainings["test"].nunique() == 6
    assert "choose_thresholds" in (folder / "loss.py").read_text("utf-8")


# --- The whole search ---

SPACE = """\
version: 1
task: binary
nuisance: {lr: {log: [0.001, 0.1]}}
losses: {cross_entropy: {}, dice: {}}
"""


def list_run_words(folder: Path, script: Path, name: str) -> list[object]:
    where = [*("--storage", f"sqlite:///{folder}/s.db"), *("--tracking-uri", f"sqlite:///{folder}/m.db")]
    where += ["--out", folder / "reports"]
    words = ["run", folder / "data", "--command", python(script, folder / "data"), "--space", folder / "two.yaml"]
    return [*words, "--trials", 2, "--seeds", 1, "--study", name, *where]


OWN_RULE = """\
        table = {}
        with torch.no_grad():
            for x, y, names in DataLoader(Images(root, split), batch_size=2):
                for name, found, true in zip(names, net(x)[:, 0] > -1, y > 0):
                    tp, fp, fn = (found & true).sum(), (found & ~true).sum(), (~found & true).sum()
                    table[name] = [[true.numel() - tp - fp - fn, fn, fp], [tp, fp, fn]]
        t.counts(split, table)
"""
"""The example's own rule of decision: counts in place of logits."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "scored", [*(pytest.param(what, marks=pytest.mark.exhaustive) for what in ("logits", "counts")), "folds"]
)
def test_a_search_by_a_script_that_is_killed_resumes_to_the_same_result(
    sweeper: Sweeper, tmp_path: Path, scored: str
) -> None:
    sweeper("synth", "cracks?images=20&size=64&foreground=0.08", tmp_path / "data")
    (tmp_path / "two.yaml").write_text(SPACE, "utf-8")
    script = tmp_path / "code" / "train.py"
    script.parent.mkdir()
    example = (ROOT / "examples" / "train_plain.py").read_text("utf-8")
    begin, end = (example.index(words) for words in ("        with torch.no_grad(), t.scoring", "        net.train()"))
    example = example[:begin] + OWN_RULE + example[end:] if scored == "counts" else example
    if scored == "folds":
        own = '{"test": (FOLD,), "val": (4,), "train": {0, 1, 2, 3} - {FOLD}}'
        example = example.replace('{"test": (0,), "val": (1,), "train": (2, 3, 4)}', own)
        example = example.replace(
            "    torch.manual_seed(t.seed)", '    globals()["FOLD"] = t.fold or 0\n    torch.manual_seed(t.seed)'
        )
    script.write_text(example.replace("EPOCHS, RATE = 20", "EPOCHS, RATE = 8"), "utf-8")
    more = ["--folds", 2] if scored == "folds" else []
    words = [*list_run_words(tmp_path, script, "whole"), *more]
    status, out, error = sweeper(*words, "--json")
    assert status == 0, error
    assert "Losses can be compared in this script: " in error and " of 4 images; test: " in error
    assert "as 1 % of a training takes" in error
    whole = json.loads(out)
    assert len(whole["losses"]) == 2 and {row["seeds"] for row in whole["losses"]} == {1}
    assert whole["images"] == (8 if scored == "folds" else 4)
    assert ("OWN_RULE" in {remark["code"] for remark in whole["remarks"]}) == (scored == "counts")

    killed = [str(word) for word in [*list_run_words(tmp_path, script, "cut"), *more]]
    process = subprocess.Popen([sys.executable, "-m", "sweeper", *killed], stderr=subprocess.DEVNULL)
    trainings = get_checkpoints_dir(Path(".sweeper/cache").resolve(), "cut")
    wait_until(lambda: [*trainings.glob("*/rate-00001/results.jsonl")], 600, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    where = killed[killed.index("--storage") : len(killed) - len(more)]
    status, out, error = sweeper("run", "--study", "cut", "--resume", "--json", *where)
    assert status == 0, error
    resumed = json.loads(out)
    for row in (*whole["losses"], *resumed["losses"]):
        del row["mlflow_run_ids"]
    for part in ("outcome", "sure", "use", "gain", "losses", "differences"):
        assert whole[part] == resumed[part]

    status, out, error = sweeper("export", "cut", *where[:2], *where[4:])
    assert status == 0, error
    loss = (tmp_path / "reports" / "cut" / "export" / "loss.py").read_text("utf-8")
    assert "build_loss" in loss and "make_optimizer" not in loss  # the optimiser is the script's
    space = (tmp_path / "reports" / "cut" / "export" / "loss.yaml").read_text("utf-8")
    assert "log:" in space  # a factor of the script's rate is no rate for sweeper's own training
    report = (tmp_path / "reports" / "cut" / "report.md").read_text("utf-8")
    assert "× your learning rate" in report and "| recipe | command " in report and ", encoder " not in report
    assert "--encoder-weights" not in report and "had flattened" not in report
    status, out, error = sweeper("train", "cut", "--storage", killed[killed.index("--storage") + 1])
    assert status == 2 and "was trained by your script" in error
    script.write_text(script.read_text("utf-8") + "\n", "utf-8")
    status, out, error = sweeper("run", "--study", "cut", "--resume", "--trials", 4, *where)
    assert status == 2 and "train.py changed" in error


@pytest.mark.slow
def test_a_script_that_scores_images_outside_the_data_is_refused(sweeper: Sweeper, tmp_path: Path) -> None:
    sweeper("synth", "cracks?images=20&size=64&foreground=0.08", tmp_path / "data")
    where = ["--storage", f"sqlite:///{tmp_path}/s.db", "--tracking-uri", f"sqlite:///{tmp_path}/m.db"]
    command = python(SUPPORT / "own_training.py", "gives_logits")
    status, _, error = sweeper("run", tmp_path / "data", "--command", command, *where)
    assert status == 2 and "images of val must be named as in the data" in error
    assert not (tmp_path / "s.db").exists()
