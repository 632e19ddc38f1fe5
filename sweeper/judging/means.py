"""Judge a published table that has only a mean, a standard deviation and n of each method, no images or seeds.

The table is judged like one of scores with these means and standard deviations, as intervals of means depend on nothing
else. It is an approximation, as the correlation of two methods over the images is not printed:

  SD over n images:    variance of A − B  (s_A² + s_B² − 2 r s_A s_B) / n     on n − 1 degrees of freedom
  SD over n seeds:     s_A² / n_A + s_B² / n_B, of unrelated trainings        on the fewer of n_A − 1 and n_B − 1

The probability of a false claim, that B is as good as A or better, is Student's of (mean_B − mean_A) / √variance.

Source: Christodoulou et al. 2025, "False Promises in Medical Imaging AI? Assessing Validity of Outperformance Claims"
(arXiv 2505.04720; the tool "Claims Reloaded"), for segmentation, where r is the correlation of the methods' Dice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from scipy.special import stdtr, stdtrit

from sweeper.core.base import Record
from sweeper.core.spreadsheet import replace_decimal_commas
from sweeper.core.text import join_words, suggest_correction
from sweeper.evidence.intervals import Floats, ImageTable
from sweeper.judging.direction import check_direction
from sweeper.judging.rows import ScoreRequest, ScoreRows, ScoresError, abbreviate_names, format_rows, read_numbers
from sweeper.judging.run_cells import MOST_CELLS, MOST_METHODS, find_request_problems
from sweeper.judging.score_table import USUAL_MARGIN, ScoreTable, find_margin_problems, make_scale
from sweeper.judging.table_traps import describe_alike, find_alike, find_mixed_units

SdOver = Literal["images", "seeds"]
MEANS_KEYS = ("mean", "sd", "n", "sd_over")
"""Columns of a table of means."""
_NAMES = {"sd": ("sd", "std", "stdev"), "mean": ("mean", "score"), "n": ("n",), "sd_over": ("sd_over",)}
_WITH_SD = re.compile(r"\s*(\S+?)\s*(?:±|\+/?-)\s*(\S+)\s*")
_ASKED = (
    "an SD over images and one over seeds are different claims: --sd-over images (or a column `sd_over`) if it is over "
    "the test images of one training, --sd-over seeds if it is over trainings"
)


class FalseClaimRow(Record):
    """The claim that one method is better than another, by their means."""

    first: str
    """The method with the better mean."""
    second: str
    probability: float
    """Probability that the claim is false: the second is as good or better."""
    least_correlation: float | None
    """Least correlation over the images with which the interval is above 0; null = none, or the SDs are over seeds."""


class MeansRow(Record):
    """Assumptions of a judgement of means, and the probabilities of false claims."""

    sd_over: SdOver
    correlation: float | None
    """Correlation of two methods' scores over the images; null = the SDs are over seeds."""
    source: str
    pairs: tuple[FalseClaimRow, ...]


class _Means(NamedTuple):
    """The numbers of each method."""

    methods: list[str]
    mean: Floats
    sd: Floats
    n: Floats
    unit: float
    """Unit of the last printed digit of the means."""


def is_table_of_means(scores: ScoreRows, request: ScoreRequest) -> bool:
    """Return whether each row has a standard deviation, and there are no images and seeds."""
    names = {str(name).strip().casefold() for name in scores.columns}
    if names & {request.columns.get(key, key).casefold() for key in ("image", "seed")}:
        return False
    mean, sd = _find_column(scores.columns, "mean", request), _find_column(scores.columns, "sd", request)
    return sd is not None or (
        mean is not None and any(_WITH_SD.fullmatch(str(cell)) for cell in scores.columns[mean][:MOST_METHODS])
    )


def make_means_table(scores: ScoreRows, request: ScoreRequest) -> tuple[ScoreTable, MeansRow]:
    """Return a table of scores with the published means and spreads, and the probabilities of false claims.

    Raises:
        ScoresError: with all problems of the table, and all that is missing.
    """
    problems: list[str] = []
    means = _read_means(scores, request, problems)
    over = _read_sd_over(scores, request, problems)
    if means is None or over is None or problems:
        raise ScoresError(scores.source, problems)
    metric = request.metric or _find_column(scores.columns, "mean", request) or "mean"
    problems += (directions := check_direction(metric, request.lower_is_better))
    if directions:
        request = replace(request, lower_is_better=True)  # further problems are sought as for a distance
    _check_means(means, over, request, problems)
    if problems:
        raise ScoresError(scores.source, problems)
    margin = USUAL_MARGIN if request.margin is None else request.margin
    correlation = (request.correlation or 0.0) if over == "images" else None
    sign = -1.0 if request.lower_is_better else 1.0
    pairs = _compare_means(means, sign, correlation, request.level)
    runs = [int(n) if over == "seeds" else 1 for n in means.n]
    first = np.cumsum([0, *runs])
    table = ScoreTable(
        source=scores.source,
        methods=tuple(means.methods),
        runs=tuple(tuple(str(i + 1) for i in range(count)) for count in runs),
        rows=tuple(tuple(range(a, a + count)) for a, count in zip(first, runs, strict=False)),
        scores=_make_scores(means, sign, correlation),
        scale=make_scale(metric, margin),
        margin=margin,
        margin_given=request.margin is not None,
        higher_is_better=not request.lower_is_better,
        bound=math.inf,
        images=int(means.n[0]) if over == "images" else 0,
        notes=_list_notes(means, pairs, correlation, margin, request),
        design="Whether the methods were tuned alike, and scored on the same images, is not known from means.",
    )
    source = "Christodoulou et al. 2025, arXiv 2505.04720"
    return table, MeansRow(sd_over=over, correlation=correlation, source=source, pairs=pairs)


