"""The written report: its statements follow from the records, and no text of the data becomes markup."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from sweeper.core.records import Evidence, Recommendation, SweepRecord
from sweeper.evidence.recommendation import make_recommendation
from sweeper.report import write_report
from sweeper.report.facts import collect_facts
from sweeper.report.figures import DrawnFigure
from sweeper.report.markdown import render_report
from tests.support import builders
from tests.support.simulated_studies import snippet

NO_FIGURES: dict[str, DrawnFigure | str] = {}
GFM = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def recommend(evidence: Evidence | None, **changes: Any) -> Recommendation:
    answer = make_recommendation(evidence, task="binary", order=builders.ORDER, snippet=snippet)
    return answer.model_copy(update=changes)


def render_text(sweep: SweepRecord, answer: Recommendation) -> str:
    """Return the report, with ordinary spaces in place of those that do not break."""
    return render_report(collect_facts(sweep, answer), NO_FIGURES, "http://127.0.0.1:5000").replace("\u00a0", " ")


def get_head(text: str) -> str:
    return text.split("\n## ", maxsplit=1)[0]


def drop_folded(text: str) -> str:
    """Return what is not folded."""
    return re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)


CLEAR = {"dice_focal": 0.71, "dice_ce": 0.67, "cross_entropy": 0.65}
NEAR = {"dice_focal": 0.71, "dice_ce": 0.705, "cross_entropy": 0.65}


# --- The text ----------------------------------------------------------------------------------------------------


def test_reasons_have_losses_as_code_and_a_true_minus_sign() -> None:
    answer = recommend(builders.evidence(CLEAR, half=0.05))
    assert not any("`dice" in reason for reason in answer.reasons)  # plain in the record
    text = render_text(builders.sweep(), answer)
    assert "- `dice_focal` against `dice_ce`: +0.040 mIoU (95 % interval −0.010 to +0.090)" in text
    assert "-0.010" not in text


def test_the_report_says_how_optuna_dashboard_opens_the_study_without_a_password() -> None:
    sweep, answer = builders.sweep([builders.trial("dice", 0.6, 0)], []), recommend(None)
    assert "`optuna-dashboard sqlite:///sweeper.db`, a package" in render_text(sweep, answer)
    text = render_text(sweep.model_copy(update={"storage": "postgresql://me:secret@host/db"}), answer)
    assert "optuna-dashboard" in text and "secret" not in text and "${SWEEPER_STORAGE" in text


def test_the_head_says_why_no_loss_is_recommended() -> None:
    failed = render_text(builders.sweep([builders.failed_trial(reason="CUDA on fire")], []), recommend(None))
    assert "**No recommendation: no loss was confirmed.**" in get_head(failed) and "1 failed" in get_head(failed)
    assert "CUDA on fire" in failed
    answer = recommend(builders.evidence({"dice": 0.491, "cross_entropy": 0.48}))
    flat = render_text(builders.sweep(), answer)
    assert "**Budget too small: no loss learned this data.**" in get_head(flat)
    assert "the best test mIoU is 0.491 (`dice`); the same answer everywhere scores 0.490" in get_head(flat)
    assert "```python" not in failed + flat


def test_the_snippet_is_verbatim_even_with_backticks() -> None:
    answer = recommend(builders.evidence(CLEAR))
    assert answer.recommended is not None
    code = 'loss = build_loss("dice")  # ```\n\n\n\nprint(loss)'
    answer = answer.model_copy(update={"recommended": answer.recommended.model_copy(update={"snippet": code})})
    fences = [t for t in GFM.parse(render_text(builders.sweep(), answer)) if t.type == "fence" and t.info == "python"]
    assert [f.content for f in fences] == [code + "\n"]


@pytest.mark.parametrize(
    ("changes", "commands"),
    [
        (
            {},
            [
                "train toy",
                "predict toy new_images/ --out answers",
                "export toy",
                'confirm toy --command "python train.py"',
            ],
        ),
        ({"conditions": builders.conditions(command="python own.py")}, ["export toy"]),
    ],
)
def test_the_next_commands_precede_the_folded_code(changes: dict[str, Any], commands: list[str]) -> None:
    """A study by the user's script has no network of sweeper's, and was made in the own training."""
    sweep = builders.sweep(study="toy", **changes)
    text = render_text(sweep, recommend(builders.evidence(CLEAR)))
    section = text.split("## What to do next\n")[1].split("\n## ")[0]
    assert [line for line in drop_folded(section).splitlines() if line.startswith("sweeper")] == [
        f"sweeper {command}" for command in commands
    ]
    assert "```python" in section and "```python" not in drop_folded(text)
    assert ("script: 12 to 18 trainings" in section) == (len(commands) > 1)
    place = {"storage": "sqlite:///other.db", "places": " --tracking-uri http://host"}
    other_places = render_text(sweep.model_copy(update=place), recommend(builders.evidence(CLEAR)))
    assert other_places.count("--storage sqlite:///other.db") >= len(commands)
    nothing = render_text(builders.sweep([builders.failed_trial()], []), recommend(None))
    assert "## What to do next\n\n```bash\nsweeper run --study" in nothing and "sweeper train" not in nothing


# --- The sections -------------------------------------------------------------------------------------------


def test_finalists_link_their_runs() -> None:
    text = render_text(builders.sweep(), recommend(builders.evidence(CLEAR)))
    assert (
        "(http://127.0.0.1:5000/#/experiments/1/runs/run-confirm-dice_focal-101?workflowType=machine_learning)" in text
    )
    assert "need `sweeper ui`" in text and "](http" not in drop_folded(text)
    without = render_text(builders.sweep(experiment_id=None), recommend(builders.evidence(CLEAR)))
    assert "/#/experiments" not in without


def test_families_without_a_trial_are_listed() -> None:
    sweep = builders.sweep([builders.trial("dice", 0.6)], [])
    assert "Not tried: `cross_entropy`, `weighted_ce`, `focal`, `tversky`, `dice_ce` and `dice_focal`." in render_text(
        sweep, recommend(None)
    )


def test_collapses_are_counted_at_the_chosen_and_the_plain_operating_point() -> None:
    collapsed = builders.trial("dice", 0.0, 0, collapse="all_background", collapse_at_default="all_background")
    shifted = builders.trial("weighted_ce", 0.74, 1, collapse_at_default="no_better_than_constant")
    text = render_text(builders.sweep([collapsed, shifted], []), recommend(None))
    assert re.search(r"`dice` \| 1 × predicted only the most common class \| – \| 1 of 1 \| 1 of 1", text)
    assert "| `weighted_ce` | – | – | 0 of 1 | 1 of 1 |" in text
    assert "No search trial collapsed" in render_text(builders.sweep([builders.trial()], []), recommend(None))


def test_the_imbalance_explains_the_result() -> None:
    answer = recommend(builders.evidence(CLEAR, finalists={"dice_focal": {"points": (0.2,) * 3}}))
    text = render_text(builders.sweep(), answer)
    assert "### How it shows in the result\n\n- crack takes" in text
    assert "- `dice_focal` scores best on validation at threshold 0.20" in text
    assert "complete search trainings still gained" in text
    single = render_text(builders.sweep([]), recommend(builders.evidence({"dice": 0.7})))
    assert "steps and trials sufficed" not in single


# --- Whatever the study -------------------------------------------------------------------------------------


def test_absent_classes_and_undefined_scores_can_be_reported(tmp_path: Path) -> None:
    profile = builders.profile(builders.dataset(builders.STREET))
    absent = {"component_pixels": None, "thinness": None, "components": 0, "pixel_share": 0.0, "image_share": 0.0}
    classes = (*profile.classes[:-1], profile.classes[-1].model_copy(update=absent))
    changed_profile = profile.model_copy(update={"classes": classes})
    sweep = builders.sweep(profile=changed_profile, versions={}, parent_run_id=None)
    undefined = {"dice": {"iou": (None, None), "fg_iou": None}}
    answer = recommend(builders.evidence({"dice": 0.7, "tversky": 0.6}, finalists=undefined))
    paths = write_report(sweep, answer, tmp_path)
    text = paths.markdown.read_text("utf-8")
    assert not re.search(r"\b(nan|None|inf)\b|\d\.\d{9}", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    check_figures(text, paths.figures)
    json.loads(paths.recommendation.read_text("utf-8"))


def check_figures(text: str, folder: Path) -> None:
    """Check that every figure that was drawn is included, and no other."""
    assert set(re.findall(r"\]\(figures/(\w+\.svg)\)", text)) == {p.name for p in folder.iterdir()}


def test_a_study_without_finalists_has_no_empty_sections() -> None:
    text = render_text(builders.sweep([builders.trial(seconds_per_step=None)], []), recommend(None))
    assert text.count("No configuration was confirmed on the test split") == 1 and "## The search" in text
    for heading in ("Finalists in detail", "## If you care", "## Statistics"):
        assert heading not in text


# --- Names are data -----------------------------------------------------------------------------------------

HOSTILE = [
    "a|b", "<img src=x onerror=alert(1)>", "`start_ticking` ``two``", "line\n\n# break", "\u202egnp.exe", "[x](http://evil.example)",
    "</td></table><script>", "&lt;b&gt;", "{{ 7*7 }}", "\\",
]  # fmt: skip


def name_everything(names: tuple[str, str], text: str) -> tuple[SweepRecord, Recommendation]:
    data = builders.dataset(names, name=text, source=text, warnings=(text,))
    images = tuple(p.model_copy(update={"stem": text}) for p in data.images)
    data = data.model_copy(update={"images": images})
    failed = builders.failed_trial("dice", 1, reason=text)
    collapsed = builders.trial("dice", 0.1, 2, collapse="class_never_predicted", never_predicted=(names[1],))
    sweep = builders.sweep(
        [builders.trial(), failed, collapsed],
        data=data,
        command=shlex.join(["sweeper", "run", text]),
        versions={text: text},
        study="study " + text,
    )
    answer = recommend(builders.evidence(CLEAR, classes=names), reasons=(text,), next_steps=(text,))
    return sweep, answer
