"""The written report: its statements follow from the records, and no text of the data becomes markup."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from bench.report_words import count_words
from sweeper.core.records import Evidence, Remark, SweepRecord
from sweeper.core.text import format_share
from sweeper.evidence.answer_text import format_answer
from sweeper.evidence.document import AnswerDocument
from sweeper.evidence.phrases import GLOSSARY, format_headline
from sweeper.report import write_report
from sweeper.report.facts import collect_facts
from sweeper.report.figures import DrawnFigure
from sweeper.report.markdown import format_note, render_report
from tests.support import builders
from tests.support.simulated_studies import conclude, cracks, street

NO_FIGURES: dict[str, DrawnFigure | str] = {}
GFM = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def render_text(sweep: SweepRecord, evidence: Evidence | None, document: AnswerDocument | None = None) -> str:
    """Return the report, with ordinary spaces in place of those that do not break."""
    document = document or conclude(sweep, evidence)
    return render_report(collect_facts(sweep, document, evidence), NO_FIGURES).replace("\u00a0", " ")


def get_head(text: str) -> str:
    return text.split("\n## ", maxsplit=1)[0]


def drop_folded(text: str) -> str:
    """Return what is not folded."""
    return re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)


CLEAR = {"dice_focal": 0.71, "dice_ce": 0.67, "cross_entropy": 0.65}


# --- The answer ---------------------------------------------------------------------------------------------


def test_report_terminal_and_note_say_the_same() -> None:
    document = conclude(builders.sweep(), builders.evidence(CLEAR))
    text, note = render_text(builders.sweep(), builders.evidence(CLEAR)), format_note(document).replace("\u00a0", " ")
    terminal = format_answer(document, 500)
    headline = format_headline(document)
    assert headline in text and headline in note and headline.replace("`", "") in terminal
    assert "+0.060 [+0.040, +0.080] mIoU over `cross_entropy` (95 %)" in text
    for step in document.next:
        assert step.command in text and step.command in terminal
    assert document.classes is None and "of the pixels |" not in note
    assert terminal.count("→") == 1 and "→ dice_focal     0.710 [0.690, 0.730]  (3 seeds)" in terminal


def test_report_terminal_note_and_document_agree_on_each_class(tmp_path: Path) -> None:
    study = street()
    document, text = study.document, render_text(study.sweep, study.evidence, study.document)
    note, terminal = format_note(document).replace("\u00a0", " "), format_answer(document, 500)
    assert document.classes is not None and [row.name for row in document.classes.rows][-1] == "road"
    stored = write_report(study.sweep, document, study.evidence, tmp_path).recommendation
    assert json.loads(stored.read_text("utf-8"))["classes"] == json.loads(document.classes.model_dump_json())
    for row in document.classes.rows:
        gain = row.gain
        assert gain is not None
        cells = [row.name, format_share(row.share), *(f"{score.estimate:.3f}" for score in row.scores)]
        cells.append(f"{gain.estimate:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]".replace("-", "−"))
        assert f"| {' | '.join(cells)} |" in text and f"| {' | '.join(cells)} |" in note
        assert re.search(r"\s+".join(map(re.escape, cells)) + "$", terminal, re.MULTILINE)
    rare = document.classes.rows[0]
    assert f"{rare.name} has {format_share(rare.share)} of the pixels" in get_head(text)
    assert not [part for part in (drop_folded(text), note, terminal) if "osts at most" in part]


def test_a_terminal_shows_the_eight_rarest_classes() -> None:
    names = ["road", *(f"thing {n}" for n in range(11))]
    sweep = builders.sweep(data=builders.dataset(names, side=2000))
    classes = tuple(builders.class_evidence(name, (0.5, 0.4, 0.3), gains=(0.2, 0.1, 0.0)) for name in names)
    lines = format_answer(conclude(sweep, builders.evidence(CLEAR, classes=names, per_class=classes)), 200).splitlines()
    shown = [line.split("  ")[1] for line in lines if re.search(r"%  +0\.300  +0\.500", line)]
    assert len(shown) == 8 and "road" not in shown and "  and 4 more common classes" in lines


def test_the_head_says_why_there_is_no_answer() -> None:
    failed = render_text(builders.sweep([builders.failed_trial(reason="CUDA on fire")], []), None)
    assert "**No loss can be recommended.**" in get_head(failed) and "1 failed" in failed and "CUDA on fire" in failed
    sweep = builders.sweep()
    flat = render_text(sweep, builders.evidence({"dice": 0.491, "cross_entropy": 0.48}))
    assert "**No loss can be recommended.**" in get_head(flat)
    assert "--steps 800" in flat and "```python" not in failed + flat


def test_the_snippet_is_verbatim_even_with_backticks() -> None:
    sweep, evidence = builders.sweep(), builders.evidence(CLEAR)
    document = conclude(sweep, evidence)
    code = 'loss = build_loss("dice")  # ```\n\n\n\nprint(loss)'
    document = document.model_copy(update={"use": document.use.model_copy(update={"snippet": code})})
    fences = [t for t in GFM.parse(render_text(sweep, evidence, document)) if t.type == "fence" and t.info == "python"]
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
                "ui",
            ],
        ),
        ({"conditions": builders.conditions(command="python own.py")}, ["export toy"]),
    ],
)
def test_the_next_commands_precede_the_folded_code(changes: dict[str, Any], commands: list[str]) -> None:
    """A study by the user's script has no network of sweeper's, and was made in the own training."""
    sweep = builders.sweep(study="toy", **changes)
    text = render_text(sweep, builders.evidence(CLEAR))
    section = text.split("## What to do next\n")[1].split("\n## ")[0]
    lines = [line for line in drop_folded(section).splitlines() if line.startswith("sweeper") and "--final" not in line]
    assert lines == [f"sweeper {command}" for command in commands]
    assert "```python" in section and "```python" not in drop_folded(text)
    place = {"storage": "sqlite:///other.db", "places": " --tracking-uri http://host"}
    elsewhere = render_text(sweep.model_copy(update=place), builders.evidence(CLEAR))
    for line in elsewhere.splitlines():
        if line.startswith(("sweeper train", "sweeper predict", "sweeper export", "sweeper confirm")):
            assert "--storage sqlite:///other.db" in line
    assert ("sweeper ui --tracking-uri http://host" in elsewhere) == (len(commands) > 1)
    nothing = render_text(builders.sweep([builders.failed_trial()], []), None)
    assert "## What to do next\n\n```bash\n# " in nothing and "sweeper train" not in nothing


@pytest.mark.parametrize("make", [cracks, street])
def test_the_report_is_short_and_explains_its_words(make: Any, tmp_path: Path) -> None:
    study = make()
    text = write_report(study.sweep, study.document, study.evidence, tmp_path, pixels=study.pixels).markdown.read_text()
    counts = count_words(text)
    assert counts.unfolded <= 650 and counts.total <= 1800
    assert "127.0.0.1" not in text
    assert set(GLOSSARY) <= set(re.findall(r"^- \*\*(.+?)\*\*: ", text, re.MULTILINE))


# --- Whatever the study -------------------------------------------------------------------------------------


def test_absent_classes_and_undefined_scores_can_be_reported(tmp_path: Path) -> None:
    profile = builders.profile(builders.dataset(builders.STREET))
    absent = {"component_pixels": None, "thinness": None, "components": 0, "pixel_share": 0.0, "image_share": 0.0}
    classes = (*profile.classes[:-1], profile.classes[-1].model_copy(update=absent))
    changed_profile = profile.model_copy(update={"classes": classes})
    sweep = builders.sweep(profile=changed_profile, versions={}, parent_run_id=None)
    undefined = {"dice": {"iou": (None, None), "fg_iou": None}}
    evidence = builders.evidence({"dice": 0.7, "tversky": 0.6}, finalists=undefined)
    paths = write_report(sweep, conclude(sweep, evidence), evidence, tmp_path)
    text = paths.markdown.read_text("utf-8")
    assert not re.search(r"\b(nan|None|inf)\b|\d\.\d{9}", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    check_figures(text, paths.figures)
    json.loads(paths.recommendation.read_text("utf-8"))


def check_figures(text: str, folder: Path) -> None:
    """Check that every figure that was drawn is included, and no other."""
    assert set(re.findall(r"\]\(figures/(\w+\.svg)\)", text)) == {p.name for p in folder.iterdir()}


def test_a_study_without_finalists_has_no_empty_sections() -> None:
    text = render_text(builders.sweep([builders.trial(seconds_per_step=None)], []), None)
    assert "The search: 1 trial: 1 complete" in text
    for heading in ("## Losses on", "More on the losses"):
        assert heading not in text


# --- Names are data -----------------------------------------------------------------------------------------

HOSTILE = [
    "a|b", "<img src=x onerror=alert(1)>", "`start_ticking` ``two``", "line\n\n# break", "\u202egnp.exe", "[x](http://evil.example)",
    "</td></table><script>", "&lt;b&gt;", "{{ 7*7 }}", "\\",
]  # fmt: skip


def name_everything(names: tuple[str, str], text: str) -> tuple[SweepRecord, AnswerDocument, Evidence]:
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
    classes = tuple(builders.class_evidence(name, (0.5, 0.4, 0.3), gains=(0.2, 0.1, 0.0)) for name in names)
    evidence = builders.evidence(CLEAR, classes=names, scarce=(names[1],), per_class=classes)
    document = conclude(sweep, evidence)
    remarks = (Remark(code="UNLEARNED", values={"classes": names}), *document.remarks)
    return sweep, document.model_copy(update={"remarks": remarks}), evidence
