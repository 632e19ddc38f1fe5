"""Secrets out of addresses, wherever an address is shown, stored or logged.

An address is taken apart by SQLAlchemy's parser (databases) or urllib's (all others). What cannot be taken apart, or in
two ways of which one would print a piece of a password, is not printed at all. The secrets of an address that was given
are taken out of every text from then on.
"""

from __future__ import annotations

import html
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit

HIDDEN = "***"
NO_ADDRESS = "an address that is not a URL"
"""Replacement for an address that cannot be parsed: its password could begin anywhere."""
HARMLESS = {"application_name", "connect_timeout", "dbname", "format", "host", "images", "port", "size", "sslmode"}
"""Fields of a query whose values hold no secret; all others are hidden."""
_NAMES = {"api_key", "odbc_connect", "passwd", "password", "pass", "pw", "pwd", "sslpassword", "token", "user"}
"""Fields whose names are shown; a name that nobody knows may be what stands behind an & of a password."""
_DATABASES = {"mariadb", "mssql", "mysql", "oracle", "postgres", "postgresql", "sqlite"}
_PLAIN = re.compile(r"[\w.,:/+ -]*")
_SCHEME = re.compile(r"[\w+.-]+")
_USER = re.compile(r"[\w.+%~@ -]*")
_HOST = re.compile(r"[\w.,:%\[\]…-]*")
_DATABASE = re.compile(r"[\w.+%~$/ -]*")
_USER_IN_PATH = re.compile(r"^[./\\~]*(?![A-Za-z]:[/\\])[^/\\]*:.*@|:[^/\\]*@")
"""NAME:PASSWORD@ in what should be a path: its address has a slash too many, or no scheme."""
_VIEW = re.compile(r"(?:/(?:experiments|models)/[\w/?=&.,%+-]*)?")
"""Fragment that distinguishes MLflow's pages."""
_PATH = re.compile(r"[~./\\]|[A-Za-z]:[\\/]|file:")
_FILE = re.compile(r"sqlite:///[\w./~ -]+")
_ANY = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_IN_TEXT = re.compile(
    r"[a-z][a-z0-9+.-]*://"
    r"(?:[^\s/:@?#'\"]*:(?!\d{1,5}(?:[/?#\s'\"),\].;]|$))(?:(?!://).)*@)?"
    r"[^\s'\"`]*",
    re.IGNORECASE,
)
"""An address in a text: with a password up to the last @ of the line, whatever stands in it."""
_FIELD = re.compile(
    r"(?P<start>(?:\b|[\w-]+[_-])(?:passw(?:or)?d|pass|pwd|token|secret)\s*=\s*)('[^']*'|\"[^\"]*\"|[^\s'\"&;#]+)",
    re.IGNORECASE,
)
"""`password=…`, as drivers and HTTP libraries print it."""
_ENVIRONMENT = (
    *("SWEEPER_STORAGE", "SWEEPER_TRACKING_URI", "MLFLOW_TRACKING_URI", "PGPASSWORD", "MLFLOW_TRACKING_PASSWORD"),
    *("MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN"),
    *(name for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for name in (proxy, proxy.lower())),
)
"""Variables that hold an address or a secret."""
_OPTIONS = ("--storage", "--tracking-uri", "--ray-address")
_KEPT = "!#$%&'()*+,/:;=?@[]~"
"""Signs of an address that HTTP libraries leave as they are."""
_known: set[str] = set()


def hide_address_secrets(address: str) -> str:
    """Return a single address fit for display; `redact` knows from then on what is hidden.

    A password is hidden, on the web the user's name too, which may be a token; so are the fragment and all fields of
    the query that are not `HARMLESS`. Of what cannot be taken apart: `NO_ADDRESS`.
    """
    remember_addresses(address)
    return _split_secrets(address)[0]


def hide_command_secrets(words: Sequence[str]) -> str:
    """Return a command line fit for display, each word by itself, as quoting would break a secret into pieces."""
    remember_command_secrets(words)
    return shlex.join(map(redact, words))


def check_address(option: str, address: str) -> None:
    """Refuse what cannot be taken apart, before a library does it and quotes a piece of a password.

    Raises:
        UsageError: with how such signs are written.
    """
    if hide_address_secrets(address) == NO_ADDRESS:
        from sweeper.core.errors import UsageError  # whose own words need this module

        raise UsageError(
            f"{option} must be an address or a path, got {NO_ADDRESS}; in a password write signs that part addresses "
            "as %XX: @ is %40, / is %2F, : is %3A, # is %23, ? is %3F"
        )


def remember_command_secrets(words: Iterable[str]) -> None:
    """Remember the addresses among the words of a command line, and values given as addresses."""
    before = ""
    for word in words:
        match = _ANY.search(word)
        if match is not None:
            remember_addresses(word[match.start() :])
        elif before in _OPTIONS:
            remember_addresses(word)
        elif word.partition("=")[0] in _OPTIONS:
            remember_addresses(word.partition("=")[2])
        before = word


def remember_addresses(*addresses: str) -> None:
    """Addresses whose secrets no text may show from now on, whoever quotes them."""
    _known.update(address for address in addresses if _split_secrets(address)[1])


def redact(text: str) -> str:
    """`text` without the secrets of the addresses in it, and without those of all addresses that are known.

    Known are those of `remember_addresses`, of the variables for addresses and passwords, and of proxies. What is no
    secret stays as it is, so that text without one comes back unchanged.
    """
    for pattern, put in _make_patterns(tuple(sorted({*_known, *filter(None, map(os.environ.get, _ENVIRONMENT))}))):
        text = pattern.sub(put, text)
    text = _IN_TEXT.sub(lambda match: _trim(match[0]), text)
    return _FIELD.sub(rf"\g<start>{HIDDEN}", text)


