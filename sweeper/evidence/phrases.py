"""The one table of phrases: how an answer, its remarks and its next steps are said, wherever they are printed.

A sentence is a template whose numbers are fields of the record that it describes, each with its format:

    {gain:signed}   +0.060         {low:least}     +0.06, rounded down      {gain:gain}    +0.06; two decimals from 0.1
    {cost:bound}    0.004, up      {x:number}      0.639                    {rate:short}   0.00249
    {loss:code}     `dice`         {names:codes}   `dice` and `focal`       {names:list}   sign, person and 3 others
    {n:count image} 3 images       {x:percent}     62 %                     {x:share}      0.0474 %
    {x:ratio}       1,431:1        {x}             as it is

Losses are in back quotes; `sweeper.report.formatting` escapes the rest for markdown, a terminal drops the quotes. Codes
can be cited: docs/report.md lists all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from string import Formatter
from typing import Any, Literal, NamedTuple

from sweeper.core.records import Answer, Outcome, Remark, Scale, Sure
from sweeper.core.text import (
    format_count,
    format_ratio,
    format_share,
    format_signed,
    format_significant,
    format_upper_bound,
    join_words,
    replace_minus,
)

Place = Literal["head", "text", "fold"]
"""Where a remark stands: after the headline, among the caveats, or folded."""
LISTED = 8
"""Most names in a list; the record has all."""


class Phrase(NamedTuple):
    """Sentence of a code."""

    text: str
    place: Place = "text"


# --- The answer -----------------------------------------------------------------------------------------------

WHOLE: dict[Outcome, str] = {
    Outcome.CHANGE: "Change to {use:code}: at least {low:least}, about {estimate:gain} {unit}",
    Outcome.NONE: "No {kind} can be recommended",
}
"""Headlines of outcomes that are always as sure."""
BEGIN: dict[Outcome, str] = {Outcome.KEEP: "Keep {present:code}", Outcome.TAKE: "Take {use:code}"}
END: dict[Sure, str] = {
    Sure.ESTABLISHED: ": no other {kind} gains more than {cost:bound} {unit}",
    Sure.PROBABLE: ": probably no other {kind} gains more than {cost:bound} {unit}",
    Sure.OPEN: " for now: another {kind} may gain up to {cost:bound} {unit}",
}
UNKNOWN_COST = " for now: what another {kind} gains is not known"

# --- Remarks --------------------------------------------------------------------------------------------------

CLAIMED = "{better} − {worse} is {estimate:signed} [{low:signed}, {high:signed}]"

REMARKS: dict[str, Phrase] = {
    # What changes what a reader does: after the headline.
    "IN_FINAL": Phrase(
        "Decided in the final training, on {seeds:count seed}; in the search's trainings {loss:code} gained "
        "{before:signed}",
        "head",
    ),
    "FINAL_ALONE": Phrase(
        "From the final training alone, on {seeds:count seed}: in the time the search's network learned too little",
        "head",
    ),
    "FINAL": Phrase("In the final training the gain is {estimate:gain} ({seeds:count seed})", "head"),
    "FADED": Phrase(
        "The gain of {loss:code}, {before:signed} in the search's trainings, is {estimate:signed} [{low:signed}, "
        "{high:signed}] in the final training ({seeds:count seed})",
        "head",
    ),
    "LATER": Phrase("In the final training {loss:code} gains {estimate:gain} ({seeds:count seed})", "head"),
    "BET": Phrase(
        "No reason to keep {present:code}? {loss:code} is better with odds of {odds} to 1, about {estimate:gain}",
        "head",
    ),
    "MORE": Phrase("{loss:code} may gain more ({estimate:gain}, not established)", "head"),
    "POINT": Phrase(
        "With {point}, {loss:code} is better by {estimate:signed} [{low:signed}, {high:signed}]: take it if that stays",
        "head",
    ),
    "POINT_HANGS": Phrase("With {point} the answer is {loss:code}: it depends on the operating point", "head"),
    "TUNE": Phrase("Tune its {point}: {estimate:signed} [{low:signed}, {high:signed}] {unit}", "head"),
    "WINS": Phrase("It beats every other {kind}; {loss:code} by at least {low:least}, about {estimate:gain}", "head"),
    "WEAK": Phrase(
        "None of these networks can do the task yet: the best scores {best:number} mIoU, the same answer everywhere "
        "{constant:number}",
        "head",
    ),
    "IMBALANCE": Phrase("The classes are imbalanced {ratio:ratio}: {rarest} has {share:share} of the pixels", "head"),
    "RAREST": Phrase(
        "The test IoU of {rarest} is {after:number} with {loss:code}, {before:number} with {other:code}", "head"
    ),
    "RISES": Phrase("With {loss:code} the IoU of {classes:list} rises", "head"),
    "FALLS": Phrase("With {loss:code} the IoU of {classes:list} falls", "head"),
    "UNLEARNED": Phrase("Not learned by any {kind}: {classes:classes}", "head"),
    "GUESS": Phrase(
        "Not tested here, a guess: on {sets} similar data sets {loss:code} ({params}) gained {gain:signed} mIoU on "
        "average",
        "head",
    ),
    "LUCKY": Phrase("Not learned in {n} of {trainings:count training} of {loss:code}: {classes:classes}", "head"),
    "ALONE": Phrase("Nothing was compared: {use:code} alone was trained", "head"),
    "ONE_FUNCTION": Phrase("On these data {names:codes} are {use:code} under other names", "head"),
    "NETWORKS": Phrase(
        "It is about these networks: of the methods nothing is shown before {seeds} trainings each", "head"
    ),
    "UNFINISHED": Phrase(
        "This study is not finished: {trials:count trial} of {total:,}, {trainings:count confirmation training}", "head"
    ),
    "CLAIM_HOLDS": Phrase(
        "The claim holds: {better} − {worse} is {estimate:signed} [{low:signed}, {high:signed}]", "head"
    ),
    "CLAIM_NOT_SHOWN": Phrase("The claim is not shown: " + CLAIMED, "head"),
    "CLAIM_CONTRADICTED": Phrase("The claim is contradicted: " + CLAIMED, "head"),
    "CLAIM_UNKNOWN": Phrase(
        "The claim is not shown: {better} − {worse} is {estimate:signed}, without an interval", "head"
    ),
    "FIRST_LOOK": Phrase(
        "Shown by {losses:codes} before any tuning, on {seeds:count seed}; what was tuned has decided nothing yet",
        "head",
    ),
    "BEFORE_TUNING": Phrase(
        "Before tuning, {loss:code} gained {estimate:gain} (at least {low:least}): tune {present:code} as here", "head"
    ),
    "KNOWN": Phrase(
        "On the {sets} most similar measured sets (imbalance {least:ratio} to {most:ratio}) {loss:code} gained "
        "{gain:signed} mIoU on average, {lowest:signed} to {highest:signed}; here {here:signed}, {place} that"
    ),
    # What weakens the answer, or asks for something.
    "FAILED_PRESENT": Phrase("{present:code} learned nothing or collapsed: there is no gain over it"),
    "NO_PRESENT": Phrase("{loss:code} was not compared: there is no gain over it"),
    "RISING": Phrase(
        "{present:code} still gained {gain:signed} in the last quarter of its steps: it holds at this budget"
    ),
    "COLLAPSED": Phrase(
        "{n} of {trainings:count training} of {loss:code} collapsed: a rate of {low:percent} to {high:percent} (95 %)"
    ),
    "MISSING": Phrase("{loss:code} is not judged: no training of it was completed"),
    "FEW_IMAGES": Phrase("{images:count test image}: intervals from fewer than {needed} are themselves uncertain"),
    "GROUPS": Phrase("The {images:count test image} come in {groups:count group}, each counted as one image"),
    "SCARCE": Phrase(
        "In fewer than {needed} independent test images: {classes:list}; other images of them may be answered otherwise"
    ),
    "SEEN": Phrase("Not held out: the search saw these images", "head"),
    "SYNTHETIC": Phrase("The images are generated: this shows how sweeper works, not which loss suits your data"),
    "CUT": Phrase("The time was up: {parts}"),
    "EDGE": Phrase("The best learning rate of {loss:code}, {rate:short}, is at the {edge} end of what was searched"),
    "AGAIN": Phrase(
        "This study was concluded on {times} sets of finalists or steps; the intervals are corrected for one"
    ),
    "DATA": Phrase("{text}"),
    # What only a reviewer asks.
    "HARDLY_TUNED": Phrase("Fewer than {needed} search trials: {losses:codes}", "fold"),
    "VERSIONS": Phrase("Trained under {n} combinations of device and versions (trials.csv)", "fold"),
    "OTHER_METRIC": Phrase(
        "The search maximised {metric}, which was not there to judge by: losses are compared by mIoU"
    ),
    # Of scores that were trained elsewhere.
    "TUNING": Phrase("Whether they were tuned alike is not known: what was tuned more scores higher just for that"),
    "WHOLE_RUNS": Phrase("The scores are of whole runs: how other images would rank them is in no interval"),
    "UNPAIRED": Phrase(
        "Seeds are taken as unrelated; where they share initial weights and batches, --paired-seeds compares pairs"
    ),
    "LEFT_OUT": Phrase("{images:count image} without a score of each run left out"),
    # Of trainings by the user's script.
    "OWN_RULE": Phrase("The answer is about the script's own rule of decision"),
    "OWN_SCORE": Phrase("The answer is about the script's own score"),
    "BAD_TRAININGS": Phrase("{text}; a training that diverged counts with all answers wrong"),
    "POINT_FAILS": Phrase(
        "The operating point that validation chose fails on the test images of {trainings:list}, where another gains "
        "what is in brackets: score val and test with the same weights, and look for unlike images in them"
    ),
    "POINT_END": Phrase(
        "The operating point of {losses:codes} is at an end of those tried: one beyond it may be better"
    ),
    "UNTUNED": Phrase(
        "The rate of {losses:codes} was not informed by validation, where all that were tried score alike: "
        "--rate-share 1 tries them longer, and --rates tries others"
    ),
    "RATE_END": Phrase("{rate:short} times your rate, an end of what was tried, was best for {losses:codes}"),
}

# --- What to do next ------------------------------------------------------------------------------------------

STEPS: dict[str, Phrase] = {
    "FINISH": Phrase("finish the study"),
    "SEEDS": Phrase("{seeds:count seed} in place of {now} would settle {losses:codes}"),
    "IMAGES": Phrase("about {images:count independent test image} in place of {now} would settle {losses:codes}"),
    "BOTH": Phrase("neither more seeds nor more test images alone would settle {losses:codes}"),
    "LOOK": Phrase("whether the gain holds in the network to take home: the final training"),
    "STEPS": Phrase("compare at {steps:,} steps, where more is learned"),
    "TIME": Phrase("compare at more steps, in {minutes:count minute}"),
    "MORE_TIME": Phrase("continue where the time was up"),
    "WEIGHTS": Phrase("start from pretrained weights"),
    "UNTRIED": Phrase("try the losses without a trial: {losses:codes}"),
    "RETRY": Phrase("fix the cause of the failed trainings; they are tried again"),
    "CHECK": Phrase("check that images and labels belong together"),
    "CONFIRM": Phrase("whether it holds in your own training script: {least} to {most} trainings"),
    "PRESENT": Phrase("whether another gains over {method:code}, which most people have"),
    "TRAIN": Phrase("a network, trained to its end"),
    "PREDICT": Phrase("masks of new images"),
    "EXPORT": Phrase("loss and network as files, with the code that loads them"),
    "UI": Phrase("every training, in MLflow"),
    "EXPORT_LOSS": Phrase("the loss as a file, for your script"),
    "TRAIN_MORE": Phrase("train each {kind} on {seeds:count seed} or more, and score them on the same images"),
}


# --- Words of the report --------------------------------------------------------------------------------------

GLOSSARY: dict[str, str] = {
    "mIoU": "intersection over union of a class, from pixels summed over all test images, mean over the classes",
    "present loss": "the loss that is used now, with which the others are compared",
    "tuned alike": "the same initial weights, batches and tuning of the learning rate, each loss at its own best point",
    "interval": "it contains the true difference in 95 % of studies, over all analyses; seeds and images vary",
    "margin": "a difference below it does not matter",
    "established": "the interval shows it: a gain is above 0, or no loss is better by more than the margin",
    "probable, open": "with a probability of 95 % it costs at most the margin; or not",
    "costs at most": "how much better the best of the losses may be: in 95 % of studies it is less",
    "threshold": "the foreground's probability from which a pixel counts as foreground; each training chose its own",
    "τ": "the class of the highest logit less τ times the log of its share of pixels is predicted; 0 = plain argmax",
    "seed": "a training with its own initial weights, batches and learning rate; all losses have the same seeds",
    "learned": "of a class: a training's test IoU is above 0.05 and above the class's share of the pixels",
    "collapsed": "the network gave the same answer everywhere, or diverged",
}

# --- Parts of tables ------------------------------------------------------------------------------------------

PARTS: dict[str, str] = {
    "GAIN": "{estimate:signed} [{low:signed}, {high:signed}] {unit} over {present:code} ({level:percent})",
    "GAP": "{first:code} over {second:code} {estimate:signed} [{low:signed}, {high:signed}] from "
    "{seeds:count seed} of {training}; {before:signed} in the search's trainings",
    "METHODS": "Losses were compared by test {unit} ({scope}). All had the same initial weights, batches and tuning of "
    "the learning rate. The search, {trials:count trial} scored on validation images, {saw} the test images. Scores "
    "are means over the seeds at {point} that each training chose on its validation images; differences are paired by "
    "seeds and images, and their intervals hold at {level:percent} over all interim analyses.",
    "CITE": "sweeper {version} (CITATION.cff)",
    "SCORE": "{estimate:number} [{low:number}, {high:number}]",
    "MEAN": "{estimate:number}",
    "LEAD": "{estimate:signed} [{low:signed}, {high:signed}]",
}

# --- Why the confirmation ended or continued after an interim analysis --------------------------------------------

STOPS: dict[str, str] = {
    "NOTHING_LEARNED": "ended: nothing was learned that more seeds could compare",
    "ONE_FINALIST": "ended: there is nothing to compare",
    "SETTLED": "ended: more seeds would not change it",
    "ONE_IMAGE": "ended: one test image shows nothing",
    "ALL_PLANNED": "ended: these were all that were planned",
    "ENOUGH": "ended: it costs little, and more is shown with a chance of {chance}",
    "FEW_GROUPS": "ended: the test images come from too few groups to show more",
    "FUTILE": "ended: a gain is shown with a chance of {chance}",
    "WINNER_LIKELY": "continues: a clear winner is likely ({chance})",
    "COST_OPEN": "continues: what it can cost is open",
    "GAIN_POSSIBLE": "continues: a gain may be shown ({chance})",
    "CUT": "ended: the time was up",
}


def format_stop(code: str, chance: float) -> str:
    """Return why the confirmation ended or continued; the chance, 0–1, is never printed as 0 or 100 %."""
    share = "less than 1 %" if chance < 0.01 else "more than 99 %" if chance > 0.99 else f"{100 * chance:.0f} %"
    return f"The confirmation {STOPS.get(code, 'was analysed').format(chance=share)}."


def format_headline(answer: Answer) -> str:
    """Return the answer in a sentence."""
    text = WHOLE.get(answer.outcome)
    if text is None:
        text = BEGIN[answer.outcome] + (UNKNOWN_COST if answer.cost is None else END[answer.sure])
    return _finish(text, _list_values(answer))


def format_remark(remark: Remark, answer: Answer, table: Mapping[str, Phrase] = REMARKS) -> str:
    """Return a remark, or a next step (`STEPS`), of the answer in a sentence."""
    return _finish(table[remark.code].text, {**_list_values(answer), **remark.values})


def format_phrase(code: str, answer: Answer, **values: object) -> str:
    """Return a part of a table (`PARTS`), with these values in addition to the answer's."""
    return _format_text(PARTS[code], {**_list_values(answer), **values})


