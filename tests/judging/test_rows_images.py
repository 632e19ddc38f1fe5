"""Images that are numbered again in each patient, fold or class are different images, and none is dropped."""

from __future__ import annotations

import re
import shlex

import pandas as pd

import sweeper
from tests.judging.tables import draw_scores, find_problems, list_notes, make_table
from tests.support.pasting import run_text

FRAME = make_table(draw_scores(images=24, gap=0.03))
PATIENTS = FRAME.assign(group="p" + (FRAME["image"] // 4).astype(str))
NUMBERED = PATIENTS.assign(image=FRAME["image"] % 4)


def test_images_numbered_in_each_group_are_judged_as_images_of_different_names() -> None:
    result, expected = sweeper.judge(NUMBERED), sweeper.judge(PATIENTS)
    assert result.contest.comparisons == expected.contest.comparisons
    assert (result.answer.images, result.answer.groups) == (24, 6)
    (note,) = (each for each in list_notes(result.answer) if "taken to be different images" in each)
    assert "such as '0' in p0 and p1" in note and not any(
        "different images" in each for each in list_notes(expected.answer)
    )


def test_a_numbered_group_may_lack_images_and_have_folds() -> None:
    fewer = NUMBERED[(NUMBERED["group"] != "p1") | (NUMBERED["image"] < 2)]
    assert sweeper.judge(fewer).answer.images == 22
    folds = NUMBERED.assign(fold=FRAME["image"] // 8)
    expected = PATIENTS.assign(fold=FRAME["image"] // 8)
    assert sweeper.judge(folds).contest.comparisons == sweeper.judge(expected).contest.comparisons


def test_repeated_rows_and_means_of_patients_are_refused() -> None:
    twice = pd.concat([NUMBERED, NUMBERED.iloc[:1]])
    assert "one row must be for one method, seed and image" in str(find_problems(twice))
    means = NUMBERED.groupby(["method", "seed", "group"], as_index=False)["score"].mean().assign(image="mean")
    assert "each row must be of one image, and not a mean or sum of others, got 'mean'" in str(
        find_problems(pd.concat([NUMBERED, means]))
    )


def test_the_refusal_of_repeated_rows_has_the_option_that_distinguishes_them() -> None:
    (text,) = find_problems(NUMBERED.rename(columns={"group": "patient no"}))
    pasted = next(word for word in re.findall(r"--column ('group=.*?')", text))
    (word,) = shlex.split(pasted)
    key, _, name = word.partition("=")
    judged = sweeper.judge(NUMBERED.rename(columns={"group": "patient no"}), column={key: name})
    assert judged.contest.comparisons == sweeper.judge(PATIENTS).contest.comparisons


def test_the_printed_code_renames_images_numbered_in_each_fold() -> None:
    frame = FRAME.assign(Fold=FRAME["image"] % 4, Image=FRAME["image"] // 4).drop(columns="image")
    code = re.search(r"in pandas: `(table\[.*\))`", "\n".join(find_problems(frame)))
    table = run_text(code[1], table=frame.copy())["table"]
    expected = sweeper.judge(FRAME.assign(fold=FRAME["image"] % 4))
    assert sweeper.judge(table).contest.comparisons == expected.contest.comparisons


def test_slices_count_as_their_patients_whose_ids_begin_their_names() -> None:
    slices = FRAME.assign(image=[f"patient_{i // 6:03}_slice_{i % 6:02}.png" for i in FRAME["image"]])
    expected = sweeper.judge(slices.assign(group=slices["image"].str[:11]))
    for names in (slices["image"], slices["image"].str.replace("_slice", "/slice")):
        result = sweeper.judge(slices.assign(image=names))
        assert result.contest.comparisons == expected.contest.comparisons
        assert (result.answer.images, result.answer.groups) == (24, 4)
        assert "of 4 groups (patient_000, patient_001, patient_002 and 1 more)" in str(list_notes(result.answer))
    alone = sweeper.judge(slices.assign(group=slices["image"]))
    assert alone.contest.comparisons == sweeper.judge(FRAME).contest.comparisons
    two = sweeper.judge(FRAME.assign(image=[f"v{i // 12}_{i % 12}" for i in FRAME["image"]]))
    assert two.answer.groups is None and "may belong together by their names (v0, v1)" in str(list_notes(two.answer))
