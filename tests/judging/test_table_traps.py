"""Mistakes in a table that no single row reveals are refused with their rows, and similar right tables are not."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from sweeper.judging.rows import ScoresError
from tests.judging.tables import find_problems, judge_columns, list_notes
from tests.support.pasting import run_text

Row = tuple[str, int, str, Any]
ROWS: list[Row] = [
    (method, seed, f"img{image}", base + 0.01 * seed + 0.004 * image * (1 + (method == "b")))
    for method, base in (("a", 0.8), ("b", 0.6))
    for seed in range(3)
    for image in range(5)
]


def list_problems(rows: list[Row], **options: Any) -> str:
    """Return the problems of a table, one a line; empty if it is judged."""
    columns = dict(zip(("method", "seed", "image", "score"), zip(*rows, strict=True), strict=True))
    try:
        judge_columns(columns, **options)
    except ScoresError as error:
        return "\n".join(error.problems)
    return ""


def change_scores(changes: dict[int, Any]) -> list[Row]:
    return [(*row[:3], changes[place](row[3]) if place in changes else row[3]) for place, row in enumerate(ROWS)]


def rename_methods(method: dict[int, str]) -> list[Row]:
    return [(method.get(place, row[0]), *row[1:]) for place, row in enumerate(ROWS)]


def test_a_right_table_is_judged() -> None:
    assert not list_problems(ROWS)


def test_all_mistakes_are_in_one_list() -> None:
    rows = rename_methods({0: "A"})
    rows[3] = (*rows[3][:3], "failed")
    rows[5] = (*rows[5][:3], 81.0)
    text = list_problems([*rows, rows[1]])
    assert text.count("\n") == 4
    for expected in (
        "row 4: a score must be a finite number with a decimal point and no other sign (0.5999), got 'failed'",
        "each method must be written in one way, got 'A' and 'a'",
        "row 6: scores must have one unit",
        "rows 2 and 31: one row must be for one method, seed and image, got several; leave all but one out",
        "are missing that other runs have",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("names", "is_one"),
    [
        (("dice ce", "dice  ce"), True),
        (("dice ce", "dice\u00a0ce"), True),
        (("Dice_CE", "dice-ce"), True),
        (("U Net", "unet"), True),
        (("img1.png", "IMG1"), True),
        (("gamma -1", "gamma 1"), False),
        (("lr1-0", "lr10"), False),
        (("unet", "unet++"), False),
        (("case_1", "case_11"), False),
    ],
)
def test_names_that_differ_only_in_case_spaces_or_extension_are_alike(names: tuple[str, ...], is_one: bool) -> None:
    rows = [(names["ab".index(row[0])], *row[1:]) for row in ROWS]
    assert ("each method must be written in one way" in list_problems(rows)) is is_one


def test_two_spellings_of_one_image_are_refused() -> None:
    other = [(m, s, f"{image}.PNG" if m == "b" else image, x) for m, s, image, x in ROWS]
    assert "each image must be written in one way, got 'img0' and 'img0.PNG'" in list_problems(other)
    both = [row for m, s, i, x in ROWS for row in ((m, s, i, x), (m, s, i.upper(), x - 0.01))]
    assert not list_problems(both)  # each run has both, so that they are two


@pytest.mark.parametrize(
    ("name", "pair"), [("img0{}", "'img0' and 'img00'"), ("b/img{}.png", "'img0' and 'b/img0.png'")]
)
def test_images_that_differ_by_folders_or_leading_zeros_are_refused(name: str, pair: str) -> None:
    rows = [(m, s, name.format(image[3:]) if m == "b" else image, x) for m, s, image, x in ROWS]
    assert f"each image must be written in one way, got {pair}, " in list_problems(rows, common=True)


def test_images_of_one_name_in_several_folders_of_a_run_are_judged() -> None:
    assert not list_problems([(m, s, f"p{int(i[3:]) % 2}/{int(i[3:]) // 2}", x) for m, s, i, x in ROWS])


@pytest.mark.parametrize("margin", [None, 1.0])
def test_a_run_in_shares_of_one_next_to_per_cent_is_refused(margin: float | None) -> None:
    text = list_problems(change_scores(dict.fromkeys(range(15, 30), lambda x: 100 * x)), margin=margin)
    assert "scores must have one unit, and not 0.8 next to 60, shares of 1 and per cent" in text
    few = list_problems(change_scores(dict.fromkeys((3, 17), lambda x: 100 * x)), margin=margin)
    assert "rows 4 and 18: scores must have one unit" in few


def test_small_scores_in_per_cent_and_distances_are_not_refused_as_mixed_units() -> None:
    percent = change_scores(dict.fromkeys(range(30), lambda x: 100 * x))
    for low in (0.0, 0.3, 1.0):  # an image on which a method failed
        assert not list_problems([*percent[:4], (*percent[4][:3], low), *percent[5:]], margin=1.0)
    collapsed = [(*row[:3], 0.1 + 0.01 * place if row[0] == "b" else row[3]) for place, row in enumerate(percent)]
    assert not list_problems(collapsed, margin=1.0)
    distances = change_scores({place: lambda x: 90 * x for place in range(15, 30)})
    assert not list_problems(distances, margin=1.0, lower_is_better=True)


@pytest.mark.parametrize("code", [-1, -999])
def test_a_code_of_failure_is_refused_as_a_score(code: int) -> None:
    assert f"row 4: got {code}.0, as if it were a code of failure" in list_problems(
        change_scores({3: lambda _: code}), margin=0.01
    )
    assert not list_problems(change_scores({place: lambda x: x - 1 for place in range(30)}), margin=0.01)  # all below 0


def test_a_row_of_means_is_refused_as_an_image() -> None:
    more: list[Row] = [(method, seed, "Mean", 0.7) for method in "ab" for seed in range(3)]
    assert (
        "rows 31, 32, 33 and 3 more: each row must be of one image, and not a mean or sum of others, got 'Mean'"
        in list_problems([*ROWS, *more])
    )


def test_seeds_in_the_names_of_methods_are_noted_with_code_that_separates_them() -> None:
    methods, _, images, scores = zip(*((f"{m}_s{s}", s, i, x) for m, s, i, x in ROWS), strict=True)
    columns = {"method": list(methods), "image": list(images), "score": list(scores)}
    (note,) = (each for each in list_notes(judge_columns(columns).answer) if "look like trainings of fewer" in each)
    assert note.startswith("'a_s0', 'a_s1', 'a_s2' and 3 more")
    table = run_text(note.split("`")[1], table=pd.DataFrame(columns))["table"]
    assert set(table["method"]) == {"a", "b"} and set(table["seed"]) == {"0", "1", "2"}
    networks = [(f"resnet_{len(m)}{s}", 0, i, x) for m, s, i, x in ROWS if m == "a"]
    columns = dict(zip(("method", "seed", "image", "score"), zip(*networks, strict=True), strict=True))
    assert "look like" not in str(
        judge_columns({key: list(columns[key]) for key in ("method", "image", "score")}).answer.remarks
    )


def add_classes(*classes: str) -> dict[str, list[Any]]:
    """Return the columns of a table in which each image has these classes."""
    rows = [(*row[:3], name, row[3] - 0.01 * place) for row in ROWS for place, name in enumerate(classes)]
    return {
        name: list(cells)
        for name, cells in zip(("method", "seed", "image", "Class", "score"), zip(*rows, strict=True), strict=True)
    }


@pytest.mark.parametrize("name", ["mean", "Average", "all", "total", "AVG", "macro_avg"])
def test_a_mean_of_classes_is_refused_with_code_that_leaves_it_out(name: str) -> None:
    columns = add_classes("liver", "tumour", name)
    (problem,) = find_problems(columns)
    assert f"each row must be of one class, and not a mean or sum of others, got {name!r};" in problem
    table = run_text(problem.split("`")[1], table=pd.DataFrame(columns))["table"]
    rest = {key: table[key].tolist() for key in columns}
    assert judge_columns(rest).contest == judge_columns(add_classes("liver", "tumour")).contest


def test_a_single_class_may_be_called_all() -> None:
    assert judge_columns(add_classes("all")).answer.images == 5


@pytest.mark.parametrize(("classes", "notes"), [(("bg", "road"), 1), (("Background", "road"), 1), (("bg",), 0)])
def test_a_background_in_the_mean_has_a_caveat(classes: tuple[str, ...], notes: int) -> None:
    texts = list_notes(judge_columns(add_classes(*classes)).answer)
    code = f"`table = table[table['Class'] != {classes[0]!r}]`"
    assert [text.endswith(code) for text in texts if "counts in the mean" in text] == [True] * notes


@pytest.mark.parametrize(
    ("true_pixels", "names"),
    [(0, ["pole"]), (5, ["pole"]), (10, [])],  # of 100 pixels
)
def test_classes_that_no_run_learned_are_named(true_pixels: int, names: list[str]) -> None:
    rows = [
        (method, seed, f"img{image}", name, right, 2 * image, 100 - right)
        for method in ("a", "b")
        for seed in range(3)
        for image in range(5)
        for name, right in (("road", 90 - seed - image), ("pole", true_pixels))
    ]
    columns = dict(zip(("method", "seed", "image", "class", "tp", "fp", "fn"), zip(*rows, strict=True), strict=True))
    remark = judge_columns(columns).answer.find("UNLEARNED")
    assert (() if remark is None else remark.values["classes"]) == tuple(names)
