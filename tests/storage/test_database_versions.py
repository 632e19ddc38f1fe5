"""Databases of another version of Optuna are refused with Optuna's advice, and not changed."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from sweeper import storage as studies
from sweeper.core.errors import UsageError
from sweeper.storage.database import check_optuna_schema
from sweeper.system.postgres import make_sqlalchemy_url
from tests.support.faking import new_plan
from tests.support.pasting import paste
from tests.support.postgres_server import Server


def create_study(url: str) -> str:
    """Create a storage with a study, and return its address."""
    storage = studies.open_storage(url)
    studies.create_study(storage, "my study", new_plan())
    storage.engine.dispose()
    return url


def revise(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])


@pytest.mark.parametrize(("revision", "advice"), [("v9.0.0.a", "pip install -U optuna"), ("x", "pip install")])
def test_a_newer_storage_is_refused(tmp_path: Path, revision: str, advice: str) -> None:
    storage = create_study(f"sqlite:///{tmp_path}/a b.db")
    check_optuna_schema(storage)
    revise(tmp_path / "a b.db", revision)
    before = (tmp_path / "a b.db").read_bytes()
    for create in (True, False):
        with pytest.raises(UsageError, match=advice):
            studies.open_storage(storage, create=create)
    with pytest.raises(RuntimeError, match=advice):
        check_optuna_schema(storage)
    assert (tmp_path / "a b.db").read_bytes() == before


def test_an_older_study_is_opened_after_the_printed_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = create_study("sqlite:///el se.db")
    revise(tmp_path / "el se.db", "v3.0.0.d")
    with pytest.raises(UsageError, match="optuna storage upgrade") as caught:
        studies.open_storage(storage, create=False)
    printed = re.search(r"`\$ (optuna storage upgrade --storage) \$STORAGE_URL`", str(caught.value))
    assert printed is not None and paste(f"{printed[1]} '{storage}'", tmp_path).returncode == 0
    assert studies.list_study_names(studies.open_storage(storage, create=False)) == ["my study"]


@pytest.mark.slow
def test_an_older_study_on_a_server_is_refused_without_its_password(postgres: Server) -> None:
    plain = create_study(postgres.fresh())
    check_optuna_schema(plain)
    with create_engine(make_sqlalchemy_url(plain)).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v3.0.0.d'"))
    for url in (plain, plain.replace("postgres@", "postgres:Pässw%40rd@")):
        with pytest.raises(UsageError, match="optuna storage upgrade") as caught:
            studies.open_storage(url, create=False)
        assert "ssw" not in str(caught.value)
        with pytest.raises(RuntimeError, match="optuna storage upgrade"):
            check_optuna_schema(url)
