"""What trained each training of a study: a resume may go on under other versions, or on another device."""

from __future__ import annotations

from collections.abc import Mapping

from sweeper.core.base import Record
from sweeper.core.records import SweepRecord


class TrainerRow(Record):
    """One combination of device and versions, and what it trained."""

    device: str
    versions: dict[str, str]
    trainings: tuple[str, ...]
    """`search/00012` and the like."""
    partly: tuple[str, ...]
    """Those of them that it trained a part of."""


def trained_by(sweep: SweepRecord) -> list[TrainerRow]:
    """Every combination of device and versions that trained something, the first one first."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[list[str], list[str]]] = {}
    for result in (*sweep.probes, *sweep.trials, *sweep.rechecks, *sweep.confirmations):
        name = f"{result.spec.purpose}/{result.spec.number:05d}"
        stints: list[tuple[str, Mapping[str, str]]] = [(e.device, e.versions) for e in result.earlier]
        for device, versions in (*stints, (result.device, result.versions)):
            if not device:  # no worker lived to tell
                continue
            key = device, tuple((versions or sweep.versions).items())
            whole, part = found.setdefault(key, ([], []))
            if name not in whole:
                whole.append(name)
                part += [name] if result.earlier else []
    return [
        TrainerRow(device=device, versions=dict(versions), trainings=tuple(whole), partly=tuple(part))
        for (device, versions), (whole, part) in found.items()
    ]
