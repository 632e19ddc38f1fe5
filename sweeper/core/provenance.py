"""What trained each training of a study: a resume may go on under other versions, or on another device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sweeper.core.records import SweepRecord, TrialResult


class Trainer(NamedTuple):
    """One combination of device and versions, and what it trained."""

    device: str
    versions: Mapping[str, str]
    trainings: tuple[str, ...]
    """`search/00012` and the like, in order."""
    partly: tuple[str, ...]
    """Those of them that it trained a part of: they were paused and went on elsewhere, or came from elsewhere."""

    @property
    def document(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "device": self.device,
            "versions": dict(self.versions),
            "trainings": list(self.trainings),
            "partly": list(self.partly),
        }


def trained_by(sweep: SweepRecord) -> list[Trainer]:
    """Every combination of device and versions that trained something, the first one first."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[list[str], list[str]]] = {}
    for result in (*sweep.probes, *sweep.trials, *sweep.rechecks, *sweep.confirmations):
        name = f"{result.spec.purpose}/{result.spec.number:05d}"
        for device, versions in _devices_and_versions(result):
            if not device:  # no worker lived to tell
                continue
            key = device, tuple((versions or sweep.versions).items())
            whole, part = found.setdefault(key, ([], []))
            if name not in whole:
                whole.append(name)
                part += [name] if result.earlier else []
    return [Trainer(d, dict(v), tuple(whole), tuple(part)) for (d, v), (whole, part) in found.items()]


def _devices_and_versions(result: TrialResult) -> list[tuple[str, Mapping[str, str]]]:
    return [*((e.device, e.versions) for e in result.earlier), (result.device, result.versions)]
