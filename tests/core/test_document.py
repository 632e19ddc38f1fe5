"""Documents that commands print follow docs/schemas, which docs/site/schemas.py generates from the code."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sweeper import storage as studies
from sweeper.core.document import Document
from sweeper.workflow.status import Heartbeat, get_status_file
from tests.support.faking import FakeExecutor, fake_result, new_plan, train
from tests.support.folders import folder, mask
from tests.support.schemas import SCHEMAS, problems

Sweeper = Callable[..., tuple[int, str, str]]
GENERATOR = runpy.run_path(str(SCHEMAS.parent / "site" / "schemas.py"))
DOCUMENTS: tuple[type[Document], ...] = GENERATOR["DOCUMENTS"]
make_file_name: Callable[[type[Document]], str] = GENERATOR["make_file_name"]


@pytest.mark.parametrize("kind", DOCUMENTS, ids=make_file_name)
def test_the_published_schema_is_that_of_the_code(kind: type[Document]) -> None:
    text = (SCHEMAS / make_file_name(kind)).read_text("utf-8")
    assert text == GENERATOR["format_schema"](kind), "`make docs` writes it again"
    Draft202012Validator.check_schema(json.loads(text))


def test_each_document_has_one_schema_and_all_are_listed() -> None:
    def list_derived(kind: type[Document]) -> set[type[Document]]:
        return {kind, *(below for child in kind.__subclasses__() for below in list_derived(child))}

    assert list_derived(Document) - {Document} == set(DOCUMENTS)
    assert len({kind.SCHEMA for kind in DOCUMENTS}) == len(DOCUMENTS)
    assert {make_file_name(kind) for kind in DOCUMENTS} == {path.name for path in SCHEMAS.glob("*.json")}
    listed = (SCHEMAS.parent / "reference" / "documents.md").read_text("utf-8")
    assert all(f"`{kind.SCHEMA}`" in listed and f"../schemas/{make_file_name(kind)}" in listed for kind in DOCUMENTS)


def test_a_document_with_a_missing_or_further_key_is_refused() -> None:
    sound: dict[str, Any] = {"schema": "sweeper.doctor/2", "ok": False, "checks": []}
    assert not problems(sound)
    assert problems({**sound, "more": 1}) and problems({**sound, "ok": "no"})
    assert problems({name: value for name, value in sound.items() if name != "checks"})
    published = json.loads((SCHEMAS / "doctor-2.json").read_text("utf-8"))
    Draft202012Validator(published).validate({**sound, "more": 1})  # the published schema accepts further keys


def test_documents_of_commands_follow_their_schemas(sweeper: Sweeper, tmp_path: Path) -> None:
    """The fixture checks every printed document, in this and all other tests of commands."""
    root = folder(tmp_path / "data", {name: mask(0, 1) for name in "abcdefgh"})
    storage = studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db")
    plan = new_plan()
    train(studies.create_study(storage, "s", plan), FakeExecutor(fake_result), plan=plan)
    with Heartbeat(get_status_file(f"sqlite:///{tmp_path}/sweeper.db", "s"), "s"):
        pass
    database = ("--storage", f"sqlite:///{tmp_path}/sweeper.db")
    for words, schema in (
        (("profile", root), "profile"),
        (("losses",), "losses"),
        (("studies", *database), "studies"),
        (("studies", "show", "s", *database), "status"),
        (("export", "s", *database), "export"),
        (("report", "t", *database), "error"),
    ):
        _, out, err = sweeper(*words, "--json")
        assert out and json.loads(out)["schema"] == f"sweeper.{schema}/1", err