def _find_column(columns: Mapping[str, Sequence[Any]], key: str, request: ScoreRequest) -> str | None:
    """Return the name of a column: the requested one, else a usual one."""
    wanted = [request.columns[key]] if key in request.columns else list(_NAMES.get(key, (key,)))
    if key == "mean" and request.metric is not None and key not in request.columns:
        wanted = [request.metric]
    by_name = {str(name).strip().casefold(): name for name in columns}
    return next((by_name[name.casefold()] for name in wanted if name.casefold() in by_name), None)


def _read_means(scores: ScoreRows, request: ScoreRequest, problems: list[str]) -> _Means | None:
    columns = scores.columns
    names = {key: _find_column(columns, key, request) for key in ("method", "mean", "sd", "n")}
    cells = {key: list(map(str, columns[name])) for key, name in names.items() if name is not None}
    if "sd" not in cells and "mean" in cells:
        split = [_WITH_SD.fullmatch(cell) for cell in cells["mean"]]
        cells["mean"] = [match[1] if match else cell for match, cell in zip(split, cells["mean"], strict=True)]
        cells["sd"] = [match[2] if match else "" for match in split]
        cells |= {key: list(replace_decimal_commas(cells[key], "")) for key in ("mean", "sd")}
    what = {"method": "the method", "mean": "its mean score", "n": "over how many images or seeds its sd is"}
    for key, text in what.items():
        if key not in cells:
            near = suggest_correction(request.columns.get(key, key), columns)
            step = near or f"; --column {key}=NAME names another"
            problems.append(f"a column {key!r} must say {text}, got none{step}")
    if problems:
        return None
    numbers = {key: read_numbers(cells[key]) for key in ("mean", "sd", "n")}
    rules = {
        "mean": (np.isfinite(numbers["mean"]) & (np.abs(numbers["mean"]) < 1e30), "a finite number"),
        "sd": (
            np.isfinite(numbers["sd"]) & (numbers["sd"] > 0),
            "a number above 0; one that is rounded to 0 is unknown",
        ),
        "n": (np.isfinite(numbers["n"]) & (numbers["n"] >= 2) & (numbers["n"] % 1 == 0), "a whole number from 2 on"),
    }
    for key, (is_right, rule) in rules.items():
        if len(wrong := np.flatnonzero(~is_right)):
            problems.append(f"{format_rows(wrong)}: {key} must be {rule}, got {cells[key][wrong[0]]!r}")
    methods = [cell.strip() for cell in cells["method"]]
    if again := sorted({name for name in methods if methods.count(name) > 1}):
        problems.append(
            f"each method must have one row, got several of {abbreviate_names(again)}; judge one class, data set or "
            "metric at a time"
        )
    problems += describe_alike("method", find_alike(list(dict.fromkeys(methods))))
    problems += find_request_problems(methods, request)
    decimals = max((len(cell.partition(".")[2]) for cell in cells["mean"]), default=0)
    return _Means(methods, numbers["mean"], numbers["sd"], numbers["n"], 10.0**-decimals)


def _read_sd_over(scores: ScoreRows, request: ScoreRequest, problems: list[str]) -> SdOver | None:
    name = _find_column(scores.columns, "sd_over", request)
    values = {str(cell).strip().casefold() for cell in scores.columns[name]} if name is not None else set()
    values |= {request.sd_over} if request.sd_over is not None else set()
    if len(values) == 1 and values <= set(get_args(SdOver)):
        return values.pop()  # type: ignore[return-value]  # one of the literals
    if "folds" in values or "fold" in values:
        problems.append(
            "an SD over folds can not be judged, as folds share training images; give the score of each fold "
            "(columns method, fold, score)"
        )
    else:
        got = join_words(sorted(map(repr, values))) or "neither"
        problems.append(f"the SD must be over one thing, images or seeds, got {got}; {_ASKED}")
    return None


