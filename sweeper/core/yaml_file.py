"""Read YAML files, strict and bounded: no tags, aliases or duplicate keys; mistakes have a key path or line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from sweeper.core.errors import get_cause
from sweeper.core.paths import read_bounded

MAX_BYTES = 1 << 20


class _NoReferenceLoader(yaml.SafeLoader):
    """Refuses anchors and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.YAMLError("an anchor or alias (& or *), in place of which the values must be written")
        return super().compose_node(parent, index)


class _TextLoader(_NoReferenceLoader):
    """Reads true, false and null of YAML 1.2; every other scalar stays text."""


_TextLoader.yaml_implicit_resolvers = {}
for _tag, _words, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", "~|null|Null|NULL|", "~nN"),
):
    _TextLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_words})$"), [*_first, ""])


def read_yaml(path: Path, problems: list[str], *, as_written: bool = False) -> Any:
    """Read a YAML file as plain data (dicts with text keys, lists, scalars).

    `as_written` keeps scalars as text, so that `010` is no octal 8 and `1:30` no base-60 90; only unquoted true, false
    and null are converted. Mistakes are added to `problems`, each with its key path or line. The result is None if the
    file is not readable as YAML; of duplicate keys the first one counts.
    """
    try:
        return parse_yaml(read_bounded(path, MAX_BYTES).decode("utf-8-sig"), problems, as_written=as_written)
    except (OSError, ValueError) as error:
        problems.append(f"(file): must be UTF-8 text of at most 1 MiB, got: {get_cause(error)}; name another file")
        return None


def parse_yaml(text: str, problems: list[str], *, as_written: bool = False) -> Any:
    """Parse YAML from text, like `read_yaml`."""
    try:
        loader = (_TextLoader if as_written else _NoReferenceLoader)(text)
        node = loader.get_single_node()
        return None if node is None else _read_node(loader, node, "", problems)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        problems.append(f"(file): must be valid YAML, got: {get_cause(error)}; correct it there")
        return None


def _read_node(loader: yaml.SafeLoader, node: yaml.Node, path: str, problems: list[str]) -> Any:
    """Return the data of a node, reporting duplicate and non-text keys by their path."""
    if isinstance(node, yaml.SequenceNode):
        return [_read_node(loader, item, path, problems) for item in node.value]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node, deep=True)
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(
                f"{path or '(top)'}: keys must be plain words (line {line}); write one word before the colon"
            )
            continue
        key = str(key_node.value)
        inner = f"{path}.{format_key(key)}" if path else format_key(key)
        value = _read_node(loader, value_node, inner, problems)
        if key in result:
            problems.append(f"{inner}: appears twice (line {line}); keep one of them")
            continue
        result[key] = value
    return result


def format_key(name: str) -> str:
    """Format a key for a message: unchanged if it is a word, else escaped and cut."""
    is_word = name.isidentifier() and len(name) <= 60
    return name if is_word else format_value(name)


def format_value(value: object) -> str:
    """Format a value for a message, cut if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
