"""Secrets are hidden in every output, and other text is not changed."""

from __future__ import annotations

import html
import json
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from unittest.mock import patch
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.cli.main import main
from sweeper.core.base import Record, ShownCommand
from sweeper.core.errors import UsageError, check_address
from sweeper.core.redact import NO_ADDRESS, hide_address_secrets, hide_command_secrets, redact, remember_addresses
from tests.conftest import TINY


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql://me:canary@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql://me:can@ry@host/db", NO_ADDRESS),
        ("postgresql://me:can/ary@host/db", NO_ADDRESS),
        ("postgresql://:canary@host/db", "postgresql://:***@host/db"),
        ("https://canary0123456789@mlflow.example", "https://***@mlflow.example"),
        ("https://h/x?user=a&token=canary&b=1", "https://h/x?user=***&token=***&***"),
        ("https://h/?api_key=canary;sig=canary", "https://h/?api_key=***"),
        ("postgresql://host/db?user=me&password=canary", "postgresql://host/db?user=***&password=***"),
        ("postgresql://me:can'ar\"y x@host/db?sslmode=require", "postgresql://me:***@host/db?sslmode=require"),
        ("https://h/x?pass=canary&pw=canary#token=canary", "https://h/x?pass=***&pw=***#***"),
        ("mssql+pyodbc:///?odbc_connect=Driver%3Dx%3BPWD%3Dcanary", "mssql+pyodbc:///?odbc_connect=***"),
        ("postgresql://h/db?sslmode=x;PWD=canary", "postgresql://h/db?sslmode=***"),
        ("postgresql://h/db?canary", "postgresql://h/db?***"),
        ("https://me:12/34canary@host/x", NO_ADDRESS),
        ("postgresql://host/db?user=me&password=Zp@canary/w", NO_ADDRESS),
        ("mysql+pymysql://me@host/db?passwd=c@nary/@can:ary", NO_ADDRESS),
        ("postgresql+psycopg://me:%40can%2Fary@[::1]:5/db", "postgresql+psycopg://me:***@[::1]:5/db"),
        ("postgresql://host:5432/db?password=Zp@canary", NO_ADDRESS),
        ("postgresql://host?password=Zp@canary", NO_ADDRESS),
        ("postgresql://me:x@host/db?password=Zp@canary", NO_ADDRESS),
        ("postgresql:///me:canary@host/db", NO_ADDRESS),
        ("sqlite:///me:can/ary@host/db", NO_ADDRESS),
        ("http:///me:canary@host", NO_ADDRESS),
        ("https://h/x?token=ca@nary", NO_ADDRESS),
        ("https://h/x;password=canary", NO_ADDRESS),
        ("postgresql://host/db?password=Zp&canary=1234567&sslmode=require", "postgresql://host/db?password=***&***&sslmode=require"),
        ("https://b.s3.amazonaws.com/k?X-Amz-Credential=canary&X-Amz-Signature=canary", "https://b.s3.amazonaws.com/k?***&***"),
        ("failed: host=h password=canary dbname=d", "failed: host=h password=*** dbname=d"),
        ("one http://a:canary@b/c and 'two://d:canary@e'", "one http://***@b/c and 'two://***@e'"),
    ],
)  # fmt: skip
def test_secrets_in_addresses_and_messages_are_hidden(text: str, hidden: str) -> None:
    assert redact(text) == hidden
    assert "canary" not in redact(text)
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///sweeper.db",
        "sqlite:////home/a:b/mail@x/sweeper.db",
        "http://127.0.0.1:5000/#/experiments/1/runs/abc",
        "postgresql://me@host/db",
        "file:///home/x@y/mlruns",
        "--storage must be sqlite:///FILE or postgresql://USER@HOST/DATABASE, or postgresql://…",
        "synthetic:cracks?images=16&size=48",
        "mail me@example.org: 3:4",
        "the keyword=value rule",
    ],
)
def test_text_without_secrets_is_not_changed(text: str) -> None:
    assert redact(text) == text


SIGNS = "abcXYZ0189@/:?#&=%+;.~!'\"[]{}\\$*()<>|-_ äß漢"
PASSWORDS = st.text(SIGNS, min_size=4, max_size=20)
RAW = {
    "postgresql://h0st/db?user=me&password={}",
    "postgresql+psycopg://m_e:{}@h0st:5432/db",
    "https://me:{}@h0st:1/x",
    "mysql+pymysql://m_e:{}@h0st/db?ssl=1",
    "http://{}@h0st",
    "mssql+pyodbc://h0st/?odbc_connect={}&t=1",
    "s3://me:{}@h0st/x",
    "http://h0st/x?token={}",
    "https://h0st/#{}",
    "sqlite:///x.db?key={}",
}
"""Places of a password in addresses as people write them: percent-encoded, or not."""


