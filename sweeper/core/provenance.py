"""What trained each training of a study: a resume may go on under other versions, or on another device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sweeper.core.records import SweepRecord, TrialResult
from sweeper.core.text import listed


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


def describe_change(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """`torch 2.11.0 → 2.12.1 and numpy 2.3 → 2.4`; "" where nothing changed."""
    names = [*before, *(name for name in now if name not in before)]
    return listed([f"{n} {before.get(n, 'none')} → {now.get(n, 'none')}" for n in names if before.get(n) != now.get(n)])


class ProvenanceChanges:
    """Notices versions and devices that trained nothing of a study before."""

    def __init__(self, before: Sequence[TrialResult], versions: Mapping[str, str]) -> None:
        """`before`: results of earlier sessions; `versions`: the study's, for results without their own."""
        stints = [stint for result in before for stint in _devices_and_versions(result) if stint[0]]
        self._devices = {device for device, _ in stints}
        self._versions = [dict(found or versions) for _, found in stints]

    def of_session(self, versions: Mapping[str, str]) -> str | None:
        """What to tell before a session trains with these versions; None where some training had them before."""
        if not self._versions or dict(versions) in self._versions:
            return None
        change = describe_change(self._versions[-1], versions)
        self._versions.append(dict(versions))
        return f"this session goes on under other versions than before ({change}); {_CONSEQUENCE}"

    def of_result(self, result: TrialResult) -> str | None:
        """What to tell of a training: of its device (threads, too), and of another machine's versions."""
        found = [] if not result.versions else [self.of_session(result.versions)]
        if result.device and self._devices and result.device not in self._devices:
            before = listed(sorted(self._devices))
            found.append(f"trainings go on on {result.device} (before: {before}); {_CONSEQUENCE}")
        if result.device:
            self._devices.add(result.device)
            if result.versions and dict(result.versions) not in self._versions:
                self._versions.append(dict(result.versions))
        return " ".join(text for text in found if text) or None


_CONSEQUENCE = (
    "numbers may differ for that reason alone. Each training keeps what trained it: see trials.csv and the report"
)
