"""Secrets out of addresses, wherever an address is shown, stored or logged.

An address is taken apart by SQLAlchemy's parser (databases) or urllib's (all others). What cannot be taken apart is not
shown at all. The secrets of an address that was given are taken out of every text from then on.
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
"""What is said in place of an address that cannot be taken apart: nobody knows where its password begins."""
HARMLESS = {"application_name", "connect_timeout", "dbname", "format", "host", "images", "port", "size", "sslmode"}
"""Fields of a query whose values hold no secret; all others are hidden."""
_DATABASES = {"mariadb", "mssql", "mysql", "oracle", "postgres", "postgresql", "sqlite"}
_PLAIN = re.compile(r"[\w.,:/+ -]*")
_HOST = re.compile(r"[\w.,:%\[\]…-]*")
_VIEW = re.compile(r"(?:/(?:experiments|models)/[\w/?=&.,%+-]*)?")
"""The fragment by which MLflow's pages are told apart."""
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


def shown_address(address: str) -> str:
    """The one address that `address` is, as people may see it; what is hidden is known to `redact` from then on.

    A password is hidden, on the web the user's name too, which may be a token; so are the fragment and all fields of
    the query that are not `HARMLESS`. Of what cannot be taken apart: `NO_ADDRESS`.
    """
    remember(address)
    return _apart(address)[0]


def shown_command(words: Sequence[str]) -> str:
    """A command line as people may see it: each of its words by itself, as quoting would break a secret into pieces."""
    remember_words(words)
    return shlex.join(map(redact, words))


def check_address(option: str, address: str) -> None:
    """Refuse what cannot be taken apart, before a library does it and quotes a piece of a password.

    Raises:
        UsageError: with how such signs are written.
    """
    if shown_address(address) == NO_ADDRESS:
        from sweeper.core.errors import UsageError  # whose own words need this module

        raise UsageError(
            f"{option} must be an address or a path, got {NO_ADDRESS}; in a password write signs that part addresses "
            "as %XX: @ is %40, / is %2F, : is %3A, # is %23, ? is %3F"
        )


def remember_words(words: Iterable[str]) -> None:
    """The addresses among the words of a command line, and what is given as one."""
    before = ""
    for word in words:
        found = _ANY.search(word)
        if found is not None:
            remember(word[found.start() :])
        elif before in _OPTIONS:
            remember(word)
        elif word.partition("=")[0] in _OPTIONS:
            remember(word.partition("=")[2])
        before = word


def remember(*addresses: str) -> None:
    """Addresses whose secrets no text may show from now on, whoever quotes them."""
    _known.update(address for address in addresses if _apart(address)[1])


def redact(text: str) -> str:
    """`text` without the secrets of the addresses in it, and without those of all addresses that are known.

    Known are those of `remember`, of the variables for addresses and passwords, and of proxies. What is no secret stays
    as it is, so that text without one comes back unchanged.
    """
    for pattern in _patterns(tuple(sorted({*_known, *filter(None, map(os.environ.get, _ENVIRONMENT))}))):
        text = pattern.sub(HIDDEN, text)
    text = _IN_TEXT.sub(lambda found: _trimmed(found[0]), text)
    return _FIELD.sub(rf"\g<start>{HIDDEN}", text)


def _trimmed(found: str) -> str:
    address = found.rstrip(".,;:)]}>")
    return found if address.endswith("://") else _apart(address)[0] + found[len(address) :]


@lru_cache(maxsize=256)
def _apart(address: str) -> tuple[str, tuple[str, ...]]:
    """An address as people may see it, and its secrets: all of it, where it cannot be taken apart."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        if _PATH.match(address) or not re.search(r"[@?=#:&;]", address):
            return address, ()
        return NO_ADDRESS, (address, address.partition(":")[2])
    if _FILE.fullmatch(address):
        return address, ()  # the parser takes a third of a second to load
    database = scheme.partition("+")[0].lower() in _DATABASES
    try:
        (_check_database if database else _check_web)(address)
    except ValueError:
        return NO_ADDRESS, (rest,)
    user, at, tail = ("", "", rest) if rest.startswith("/") else rest.rpartition("@")
    name, colon, password = user.partition(":")
    place, hash_mark, fragment = tail.partition("#")
    place, question_mark, query = place.partition("?")
    fields = query.split("&")
    secrets = [password if database or colon else name, *(f.partition("=")[2] or f for f in fields if _field(f) != f)]
    who = f"{name}:{HIDDEN}" if database and colon else name if database or not at else HIDDEN
    if not _VIEW.fullmatch(fragment):
        secrets += [fragment, fragment.partition("=")[2]]
        fragment = HIDDEN
    shown = f"{scheme}://{who}{at}{place}{question_mark}{'&'.join(map(_field, fields))}{hash_mark}{fragment}"
    return shown, tuple(filter(None, secrets))


def _check_database(address: str) -> None:
    """Raises ValueError where it cannot be taken apart, or hides a part of a password elsewhere."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    rest = address.partition("://")[2]
    try:
        url = make_url(address)
    except ArgumentError:
        raise ValueError(address) from None
    if url.get_backend_name() != "sqlite" and rest.count("@") > (not rest.startswith("/")):
        raise ValueError(address)
    if not _HOST.fullmatch(url.host or ""):
        raise ValueError(address)


def _check_web(address: str) -> None:
    """The same: an @ behind the host is a sign of a password that the parser ended too early."""
    parts = urlsplit(address)
    _ = parts.port  # raises ValueError where it is no number
    behind = f"{parts.path}{parts.query}{parts.fragment}"
    if not _HOST.fullmatch(parts.netloc.rpartition("@")[2]) or (parts.netloc and "@" in behind):
        raise ValueError(address)


def _field(field: str) -> str:
    name, equals, value = field.partition("=")
    if not field or (name.lower() in HARMLESS and _PLAIN.fullmatch(value)):
        return field
    return f"{name}={HIDDEN}" if equals and value else HIDDEN


@lru_cache(maxsize=16)
def _patterns(texts: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """What is taken out of texts, the longest first; a text that is no address is a secret itself."""
    shown = " ".join(_apart(text)[0] for text in texts if "://" in text)
    secrets = {form for text in texts for own in (_apart(text)[1] or (text,)) for form in _spellings(own)}
    found = sorted((form for form in secrets if _is_telling(form) and form not in shown), key=len, reverse=True)
    edges = [("", "") if len(form) >= 8 else (r"(?<!\w)", r"(?!\w)") for form in found]
    return tuple(re.compile(left + re.escape(form) + right) for form, (left, right) in zip(found, edges, strict=True))


def _is_telling(secret: str) -> bool:
    """Whether a text with it speaks of it: a short word (`test`) stands in other sentences, too."""
    return len(secret) >= 6 or (len(secret) >= 3 and not secret.isalpha())


def _spellings(secret: str) -> Iterator[str]:
    """As it was written, and as libraries, JSON, Python, HTML and a shell write it."""
    for plain in {secret, unquote(secret), unquote_plus(secret)}:
        yield from (plain, quote(plain, safe=""), quote(plain, safe=_KEPT), quote_plus(plain), html.escape(plain))
        yield from (json.dumps(plain)[1:-1], repr(plain)[1:-1], shlex.quote(plain).strip("'"))