@settings(max_examples=1000, derandomize=True, deadline=None, database=None)
@given(st.sampled_from(sorted(RAW)), PASSWORDS, st.sampled_from([str, quote_plus, partial(quote, safe="")]))
def test_no_piece_of_a_password_is_in_any_output(frame: str, secret: str, spell: Callable[[str], str]) -> None:
    address = frame.format(spell(secret))
    pieces = {text[at : at + 4] for text in (secret, spell(secret)) for at in range(len(text) - 3)}
    words = shlex.join(["run", "--storage", address])
    with patch("sweeper.core.redact._known", set()):
        hidden = hide_address_secrets(address)
        bare = repr(secret) if spell is not str and len(secret) > 5 else ""  # a short word stands in other sentences
        for rendering in (hidden, redact(f"failed: {address!r} {bare}, {address}"), hide_command_secrets(words)):
            frames = f"{frame} {NO_ADDRESS} run --storage failed: '***'"
            assert not [piece for piece in pieces if piece in rendering and piece not in frames], (address, rendering)
    with suppress(UsageError):
        check_address("--storage", address)


NASTY = [
    "postgresql://me:ca'na\"ry 17@host/db",
    "https://me:ca'na\"ry 17@host/x",
    "https://h/x?pass=ca'na\"ry%2017",
    "https://h/x?odbc_connect=Driver%3Dx%3BPWD%3Dca%27na%22ry%2017",
    "https://h/x#token=ca'na\"ry 17",
    "postgresql://me:ca'na\"ry 17/@@host/db",
    "postgresql:me:ca'na\"ry 17@host",
]


@pytest.mark.parametrize("address", NASTY)
def test_a_remembered_secret_is_hidden_in_every_spelling(address: str) -> None:
    secret = "ca'na\"ry 17"
    assert "ry" not in hide_address_secrets(address)
    for cause in (
        address,
        repr(address),
        json.dumps({"at": address}),
        html.escape(address),
        shlex.join(["sweeper", "run", "--storage", address]),
        f"could not translate {secret}; {quote(secret)}, {quote_plus(secret)} {secret!r} {json.dumps(secret)}",
    ):
        hidden = redact(f"failed: {cause}: give up")
        assert "na" not in hidden and "17" not in hidden and "give up" in hidden, (cause, hidden)
    assert "17" not in hide_command_secrets(shlex.join(["sweeper", "run", f"--storage={address}", "--seed", "1"]))


FRAMES = [
    ["python", "t.py", "--password", "{}", "-p", "x{}", "-u", "me:x{}", "wandb", "login", "x{}"],
    ["python", "t.py", "--amp", "--api-key={}", "--lr", "0.1"],
    ["python", "t.py", "-token", "{}", "-H", "Authorization: Bearer x{}", "-HX-Api-Key: x{}", "data"],
    ["env", "WANDB_API_KEY={}", "PGPASSWORD={}", "python", "t.py"],
    ["python", "t.py", "db.password={}", "--hf_token={}", "--aws-secret-access-key", "{}", "--auth", "{}"],
    ["python", "t.py", "--db", "postgresql://m_e:{}@h0st/db", "--passwd", "{}"],
    ["python", "t.py", "--db=https://m_e:{}@h0st/x", "--pw={}"],
]
"""Places of a secret in a command; the last is an address with it."""


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(st.sampled_from(FRAMES), PASSWORDS, st.integers(0, 2))
def test_no_piece_of_a_secret_is_in_a_displayed_command(frame: list[str], secret: str, depth: int) -> None:
    words = [word.format(quote(secret, safe="") if "://" in word else secret) for word in frame]
    for _ in range(depth):  # a command within a word
        words = ["bash", "-c", shlex.join(words)]
    pieces = {text[at : at + 4] for text in (secret, quote(secret, safe="")) for at in range(len(text) - 3)}
    command, known = shlex.join(words), f"bash -c {shlex.join(frame)} {shlex.quote('***')}"
    with patch("sweeper.core.redact._known", set()):
        hidden = hide_command_secrets(command)
        assert not [piece for piece in pieces if piece in hidden and piece not in known], (command, hidden)
        assert hide_command_secrets(hidden) == hidden
        document = ScriptEvaluation(command=command)
        assert not [piece for piece in pieces if piece in document.command and piece not in known]
        if len(secret) >= 8:  # a short word stands in other sentences
            assert f"x{secret}" not in redact(f"the script said: x{secret}")


