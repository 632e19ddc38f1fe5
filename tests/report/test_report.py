"""The written report: what it says follows from the records, nothing in it is markup from data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from sweeper.core.records import Evidence, ImbalanceProfile, Recommendation, SweepRecord
from sweeper.evidence.recommendation import recommend
from sweeper.report import write_report
from sweeper.report.caveats import caveats
from sweeper.report.facts import collect
from sweeper.report.figures import FIGURES, Drawn
from sweeper.report.markdown import render
from tests.report.test_simulated import cracks, snippet, street
from tests.support import builders
from tests.support.marks import rest_slow

NO_FIGURES: dict[str, Drawn | str] = {}
GFM = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def recommended(evidence: Evidence | None, **changes: Any) -> Recommendation:
    answer = recommend(evidence, task="binary", order=builders.ORDER, snippet=snippet)
    return answer.model_copy(update=changes)


def text_of(sweep: SweepRecord, answer: Recommendation) -> str:
    """The report, with ordinary spaces in place of those that do not break."""
    return render(collect(sweep, answer), NO_FIGURES, "http://127.0.0.1:5000").replace("\u00a0", " ")


def head(text: str) -> str:
    return text.split("\n## ", maxsplit=1)[0]


def opened(text: str) -> str:
    """What is not folded."""
    return re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)


CLEAR = {"dice_focal": 0.71, "dice_ce": 0.67, "cross_entropy": 0.65}
NEAR = {"dice_focal": 0.71, "dice_ce": 0.705, "cross_entropy": 0.65}


# --- The text ----------------------------------------------------------------------------------------------------


def test_reasons_and_next_steps_name_losses_in_code_and_use_a_true_minus_sign() -> None:
    answer = recommended(builders.evidence(CLEAR, half=0.05))
    assert not any("`dice" in reason for reason in answer.reasons)  # plain in the record
    text = text_of(builders.sweep(), answer)
    assert "- `dice_focal` against `dice_ce`: +0.040 mIoU (95 % interval −0.010 to +0.090)" in text
    assert "-0.010" not in text


def test_a_loss_with_few_completed_trials_is_said_to_be_hardly_tuned_with_its_counts() -> None:
    trials = [builders.trial("dice_focal", 0.7, 0)]
    trials += [builders.trial("dice_focal", 0.5, 1 + i, state="pruned") for i in range(4)]
    trials += [builders.trial("cross_entropy", 0.6, 5)]  # nothing but a learning rate, which all trials tune
    trials += [builders.trial("focal", 0.5, 6)]

    def text(completed: int) -> str:
        """With as many completed trials of the finalist, those of the same function by another name among them."""
        finalists = {"dice_focal": {"trials_completed": completed}}
        return text_of(builders.sweep(trials), recommended(builders.evidence(CLEAR, finalists=finalists)))

    hardly = "fewer than 3 completed search trials:"
    assert f"{hardly} `focal` (1) and `dice_focal` (2)." in text(2)
    assert f"{hardly} `focal` (1)." in text(3)


def test_where_nothing_is_recommended_the_head_says_why_and_the_reasons_of_failures_are_told() -> None:
    failed = text_of(builders.sweep([builders.failed_trial(reason="CUDA on fire")], []), recommended(None))
    assert "**No recommendation: no loss was confirmed.**" in head(failed) and "1 failed" in head(failed)
    assert "CUDA on fire" in failed
    answer = recommended(builders.evidence({"dice": 0.491, "cross_entropy": 0.48}))
    flat = text_of(builders.sweep(), answer)
    assert "**Budget too small: no loss learned this data.**" in head(flat)
    assert "the best test mIoU is 0.491 (`dice`); the same answer everywhere scores 0.490" in head(flat)
    assert "```python" not in failed + flat


def test_the_snippet_stands_verbatim_even_with_backticks_in_it() -> None:
    answer = recommended(builders.evidence(CLEAR))
    assert answer.recommended is not None
    hard = 'loss = build_loss("dice")  # ```\n\n\n\nprint(loss)'
    answer = answer.model_copy(update={"recommended": answer.recommended.model_copy(update={"snippet": hard})})
    fences = [t for t in GFM.parse(text_of(builders.sweep(), answer)) if t.type == "fence" and t.info == "python"]
    assert [f.content for f in fences] == [hard + "\n"]


# --- The sections -------------------------------------------------------------------------------------------


def test_finalists_link_their_runs() -> None:
    text = text_of(builders.sweep(), recommended(builders.evidence(CLEAR)))
    assert (
        "(http://127.0.0.1:5000/#/experiments/1/runs/run-confirm-dice_focal-101?workflowType=machine_learning)" in text
    )
    assert "need `sweeper ui`" in text and "](http" not in opened(text)
    without = text_of(builders.sweep(experiment_id=None), recommended(builders.evidence(CLEAR)))
    assert "/#/experiments" not in without


def test_families_without_a_trial_are_named() -> None:
    sweep = builders.sweep([builders.trial("dice", 0.6)], [])
    assert "Not tried: `cross_entropy`, `weighted_ce`, `focal`, `tversky`, `dice_ce` and `dice_focal`." in text_of(
        sweep, recommended(None)
    )


def test_collapses_are_counted_at_the_chosen_and_the_plain_operating_point() -> None:
    collapsed = builders.trial("dice", 0.0, 0, collapse="all_background", collapse_at_default="all_background")
    shifted = builders.trial("weighted_ce", 0.74, 1, collapse_at_default="no_better_than_constant", state="pruned")
    text = text_of(builders.sweep([collapsed, shifted], []), recommended(None))
    assert re.search(r"`dice` \| 1 × predicted nothing but the commonest class \| – \| 1 of 1 \| 1 of 1", text)
    assert "| `weighted_ce` | – | – | 0 of 1 | 1 of 1 |" in text
    assert "No search trial collapsed" in text_of(builders.sweep([builders.trial()], []), recommended(None))


def test_caveats_are_computed() -> None:
    def of(sweep: SweepRecord, **finalists: dict[str, Any]) -> str:
        return "\n".join(caveats(collect(sweep, recommended(builders.evidence(CLEAR, finalists=finalists)))))

    plain = of(builders.sweep())
    assert "24 test images, fewer than 40" in plain
    assert "0.010 mIoU, which is about 0.020 foreground IoU" in plain
    assert "Predicting only background scores 0.490" in plain
    assert "synthetic" in plain
    assert "concluded" not in plain
    assert "concluded 3 times from different confirmations" in of(builders.sweep(conclusions=3))
    assert "edge" not in plain
    assert "related" not in plain
    assert "high edge" in of(builders.sweep(), dice_focal={"lr": 0.0099})
    assert "`dice_focal` in 1 of 3" in of(builders.sweep(), dice_focal={"collapses": 1})
    data = builders.dataset(synthetic=False, warnings=("masks of a.png are small",))
    real = of(builders.sweep(data=data))
    assert "synthetic" not in real
    grouped = recommended(builders.evidence(CLEAR, test_groups=9))
    assert "The 24 test images come in 9 groups" in "\n".join(caveats(collect(builders.sweep(), grouped)))
    assert "masks of a.png are small" in real
    profile = builders.profile()
    row = profile.classes[-1].model_copy(update={"name": "fence", "pixel_share": 0.0})
    absent = of(builders.sweep(profile=profile.model_copy(update={"classes": (*profile.classes, row)})))
    assert "Classes without a pixel, left out of every mean: fence." in absent and "without a pixel" not in real


# --- Whatever the study -------------------------------------------------------------------------------------


def odd_studies() -> dict[str, tuple[SweepRecord, Recommendation]]:
    one = builders.evidence({"dice": 0.7})
    bare = builders.profile().model_copy(update={"classes": builders.profile().classes})
    empty_classes = tuple(
        c.model_copy(
            update={"component_pixels": None, "thinness": None, "components": 0, "pixel_share": i * 1.0 * 0 + (i == 0)}
        )
        for i, c in enumerate(bare.classes)
    )
    curious: ImbalanceProfile = bare.model_copy(
        update={
            "classes": empty_classes,
            "imbalance": float("inf"),
            "pos_weight": None,
            "alpha": None,
            "empty_images": 10,
        }
    )
    diverged = builders.evidence(
        {"dice": 0.7, "cross_entropy": 0.5}, finalists={"dice": {"iou": (None, None), "fg_iou": None}}
    )
    return {
        "one family": (builders.sweep([builders.trial("dice")], [builders.confirmation("dice")]), recommended(one)),
        "no baseline": (builders.sweep(), recommended(builders.evidence({"dice": 0.7, "tversky": 0.6}))),
        "diverged": (builders.sweep([builders.trial()], [builders.diverged("dice")]), recommended(diverged)),
        "odd profile": (builders.sweep(profile=curious, imbalance=float("inf")), recommended(builders.evidence(CLEAR))),
        "nothing asked": (builders.sweep([], [], trials_asked=0, versions={}, parent_run_id=None), recommended(None)),
    }


@pytest.mark.parametrize("name", odd_studies())
def test_any_state_of_a_study_can_be_reported(tmp_path: Path, name: str) -> None:
    sweep, answer = odd_studies()[name]
    paths = write_report(sweep, answer, tmp_path)
    text = paths.markdown.read_text("utf-8")
    assert not re.search(r"\b(nan|None|inf)\b|\d\.\d{9}", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    assert_figures_agree(text, paths.figures)
    json.loads(paths.recommendation.read_text("utf-8"))


def assert_figures_agree(text: str, folder: Path) -> None:
    """Every figure that was drawn is shown, and no other."""
    assert set(re.findall(r"\]\(figures/(\w+\.svg)\)", text)) == {p.name for p in folder.iterdir()}


def test_a_study_without_finalists_says_so_once_and_shows_no_empty_sections() -> None:
    text = text_of(builders.sweep([builders.trial(seconds_per_step=None)], []), recommended(None))
    assert text.count("No configuration was confirmed on the test split") == 1
    for heading in (
        "Class by class",
        "Finalists in detail",
        "operating point lies",
        "## Cost",
        "## If you care",
        "## Statistics",
    ):
        assert heading not in text
    assert "## The search" in text


@pytest.mark.parametrize("make", rest_slow([street, cracks]))
def test_a_whole_report_has_every_figure_and_no_stray_value(tmp_path: Path, make: Any) -> None:
    study = make(trials=30)
    paths = write_report(study.sweep, study.recommendation, tmp_path, pixels=study.pixels)
    text = paths.markdown.read_text("utf-8")
    assert_figures_agree(text, paths.figures)
    assert {*FIGURES} == {path.stem for path in paths.figures.iterdir()}
    assert not re.search(r"\b(nan|None|inf)\b", text)
    rendered = GFM.render(text)
    for row in re.findall(r"<table>.*?</table>", rendered, re.DOTALL):
        widths = {len(re.findall(r"<t[hd]", line)) for line in re.findall(r"<tr>.*?</tr>", row, re.DOTALL)}
        assert len(widths) == 1
    for link in re.findall(r'href="([^"]+)"', rendered):
        assert link.startswith("http://127.0.0.1:5000/") or (paths.folder / link).exists()


# --- Names are data -----------------------------------------------------------------------------------------

HOSTILE = [
    "a|b", "<img src=x onerror=alert(1)>", "`tick` ``two``", "line\n\n# break", "\u202egnp.exe", "[x](http://evil.example)",
    "</td></table><script>", "&lt;b&gt;", "{{ 7*7 }}", "\\",
]  # fmt: skip


def named(names: tuple[str, str], text: str) -> tuple[SweepRecord, Recommendation]:
    data = builders.dataset(names, name=text, source=text, warnings=(text,))
    images = tuple(p.model_copy(update={"stem": text}) for p in data.images)
    data = data.model_copy(update={"images": images})
    failed = builders.failed_trial("dice", 1, reason=text)
    lost = builders.trial("dice", 0.1, 2, collapse="class_never_predicted", never_predicted=(names[1],))
    sweep = builders.sweep(
        [builders.trial(), failed, lost], data=data, command=text, versions={text: text}, study="study " + text
    )
    answer = recommended(builders.evidence(CLEAR, classes=names), reasons=(text,), next_steps=(text,))
    return sweep, answer
