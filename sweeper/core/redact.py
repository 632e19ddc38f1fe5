"""Secrets out of addresses, wherever an address is shown, stored or logged."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from urllib.parse import quote, unquote, unquote_plus, urlsplit

HIDDEN = "***"
NO_ADDRESS = "an address that is not a URL"
"""What is said in place of an address that cannot be taken apart: nobody knows where its password begins."""
HARMLESS = frozenset(
    {
        "application_name",
        "charset",
        "client_encoding",
        "connect_timeout",
        "dbname",
        "format",
        "host",
        "hostaddr",
        "images",
        "isolation_level",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "mode",
        "port",
        "region",
        "size",
        "sslmode",
        "target_session_attrs",
        "tcp_user_timeout",
        "timeout",
        "timezone",
    }
)
"""Fields of a query whose values hold no secret; all others are hidden."""
_DATABASES = frozenset({"mariadb", "mssql", "mysql", "oracle", "postgres", "postgresql", "sqlite"})
_PLAIN = re.compile(r"[\w.,:/+ -]*")
_HOST = re.compile(r"[\w.,:%\[\]…-]*")
_VIEW = re.compile(r"/(?:experiments|models)/[\w/?=&.,%+-]*")
"""The fragment by which MLflow's pages are told apart."""
_PATH = re.compile(r"[~./\\]|[A-Za-z]:[\\/]|file:")
_FILE = re.compile(r"sqlite:///[\w./~ -]+")
_ANY = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_IN_TEXT = re.compile(
    r"[a-z][a-z0-9+.-]*://"
    r"(?:[^\s/:@?#'\"]*:(?!\d{1,5}(?:[/?#\s'\"),\].;]|$))(?:(?!://).)*@)?"
    r"[^\s'\"<>`]*",
    re.IGNORECASE,
)
"""An address in a text: with a password up to the last @ of the line, whatever stands in it."""
_REQUEST = re.compile(r"(?P<start>/[^\s'\"?]*\?)(?P<query>[^\s'\"#]*=[^\s'\"#]*)")
"""The path and query of a request, as HTTP libraries print it, without its server."""
_FIELD = re.compile(
    r"(?P<start>(?:\b(?:passw(?:or)?d|passphrase|pass|pwd|pw|token|secret)|"
    r"[?&;][^=&;#\s'\"]*(?:token|key|secret|passw(?:or)?d|pwd|passphrase|sig|credential|auth|sas)[^=&;#\s'\"]*)\s*=\s*)"
    r"('[^']*'|\"[^\"]*\"|[^\s'\"&;#]+)",
    re.IGNORECASE,
)
"""`password=…`, as drivers print it, and fields of a query without its address."""
_ENVIRONMENT = (
    *("SWEEPER_STORAGE", "SWEEPER_TRACKING_URI", "MLFLOW_TRACKING_URI", "PGPASSWORD", "MLFLOW_TRACKING_PASSWORD"),
    *("MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN"),
    *(name for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for name in (proxy, proxy.lower())),
)
"""Variables that hold an address or a secret."""
_OPTIONS = ("--storage", "--tracking-uri", "--ray-address")
_known: set[str] = set()


def shown_address(address: str) -> str:
    """The one address that `address` is, as people may see it.

    It is taken apart by SQLAlchemy's parser (databases) or urllib's (all others). A password is hidden, on the web the
    user's name too, which may be a token; so are the fragment and all fields of the query that are not `HARMLESS`.
    What cannot be taken apart is not shown at all: `NO_ADDRESS`. What is hidden here is known from then on: `redact`
    takes it out of every text.
    """
    remember(address)
    return _masked(address)


def shown_command(words: Sequence[str]) -> str:
    """A command line as people may see it: each of its words by itself, as quoting would break a secret into pieces."""
    return shlex.join(redact(_word(word)) for word in words)


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
    """Addresses whose secrets no text may show from now on, whoever quotes them, in whatever spelling."""
    _known.update(address for address in addresses if _masked(address) != address)


def redact(text: str) -> str:
    """`text` without the secrets of the addresses in it, and without those of all addresses that are known.

    A secret is found where it stands in an address, in a request's query or after `password=`, and wherever a known one
    is quoted: of `remember`, of the variables for addresses and passwords, of proxies. What is no secret stays as it
    is, so that text without one comes back unchanged.
    """
    told = tuple(sorted({*_known, *(os.environ[name] for name in _ENVIRONMENT if os.environ.get(name))}))
    for pattern, masked in _replacements(told):
        text = pattern.sub(lambda _, masked=masked: masked, text)  # type: ignore[misc]
    text = _IN_TEXT.sub(lambda found: _trimmed(found[0]), text)
    text = _REQUEST.sub(lambda found: found["start"] + _query(found["query"]), text)
    return _FIELD.sub(rf"\g<start>{HIDDEN}", text)


def _word(word: str) -> str:
    found = _ANY.search(word)
    return word if found is None else word[: found.start()] + shown_address(word[found.start() :])


def _trimmed(found: str) -> str:
    address = found.rstrip(".,;:)]}>")
    if address.endswith("://"):
        return found
    return _masked(address) + found[len(address) :]