def _check_means(means: _Means, over: SdOver, request: ScoreRequest, problems: list[str]) -> None:
    """Add the problems that prevent a judgement."""
    if over == "images" and len(sizes := sorted(set(means.n.astype(int).tolist()))) > 1:
        problems.append(
            f"an SD over images needs one n, that of the common test images, got {join_words(list(map(str, sizes)))}"
        )
    if over == "images" and means.n.min() < len(means.methods) + 2:
        problems.append(f"n must be the number of methods + 2 or more, {len(means.methods) + 2}, got {means.n.min():g}")
    cells = len(means.methods) * means.n.max()
    if cells > MOST_CELLS or (over == "seeds" and means.n.max() > 1000):
        problems.append(f"n must be the number of test images, or of at most 1,000 trainings, got {means.n.max():,.0f}")
    if request.correlation is not None and over == "seeds":
        problems.append("--correlation is that of scores over images; leave it out where the SDs are over seeds")
    elif not 0 <= (request.correlation or 0.0) < 1:
        problems.append(f"--correlation must be from 0 to below 1, got {request.correlation:g}")
    if request.paired_seeds:
        problems.append("--paired-seeds needs the score of each seed, and means have none; leave it out")
    if not request.lower_is_better:
        problems += find_mixed_units(means.mean, np.arange(len(means.mean)))
    is_share = means.mean.min() >= 0 and means.mean.max() <= 1
    if is_share and not request.lower_is_better and len(wide := np.flatnonzero(means.sd > 0.75)):
        problems.append(
            f"{format_rows(wide)}: sd must be in the unit of the means, which lie within 0 to 1, got "
            f"{means.sd[wide[0]]:g}"
        )
    problems += find_margin_problems(means.mean, "means", request.margin)


def _make_scores(means: _Means, sign: float, correlation: float | None) -> ImageTable:
    """Make scores with these means, standard deviations and, over images, this correlation.

    The deviations are combinations of vectors that are orthogonal to each other and to a constant (cosines).
    """
    if correlation is None:
        parts = [
            sign * mean + sd * math.sqrt(n - 1) * _make_cosines(int(n), 1)[0]
            for mean, sd, n in zip(means.mean, means.sd, means.n, strict=True)
        ]
        scores = np.concatenate(parts)
        return ImageTable(scores, np.zeros((len(scores), 0)))
    common, *singles = _make_cosines(int(means.n[0]), len(means.methods) + 1)
    deviations = math.sqrt(correlation) * common + math.sqrt(1 - correlation) * np.array(singles)
    return ImageTable(sign * means.mean, math.sqrt(means.n[0] - 1) * means.sd[:, None] * deviations)


def _make_cosines(n: int, count: int) -> Floats:
    """Return `count` < n orthonormal vectors of n entries."""
    places = (np.arange(n) + 0.5) / n
    vectors: Floats = math.sqrt(2 / n) * np.cos(math.pi * np.arange(1, count + 1)[:, None] * places)
    return vectors


def _compare_means(means: _Means, sign: float, correlation: float | None, level: float) -> tuple[FalseClaimRow, ...]:
    order = sorted(range(len(means.methods)), key=lambda m: -sign * means.mean[m])
    rows = []
    for a, b in combinations(order, 2):
        gap = abs(means.mean[a] - means.mean[b])
        squares, product = means.sd[a] ** 2 / means.n[a] + means.sd[b] ** 2 / means.n[b], 0.0
        if correlation is not None:
            product = 2 * means.sd[a] * means.sd[b] / means.n[a]
        freedom = min(means.n[a], means.n[b]) - 1
        error = math.sqrt(squares - (correlation or 0.0) * product)
        least = None
        if product:
            critical = float(stdtrit(freedom, (1 + level) / 2))
            needed = max(0.0, (squares - (gap / critical) ** 2) / product)
            least = float(needed) if needed < 1 else None
        rows.append(
            FalseClaimRow(
                first=means.methods[a],
                second=means.methods[b],
                probability=float(stdtr(freedom, -gap / error)),
                least_correlation=least,
            )
        )
    return tuple(rows)


def _list_notes(
    means: _Means, pairs: Sequence[FalseClaimRow], correlation: float | None, margin: float, request: ScoreRequest
) -> tuple[str, ...]:
    best = [row for row in pairs if row.first == pairs[0].first][:5]
    claims = join_words([f"{row.probability:.2g} over {row.second}" for row in best])
    what = "of unrelated trainings" if correlation is None else f"at a correlation of {correlation:g} over the images"
    notes = [
        f"An approximation from means, {what} (Christodoulou et al. 2025): the probability that {pairs[0].first} is no "
        f"better is {claims}."
    ]
    if correlation is not None and request.correlation is None:
        needed = [
            f"{row.second} {'none' if row.least_correlation is None else f'{row.least_correlation:.2f}'}"
            for row in best
        ]
        notes.append(
            "How the methods' scores correlate over the images is not known, and 0 is taken, the widest interval; "
            f"--correlation gives it. {pairs[0].first} is shown to score better from these on: {join_words(needed)}."
        )
    if means.unit >= margin / 2:
        notes.append(f"The means are rounded to {means.unit:g}: a difference may be as much larger or smaller.")
    notes.append(
        "An SD is taken as such: a standard error must first be multiplied by √n, half a 95 % interval by √n / t."
    )
    return tuple(notes)
