"""The command that continues a study can be copied as it is shown, wherever the study is, and holds no secret."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from sweeper.cli.run import command
from sweeper.core.errors import LostStudyError, SweeperError
from sweeper.core.paths import STORAGE
from sweeper.core.text import resume_command
from sweeper.system.disk_space import explain_full_disk
from sweeper.workflow.conclude import draw_conclusion
from sweeper.workflow.status import SweepLife, diagnose_sweep
from tests.support import builders

PLACES = [
    ("sqlite:///elsewhere.db", "--storage sqlite:///elsewhere.db"),
    ("sqlite:////data/my studies.db", "--storage 'sqlite:////data/my studies.db'"),
    ("postgresql://me@db/sweeper?sslmode=require", "--storage 'postgresql://me@db/sweeper?sslmode=require'"),
    ("postgresql://me:hunter2@db/sweeper", '--storage "$SWEEPER_STORAGE"'),
    ("postgresql://db/sweeper?user=me&password=hunter2", '--storage "$SWEEPER_STORAGE"'),
]


@pytest.mark.parametrize(("storage", "words"), [(STORAGE, ""), *PLACES])
def test_another_storage_than_the_default_is_named_without_secrets_and_read_as_itself(
    monkeypatch: pytest.MonkeyPatch, storage: str, words: str
) -> None:
    shown = resume_command("my study", storage)
    assert shown == f"sweeper run --study 'my study' --resume {words}".rstrip()
    monkeypatch.setenv("SWEEPER_STORAGE", storage)
    context = command.make_context("run", shlex.split(shown.replace("$SWEEPER_STORAGE", storage))[2:])
    assert (context.params["study"], context.params["storage"], context.params["resume"]) == ("my study", storage, True)


@pytest.mark.parametrize(("storage", "words"), PLACES)
def test_every_message_that_resumes_names_the_storage(tmp_path: Path, storage: str, words: str) -> None:
    shown = f"sweeper run --study s --resume {words}"
    assert shown in str(LostStudyError("s", storage))
    with pytest.raises(SweeperError) as caught, explain_full_disk("s", {"the reports": tmp_path}, storage=storage):
        raise OSError(28, "No space left on device")
    assert shown in str(caught.value)
    life = SweepLife(study="s", state="failed", written=1.0, progress=1.0, pid=1, host="elsewhere")
    assert shown in diagnose_sweep(life, 2.0, storage).problems[0]
    sweep = builders.sweep([], [], study="s", storage=storage, cut=("the search ended after 3 of 7 trials",))
    assert any(shown in step for step in draw_conclusion(sweep).next_steps)
