"""Caveats of the answer, computed from the study; only those that apply are printed."""

from __future__ import annotations

from collections.abc import Iterator

from sweeper.core.recipe import Recipe
from sweeper.core.records import list_trainers
from sweeper.core.text import format_significant, join_words
from sweeper.data.folds import NOT_HELD_OUT
from sweeper.data.split_warnings import list_missing_classes
from sweeper.evidence.reasons import list_evidence_caveats as evidence_caveats
from sweeper.report.facts import ReportFacts, search_split
from sweeper.report.formatting import describe_network, escape_md, escape_prose, format_code, format_number, mark_names
from sweeper.space import find_range_edge

FEW_TRIALS = 3
"""A family with fewer completed trials was hardly tuned."""
SHORT = 2000
"""Confirmation steps below which the speed of learning affects the comparison."""


def list_caveats(facts: ReportFacts) -> list[str]:
    """Return the caveats as sentences in markdown, the most important first."""
    return [
        *_list_scope_caveats(facts),
        *_list_confirmation_caveats(facts),
        *_list_search_caveats(facts),
        *_list_data_caveats(facts),
    ]


def _list_scope_caveats(facts: ReportFacts) -> Iterator[str]:
    recipe = facts.sweep.conditions.recipe
    network = escape_md(describe_network(recipe))
    if recipe.command is not None:
        yield (
            f"It holds for {network} at {recipe.format_steps(recipe.confirm_steps)}. Another network or "
            "schedule can change the order."
        )
        yield from _list_tuning_caveats(recipe)
        return
    passes = recipe.confirm_steps * recipe.batch_size / len(search_split(facts).train)
    yield (
        f"It holds for {network} at {recipe.confirm_steps:,} steps (each training image is drawn about "
        f"{format_significant(passes, 2)} times). Another network, crop size or schedule can change the order."
    )
    if recipe.confirm_steps < SHORT and facts.recommendation.longer is None:
        yield (
            f"{recipe.confirm_steps:,} steps is a short training. Short budgets favour losses that learn fast, "
            "overlap losses above all; repeat with a larger `--confirm-steps` before a long training depends on it."
        )
    yield from _list_tuning_caveats(recipe)
    if facts.sweep.conditions.dataset.synthetic:
        yield "The images are synthetic: this shows how the tool works, not which loss suits your data."
    if recipe.encoder_weights == "none" and recipe.model is None:
        yield (
            "The encoder started from random weights. With ImageNet weights gains can be smaller, or larger where rare "
            "classes are learned only then."
        )
    trainers = list_trainers(facts.sweep)
    if len(trainers) > 1:
        yield (
            f"Its trainings were made under {len(trainers)} combinations of device and versions (`trials.csv` has each "
            "training's): small differences between them can come from there."
        )
    if facts.compared != recipe.metric:
        yield (
            f"The search maximised {facts.objective}. {escape_prose(recipe.metric)} was not where this report was "
            "written: finalists are compared by mIoU."
        )


def _list_tuning_caveats(recipe: Recipe) -> Iterator[str]:
    if recipe.confirm_steps != recipe.steps:
        unit = "" if recipe.command is None else " %"
        yield (
            f"Learning rates and hyper-parameters were tuned at {recipe.format_steps(recipe.steps)} and are used at "
            f"{recipe.confirm_steps:,}{unit}. This assumes that the same values suit both, for every loss."
        )


def _list_confirmation_caveats(facts: ReportFacts) -> Iterator[str]:
    evidence = facts.recommendation.evidence
    if evidence is None:
        yield f"Nothing was confirmed on {facts.tested_on}: no number here is free of the search's luck."
        return
    if evidence.folds is not None:
        yield (
            f"The result is {NOT_HELD_OUT}: the search chose parameters and learning rates by their scores on images "
            "that the finalists were tested on."
        )
        yield (
            f"Each seed rotates over {evidence.folds} folds, drawn again for each. The trainings of one rotation share "
            "most of their training images: the intervals cover other seeds, divisions and images like these, and what "
            "other training images would give by an approximation, the images' part of the variance multiplied by "
            f"{evidence.folds}/{evidence.folds - 1}."
        )
    for sentence in evidence_caveats(evidence):
        yield escape_prose(mark_names(sentence, facts.losses))
    if facts.sweep.conclusions > 1:
        yield (
            f"This study was concluded {facts.sweep.conclusions} times from different confirmations, or with other "
            "interim analyses or another margin; the intervals are corrected for the planned interim analyses of one "
            "conclusion, not for that."
        )
    if facts.compared != "miou":
        yield (
            f"The margin that counts as a difference is {facts.margin} (`--margin`). "
            "Whether a loss learned anything is judged by mIoU, at which the same answer everywhere scores "
            f"{format_number(evidence.constant_miou)}."
        )
    elif facts.is_binary:
        yield (
            f"The margin that counts as a difference is {facts.margin}, which is about "
            f"{2 * facts.sweep.margin:g} foreground IoU: the background's IoU hardly moves. Predicting only "
            f"background scores {format_number(evidence.constant_miou)} mIoU, so read mIoU from there, not from 0."
        )
    else:
        yield (
            f"The margin that counts as a difference is {facts.margin}, the mean over classes: "
            "a rare class can change by far more than that. Predicting only the most common class scores "
            f"{format_number(evidence.constant_miou)}."
        )


def _list_search_caveats(facts: ReportFacts) -> Iterator[str]:
    for finalist in {id(f): f for f in (facts.chosen, facts.baseline) if f is not None}.values():
        if (edge := find_range_edge(finalist.lr, facts.sweep.space)) is not None:
            yield (
                f"The best learning rate of {format_code(finalist.family)}, {format_significant(finalist.lr)}, "
                f"is at the {edge} edge of the searched range: a wider range could improve it."
            )
    frame = facts.search_trials
    complete = frame[frame["state"] == "complete"]["family"].value_counts().to_dict()
    complete |= {f.family: f.trials_completed for f in facts.finalists}  # includes trials of equivalent losses
    # Families without parameters: only the learning rate, which the trials of all losses tuned together.
    by_rate = {f.family for f in facts.finalists if not f.params}
    few = [f for f in facts.families if (frame["family"] == f).any() and complete.get(f, 0) < FEW_TRIALS]
    sparse = [family for family in few if family not in by_rate]
    if sparse:
        names = [f"{format_code(f)} ({complete.get(f, 0)})" for f in sparse]
        yield f"Hardly tuned, with fewer than {FEW_TRIALS} completed search trials: {join_words(names)}."
    if len(frame) < facts.sweep.trials_asked and (facts.sweep.cut or not facts.sweep.settles):
        yield f"The search stopped after {len(frame)} of {facts.sweep.trials_asked} trials."


def _list_data_caveats(facts: ReportFacts) -> Iterator[str]:
    for warning in facts.sweep.conditions.dataset.warnings:
        yield f"The data: {escape_prose(warning)}"
    for note in list_missing_classes(facts.sweep.conditions.dataset, search_split(facts)):
        yield escape_prose(f"{note[0].upper()}{note[1:]}.")
    absent = [c.name for c in facts.sweep.profile.classes if c.pixel_share == 0]
    if absent:
        yield f"Classes without a pixel, left out of every mean: {', '.join(escape_md(name) for name in absent)}."
