"""Ray's actors as workers, on a real cluster of two nodes in this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # Ray's own, about itself
]
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves its workers next to other tests
ray = pytest.importorskip("ray")

from sweeper import storage as studies  # noqa: E402
from sweeper.core.errors import ExecutorError, SweeperError, UsageError  # noqa: E402
from sweeper.core.records import Dataset, TrialResult  # noqa: E402
from sweeper.executors.protocol import Executor  # noqa: E402
from sweeper.executors.ray_cluster import compute_gpu_share  # noqa: E402
from sweeper.executors.separate_process import SubprocessBackend  # noqa: E402
from sweeper.storage.results import is_counted, read_result  # noqa: E402
from sweeper.study.loop import run_work  # noqa: E402
from sweeper.workflow import executor_choice  # noqa: E402
from sweeper.workflow.executor_choice import connect_to_ray, make_backend  # noqa: E402
from sweeper.workflow.settings import Settings  # noqa: E402
from tests.executors import test_protocol as conformance  # noqa: E402
from tests.executors.test_processes import create_study_of_rates, make_search  # noqa: E402
from tests.support import faulty  # noqa: E402
from tests.support.sweeping import TWO_LOSSES, Recorder, run_small_sweep  # noqa: E402
from tests.support.waiting import wait_until  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def add_tests_to_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ray's workers import the tests' own trainers: Ray does not pass pytest's path on."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Yield a head with one core, to which nodes can be added."""
    from ray.cluster_utils import Cluster

    ray_cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield ray_cluster
    ray_cluster.global_state.disconnect()  # collected after its servers are gone, it waits for them without end
    ray.shutdown()
    ray_cluster.shutdown()


class Removing(Recorder):
    """Removes a node after the third result, once there is an actor on each node."""

    def __init__(self, cluster: Any, node: Any) -> None:
        super().__init__()
        self._cluster, self._node, self._removed = cluster, node, False

    def keep(self, result: TrialResult) -> None:
        super().keep(result)
        alive = [actor for actor in self._cluster.global_state.actor_table(None).values() if actor["State"] == "ALIVE"]
        if len(self.results) >= 3 and len(alive) == 2 and not self._removed:
            self._cluster.remove_node(self._node, allow_graceful=False)
            self._removed = True