def _masked(address: str) -> str:
    try:
        if "://" not in address:
            if _PATH.match(address) or not re.search(r"[@?=#:&;]", address):
                return address
            return NO_ADDRESS
        if _FILE.fullmatch(address):
            return address  # the parser takes a third of a second to load
        if address.partition("://")[0].partition("+")[0].lower() in _DATABASES:
            return _database(address)
        return _web(address)
    except ValueError:
        return NO_ADDRESS


def _database(address: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address)
    except ArgumentError:
        raise ValueError(address) from None
    user, tail = "", address.partition("://")[2]
    file = url.drivername.partition("+")[0] == "sqlite"
    if url.username is not None or url.password is not None:
        tail = tail.partition("@")[2]
        user = (url.username or "") if re.fullmatch(r"[\w.-]*", url.username or "") else HIDDEN
        user += "@" if url.password is None else f":{HIDDEN}@"
    place, mark, query = tail.partition("?")
    if not file:
        _check_no_user(tail)
        place, hash_mark, _ = place.partition("#")
        if not _HOST.fullmatch(place.partition("/")[0]):
            raise ValueError(address)
        place = _parameters(place) + (f"#{HIDDEN}" if hash_mark else "")
    return f"{url.drivername}://{user}{place}{mark}{_query(query)}"


def _web(address: str) -> str:
    scheme, _, _ = address.partition("://")
    parts = urlsplit(address)
    _ = parts.port  # raises ValueError where it is no number
    user, at, host = parts.netloc.rpartition("@")
    if not _HOST.fullmatch(host):
        raise ValueError(address)
    if host:
        _check_no_user(f"{parts.path}{parts.query}{parts.fragment}")
    text = f"{scheme}://{HIDDEN if user else ''}{at}{host}{_parameters(parts.path)}"
    text += f"?{_query(parts.query)}" if "?" in address.partition("#")[0] else ""
    if parts.fragment:
        text += f"#{parts.fragment if _VIEW.fullmatch(parts.fragment) else HIDDEN}"
    elif "#" in address:
        text += "#"
    return text


def _check_no_user(rest: str) -> None:
    """Refuse an @ behind the host: it is a sign of a password that the parser ended too early."""
    if "@" in rest:
        raise ValueError(rest)


def _parameters(path: str) -> str:
    return re.sub(r";([^=;/]*)=[^;/]*", rf";\1={HIDDEN}", path)


def _query(query: str) -> str:
    return "".join(part if part in {"&", ";"} else _field(part) for part in re.split(r"([&;])", query))


def _field(field: str) -> str:
    name, equals, value = field.partition("=")
    if not field or (name.lower() in HARMLESS and _PLAIN.fullmatch(value)):
        return field
    return f"{name}={HIDDEN}" if equals and value else HIDDEN


@lru_cache(maxsize=16)
def _replacements(told: tuple[str, ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """What is replaced by what, the longest first: whole addresses, then their secrets, in every spelling."""
    whole = {text: _masked(text) for text in told if "://" in text}
    shown = " ".join(whole.values())
    secrets = {
        form: HIDDEN
        for text in told
        for secret in _secrets(text)
        for form in (secret, unquote(secret), unquote_plus(secret))
        if _is_telling(form) and form not in shown
    }
    return tuple(
        (_spelled(form), by)
        for replaced in (whole, secrets)
        for form, by in sorted(replaced.items(), key=lambda item: -len(item[0]))
    )


def _is_telling(secret: str) -> bool:
    """Whether a text with it speaks of it: a short word (`test`) stands in other sentences, too."""
    return len(secret) >= 6 or (len(secret) >= 3 and not secret.isalpha())


def _spelled(text: str) -> re.Pattern[str]:
    """A text as it is, or with any of its signs escaped as in addresses, JSON, Python, HTML or a shell's words."""
    edges = ("", "") if len(text) >= 8 else (r"(?<!\w)", r"(?!\w)")
    return re.compile(edges[0] + "".join(map(_sign, text)) + edges[1])


def _sign(sign: str) -> str:
    if sign.isascii() and sign.isalnum():
        return sign
    if sign.isspace():
        return r"(?:\s+|%20|\+)"
    forms = [r"\\*" + re.escape(sign), f"(?i:{quote(sign, safe='')})", re.escape(html.escape(sign))]
    forms += [f"(?i:{re.escape(json.dumps(sign)[1:-1])})"] + ["'\"'\"'"] * (sign == "'")
    return f"(?:{'|'.join(reversed(forms))})"


def _secrets(text: str) -> Iterator[str]:
    """Those of an address; a text that is none is one itself."""
    rest = text.partition("://" if "://" in text else ":")[2] or text
    if _masked(text) == NO_ADDRESS:  # whatever a parser may take for a part of it
        yield rest
        yield from re.split(r"[@:/?#&;=\s'\"]", rest)
        return
    if "://" not in text:
        yield text
        return
    user, at, _ = rest.rpartition("@") if text.partition("://")[0].startswith("http") else rest.partition("@")
    if at and not text.startswith("sqlite"):
        name, colon, password = user.partition(":")
        yield password if colon else name
        if text.startswith("http"):
            yield name
    before, _, fragment = rest.partition("#")
    if not _VIEW.fullmatch(fragment):
        yield fragment
        yield fragment.partition("=")[2]
    for field in re.split(r"[&;]", before.rpartition("?")[2] if "?" in before else ""):
        if _field(field) != field:
            value = field.partition("=")[2] or field
            yield value
            yield from (part.partition("=")[2] for part in unquote_plus(value).split(";"))
