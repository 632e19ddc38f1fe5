"""Many problems of one kind are one line with their number and two places."""

from __future__ import annotations

from sweeper.data.problem_lines import group_problems


def list_size_problems(*names: str) -> list[str]:
    return [f"masks/{n}.png: must have its image's size 16×12, found 9×{i}; correct it" for i, n in enumerate(names)]


def test_a_few_problems_are_listed_once_each_in_order():
    problems = [
        *list_size_problems("c", "a", "b"),
        "split.csv: line 12: a row; correct it",
        "split.csv: line 3 must be",
        "no colon at all",
    ]
    assert group_problems([*problems, *problems]) == sorted(problems)


def test_many_files_share_a_line_with_two_examples():
    lines = group_problems([*list_size_problems(*"dcba"), "masks/x.png: is empty; remove it"])
    assert lines == [
        "4 files, e.g. masks/a.png, masks/b.png: must have its image's size 16×12, found 9×3; correct it",
        "masks/x.png: is empty; remove it",
    ]


def test_problems_of_many_lines_of_a_table_or_of_files_share_a_line():
    rows = [f"split.csv: line {n}: no image has the stem 'p{n}'; remove it" for n in (10, 9, 8, 7)]
    assert group_problems(rows) == ["split.csv: line 7: no image has the stem 'p7'; remove it (and 3 more like it)"]
    rows = [f"labels/{file}.txt: line {n}: must be a polygon" for file in "ab" for n in (1, 2)]
    assert group_problems(rows) == ["4 faults in 2 files, e.g. labels/a.txt, labels/b.txt: line 1: must be a polygon"]


def test_names_with_spaces_share_a_line():
    names = ["Anna A (copy)", "Ben B", "Cy's", "Dora [1]"]
    (line,) = group_problems([f"images/{name}.png: has no mask; add masks/{name}.png" for name in names])
    assert line.startswith("4 files, e.g. images/Anna A (copy).png, images/Ben B.png: has no mask; add masks/Anna")
