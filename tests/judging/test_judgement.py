"""Judgements of tables of scores: intervals, verdicts, refusals and caveats, in the unit of the scores."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import sweeper
from bench.answer_simulation import STREET, draw_counts, make_results
from bench.judge_example import HEADER, list_rows
from sweeper.core import metrics
from sweeper.core.errors import UsageError
from sweeper.evidence.paired_comparisons import compute_evidence
from sweeper.evidence.phrases import format_head, format_headline
from sweeper.evidence.verdict_predicates import get_difference
from sweeper.judging.judgement import Judgement
from sweeper.judging.rows import ScoresError
from tests.judging.tables import draw_scores, find_problems, make_table

EXAMPLE = Path(__file__).resolve().parents[2] / "reports" / "example-judged"


def test_a_better_method_with_three_runs_is_a_clear_winner() -> None:
    judgement = sweeper.judge(make_table(draw_scores(gap=0.08)), present="b")
    answer, gap = judgement.answer, judgement.answer.differences[0]
    assert (answer.outcome, answer.use.loss, answer.present, answer.kind) == ("change", "a", "b", "method")
    assert format_headline(answer).startswith("Change to `a`: at least +0.0")
    assert gap.established and gap.low is not None and 0 < gap.low < gap.estimate


@pytest.mark.parametrize("level", [0.8, 0.99])
def test_an_interval_has_the_requested_level_wherever_it_stands(level: float) -> None:
    judgement = sweeper.judge(make_table(draw_scores(gap=0.1)), level=level, present="b")
    assert {row.level for row in judgement.answer.differences} == {level}
    text = repr(judgement)
    assert {*re.findall(r"\d+ %", text)} == {f"{100 * level:.0f} %"} and text.count("%") == 2


def make_counts(ious: dict[str, list[float]], kinds: str, images: int = 12) -> pd.DataFrame:
    """Return counts of runs with these IoUs of a foreground of 8 %, and of the background if that is asked for."""
    rows = []
    for (method, levels), image in itertools.product(ious.items(), range(images)):
        for seed, iou in enumerate(levels):
            tp = round(iou * (800 + 10 * image) / (1 + iou))
            wrong = 400 + 5 * image - tp + round(iou * 5 * (image % 3)) + seed
            rows += [(method, seed, image, "fg", tp, wrong, 400 + 5 * image - tp)]
            rows += [(method, seed, image, "bg", 4600 - wrong, 400 + 5 * image - tp, wrong)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "image", "class", "tp", "fp", "fn"])
    return frame[frame["class"].isin(kinds.split())]


@pytest.mark.parametrize("kinds", ["fg bg", "fg"])
@pytest.mark.parametrize(("level", "outcome"), [(0.03, "none"), (0.4, "change")])
def test_no_change_is_said_between_networks_that_cannot_do_the_task(kinds: str, level: float, outcome: str) -> None:
    """A mean above that of background everywhere is no skill, either, while no run finds the foreground."""
    found = [level, level + 0.002, level - 0.002, level, level + 0.001]
    frame = make_counts({"a": found, "b": [0.001, 0.002, 0.001, 0.002, 0.001]}, kinds)
    answer = sweeper.judge(frame, present="b", margin=0.001, paired_seeds=True).answer
    assert answer.outcome == outcome and (answer.find("WEAK") is None) == (outcome == "change")
    assert answer.constant_miou == pytest.approx(0.46 if kinds == "fg bg" else 0.0, abs=0.005)
    assert (answer.find("UNLEARNED") is None) == (outcome == "change")


def test_a_class_that_chance_found_in_three_runs_decides_nothing() -> None:
    for runs, paired in itertools.product((3, 4), (True, False)):
        frame = make_counts({"a": [0.5, 0.502, 0.498, 0.5][:runs], "b": [0.0] * runs}, "fg bg")
        (row,) = sweeper.judge(frame, paired_seeds=paired).answer.differences
        assert row.low > 0.2 and row.established == (runs == 4)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("present", ["b", None])
def test_several_methods_share_the_error(present: str | None, paired: bool) -> None:
    """A lead that is barely established over one other is none among many, unless it is one over each of them."""
    scores, names = draw_scores(methods=6, runs=4, seed=0.002, noise=0.01, key=3), [*"abcdef"]
    scores[2] += 0.2

    def has_won(lead: float, methods: int) -> bool:
        frame = make_table(np.concatenate([scores[:1] + lead, scores[1:methods]]), names[:methods])
        rows = sweeper.judge(frame, present=present, paired_seeds=paired, margin=1e-6).answer.differences
        return any((row.first, row.second, row.established) == ("a", "b", True) for row in rows)

    leads = np.linspace(0, 0.03, 16)
    alone, among = (next(lead for lead in leads if has_won(lead, methods)) for methods in (2, 6))
    assert alone < among
    scores[2:] -= 0.4  # all others are clearly worse
    assert has_won(alone, 6) == (present is None)


@pytest.mark.parametrize("factor", [1.0, 100.0])
def test_the_prior_of_few_groups_does_not_follow_the_margin(factor: float) -> None:
    frame = make_table(factor * draw_scores(gap=0.03)).assign(group=lambda rows: rows["image"] // 14)
    lows = [sweeper.judge(frame, margin=m * factor).answer.differences[0].low for m in (0.01, 0.0001)]
    assert lows[0] == lows[1] and lows[0] / factor == pytest.approx(sweeper.judge(
        frame.assign(score=frame["score"] / factor)).answer.differences[0].low)  # fmt: skip


def test_equal_methods_have_no_winner_and_next_steps_without_a_command_of_sweeper() -> None:
    equal = sweeper.judge(make_table(draw_scores(seed=0.02)))
    assert equal.answer.sure == "open" and equal.answer.find("TUNING")
    assert equal.answer.next and not any(step.command for step in equal.answer.next)
    assert any(f.regret is not None and f.regret.bound > 0 for f in equal.contest.finalists)


@pytest.mark.parametrize("runs", [1, 2])
def test_fewer_than_three_runs_are_judged_as_networks_and_never_name_a_winner(runs: int) -> None:
    answer = sweeper.judge(make_table(draw_scores(runs=runs, gap=0.08))).answer
    assert (answer.kind, answer.outcome, answer.sure, answer.use.loss) == ("network", "take", "established", "a")
    head = format_head(answer)
    assert head.startswith("Take `a`: no other network gains more than 0.")
    assert "It is about these networks: of the methods nothing is shown before 3 trainings each." in head
    assert answer.next[0].code == "TRAIN_MORE" and answer.next[0].values == {"seeds": 3}


@pytest.mark.parametrize("grouped", [False, True])
def test_one_run_each_gives_the_interval_of_scipys_paired_t_test(grouped: bool) -> None:
    for key in range(20):
        scores = draw_scores(runs=1, images=25, gap=0.01, key=key)
        frame, units = make_table(scores), scores[:, 0]
        if grouped:  # five images each, which are one unit
            frame, units = frame.assign(group=frame["image"] // 5), units.reshape(2, 5, 5).mean(axis=2)
        test = stats.ttest_rel(units[0], units[1])
        low, high = test.confidence_interval(0.95)
        contest = sweeper.judge(frame).contest
        names = [each.family for each in contest.finalists]
        gap = get_difference(contest, names.index("a"), names.index("b"))
        assert [gap.low, gap.high] == pytest.approx([low, high], abs=1e-9)
        assert (gap.low > 0 or gap.high < 0) == (test.pvalue < 0.05)


def test_runs_without_images_give_scipys_paired_test_and_a_wider_interval_than_welchs() -> None:
    scores = draw_scores(runs=5, gap=0.02, seed=0.01).mean(axis=2, keepdims=True)
    frame = make_table(scores).drop(columns="image")
    judgement = sweeper.judge(frame, paired_seeds=True)
    assert judgement.contest.scope == "trainings" and judgement.answer.images == 0
    paired = stats.ttest_rel(scores[0, :, 0], scores[1, :, 0]).confidence_interval(0.95)
    gap = get_difference(judgement.contest, 0, 1)
    assert [gap.low, gap.high] == pytest.approx([paired.low, paired.high])
    welch = stats.ttest_ind(scores[0, :, 0], scores[1, :, 0], equal_var=False).confidence_interval(0.95)
    nested = get_difference(sweeper.judge(frame).contest, 0, 1)
    assert nested.low <= welch.low and nested.high >= welch.high
    assert nested.high - nested.low < 1.5 * (welch.high - welch.low)
    assert judgement.answer.find("WHOLE_RUNS") and not judgement.answer.find("UNPAIRED")
    assert sweeper.judge(frame).answer.find("UNPAIRED")


@pytest.mark.parametrize("paired", [False, True])
def test_variances_of_a_balanced_table_are_those_of_a_mixed_model(paired: bool) -> None:
    """Fitted by statsmodels (REML): runs within methods, images crossed with both; of pairs, their differences."""
    mixedlm = pytest.importorskip("statsmodels.formula.api", reason="needs the extra `oracles`").mixedlm
    scores = draw_scores(runs=4, images=12, seed=0.02)
    _, s, n = scores.shape
    scores = scores + 0.03 * np.random.default_rng(0).standard_normal((2, 1, n))  # images suit a method
    frame, sides = make_table(scores), 2
    if paired:
        frame, sides = frame[frame["method"] == "a"].assign(score=(scores[0] - scores[1]).ravel()), 1
    frame = frame.assign(one=1, run=frame["method"] + frame["seed"].astype(str))
    frame["liking"] = frame["method"] + frame["image"].astype(str)
    effects = {"run": "0 + C(run)", "liking": "0 + C(liking)"} | ({} if paired else {"image": "0 + C(image)"})
    formula = "score ~ 1" if paired else "score ~ C(method)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: a variance near 0 is at the edge of its range
        model = mixedlm(formula, frame, groups="one", re_formula="0", vc_formula=effects).fit(reml=True)
    variances = dict(zip(model.model.exog_vc.names, model.vcomp, strict=True)) | {"both": model.scale}
    judgement = get_difference(sweeper.judge(make_table(scores), paired_seeds=paired).contest, 0, 1)
    assert judgement.se_seed**2 == pytest.approx(sides * (variances["run"] / s + variances["both"] / (s * n)), rel=1e-3)
    assert judgement.se_both**2 == pytest.approx(sides * variances["both"] / (s * n), rel=1e-3)
    assert judgement.se_image**2 == pytest.approx(sides * variances["liking"] / n, rel=1e-3)
    assert judgement.se_seed**2 + judgement.se_image**2 == pytest.approx(float(model.bse_fe.iloc[-1]) ** 2, rel=1e-3)


def test_the_table_of_a_study_gives_the_intervals_of_the_study() -> None:
    runs_of = make_results(*draw_counts(STREET, 4, np.random.default_rng(2), seeds=3))
    results = [run for runs in runs_of for run in runs]
    evidence = compute_evidence(results, {r.spec.family: r for r in results}, classes=STREET.classes)
    images, classes = [str(i) for i in range(STREET.images)], list(STREET.classes)
    frame = pd.DataFrame(list_rows(results, images, classes), columns=list(HEADER))
    judgement = sweeper.judge(frame, paired_seeds=True)
    assert [f.family for f in judgement.contest.finalists] == [f.family for f in evidence.finalists]
    for judged, expected in zip(judgement.contest.finalists, evidence.finalists, strict=True):
        assert judged.score.model_dump() == pytest.approx(expected.miou.model_dump())
        assert judged.regret.bound == pytest.approx(expected.regret.bound, abs=2e-5)
    for judged, expected in zip(judgement.contest.comparisons, evidence.comparisons, strict=True):
        assert judged.difference.model_dump() == pytest.approx(expected.difference.model_dump())
        assert judged.one_sided == pytest.approx(expected.one_sided)


def test_any_unit_and_either_direction_give_the_same_answer() -> None:
    scores = draw_scores(methods=3, gap=0.03)
    for factor in (100.0, 1e-3):
        one, other = (
            sweeper.judge(make_table(scores * f, list("abc")), margin=0.01 * f, metric="score") for f in (1.0, factor)
        )
        assert (one.answer.outcome, one.answer.use) == (other.answer.outcome, other.answer.use)
        assert one.answer.sure == other.answer.sure
        for first, second in zip(one.contest.finalists, other.contest.finalists, strict=True):
            assert second.regret.bound == pytest.approx(factor * first.regret.bound, rel=1e-3)
            assert second.score.low == pytest.approx(factor * first.score.low)
    distances = sweeper.judge(make_table(20 - 100 * scores, list("abc")), margin=1, lower_is_better=True)
    percent = sweeper.judge(make_table(100 * scores, list("abc")), margin=1)
    assert (distances.answer.outcome, distances.answer.use) == (percent.answer.outcome, percent.answer.use)
    best, second = distances.answer.losses[:2]
    assert best.mean < second.mean and best.score is not None and best.score.low < best.mean
    assert not distances.answer.higher_is_better


def test_a_score_is_the_mean_over_classes_of_what_the_images_have() -> None:
    frame = pd.DataFrame(
        [(m, s, i, c, 0.5 + 0.1 * (c == "x") + 0.02 * i + 0.01 * s * (m == "a") + 0.003 * s * i)
         for m in "ab" for s in range(3) for i in range(6) for c in "xy" if c == "x" or i > 2],
        columns=["method", "seed", "image", "class", "score"],
    )  # fmt: skip
    judgement = sweeper.judge(frame)
    by_class = frame.groupby(["method", "seed", "class"])["score"].mean().groupby("method").mean()
    for row in judgement.answer.losses:
        assert row.mean == pytest.approx(by_class[row.loss])


def test_all_problems_are_in_one_list() -> None:
    frame = make_table(draw_scores(images=4)).astype({"score": object})
    frame.loc[2, "score"], frame.loc[5, "score"], frame.loc[7, "method"] = float("nan"), "high", ""
    first, second = find_problems(frame)
    assert first.startswith("row 8: the method must have a name, got none")
    assert second.startswith("rows 3 and 6: a score must be a finite number")


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda f: f.drop(index=[1]), {}, "1 score is missing that other runs have, first of a, seed 0 ('1')"),
        (lambda f: pd.concat([f, f.iloc[:2]]), {}, "rows 1, 2, 25 and 1 more: one row must be for one method, seed"),
        (lambda f: f.assign(score=0.5), {}, "runs must differ, and all of a and b have the same scores"),
        (lambda f: f[f["method"] == "a"], {}, "2 to 300 methods can be judged, as each is compared with each, got a;"),
        (lambda f: f.assign(score=100 * f["score"]), {}, "so that the usual margin of 0.01 may not be one"),
        (lambda f: f, {"margin": 0}, "--margin must be above 0, and below 1 where scores lie within 0 to 1, got 0;"),
        (lambda f: f, {"margin": 1e308}, "lie within 0 to 1, got 1e+308; it is in"),
        (lambda f: f, {"margin": 1e-300}, "lie within 0 to 1, got 1e-300; it is in"),
        (lambda f: f.assign(score=[1e308, *f["score"][1:]]), {"margin": 1}, "row 1: a score must be a finite number"),
        (lambda f: f.assign(score=[.5, -1e200, *f["score"][2:]]), {}, "row 2: a score must be a finite number"),
        (lambda f: f.drop(columns="score").assign(tp=9, fp=1e155, fn=1), {}, "rows 1, 2, 3 and 21 more: a score must"),
        (lambda f: repeat_methods(2000, f), {}, "compared with each, got m0, m1, m2 and 1997"),
        (lambda f: f, {"margin": 2}, "lie within 0 to 1, got 2; it is in the score's own unit: 2 per cent is 0.02"),
        (lambda f: f.assign(seed=f["seed"] + 3 * (f["method"] == "b")), {"paired_seeds": True}, "no seed in common"),
        (lambda f: f, {"present": "B"}, "--present must be one of the methods, got 'B'"),
        (lambda f: f.rename(columns={"method": "loss"}), {}, "got none; --column method=NAME names it"),
        (lambda f: f, {"metric": "scor"}, "did you mean `score`?"),
        (lambda f: f.pivot(index=["seed", "image"], columns="method", values="score"), {}, "melt(['image', 'seed'], "),
        (lambda f: f.assign(score=f["score"].map("{:.3f}".format).str.replace(".", ",")), {}, "(0.5999), got '0,"),
        (lambda f: f.assign(group=range(len(f))), {}, "an image must be in one group"),
        (lambda f: f.groupby("method", as_index=False)["score"].mean(), {}, "one number for each method says nothing"),
        (lambda f: f.drop(columns="score").assign(tp=range(24), fp=1, fn=1), {}, "tp + fn, the pixels of the labels"),
        (lambda f: f.drop(columns="score").assign(tp=9, fp=-1, fn=1), {}, "counts of pixels, and must be ≥ 0"),
        (lambda f: f.query("seed == 0").drop(columns="seed"), {"paired_seeds": True}, "no seed in common of any"),
        (lambda f: f.drop(columns=["seed", "image"]), {}, "and 21 more: one row must be for one method, got several"),
        (lambda f: f.rename(columns={"seed": "fold"}), {"column": {"seed": "fold"}}, "give --column fold=fold in its"),
        (lambda f: f, {"at": "5"}, "a column 'step' must say the step of each row, got none"),
        (lambda f: f, {"column": {"group": "patient"}}, "a column 'patient' must say the group of each row, got none"),
        (lambda f: f.assign(image=f["method"] + f["image"].astype(str)), {"common": True}, "no image has the scores"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_judged_is_refused_with_its_problem(
    change: Any, options: dict[str, Any], words: str
) -> None:
    problems = find_problems(change(make_table(draw_scores(images=4))), **options)
    assert any(words in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("title", "cells"),
    [
        ("case no", lambda f: f["image"]),
        ("filename", lambda f: "/data/img_" + f["image"].astype(str) + ".png"),
        ("prediction", lambda f: "/out/" + f["method"] + "/" + f["image"].astype(str) + ".nii.gz"),
        ("trial", lambda f: range(len(f))),
        ("lr", lambda f: 0.001),
        ("epoch", lambda f: f["image"]),
        ("state", lambda f: ["PRUNED", *["COMPLETE"] * (len(f) - 1)]),
        ("dice", lambda f: f["score"] / 2),
    ],
)
@pytest.mark.parametrize("keys", [("method",), ("method", "seed"), ("method", "seed", "image")])
def test_a_column_that_is_not_known_is_asked_about_whatever_it_has(
    title: str, cells: Any, keys: tuple[str, ...]
) -> None:
    """As rows are trainings or images by the name of a column alone, and never by its values."""
    frame = make_table(draw_scores(images=6))
    more = frame.assign(**{title: cells(frame)})[[*keys, title, "score"]]
    (problem,) = (text for text in find_problems(more) if text.startswith("each column must be known"))
    key, option = re.search(r"got (.*?); .* --ignore (.*) if it is of no influence", problem).groups()
    assert (key, shlex.split(option)) == (title, [title]) and " --column " in problem
    if keys == ("method", "seed", "image"):
        ignored = sweeper.judge(more, ignore=[title])
        assert ignored.contest.comparisons == sweeper.judge(frame).contest.comparisons
    else:
        assert "one row must be for one" in str(find_problems(more, ignore=[title]))
        assert not any("one row must" in text for text in find_problems(more))


def test_the_index_of_a_frame_and_a_column_without_a_name_are_no_trainings(tmp_path: Path) -> None:
    frame = make_table(draw_scores(images=6))[["method", "score"]]
    frame.to_csv(tmp_path / "scores.csv")
    frame.to_parquet(tmp_path / "scores.parquet")
    for scores in (tmp_path / "scores.csv", tmp_path / "scores.parquet", frame):
        assert "one row must be for one method, got" in str(find_problems(scores))
    named = make_table(draw_scores(gap=0.03)).set_index("image")
    named.to_parquet(tmp_path / "named.parquet")
    for scores in (tmp_path / "named.parquet", named):
        assert sweeper.judge(scores).answer.images == 40


def repeat_methods(methods: int, like: pd.DataFrame) -> pd.DataFrame:
    """Return two runs of each."""
    names = np.repeat([f"m{number}" for number in range(methods)], 2)
    return pd.DataFrame(
        {"method": names, "seed": np.arange(len(names)) % 2, "score": np.resize(like["score"], len(names))}
    )


@pytest.mark.parametrize(
    ("columns", "common"),
    [
        (("seed", "image"), False),
        (("seed", "image"), True),
        (("image", "class"), False),
        (("seed", "image", "class"), False),
    ],
)
def test_a_table_whose_rows_share_little_takes_little_memory(columns: tuple[str, ...], common: bool) -> None:
    size = 20_000
    frame = pd.DataFrame({"method": np.tile(["a", "b"], size // 2), "score": np.linspace(0, 1, size)})
    apart = {name: np.arange(size) // (2 if "seed" not in columns else 1) for name in columns}
    tracemalloc.start()
    (problem,) = find_problems(frame.assign(**apart), common=common)
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()
    assert "missing that other runs have" in problem or "runs × images × classes must be at most 50,000,000" in problem


@pytest.mark.parametrize("far", [1e4, 1e6, 1e12, 1e29])
def test_scores_that_are_large_relative_to_the_margin_are_judged(far: float) -> None:
    scores = [far, 1.1 * far, 0.9 * far, 0.0, 1.0, 2.0]
    tracemalloc.start()
    frame = pd.DataFrame({"method": list("aaabbb"), "seed": [0, 1, 2] * 2, "score": scores})
    judgement = sweeper.judge(frame, margin=0.01)
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()
    assert (judgement.answer.sure, judgement.answer.use.loss) == ("established", "a")


def test_images_that_a_run_lacks_are_left_out_on_request_with_a_caveat() -> None:
    frame = make_table(draw_scores(images=10))
    judgement = sweeper.judge(frame[(frame["method"] == "a") | (frame["image"] > 1)], common=True)
    assert judgement.answer.images == 8 and judgement.answer.find("LEFT_OUT").values == {"images": 2}
    whole = sweeper.judge(frame[frame["image"] > 1])
    assert get_difference(judgement.contest, 0, 1) == get_difference(whole.contest, 0, 1)


@pytest.mark.parametrize("name", ["scores.tsv", "scores.parquet"])
def test_a_file_is_judged_as_its_frame(tmp_path: Path, name: str) -> None:
    frame, path = make_table(draw_scores(gap=0.03)), tmp_path / name
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t")
    assert sweeper.judge(path).contest.comparisons == sweeper.judge(frame).contest.comparisons


@pytest.mark.parametrize(
    ("separator", "decimal", "encoding", "case"),
    [
        (";", ",", "utf-8-sig", str.upper),
        ("\t", ",", "utf-16", str.title),
        (",", ",", "utf-8", str),
        ("|", ".", "utf-8", str),
    ],
)
def test_a_table_from_a_spreadsheet_gives_the_same_judgement(
    tmp_path: Path, separator: str, decimal: str, encoding: str, case: Any
) -> None:
    frame, path = make_table(draw_scores(gap=0.03)), tmp_path / "scores.csv"
    texts = frame.assign(score=frame["score"].map(repr).str.replace(".", decimal))
    texts = texts.rename(columns=lambda column: f" {case(column)} ")
    texts.assign(**{" ": ""}).to_csv(path, index=False, sep=separator, encoding=encoding, lineterminator="\r\n")
    assert sweeper.judge(path).contest.comparisons == sweeper.judge(frame).contest.comparisons


def test_names_of_columns_may_have_another_case_and_a_frame_is_a_table_too() -> None:
    frame = make_table(draw_scores(gap=0.03))
    other = frame.rename(columns={"method": "Model ", "score": "DICE", "image": "Image"})
    judgement = sweeper.judge(other, metric="dice", column={"method": "model"})
    assert judgement.contest.comparisons == sweeper.judge(frame).contest.comparisons
    problem, unknown = find_problems(frame.rename(columns={"score": "Score"}).assign(SCORE=1))
    assert "must have the scores" in problem and "got Score and SCORE" in unknown


@pytest.mark.parametrize("cells", [("0.5", "0,6"), ("59.9%", "61%"), ("1,234", "5,678")])
def test_ambiguous_numbers_are_refused_with_how_to_write_them(tmp_path: Path, cells: tuple[str, str]) -> None:
    rows = [f'{method},{seed},"{cell}"' for method in "ab" for seed, cell in enumerate(cells)]
    (tmp_path / "scores.csv").write_text("\n".join(["method,seed,score", *rows]))
    advice = "with a decimal point and no other sign"
    with pytest.raises(ScoresError, match=advice):
        sweeper.judge(tmp_path / "scores.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must begin with the names of its columns"),
        ("method,score\na,1,2\n", "must have 2 entries"),
        ("a,a\n1,2\n", "must occur once"),
    ],
)
def test_a_file_that_is_not_a_table_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(ScoresError, match=words):
        sweeper.judge(tmp_path / "scores.csv")


def test_the_committed_example_gives_its_committed_answer() -> None:
    judgement = sweeper.judge(EXAMPLE / "scores.csv", paired_seeds=True, present="cross_entropy")
    stored = json.loads((EXAMPLE / "recommendation.json").read_text("utf-8"))
    document = judgement.answer.model_dump(mode="json")
    assert isinstance(judgement, Judgement) and document["outcome"] == stored["outcome"] == "keep"
    for row, expected in zip(document["differences"], stored["differences"], strict=True):
        assert row == pytest.approx(expected)
    assert metrics.METRICS["miou"].title == document["scale"]["score"]


def test_a_single_image_or_group_is_not_a_sample_of_images() -> None:
    """Nothing infinite is reported, and the claim is only about trainings."""
    one = sweeper.judge(make_table(draw_scores(images=1, gap=0.05)))
    groups = sweeper.judge(make_table(draw_scores(gap=0.05)).assign(group="patient"))
    for judgement in (one, groups):
        assert (judgement.answer.scope, judgement.answer.images, judgement.answer.groups) == ("trainings", 0, None)
        assert "All scores are of one image or group:" in str(judgement.answer.remarks)
        assert "inf" not in repr(judgement)
    assert (
        "one number for each method says nothing about chance"
        in find_problems(make_table(draw_scores(images=1, runs=1)))[0]
    )


def test_the_answer_about_many_methods_is_short() -> None:
    text = repr(sweeper.judge(make_table(draw_scores(methods=15, seed=0.02), list("abcdefghijklmno"))))
    assert len(text.splitlines()) < 30


@pytest.mark.parametrize("scores", [[{"method": "a", "score": 1.0}], {"method": ["a"], "score": [1.0]}, None])
def test_another_type_is_refused_with_the_step_that_makes_a_table(scores: Any) -> None:
    with pytest.raises(UsageError, match=rf"got {type(scores).__name__}; give pandas.DataFrame\("):
        sweeper.judge(scores)
