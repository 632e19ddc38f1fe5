"""Secrets out of addresses, wherever an address is shown, stored or logged."""

from __future__ import annotations

import re

HIDDEN = "***"
_PASSWORD = re.compile(r"(?P<start>[a-z][a-z0-9+.-]*://[^\s/:@?#'\"]*):(?P<secret>[^\s'\"]*)@", re.IGNORECASE)
"""Up to the last @: a password may hold what a proper address would have escaped."""
_TOKEN = re.compile(r"(?P<start>https?://)[^\s/:@?#'\"]+@", re.IGNORECASE)
"""A user name alone is how tokens are handed to servers on the web."""
_WORDS = r"token|key|secret|passw(?:or)?d|pwd|passphrase|sig|signature|credential|auth|sas"
_QUERY = re.compile(rf"(?P<start>[?&;][^=&;#\s'\"]*(?:{_WORDS})[^=&;#\s'\"]*=)[^&;#\s'\"]+", re.IGNORECASE)
_KEYWORD = re.compile(r"(?P<start>\bpassw(?:or)?d\s*=\s*)('[^']*'|[^\s'\"]+)", re.IGNORECASE)
"""libpq's `password=…`, as drivers print it."""


def redact(text: str) -> str:
    """`text` with the passwords and tokens of all addresses in it replaced by `***`.

    Hidden are what stands between `user:` and `@`, a user name alone before a web server's name, the values of query
    parameters whose names speak of a secret (token, key, password, signature …), and `password=…` of database drivers.
    What is no secret stays as it is, so that text without one comes back unchanged.
    """
    text = _PASSWORD.sub(rf"\g<start>:{HIDDEN}@", text)
    text = _TOKEN.sub(rf"\g<start>{HIDDEN}@", text)
    text = _QUERY.sub(rf"\g<start>{HIDDEN}", text)
    return _KEYWORD.sub(rf"\g<start>{HIDDEN}", text)