def _trim(text: str) -> str:
    address = text.rstrip(".,;:)]}>")
    return text if address.endswith("://") else _split_secrets(address)[0] + text[len(address) :]


@lru_cache(maxsize=256)
def _split_secrets(address: str) -> tuple[str, tuple[str, ...]]:
    """Return an address fit for display, and its secrets: all of it if it cannot be parsed."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        is_path = _PATH.match(address) and not _USER_IN_PATH.search(address.removeprefix("file:"))
        if is_path or not re.search(r"[@?=#:&;]", address):
            return address, ()
        return NO_ADDRESS, (address, address.partition(":")[2])
    if _FILE.fullmatch(address):
        return address, ()  # the parser takes a third of a second to load
    is_database = scheme.partition("+")[0].lower() in _DATABASES
    try:
        front, secrets, query, fragment = (_split_database if is_database else _split_web)(scheme, rest)
    except ValueError:
        return NO_ADDRESS, (rest,)
    fields = query.split("&")
    for field in fields:
        if (seen := _hide_field(field)) != field:
            secrets += field.split("=", 1)[seen != HIDDEN :]
    if not _VIEW.fullmatch(fragment):
        secrets += [fragment, fragment.partition("=")[2]]
        fragment = HIDDEN
    if not any(secrets):
        return address, ()
    shown = f"{front}{'?' if query else ''}{'&'.join(map(_hide_field, fields))}{'#' if fragment else ''}{fragment}"
    return shown, tuple(filter(None, secrets))


def _split_database(scheme: str, rest: str) -> tuple[str, list[str], str, str]:
    """Return the part before the query as SQLAlchemy renders it, the password and the query; there is no fragment.

    Raises:
        ValueError: SQLAlchemy cannot take it apart, or ends a password early that holds one of its signs.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(f"{scheme}://{rest}")
    except ArgumentError:
        raise ValueError(rest) from None
    password, _, behind = ("", "", rest) if url.password is None else rest.partition(":")[2].partition("@")
    path = url.database or ""
    is_path_plain = not _USER_IN_PATH.search(path) if url.get_backend_name() == "sqlite" else _DATABASE.fullmatch(path)
    if not (is_path_plain and _USER.fullmatch(url.username or "") and _HOST.fullmatch(url.host or "")):
        raise ValueError(rest)
    if "?" in password or (url.password is not None and "@" in behind):
        raise ValueError(rest)
    return url.set(query={}).render_as_string(), [password], behind.partition("?")[2], ""


def _split_web(scheme: str, rest: str) -> tuple[str, list[str], str, str]:
    """Return the part before the query without user, the password or the only name, the query and the fragment.

    Raises:
        ValueError: it cannot be taken apart; an @ behind the host is a sign of a password that was ended early.
    """
    parts = urlsplit(f"{scheme}://{rest}")
    _ = parts.port  # raises ValueError where it is no number
    user, at, host = parts.netloc.rpartition("@")
    path, behind = parts.path, f"{parts.path}{parts.query}{parts.fragment}"
    is_early = "@" in behind or ";" in path if host or scheme.lower() != "file" else _USER_IN_PATH.search(path)
    if is_early or not (_SCHEME.fullmatch(scheme) and _HOST.fullmatch(host)):
        raise ValueError(rest)
    name, _, password = user.partition(":")
    return f"{scheme}://{HIDDEN if at else ''}{at}{host}{path}", [password or name], parts.query, parts.fragment


def _hide_field(field: str) -> str:
    name, equals, value = field.partition("=")
    if not equals or name.lower() not in _NAMES | HARMLESS:
        return HIDDEN if field else ""
    is_harmless = name.lower() in HARMLESS and _PLAIN.fullmatch(value)
    return field if is_harmless or not value else f"{name}={HIDDEN}"


@lru_cache(maxsize=16)
def _make_patterns(texts: tuple[str, ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Return the patterns of hidden texts with their replacements, the longest first.

    An address becomes what may be seen of it, each of its secrets is hidden. A text that is no address is a secret.
    """
    shown = {text: _split_secrets(text)[0] for text in texts if "://" in text}
    everything = " ".join(shown.values())
    secrets = {
        form for text in texts for secret in (_split_secrets(text)[1] or (text,)) for form in _list_spellings(secret)
    }
    put = {form: HIDDEN for form in secrets if _is_telling(form) and form not in everything}
    put |= {form: secret for text, secret in shown.items() if secret != text for form in _list_spellings(text)}
    ordered = sorted(put, key=len, reverse=True)
    edges = [("", "") if len(form) >= 8 else (r"(?<!\w)", r"(?!\w)") for form in ordered]
    return tuple(
        (re.compile(before + re.escape(form) + right), put[form].replace("\\", r"\\"))
        for form, (before, right) in zip(ordered, edges, strict=True)
    )


def _is_telling(secret: str) -> bool:
    """Return whether a text that contains the secret is about it: a short word (`test`) occurs elsewhere, too."""
    return len(secret) >= 6 or (len(secret) >= 3 and not secret.isalpha())


def _list_spellings(secret: str) -> Iterator[str]:
    """Return the secret as it was written, and as libraries, JSON, Python, HTML and a shell write it."""
    for plain in {secret, unquote(secret), unquote_plus(secret)}:
        yield from (plain, quote(plain, safe=""), quote(plain, safe=_KEPT), quote_plus(plain), html.escape(plain))
        yield from (json.dumps(plain)[1:-1], repr(plain)[1:-1], shlex.quote(plain).strip("'"))
