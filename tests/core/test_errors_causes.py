"""The cause of an error in one line."""

from __future__ import annotations

import sqlite3

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from sweeper.core.errors import get_cause


def test_the_cause_of_a_database_error_is_its_drivers_message() -> None:
    error = OperationalError("INSERT INTO trials VALUES (?)", {"x": 1}, sqlite3.OperationalError("database is locked"))
    wrapped = StorageInternalError("An exception is raised during the commit.")
    wrapped.__cause__ = error
    for one in (error, wrapped):
        assert get_cause(one) == "database is locked"
    assert get_cause(RuntimeError(str(error))) == "(sqlite3.OperationalError) database is locked"
    assert get_cause(ValueError()) == "ValueError"


def test_a_long_cause_is_shortened_between_words_and_keeps_its_end() -> None:
    words = [f"word{number}" for number in range(99)]
    text = get_cause(ValueError(" ".join([*words, "[Errno 111] Connection refused"])))
    assert len(text) <= 300 and text.endswith("[Errno 111] Connection refused") and text.startswith("word0 word1 ")
    assert {*text.removesuffix("[Errno 111] Connection refused").split()} <= {*words, "…"} and text.count("…") == 1
    assert get_cause(ValueError("x" * 400), 20) == f"{'x' * 9} … {'x' * 8}"
    assert get_cause(ValueError("a cause"), 7) == "a cause"
