"""Ray's actors as workers, on a real cluster of two nodes in this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # Ray's own, about itself
]
ray = pytest.importorskip("ray")

from sweeper.errors import UsageError  # noqa: E402
from sweeper.records import TrialResult  # noqa: E402
from tests.sweeping import Recorder, sweep_in  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head with one core, to which nodes can be added."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()


class Removing(Recorder):
    """Takes a node away after the third result."""

    def __init__(self, cluster: Any, node: Any) -> None:
        super().__init__()
        self._cluster, self._node = cluster, node

    def training_kept(self, result: TrialResult) -> None:
        super().training_kept(result)
        if len(self.results) == 3:
            self._cluster.remove_node(self._node, allow_graceful=False)


def test_a_sweep_survives_the_loss_of_a_node(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    capsys.readouterr()
    display = Removing(cluster, node)
    outcome = sweep_in(tmp_path, display, executor="ray", ray_address=cluster.address, trials=12, steps=16)
    assert any("Ray lost the actor or its node" in warning for warning in display.warnings)
    assert outcome.sweep.abandoned <= 1
    assert len(outcome.sweep.trials) == 12
    assert all(trial.state != "failed" for trial in outcome.sweep.trials)
    confirmed = outcome.sweep.confirmations
    assert confirmed and all(training.state == "complete" for training in confirmed)
    assert sys.stdout is not sys.stderr and capsys.readouterr().out == ""  # Ray's own words went elsewhere


def test_an_address_without_a_cluster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be a Ray cluster that answers"):
        sweep_in(tmp_path, executor="ray", ray_address="127.0.0.1:1")
    with pytest.raises(UsageError, match="is for --executor ray"):
        sweep_in(tmp_path, ray_address="127.0.0.1:1")


LISTENING = """
import sys
from pathlib import Path
import psutil
from sweeper.place import make_executor
from sweeper.settings import Settings
executor = make_executor(Settings(executor="ray", device="cpu", workers=1), 1, print)
assert executor.workers == 1
mine = [psutil.Process(), *psutil.Process().children(recursive=True)]
found = {c.laddr.ip for p in mine for c in p.net_connections(kind="inet") if c.status == "LISTEN"}
executor.close()
print(*found)
"""


def test_a_cluster_of_this_machine_listens_on_the_loopback_address_alone() -> None:
    """In a process of its own: Ray reads its settings when it is imported."""
    run = subprocess.run(
        [sys.executable, "-c", LISTENING], capture_output=True, text=True, timeout=300, cwd=ROOT, check=True
    )
    addresses = run.stdout.split()
    assert addresses and all(address.removeprefix("::ffff:") == "127.0.0.1" for address in addresses)
