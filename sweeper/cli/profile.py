"""`sweeper profile DATA`: what the labels look like, and what that means for the loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import click

from sweeper.cli.options import SweeperCommand, add_json_option, format_columns
from sweeper.cli.progress import show_progress
from sweeper.cli.settings_options import add_data_options, read_requested_dataset
from sweeper.cli.terminal import echo_lines, echo_result
from sweeper.core.document import DatasetSummary, Document
from sweeper.core.paths import REPORTS
from sweeper.core.records import ClassProfile, Dataset, ImbalanceProfile
from sweeper.core.text import escape_for_display, format_ratio, format_signed, format_significant, shorten
from sweeper.data.split_warnings import describe_split
from sweeper.fingerprint.imbalance import explain_consequences, profile_dataset
from sweeper.fingerprint.label_checks import Finding, examine_labels, format_totals
from sweeper.fingerprint.ledger import LONGER_TIMES, AdvisedLoss, LedgerAdvice, advise_losses, read_user_rows
from sweeper.system.machine import count_available_cores

FATAL = {"error": ("error",), "warning": ("error", "warning")}
"""Value of `--fail-on` → severities with which the command fails."""


class ProfiledDataset(DatasetSummary):
    """A data set without its images, with the format of its annotations."""

    format: str | None
    """Null for synthetic sets."""


class ProfileDocument(Document):
    """Document that `sweeper profile` prints, and `profile.json` of its page."""

    SCHEMA: ClassVar[str] = "sweeper.profile/1"

    dataset: ProfiledDataset
    profile: ImbalanceProfile
    consequences: tuple[str, ...]
    """Meaning of the imbalance, in sentences."""
    advice: LedgerAdvice
    """What won on data like these."""
    warnings: tuple[str, ...]
    findings: tuple[Finding, ...]
    """Findings of the label doctor, the most severe first."""
    resized: int | None
    """Shorter side in pixels that larger images were shrunk to (`--resize`)."""
    split: tuple[str, ...]

    def __repr__(self) -> str:
        return _format_profile(self)


@click.command("profile", cls=SweeperCommand)
@add_data_options
@add_json_option()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the profile as a page: profile.md, profile.html, profile.json and figures/.",
)
@click.option(
    "--fail-on",
    type=click.Choice([*FATAL]),
    help="Exit with status 1 if the label doctor finds an error, or an error or a warning.  [default: status 0]",
)
def command(*, as_json: bool, out: Path | None, fail_on: str | None, **options: Any) -> int:
    """Show the imbalance of DATA without training anything.

    DATA is a folder (images/ and masks/, LabelMe, COCO, Pascal VOC, YOLO, Cityscapes, nnU-Net; see docs/formats.md), a
    zip file of one, an annotation file (COCO JSON, data.yaml, a CSV manifest), or synthetic:NAME. For files with other
    names give --images and --masks.

    It prints pixel shares, prevalence, component sizes, thinness and suggested weights, and what looks wrong in images,
    labels and splits (errors, warnings, notes; nothing is deleted). The status is 2 if a data set cannot be read at
    all.
    """
    if out is not None:
        from sweeper.workflow.request_checks import check_writable

        check_writable(out)
    dataset = read_requested_dataset(options)
    with show_progress("measuring") as update:
        document = make_profile(dataset, update)
    for warning in dataset.warnings:
        echo_lines(f"warning: {warning}", err=True)
    echo_result(document, repr(document), as_json=as_json)
    if out is not None:
        from sweeper.report.profile_page import write_profile_page

        page = write_profile_page(
            dataset,
            document.profile,
            out,
            findings=document.findings,
            split=document.split,
            consequences=(*document.consequences, document.advice.stake),
            document=document.document,
        )
        echo_lines(f"page: {page}", err=True)
    severities = [finding.severity for finding in document.findings] + ["warning"] * bool(dataset.warnings)
    return int(any(severity in FATAL.get(str(fail_on), ()) for severity in severities))


def make_profile(dataset: Dataset, progress: Callable[[int, int], None]) -> ProfileDocument:
    """Measure a data set; `progress` is called with (done, total) images."""
    profile = profile_dataset(dataset)
    return ProfileDocument(
        dataset=ProfiledDataset.from_dataset(dataset),
        profile=profile,
        consequences=explain_consequences(profile),
        advice=advise_losses(dataset.task, profile, read_user_rows(REPORTS)),
        warnings=dataset.warnings,
        findings=tuple(examine_labels(dataset, count_available_cores(), progress)),
        resized=dataset.resized,
        split=tuple(describe_split(dataset)),
    )


def _format_profile(document: ProfileDocument) -> str:
    dataset, profile, findings = document.dataset, document.profile, document.findings
    balance, compared, ground = "the weights above", "most common to rarest class", dataset.classes[0]
    if profile.overlap is not None:
        ground = "background"
        compared = f"background to rarest class; {100 * profile.overlap:.1f} % of the classes' pixels have several"
    lines = [
        f"{escape_for_display(dataset.name)}: {dataset.task}, {profile.images} images, {len(dataset.classes)} classes, "
        f"{100 * profile.ignored_share:.2f} % of the pixels ignored, {profile.empty_images} images with nothing "
        f"but {escape_for_display(ground)}"
    ]
    headings = ("class", "pixels %", "images %", "components", "size 10/50/90 %", "thin %", "weight")
    if profile.pos_weight is not None:
        balance = f"pos_weight = {profile.pos_weight:.1f} or alpha = {profile.alpha:.4f}"
    lines += [
        format_columns([headings, *map(_make_cells, profile.classes, profile.class_weights)]),
        f"imbalance {format_ratio(profile.imbalance)} ({compared}); balanced by {balance}",
        *map(escape_for_display, document.consequences),
        *(f"split: {escape_for_display(line)}" for line in document.split),
        "",
        *_format_advice(document.advice),
        "",
        f"{format_totals(findings)}.",
        *(f"{finding.severity}: {escape_for_display(finding.text)}" for finding in findings),
    ]
    return "\n".join(lines)


def _format_advice(advice: LedgerAdvice) -> list[str]:
    if not advice.similar:
        return [advice.stake]
    headings = ("loss", "mean gain", "lowest to highest", f"at {LONGER_TIMES}× the steps", "start with")
    rows = [headings, *map(_make_advice_cells, advice.losses)]
    return ["What won on data like these, by test mIoU over cross-entropy:", format_columns(rows), advice.stake]


def _make_advice_cells(loss: AdvisedLoss) -> tuple[str, ...]:
    gains = (loss.gain, loss.lowest, loss.highest, loss.gain_longer)
    mean, lowest, highest, longer = ("–" if gain is None else format_signed(gain) for gain in gains)
    start = [f"{name} {format_significant(value)}" for name, value in (("lr", loss.lr), *loss.params.items())]
    return loss.family, mean, f"{lowest} to {highest}", longer, ", ".join(start)


def _make_cells(row: ClassProfile, weight: float) -> tuple[str, ...]:
    sizes = "–" if row.component_pixels is None else " / ".join(f"{size:.0f}" for size in row.component_pixels)
    return (
        escape_for_display(shorten(row.name, 40)),
        f"{100 * row.pixel_share:.3f}",
        f"{100 * row.image_share:.1f}",
        str(row.components),
        sizes,
        "–" if row.thinness is None else f"{100 * row.thinness:.1f}",
        format_significant(weight),
    )
