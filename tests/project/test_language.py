"""Check that docstrings and public names keep to the language rules of CONTRIBUTING.md that ruff does not check."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = sorted((ROOT / "sweeper").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "bench").rglob("*.py"))
SCRIPTS = sorted([*BENCHMARKS, *(ROOT / "docs").rglob("*.py"), ROOT / "sweeper_trial.py"])

NO_VERB = re.compile(
    r"(?:the|an?|what|whether|how|of|where|which|why|as|one|all|each|every|from|that|with|without|those|this|these|its?|"
    r"same|another|both|some|any|no|not|nothing|none|everything|something|only|also|in|on|at|by|for|to|between|whose|who|"
    r"when|if|so|seconds|names|images|classes|losses|trainings|scores|pixels|two|three)\b",
    re.IGNORECASE,
)
"""First words of a docstring that are no imperative. Ruff's D401 recognises only inflected verbs."""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def list_docstrings(path: Path) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    """Yield the functions of a module with their docstrings, without properties and tests."""
    for node in ast.walk(parse(path)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("test_"):
            continue
        is_property = any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
        if (text := ast.get_docstring(node)) and not is_property:
            yield node, text


def test_docstrings_of_functions_begin_with_an_imperative() -> None:
    wrong = [
        f"{relative(path)}:{node.lineno}: {text.splitlines()[0]}"
        for path in [*PACKAGE, *SCRIPTS, *TESTS]
        for node, text in list_docstrings(path)
        if NO_VERB.match(text)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_public_name_is_defined_in_two_modules() -> None:
    modules: dict[str, list[str]] = defaultdict(list)
    for path in PACKAGE:
        for node in parse(path).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            if not re.match("_|command$", node.name):  # each module of sweeper/cli has a `command`
                modules[node.name].append(relative(path))
    assert {name: where for name, where in modules.items() if len(where) > 1} == {}
