"""Remove secrets from addresses that are displayed, stored or logged.

An address that cannot be parsed, or has another reading that would print a part of a password, is not printed at all.
The secrets of a remembered address are removed from every later text.
"""

from __future__ import annotations

import html
import json
import os
import re
import shlex
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"
NO_ADDRESS = "an address that is not a URL"
"""Replacement for an address that cannot be parsed: its password could begin anywhere."""
HARMLESS = {"application_name", "connect_timeout", "dbname", "format", "host", "images", "port", "size", "sslmode"}
"""Fields of a query whose values are no secrets; all others are hidden."""
_NAMES = {"api_key", "odbc_connect", "passwd", "password", "pass", "pw", "pwd", "sslpassword", "token", "user"}
"""Fields whose names are printed; an unknown name may be the part of a password after an &."""
_DATABASES = {"mariadb", "mssql", "mysql", "oracle", "postgres", "postgresql", "sqlite"}
_PLAIN = re.compile(r"[\w.,:/+ -]*")
_PATH = re.compile(r"(?:sqlite:///|file:)[^?#]*|(?:[~./\\]|[A-Za-z]:[\\/]).*|[^@?=#:&;]*")
"""A path, also as an address without a server; a relative one is a plain word."""
_SCHEME_OF_PATH = re.compile(r"^(?:sqlite|file):(?://)?")
_USER_IN_PATH = re.compile(r"^[./\\~]*(?![A-Za-z]:[/\\])[^/\\]*:.*@|:[^/\\]*@")
"""NAME:PASSWORD@ in what should be a path: its address has a slash too many, or no scheme."""
_URL = re.compile(r"([\w+.-]+)://([^@/?#]*@)?((?:[\w.,%…-]*|\[[\w:.%]+\])(?::\d*)?(?:/[^@;?#]*)?)(\?[^@#]*)?(#[^@]*)?")
"""An address: scheme, login, host and path, query, fragment. Another @ shows a password that ended too early."""
_VIEW = re.compile(r"(?:#(?:/(?:experiments|models)/[\w/?=&.,%+-]*)?)?")
"""Fragment that distinguishes MLflow's pages."""
_ADDRESS = re.compile(r"(\S*?)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
"""An address, also behind a name, in the first part of a word."""
_IN_TEXT = re.compile(
    r"[a-z][a-z0-9+.-]*://"
    r"(?:[^\s/:@?#'\"]*:(?!\d{1,5}(?:[/?#\s'\"),\].;]|$))(?:(?!://).)*@)?"
    r"[^\s'\"`]*",
    re.IGNORECASE,
)
"""An address in a text; a password in it ends at the last @ of the line, whatever it contains."""
_FIELD = re.compile(
    r"(?P<start>(?:\b|[\w-]+[_-])(?:passw(?:or)?d|pass|pwd|token|secret|api_?key)(?:\s*=|[\"']\s*:)\s*)"
    r"('[^']*'|\"[^\"]*\"|[^\s'\"&;#]+)",
    re.IGNORECASE,
)
"""`password=…`, as drivers and HTTP libraries print it, and `"password": …`."""
_ENVIRONMENT = (
    *("SWEEPER_STORAGE", "SWEEPER_TRACKING_URI", "MLFLOW_TRACKING_URI", "PGPASSWORD", "MLFLOW_TRACKING_PASSWORD"),
    *("MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN"),
    *(name for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for name in (proxy, proxy.lower())),
)
"""Variables that contain an address or a secret."""
_OPTIONS = ("--storage", "--tracking-uri")
"""Options whose value is an address."""
_NAME = (
    r"(?:[^\s=]*(?:passw(?:or)?d|passphrase|token|secret|credentials?|apikey|authorization|cookie|userpwd|bearer)"
    r"|(?:[^\s=]*[\W_])?(?:pass(?:in|out)?|pwd?|key|auth)|(?-i:Basic|Digest))"
)
"""Name of an option, a variable or a header whose value is a secret."""
_HEADER = r"(?:(?<=authorization)|(?<=cookie)|(?<=-key)|(?<=-token)):"
_SCHEME = r"(?-i:Bearer|Basic|Digest|[Tt]oken)"
_NO_NUMBER = r"(?!\.?\d[\d.,:x]*\Z)"
_TOKEN = (
    r"(?-i:(?:hf_|gh[a-z]_|github_pat_|glpat-|sk-|xox[a-z]-|eyJ|AKIA|ASIA)[\w.-]{12,}"
    r"|(?=\S*[a-z])(?=\S*[A-Z])(?=\S*\d)[A-Za-z0-9]{20,})\Z"
)
_PLACES = (
    rf"{_NAME}:?\0(?!{_SCHEME}\Z)",  # --password X
    rf"[^\0]*\0(?:[\w-]+=)?{_NAME}(?:=|:\s+|{_HEADER})(?:{_SCHEME}\s+)?",  # TOKEN=X, 'Authorization: Bearer X'
    rf"(?:login|-p)\0(?!-){_NO_NUMBER}",  # -p X
    rf"[^\0]*\0-p{_NO_NUMBER}(?=[^=-]*(?-i:[\dA-Z@!#$%^&*]))",  # -pX, but not -patch
    rf"(?:-u|[^\0]*(?:user|login|username))\0[^:]*:{_NO_NUMBER}",  # -u me:X
    rf"[^\0]*\0(?:-u|-\S*(?:user|login|username)=)[^:]*:{_NO_NUMBER}",  # --user=me:X
    rf"[^\0]*\0(?:[\w-]+=)?(?={_TOKEN})",
)
_SECRET = re.compile(rf"(?P<kept>{'|'.join(_PLACES)})(?P<secret>.+)", re.IGNORECASE | re.DOTALL)
"""A secret in the second of two words, with NUL between them."""
_KEPT = "!#$%&'()*+,/:;=?@[]~"
"""Characters of an address that HTTP libraries do not escape."""
_known: set[str] = set()


def hide_address_secrets(address: str) -> str:
    """Return an address fit for display, and remember its secrets for `redact`.

    It hides a password, in web addresses also the user's name, which may be a token, the fragment, and all fields of
    the query that are not `HARMLESS`. It returns `NO_ADDRESS` if the address cannot be parsed.
    """
    remember_addresses(address)
    return _split_secrets(address)[0]


def hide_command_secrets(command: str) -> str:
    """Return a command line fit for display, and remember its secrets for `redact`.

    Hidden are secrets of addresses, and what is in `_PLACES`, also in a command within a word, such as that of
    `bash -c`. A command that cannot be split into words is hidden as a whole.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return HIDDEN
    hidden = []
    for before, word in pairwise(["", *words]):
        name, _, value = word.rpartition("=")
        shown = word
        if secret := _SECRET.fullmatch(f"{before}\0{word}"):
            _known.update((secret["secret"], *secret["secret"].split()))
            shown = secret["kept"].partition("\0")[2] + HIDDEN
        elif match := _ADDRESS.match(word):
            remember_addresses(word[match.end(1) :])
            shown = HIDDEN if len(word.split()) > 1 else word  # an address with blanks, or a command behind it
        elif (name or before) in _OPTIONS:
            remember_addresses(value)
        elif word.split() != [word]:
            shown = hide_command_secrets(word)
        hidden.append(redact(shown))
    return command if hidden == words else shlex.join(hidden)


def remember_addresses(*addresses: str) -> None:
    """Remember addresses, whose secrets are removed from every later text."""
    _known.update(address for address in addresses if _split_secrets(address)[1])


def redact(text: str) -> str:
    """Remove the secrets of the addresses in a text, and of all known addresses.

    Known are those of `remember_addresses`, of the variables for addresses and passwords, and of proxies. Text without
    a secret is returned unchanged.
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
    if _PATH.fullmatch(address) and not _USER_IN_PATH.search(_SCHEME_OF_PATH.sub("", address)):
        return address, ()
    if (parts := _URL.fullmatch(address)) is None:
        return NO_ADDRESS, (address, address.partition(":")[2].removeprefix("//"))
    scheme, login, place, query, fragment = parts.groups(default="")
    user, _, password = login[:-1].partition(":")
    is_database = scheme.partition("+")[0].lower() in _DATABASES
    token = password or user  # a token may stand alone, in place of the user
    secrets = [password if is_database else token]
    if secrets[0]:
        login = f"{user}:{HIDDEN}@" if is_database else f"{HIDDEN}@"
    fields = query[1:].split("&")
    shown = [*map(_hide_field, fields)]
    for field, kept in zip(fields, shown, strict=True):
        secrets += field.split("=", 1)[kept != HIDDEN :] if kept != field else []
    if not _VIEW.fullmatch(fragment):
        secrets += [fragment[1:], fragment.partition("=")[2]]
        fragment = f"#{HIDDEN}"
    return f"{scheme}://{login}{place}{query[:1]}{'&'.join(shown)}{fragment}", tuple(filter(None, secrets))


def _hide_field(field: str) -> str:
    name, equals, value = field.partition("=")
    if not equals or name.lower() not in _NAMES | HARMLESS:
        return HIDDEN if field else ""
    is_harmless = name.lower() in HARMLESS and _PLAIN.fullmatch(value)
    return field if is_harmless or not value else f"{name}={HIDDEN}"


@lru_cache(maxsize=16)
def _make_patterns(texts: tuple[str, ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Make the patterns of texts to hide with their replacements, the longest first.

    An address is replaced by its displayed form, its secrets are hidden. A text that is no address is a secret.
    """
    shown = {text: _split_secrets(text)[0] for text in texts if "://" in text}
    everything = " ".join(shown.values())
    secrets = {
        form for text in texts for secret in (_split_secrets(text)[1] or (text,)) for form in _list_spellings(secret)
    }
    put = {form: HIDDEN for form in secrets if form not in everything}
    put |= {form: secret for text, secret in shown.items() if secret != text for form in _list_spellings(text)}
    ordered = sorted(put, key=len, reverse=True)
    edges = [("", "") if len(form) >= 8 else (r"(?<!\w)", r"(?!\w)") for form in ordered]
    return tuple(
        (re.compile(before + re.escape(form) + right), put[form].replace("\\", r"\\"))
        for form, (before, right) in zip(ordered, edges, strict=True)
    )


def _is_telling(secret: str) -> bool:
    """Return whether the secret is recognisable in a text: a short word (`test`) also occurs elsewhere."""
    least = 6 if secret.isalpha() else 3
    return len(secret) >= least


def _list_spellings(secret: str) -> Iterator[str]:
    """List the spellings of a secret that is recognisable: in plain, of libraries, JSON, Python, HTML and a shell."""
    for plain in filter(_is_telling, {secret, unquote(secret), unquote_plus(secret)}):
        yield from (plain, quote(plain, safe=""), quote(plain, safe=_KEPT), quote_plus(plain), html.escape(plain))
        yield from (json.dumps(plain)[1:-1], repr(plain)[1:-1], shlex.quote(plain).strip("'"))
