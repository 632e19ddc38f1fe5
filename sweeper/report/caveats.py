"""What limits the answer, each computed from the study; a caveat that does not apply is not printed."""

from __future__ import annotations

from collections.abc import Iterator

from sweeper.core.records import trained_by
from sweeper.core.text import listed, significant
from sweeper.data.folds import NOT_HELD_OUT
from sweeper.evidence.miss_control import sentences
from sweeper.evidence.reasons import caveats as evidence_caveats
from sweeper.report.card import recipe_text
from sweeper.report.facts import Facts, search_split
from sweeper.report.formatting import code, escape_md, number, prose
from sweeper.space import edge_of

FEW_TRIALS = 3
"""A family with fewer completed trials was hardly tuned."""
SHORT = 2000
"""Confirmation steps below which the speed of learning plays a part in the comparison."""


def caveats(facts: Facts) -> list[str]:
    """Sentences in markdown, the weightiest first."""
    misses = facts.recommendation.misses
    limit = [] if misses is None else [prose(sentence) for sentence in sentences(misses, facts.point_name)]
    return [*limit, *_scope(facts), *_confirmation(facts), *_search(facts), *_data(facts)]


def _scope(facts: Facts) -> Iterator[str]:
    recipe = facts.sweep.conditions.recipe
    passes = recipe.confirm_steps * recipe.batch_size / len(search_split(facts).train)
    yield (
        f"It holds for {recipe_text(recipe)} at {recipe.confirm_steps:,} steps (each training image is drawn about "
        f"{significant(passes, 2)} times). Another network, crop size or schedule can change the order."
    )
    if recipe.confirm_steps < SHORT and facts.recommendation.longer is None:
        yield (
            f"{recipe.confirm_steps:,} steps is a short training. Short budgets favour losses that learn fast, "
            "overlap losses above all; repeat with a larger `--confirm-steps` before a long training depends on it."
        )
    if recipe.confirm_steps != recipe.steps:
        yield (
            f"Learning rates and hyper-parameters were tuned at {recipe.steps:,} steps and are used at "
            f"{recipe.confirm_steps:,}: that the same ones suit both, for every loss alike, is taken for granted."
        )
    if facts.sweep.conditions.dataset.synthetic:
        yield "The images are synthetic: this shows how the tool works, not which loss suits your data."
    if recipe.encoder_weights == "none" and recipe.model is None:
        yield "The encoder started from random weights. With ImageNet weights differences are often smaller."
    trainers = trained_by(facts.sweep)
    if len(trainers) > 1:
        yield (
            f"Its trainings were made under {len(trainers)} combinations of device and versions (`trials.csv` has each "
            "training's): small differences between them can come from there."
        )
    if facts.compared != recipe.metric:
        yield (
            f"The search maximised {facts.objective}. {prose(recipe.metric)} was not where this report was written: "
            "finalists are compared by mIoU."
        )


def _confirmation(facts: Facts) -> Iterator[str]:
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
            f"Each seed rotates over {evidence.folds} folds, drawn anew for each. The trainings of one rotation share "
            "most of their training images: the intervals cover other seeds, divisions and images like these, not "
            "wholly what other training images would give."
        )
    for sentence in evidence_caveats(evidence):
        yield prose(sentence)
    if facts.sweep.conclusions > 1:
        yield (
            f"This study was concluded {facts.sweep.conclusions} times from different confirmations, or with other "
            "interim analyses or another margin; the intervals are corrected for the planned interim analyses of one "
            "conclusion, not for that."
        )
    if facts.compared != "miou":
        yield (
            f"The margin that counts as a difference is {number(evidence.rope)} {facts.metric} (`--rope`). Whether a "
            "loss learned anything is judged by mIoU, at which the same answer everywhere scores "
            f"{number(evidence.constant_miou)}."
        )
    elif facts.binary:
        yield (
            f"The margin that counts as a difference is {number(evidence.rope)} mIoU, which is about "
            f"{number(2 * evidence.rope)} foreground IoU: the background's IoU hardly moves. Predicting only "
            f"background scores {number(evidence.constant_miou)} mIoU, so read mIoU from there, not from 0."
        )
    else:
        yield (
            f"The margin that counts as a difference is {number(evidence.rope)} mIoU, the mean over classes: "
            "a rare class can change by far more than that. Predicting only the commonest class scores "
            f"{number(evidence.constant_miou)}."
        )


def _search(facts: Facts) -> Iterator[str]:
    for finalist in {id(f): f for f in (facts.chosen, facts.baseline) if f is not None}.values():
        if (edge := edge_of(finalist.lr, facts.sweep.space)) is not None:
            yield (
                f"The best learning rate of {code(finalist.family)}, {significant(finalist.lr)}, "
                f"lies at the {edge} edge of the searched range: a wider range could improve it."
            )
    frame = facts.search
    complete = frame[frame["state"] == "complete"]["family"].value_counts().to_dict()
    complete |= {f.family: f.trials_completed for f in facts.finalists}  # trials of the same function, too
    # Nothing but a learning rate, which the trials of all losses tuned together.
    by_rate = {f.family for f in facts.finalists if not f.params}
    few = [f for f in facts.families if (frame["family"] == f).any() and complete.get(f, 0) < FEW_TRIALS]
    sparse = [family for family in few if family not in by_rate]
    if sparse:
        names = [f"{code(f)} ({complete.get(f, 0)})" for f in sparse]
        yield f"Hardly tuned, with fewer than {FEW_TRIALS} completed search trials: {listed(names)}."
    if len(frame) < facts.sweep.trials_asked and (facts.sweep.cut or not facts.sweep.settles):
        yield f"The search stopped after {len(frame)} of {facts.sweep.trials_asked} trials."


def _data(facts: Facts) -> Iterator[str]:
    for warning in facts.sweep.conditions.dataset.warnings:
        yield f"The data: {prose(warning)}"
    absent = [c.name for c in facts.sweep.profile.classes if c.pixel_share == 0]
    if absent:
        yield f"Classes without a pixel, left out of every mean: {', '.join(escape_md(name) for name in absent)}."
