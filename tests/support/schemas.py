"""Documents of the tests against the published schemas, which take no key here that they do not describe."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"


@cache
def _validator(name: str) -> Draft202012Validator:
    path = SCHEMAS / (name.removeprefix("sweeper.").replace("/", "-") + ".json")
    assert path.exists(), f"{name} has no schema in docs/schemas; `make docs` writes it"
    schema = json.loads(path.read_text("utf-8"))
    _close(schema)
    return Draft202012Validator(schema)


def _close(part: Any) -> None:
    if isinstance(part, list):
        for item in part:
            _close(item)
    elif isinstance(part, dict):
        if isinstance(part.get("properties"), dict) and "type" in part:
            part["additionalProperties"] = False
        for item in part.values():
            _close(item)


def problems(document: dict[str, Any]) -> list[str]:
    """Return the differences of a document from its schema."""
    errors = _validator(str(document["schema"])).iter_errors(document)
    return [f"{error.json_path}: {error.message[:200]}" for error in errors]


def check_printed(text: str) -> None:
    """Check what a command printed, where it is a document."""
    if text.startswith("{") and '"schema": "sweeper.' in text:
        assert not (wrong := problems(json.loads(text))), wrong
