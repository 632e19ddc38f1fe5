"""JSON Schemas of every document for programs.

    python docs/site/schemas.py docs/schemas

A test compares the committed files.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from sweeper.cli.doctor import DoctorDocument
from sweeper.cli.losses import LossesDocument
from sweeper.cli.profile import ProfileDocument
from sweeper.core.document import Document, ErrorDocument
from sweeper.deployment.export import ExportDocument
from sweeper.deployment.predict import PredictionsDocument
from sweeper.deployment.train import TrainingDocument
from sweeper.evidence.document import AnswerDocument
from sweeper.scripts.contract import TrialDocument
from sweeper.scripts.probe import ProbeDocument
from sweeper.workflow.dry_run import PreviewDocument
from sweeper.workflow.status import StatusDocument
from sweeper.workflow.studies import StudiesDocument

DOCUMENTS: tuple[type[Document], ...] = (
    AnswerDocument,
    PreviewDocument,
    ProbeDocument,
    TrialDocument,
    ProfileDocument,
    StudiesDocument,
    ExportDocument,
    TrainingDocument,
    PredictionsDocument,
    LossesDocument,
    StatusDocument,
    DoctorDocument,
    ErrorDocument,
)
"""All of them, in the order of the flow."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def make_file_name(kind: type[Document]) -> str:
    """`recommendation-1.json`: name and number of the form."""
    return kind.SCHEMA.removeprefix("sweeper.").replace("/", "-") + ".json"


def make_schema(kind: type[Document]) -> dict[str, Any]:
    """Return the JSON Schema of a document, which allows further keys, as keys are added."""
    described = kind.model_json_schema(mode="serialization", schema_generator=_Described)
    name = {"const": kind.SCHEMA, "description": "Name and number of this form.", "type": "string"}
    described["properties"] = {"schema": name, **described["properties"]}
    described["required"] = ["schema", *described.get("required", ())]
    _settle(described, kind.NULL_NUMBERS)
    return {"$schema": DIALECT, "$id": kind.SCHEMA, **described, "title": kind.SCHEMA}


def format_schema(kind: type[Document]) -> str:
    """Return the published file."""
    return json.dumps(make_schema(kind), indent=2) + "\n"


class _Described(GenerateJsonSchema):
    """Fields are described by the sentences below them, as the code has them; each is written, and so required."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        return True

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        made = super().model_schema(schema)
        for name, text in _read_sentences(schema["cls"]).items():
            if name in made.get("properties", {}):
                made["properties"][name].setdefault("description", text)
        if "description" in made:
            made["description"] = " ".join(made["description"].split())
        return made


def _read_sentences(kind: type) -> dict[str, str]:
    """Return the docstrings below the fields of a class and of those it is derived from."""
    sentences: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not base.__module__.startswith("sweeper."):
            continue
        (defined,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(defined, ast.ClassDef)
        for field, below in zip(defined.body, defined.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                sentences[field.target.id] = " ".join(str(below.value.value).split())
    return sentences


def _settle(part: Any, null_numbers: bool) -> None:
    """Let each object take other keys, and say of each number whether it may be null; titles and defaults go."""
    if isinstance(part, list):
        for item in part:
            _settle(item, null_numbers)
    if not isinstance(part, dict):
        return
    for name in ("title", "default"):
        if not isinstance(part.get(name), dict):
            part.pop(name, None)
    if "properties" in part:
        part.pop("additionalProperties", None)
    if null_numbers and part.get("type") == "number":
        part["type"] = ["number", "null"]
    for item in part.values():
        _settle(item, null_numbers)


def write(folder: Path) -> None:
    """Write the schema of every document, and remove those of none."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {make_file_name(kind): format_schema(kind) for kind in DOCUMENTS}
    for path in folder.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
