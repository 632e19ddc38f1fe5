"""Refuse names that are not Unicode, which JSON, databases and reports need."""

from __future__ import annotations

import os
import sys

from sweeper.core.errors import UsageError
from sweeper.core.text import is_unicode


def check_names() -> None:
    """Refuse a command whose arguments, variables or working folder are not Unicode.

    Raises:
        UsageError: with the first such name.
    """
    arguments = {f"argument {number}": text for number, text in enumerate(sys.argv[1:], 1)}
    arguments |= {name: text for name, text in os.environ.items() if name.startswith("SWEEPER_")}
    for where, text in (arguments | {"the working folder": os.getcwd()}).items():  # noqa: PTH109 (a text)
        if not is_unicode(text):
            value = "an address" if "://" in text else text.encode("utf-8", "backslashreplace").decode()
            raise UsageError(f"{where} must be Unicode (UTF-8), found other bytes in {value}; rename what it refers to")
