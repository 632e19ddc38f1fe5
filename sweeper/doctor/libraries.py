"""Versions of what sweeper rests on, against what it asks for."""

from __future__ import annotations

import platform
import re
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement

from sweeper.doctor.check import Check
from sweeper.version import __version__

SHOWN = ("torch", "segmentation-models-pytorch", "optuna", "mlflow", "numpy")


def check_libraries() -> list[Check]:
    """One check of the versions that decide the numbers, one of everything that is asked for."""
    shown = []
    for name in SHOWN:
        try:
            shown.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            shown.append(f"{name} missing")
    found = f"sweeper {__version__}, Python {platform.python_version()}, {', '.join(shown)}"
    return [Check(name="versions", status="ok", found=found), unmet(metadata.requires("sweeper") or [])]


def unmet(requirements: list[str]) -> Check:
    """Whether the packages that are asked for are there in a version that fits; extras are left out."""
    wrong = []
    for text in requirements:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            have = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(re.sub(r"\+.*", "", have), prereleases=True):
            wrong.append(f"{wanted.name} {have} is not {wanted.specifier}")
    if not wrong:
        return Check(name="packages", status="ok", found="all that are asked for are there")
    return Check(
        name="packages",
        status="broken",
        found="; ".join(wrong),
        advice="in the checkout, in an environment of its own: pip install -c constraints.txt -e .",
    )