def test_a_sweep_survives_the_loss_of_a_node(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    node = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1")
    cluster.wait_for_nodes()
    capsys.readouterr()
    display = Removing(cluster, node)
    outcome = run_small_sweep(tmp_path, display, workers=None, space=TWO_LOSSES, trials=12, steps=16)
    assert display._removed
    assert any("Ray lost the actor or its node" in warning for warning in display.warnings)
    assert outcome.sweep.abandoned <= 1
    assert len(outcome.sweep.trials) == 12
    assert all(trial.state != "failed" for trial in outcome.sweep.trials)
    confirmed = outcome.sweep.confirmations
    assert confirmed and all(training.state == "complete" for training in confirmed)
    assert sys.stdout is not sys.stderr and capsys.readouterr().out == ""  # Ray's own words went elsewhere


def open_with_actors(backend: SubprocessBackend, plan: studies.StudyPlan, folder: Path, actors: int = 2) -> Executor:
    """Open the backend, and wait for so many actors."""
    folder.mkdir(exist_ok=True)
    executor = backend.open(plan.conditions, folder)
    wait_until(lambda: executor.poll(0.5) or executor.free() == actors, 300)
    return executor


def test_a_crash_or_hang_of_an_actor_of_a_local_cluster_costs_an_attempt(
    tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the other faults cost is a rule of all executors."""
    monkeypatch.setattr(executor_choice, "connect_to_ray", faulty.connect_to_ray_with_faults)
    monkeypatch.setenv(LOOPBACK, "as another test left it")
    monkeypatch.delenv(LOOPBACK)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    before = set(psutil.Process().children(recursive=True))
    faults = ("hangs", "segfault")
    study, plan = create_study_of_rates(tmp_path, tiny, [*map(faulty.get_rate, faults), 0.002])
    log = list[str]()
    with closing(make_backend(Settings(), 2, log.append)) as backend:
        assert isinstance(backend, SubprocessBackend)
        executor = open_with_actors(backend, plan, tmp_path / "checkpoints")
        assert list_listening(set(psutil.Process().children(recursive=True)) - before) == {"127.0.0.1"}
        assert run_work(executor, make_search(study, plan, tmp_path / "checkpoints"), lambda: None)
        assert executor.workers == 2
    trials = {round(t.params["dice_ce.mix"], 6): t for t in study.get_trials() if is_counted(t)}
    assert trials[0.002].state == TrialState.COMPLETE
    reasons = {fault: read_result(trials[faulty.get_rate(fault)]).reason or "" for fault in faults}
    assert "worker hung" in reasons["hangs"] and "each of 2 attempts" in reasons["hangs"]
    assert "Ray lost the actor" in reasons["segfault"] and "each of 2 attempts" in reasons["segfault"]
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    assert len(log) == 4 and all("asking Ray for another" in line for line in log)


LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""What lets a cluster listen on the loopback address alone, if it is there when Ray is imported."""


def list_listening(processes: set[psutil.Process]) -> set[str]:
    """Return the addresses that processes listen on."""
    addresses = set[str]()
    for process in processes:
        with suppress(psutil.Error):  # it ended meanwhile
            listening = [c for c in process.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]
            addresses |= {c.laddr.ip.removeprefix("::ffff:") for c in listening}
    return addresses


def test_the_error_of_a_node_without_the_code_has_the_missing_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH")
    words = r"a Ray actor ended while it was made \(ModuleNotFoundError: No module named 'tests.*'\); each node needs"
    with (
        closing(SubprocessBackend(faulty.ray_with_faults, lambda _: None)) as backend,
        pytest.raises(SweeperError, match=words),
    ):
        backend.get_hardware()


@pytest.mark.exhaustive
@pytest.mark.parametrize("word", ["raylet/raylet", "gcs/gcs_server", "spawn_main"])
def test_a_killed_cluster_ends_the_session_and_leaves_no_process(
    word: str, tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does the death of the process that connects to the cluster."""
    monkeypatch.setenv("RAY_ADDRESS", "local")
    study, plan = create_study_of_rates(tmp_path, tiny, [0.002, 0.003, 0.004])
    long = plan.conditions.recipe.model_copy(update={"steps": 200_000})
    plan = plan.model_copy(update={"conditions": plan.conditions.model_copy(update={"recipe": long})})
    make = partial(connect_to_ray, Settings(device="cpu", workers=2), 2)
    before = set(psutil.Process().children(recursive=True))  # a fork server of earlier tests is among them
    with closing(SubprocessBackend(make, print)) as backend:
        executor = open_with_actors(backend, plan, tmp_path / "checkpoints")
        # multiprocessing's tracker belongs to this process, and ends with it.
        family = [
            process
            for process in psutil.Process().children(recursive=True)
            if process not in before and "resource_tracker" not in " ".join(process.cmdline())
        ]
        assert family

        def kill() -> None:
            if study.get_trials(states=(TrialState.RUNNING,)):
                for process in family:
                    with suppress(psutil.NoSuchProcess):
                        if word in " ".join(process.cmdline()):
                            process.kill()

        with pytest.raises(ExecutorError, match=r"Ray|raylet"):
            run_work(executor, make_search(study, plan, tmp_path / "checkpoints"), kill)
    assert not study.get_trials(states=(TrialState.RUNNING,))
    assert study.get_trials(states=(TrialState.WAITING,))
    surviving = psutil.wait_procs(family, timeout=300)[1]  # those of Ray that outlive its head end by themselves
    assert [process.cmdline() for process in surviving] == []


@pytest.mark.parametrize(
    ("gpus", "actors", "share"),
    [
        (0, None, 0.0),
        (0, 4, 0.0),
        (4, None, 1.0),
        (4, 3, 1.0),
        (2, 3, 0.5),
        (2, 8, 0.25),
        (1, 3, 0.3333),
        (3, 64, 0.0454),
    ],
)
def test_all_actors_find_room_on_the_gpus(gpus: int, actors: int | None, share: float) -> None:
    assert compute_gpu_share(gpus, actors) == share
    if share:
        assert gpus * int(1 / share) >= (actors or gpus)


def test_an_address_without_a_cluster_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UsageError, match="must be a Ray cluster that answers"):
        run_small_sweep(tmp_path, workers=None)


make_executor = conformance.make_executor
"""A fixture of the rules."""


@pytest.mark.exhaustive
@pytest.mark.parametrize("rule", conformance.RULES, ids=lambda rule: rule.__name__)
def test_ray_actors_follow_the_rules_of_all_executors(rule: Any, make_executor: Any) -> None:
    """Each of them needs a cluster of its own."""
    rule(conformance.make_ray_backend, make_executor)
