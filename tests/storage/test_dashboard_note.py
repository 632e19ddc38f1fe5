"""What optuna-dashboard shows of a study; it is no dependency, so that its format is repeated here."""

from __future__ import annotations

import optuna
import pytest
from markdown_it import MarkdownIt

from sweeper import storage as studies
from sweeper.storage.attributes import PARAMETERS
from sweeper.storage.dashboard_note import MARK
from tests.support.faking import new_search, new_study


def shown(study: optuna.Study) -> str:
    """As optuna-dashboard 0.21 reads a note (`get_note_from_system_attrs`)."""
    attributes = study._storage.get_study_system_attrs(study._study_id)
    parts = {key: part for key, part in attributes.items() if key.startswith("dashboard:note_str:")}
    return "".join(parts[f"dashboard:note_str:{n}"] for n in range(len(parts)))


@pytest.mark.parametrize("length", [1, 2045, 2046, 9000])
def test_a_note_is_what_the_dashboard_reads_whatever_was_there_before(length: int) -> None:
    study = optuna.create_study()
    studies.note_report(study, "é" * 5000)
    text = "# Use `dice`\n" * length
    studies.note_report(study, text[:length])
    assert shown(study) == MARK + text[:length]
    attributes = study._storage.get_study_system_attrs(study._study_id)
    assert attributes["dashboard:note_ver"] == 2
    assert max(len(part) for key, part in attributes.items() if "note_str" in key) <= 2045
    studies.note_report(study, text[:length])
    assert study._storage.get_study_system_attrs(study._study_id) == attributes


def test_a_note_that_somebody_wrote_stays() -> None:
    study = optuna.create_study()
    study._storage.set_study_system_attr(study._study_id, "dashboard:note_str:0", "Our own words")
    studies.note_report(study, "the head of the report")
    assert shown(study) == "Our own words"


def test_the_mark_of_our_notes_is_shown_nowhere() -> None:
    rendered = MarkdownIt("commonmark", {"html": False}).render(MARK + "**Train with `dice`**")
    assert rendered.strip() == "<p><strong>Train with <code>dice</code></strong></p>"


def test_a_trial_shows_the_numbers_it_is_trained_with() -> None:
    """Optuna's own parameter of the weight is an exponent of the imbalance."""
    study = new_study()
    study.enqueue_trial({"loss": "weighted_ce", "weighted_ce.pos_weight_power": 0.5, "weighted_ce.lr": 0.003})
    spec = new_search(study, 9).next()
    assert spec is not None and spec.params["pos_weight"] == pytest.approx(60**0.5)
    assert study.trials[0].user_attrs[PARAMETERS] == "pos_weight 7.75, lr 0.003"
