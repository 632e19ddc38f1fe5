"""The profile page: `profile.md`, `profile.html`, `profile.json` and figures, for `sweeper profile DATA --out DIR`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from sweeper.core.records import Dataset, ImbalanceProfile
from sweeper.core.text import shortened
from sweeper.data.store import open_store
from sweeper.fingerprint.label_checks import Finding
from sweeper.fingerprint.shape_histograms import ClassShapes
from sweeper.report.figures.style import Drawn, save
from sweeper.report.html import to_html
from sweeper.report.profile_page.charts import shares, sizes, thinness
from sweeper.report.profile_page.overlays import samples, suspects
from sweeper.report.profile_page.page import page

__all__ = ["write_profile_page"]

LONGEST = 60
"""Characters of a class's name on the page."""


def write_profile_page(
    dataset: Dataset,
    profile: ImbalanceProfile,
    out: Path,
    *,
    shapes: Sequence[ClassShapes],
    findings: Sequence[Finding],
    split: Sequence[str],
    document: Mapping[str, object],
) -> Path:
    """Write the page into the folder `out`, over an earlier one.

    Args:
        dataset: with its store, whose images are shown.
        profile: its imbalance.
        out: made where it is missing.
        shapes: sizes and depths of its classes.
        findings: what the label doctor found.
        split: how it would be divided, in sentences.
        document: the same for programs: written as profile.json.

    Returns:
        The HTML page.

    Raises:
        SweeperError: if the store is gone.
        OSError: if a file cannot be written.
    """
    store = open_store(dataset.store)
    dataset, profile = _with_short_names(dataset, profile)
    figures: dict[str, Drawn | None] = {
        "shares": shares(profile),
        "sizes": sizes(profile, shapes),
        "thinness": thinness(profile, shapes),
        "samples": samples(dataset, lambda i: (store.view(i), store.mask(i))),
        "suspects": suspects(dataset, lambda i: (store.view(i), store.mask(i)), findings),
    }
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    for name in figures.keys() - drawn.keys():
        (folder / f"{name}.png").unlink(missing_ok=True)
    for name, figure in drawn.items():
        save(figure.figure, folder / f"{name}.png")
    text = page(dataset, profile, findings, split, drawn)
    (out / "profile.md").write_text(text, encoding="utf-8")
    (out / "profile.json").write_text(
        json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    html = out / "profile.html"
    html.write_text(to_html(text, folder), encoding="utf-8")
    return html


def _with_short_names(dataset: Dataset, profile: ImbalanceProfile) -> tuple[Dataset, ImbalanceProfile]:
    """The same for people: class names beyond `LONGEST` characters shortened, told apart where that makes them alike.

    `profile.json` has them whole.
    """
    names = [shortened(name, LONGEST) for name in dataset.classes]
    names = [f"{name} (class {i})" if names.count(name) > 1 else name for i, name in enumerate(names)]
    rows = tuple(row.model_copy(update={"name": name}) for row, name in zip(profile.classes, names, strict=True))
    return dataset.model_copy(update={"classes": tuple(names)}), profile.model_copy(update={"classes": rows})
