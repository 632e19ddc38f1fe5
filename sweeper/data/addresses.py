"""What looks like an address where a folder is meant: said to be one, with the way to a folder."""

from __future__ import annotations

import re

from sweeper.core.errors import DataError
from sweeper.core.redact import shown_address
from sweeper.data.text_tables import shown

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
_SQUEEZED = re.compile(
    r"(?P<scheme>s3|s3a|s3n|gs|gcs|az|abfss?|wasbs?|hdfs|https?|ftps?|sftp|ssh|hf|dvc|file):/(?P<rest>[^/].*)",
    re.DOTALL | re.IGNORECASE,
)
"""An address that went through `pathlib.Path`, which makes one slash of two."""
_COPY = {
    "s3": "`aws s3 sync {} FOLDER`",
    "gs": "`gcloud storage cp --recursive {} FOLDER`",
    "hf": "`hf download`",
    "http": "`curl -LO {}`",
    "https": "`curl -LO {}`",
}


def address_in(text: str) -> str | None:
    """The address that a text is (`s3://bucket/x`, also `s3:/bucket/x`), else None."""
    found = _ADDRESS.fullmatch(text) or _SQUEEZED.fullmatch(text)
    return None if found is None else f"{found['scheme']}://{found['rest']}"


def check_no_address(option: str, text: str) -> None:
    """Refuse an address where what lies on this machine is meant.

    Args:
        option: that takes it, for the message.
        text: what was given.

    Raises:
        DataError: saying that it is an address, and how to copy what it names.
    """
    address = address_in(text)
    if address is None:
        return
    scheme, _, rest = address.partition("://")
    name = shown(shown_address(address))
    if scheme.lower() == "file":
        local = rest if rest.startswith("/") else f"/{rest}"
        remedy = f"name the folder without it: {shown(local)}"
    else:
        way = _COPY.get(scheme.lower(), "")
        below = re.split(r"[*?\[{]", address, maxsplit=1)
        folder = name if len(below) == 1 else shown(shown_address(f"{below[0].rpartition('/')[0]}/"))
        way = f", with {way.format(folder)}," if way else ","
        remedy = f"copy it first{way} or mount what holds it, and name that folder"
    what = "be a folder" if option == "--data" else "name files"
    raise DataError(name, [f"{option} must {what} on this machine; {name} is an address: {remedy}"])
