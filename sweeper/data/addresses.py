"""What looks like an address where files of this machine are meant is said to be one."""

from __future__ import annotations

import re

from sweeper.core.errors import DataError
from sweeper.core.redact import shown_address
from sweeper.data.text_tables import shown

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/(?P<rest>/.*|[^/].*)", re.DOTALL)
"""Also with one slash, as `pathlib.Path` makes it."""


def address_in(text: str) -> str | None:
    """The address that a text is (`s3://bucket/x`, also `s3:/bucket/x`), without its secrets; else None."""
    found = _ADDRESS.fullmatch(text)
    return found and shown(shown_address(f"{found['scheme']}://{found['rest'].removeprefix('/')}"))


def check_no_address(option: str, text: str) -> None:
    """Refuse an address where what lies on this machine is meant.

    Raises:
        DataError: saying that what `option` got is an address.
    """
    if (name := address_in(text)) is not None:
        step = "copy what it names, or mount what holds it, and name that folder"
        if name.lower().startswith("file:"):
            step = "write its path alone, without file://"
        raise DataError(name, [f"{option} must name what lies on this machine; {name} is an address: {step}"])