def list_remarks(answer: Answer, *places: Place) -> list[str]:
    """Return the sentences of the remarks that stand at these places, in their order."""
    return [format_remark(r, answer) for r in answer.remarks if REMARKS[r.code].place in places]


def format_head(answer: Answer) -> str:
    """Return the headline, and the remarks that change what a reader does."""
    return " ".join([format_headline(answer), *list_remarks(answer, "head")])


def _list_values(answer: Answer) -> dict[str, Any]:
    """Return the values that every sentence of an answer may name."""
    gain = {} if answer.gain is None else answer.gain.model_dump()
    return {
        **gain,
        **answer.model_dump(exclude={"gain", "use"}),
        "use": answer.used,
        "unit": answer.scale.score,
        "at": answer.scale,
    }


def _finish(text: str, values: Mapping[str, Any]) -> str:
    sentence = _format_text(text, values)
    return f"{sentence[:1].upper()}{sentence[1:]}."


def _format_text(text: str, values: Mapping[str, Any]) -> str:
    return _PhraseFormatter(values["at"], values["margin"]).vformat(text, (), values)


class _PhraseFormatter(Formatter):
    """Formats the fields of a phrase by the specifications of this module."""

    def __init__(self, scale: Scale, margin: float) -> None:
        """Create the formatter of scores of this scale, compared with this margin."""
        digits = scale.digits

        def count_digits(gain: float) -> int:  # one decimal less from ten hundredths on
            return max(0, digits - (abs(gain) >= 10 * scale.hundredth))

        def format_least(bound: float) -> str:  # rounded down
            shown = count_digits(bound)
            return f"{math.floor(bound * 10**shown + 1e-6) / 10**shown:+.{shown}f}"

        self._specs: dict[str, Callable[[Any], str]] = {
            "signed": lambda value: format_signed(value, digits),
            "number": lambda value: f"{value:.{digits}f}",
            "gain": lambda value: f"{value:+.{count_digits(value)}f}",
            "least": format_least,
            "bound": lambda value: format_upper_bound(value, margin, digits),
            "percent": lambda value: f"{100 * value:.0f} %",
            "short": format_significant,
            "ratio": format_ratio,
            "share": format_share,
            "code": lambda name: f"`{name}`",
            "codes": lambda names: join_words([f"`{name}`" for name in names]),
            "list": _list_names,
            "classes": lambda names: f"class{'es' * (len(names) > 1)} {_list_names(names)}",
        }

    def format_field(self, value: Any, format_spec: str) -> str:
        """Format a value by its specification; Python's own for any other."""
        kind, _, noun = format_spec.partition(" ")
        if kind == "count":
            return format_count(value, noun)
        if kind not in self._specs:
            return str(super().format_field(value, format_spec))
        text = self._specs[kind](value)
        return replace_minus(text) if isinstance(value, float | int) else text


def _list_names(names: Sequence[str]) -> str:
    shown: Iterable[str] = names[:LISTED]
    more = [f"{len(names) - LISTED} others"] if len(names) > LISTED else []
    return join_words([*shown, *more])
