"""Plans of studies are stored with them, and compared at a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from sweeper import storage as studies
from sweeper.core.errors import StudyError
from sweeper.core.records import FamilyStart
from sweeper.storage.record_format import PLAN
from tests.support.faking import SPACE, new_plan


def test_the_plan_of_a_study_is_stored_after_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that is interrupted right after its plan was stored is resumed with the same total."""
    storage = studies.open_storage(f"sqlite:///{tmp_path}/a.db")
    order: list[str] = []
    write = optuna.Study.set_user_attr

    def note_key(study: optuna.Study, key: str, value: Any) -> None:
        order.append(key)
        write(study, key, value)

    monkeypatch.setattr(optuna.Study, "set_user_attr", note_key)
    studies.create_study(storage, "s", new_plan(), {"trials": 7})
    assert order == [studies.OPTIONS, studies.MACHINE, PLAN]
    assert studies.read_options(storage, "s") == {"trials": 7}


def test_creating_an_existing_study_and_reading_a_missing_one_are_refused(tmp_path: Path) -> None:
    storage = studies.open_storage(f"sqlite:///{tmp_path}/a.db")
    studies.create_study(storage, "s", new_plan())
    with pytest.raises(StudyError, match="--resume"):
        studies.create_study(storage, "s", new_plan())
    with pytest.raises(StudyError, match="there are s"):
        studies.read_plan(storage, "other")


def test_differences_of_plans_list_what_changed() -> None:
    old = new_plan()
    recipe = old.conditions.recipe.model_copy(update={"steps": 999})
    dataset = old.conditions.dataset.model_copy(update={"digest": "sha256:other"})
    new = old.model_copy(
        update={"conditions": old.conditions.model_copy(update={"recipe": recipe, "dataset": dataset, "seed": 5})}
    )
    text = "\n".join(studies.list_plan_differences(old, new))
    assert f"recipe.steps: {old.conditions.recipe.steps} → 999" in text
    assert "data set" in text and "seed: " in text
    fewer = SPACE.model_copy(update={"families": SPACE.families[1:]})
    assert "space.cross_entropy" in studies.list_plan_differences(old, old.model_copy(update={"space": fewer}))[0]
    other = SPACE.model_copy(update={"present": FamilyStart(family="dice", params={})})
    (line,) = studies.list_plan_differences(old, old.model_copy(update={"space": other}))
    assert line.startswith("present loss: {'family': 'cross_entropy', ") and "'dice'" in line
    assert studies.list_plan_differences(old, old) == []
