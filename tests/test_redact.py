"""Secrets never leave; what is none stays readable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.core.redact import redact


@pytest.mark.parametrize(
    ("shown", "hidden"),
    [
        ("postgresql://me:canary@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql+psycopg://me:canary@host/db?sslmode=require", "postgresql+psycopg://me:***@host/db?sslmode=require"),
        ("postgresql://me:can@ry@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:can/ary@host/db", "postgresql://me:***@host/db"),
        ("postgresql://:canary@host/db", "postgresql://:***@host/db"),
        ("https://canary0123456789@mlflow.example", "https://***@mlflow.example"),
        ("https://h/x?user=a&token=canary&b=1", "https://h/x?user=a&token=***&b=1"),
        ("https://h/x?X-Amz-Signature=canary#y", "https://h/x?X-Amz-Signature=***#y"),
        ("https://h/?api_key=canary;sig=canary", "https://h/?api_key=***;sig=***"),
        ("postgresql://host/db?user=me&password=canary", "postgresql://host/db?user=me&password=***"),
        ("failed: host=h password=canary dbname=d", "failed: host=h password=*** dbname=d"),
        ("one http://a:canary@b/c and 'two://d:canary@e'", "one http://a:***@b/c and 'two://d:***@e'"),
    ],
)  # fmt: skip
def test_what_is_secret_is_hidden(shown: str, hidden: str) -> None:
    assert redact(shown) == hidden
    assert "canary" not in redact(shown)
    assert redact(redact(shown)) == redact(shown)


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///sweeper.db",
        "sqlite:////home/a:b/mail@x/sweeper.db",
        "http://127.0.0.1:5000/#/experiments/1/runs/abc",
        "postgresql://me@host/db",
        "synthetic:cracks?images=16&size=48",
        "mail me@example.org: 3:4",
        "the keyword=value rule",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text(st.characters(blacklist_characters="'\"@/:?#&;=%", blacklist_categories=["Z", "C"]), min_size=1))
def test_no_password_comes_through(secret: str) -> None:
    secret = f"<{secret}>"
    assert secret not in redact(f"failed: postgresql://me:{secret}@host/db, mlflow at http://h/?token={secret}&x=1")