class ScriptEvaluation(Record):
    """A record with a command."""

    command: ShownCommand


@pytest.mark.parametrize(
    ("command", "hidden"),
    [
        ("python t.py --password canary --seed {seed}", "python t.py --password '***' --seed '{seed}'"),
        ("env API_KEY=canary python t.py", "env 'API_KEY=***' python t.py"),
        ("bash -c 'python t.py --token canary'", "bash -c 'python t.py --token '\"'\"'***'\"'\"''"),
        ('python t.py \'{"password":"canary"}\'', "python t.py '{\"password\":***}'"),
        ("python t.py --password 'canary", "***"),
        ("mysql -pCanary-2 -u me", "mysql '-p***' -u me"),
        ("python t.py hf_canarycanarycanary", "python t.py '***'"),
        ("python t.py --run=aB3dE6gH9jK2mN5pQ8sT", "python t.py '--run=***'"),
    ],
)
def test_secrets_of_a_command_are_hidden(command: str, hidden: str) -> None:
    with patch("sweeper.core.redact._known", set()):
        assert hide_command_secrets(command) == hidden


@pytest.mark.parametrize(
    "command",
    [
        "python train.py DATA  --lr {lr_factor} --seed={seed}",
        "python t.py --tokenizer bert --max-tokens 5 --author me --keyframes 3 --password-file secrets/x",
        "bash -c 'python t.py --note \"no secret\"'",
        "python t.py --storage sqlite:///x.db a=b",
        "docker run -p 8080:80 -u 1000:1000 img python -u t.py -p 256 -path=/x --loss my_key:fn --model a_token:build",
        "python t.py --commit 0123456789abcdef0123456789abcdef01234567 --data cityscapes_fine_2048x1024_V2",
    ],
)
def test_a_command_without_secrets_is_not_changed(command: str) -> None:
    with patch("sweeper.core.redact._known", set()):
        assert hide_command_secrets(command) == command


@pytest.mark.parametrize("address", ["postgresql://me:ca@na/ry@host/db", "http://me:port/x@host", "postgresql:me:x@h"])
def test_an_address_that_cannot_be_parsed_is_refused_without_printing_it(address: str) -> None:
    with pytest.raises(UsageError, match=rf"--storage must be an address or a path, got {NO_ADDRESS}; .*@ is %40"):
        check_address("--storage", address)


@pytest.mark.parametrize("address", ["mlruns", "./a=b", "/x/y@z", "file:mlruns", "databricks", "databricks://profile"])
def test_other_values_that_mlflow_accepts_pass(address: str) -> None:
    check_address("--tracking-uri", address)
    assert hide_address_secrets(address) == address


def test_a_password_that_is_a_word_is_hidden_only_in_addresses() -> None:
    remember_addresses("postgresql://postgres:postgres@postgres/db", "postgresql://me:test@host/db")
    assert redact("the test split of postgresql://postgres:postgres@postgres/db") == (
        "the test split of postgresql://postgres:***@postgres/db"
    )


def test_secrets_of_the_environment_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:proxycanary@10.0.0.1:3128")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tokencanary")
    text = redact("tunnel failed: proxycanary; 401 for Bearer tokencanary")
    assert text == "tunnel failed: ***; 401 for Bearer ***"


COMMANDS = [
    pytest.param(["doctor", "--json", "--tracking-uri", "{}"], marks=pytest.mark.slow),
    pytest.param(["studies", "show", "--json", "--storage={}"], marks=pytest.mark.slow),
    pytest.param(["run", TINY, "--dry-run", "--json", "--tracking-uri", "{}"], marks=pytest.mark.slow),
    ["run", "--steps", "{}"],
    ["report", "x", "--storage", "{}"],
]
LOCAL = [
    "postgresql://me:ca'na\"ry 17@127.0.0.1:9/db",
    "http://me:ca'na\"ry 17@127.0.0.1:9",
    "http://127.0.0.1:9/?pw=ca'na\"ry 17#token=ca'na\"ry 17",
    "http://me:ca'na\"ry 17/@@127.0.0.1:9",
    "sqlite:///x.db?pass=ca'na\"ry 17",
    "sqlite:me:ca'na\"ry 17@host",
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_prints_a_secret(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for address in LOCAL:
        words = [word.format(address) for word in command]
        monkeypatch.setattr(sys, "argv", ["sweeper", *words])
        with pytest.raises(SystemExit):
            main()
        pieces = ('na"r', "na\\", "na%22", "ca'", "ca%27", "y 17", "y%2017")
        for output in capfd.readouterr():
            assert not [piece for piece in pieces if piece in output], output
