"""Ceilings on what makes the product hard to read and to use; lines are no aim: one thought in a statement."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import click

from sweeper.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
CEILINGS = {
    "branches": 5_371,
    "sentences": 1_532,
    "commands": 14,
    "options of run": 40,
    "options in the first help of run": 16,
}
"""What is worth less than what comes is taken away before one of these is raised."""


def list_sentences(tree: ast.Module) -> Iterator[str]:
    """Yield the string literals with three blanks or more, an f-string as one, docstrings excluded."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    inner = docs | {id(part) for node in joined for part in ast.walk(node) if part is not node}
    for node in (node for node in ast.walk(tree) if id(node) not in inner):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        else:
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if text.count(" ") >= 3:
            yield text


def count_branches(tree: ast.Module) -> int:
    """Count if, elif, conditional expressions, further operands of and/or, ifs in comprehensions, except and case."""
    nodes = list(ast.walk(tree))
    plain = sum(isinstance(node, ast.If | ast.IfExp | ast.ExceptHandler | ast.match_case) for node in nodes)
    operands = sum(len(node.values) - 1 for node in nodes if isinstance(node, ast.BoolOp))
    return plain + operands + sum(len(node.ifs) for node in nodes if isinstance(node, ast.comprehension))


def measure_project() -> dict[str, int]:
    """Measure what the ceilings are for."""
    texts = [path.read_text("utf-8") for path in (ROOT / "sweeper").rglob("*.py")]
    trees = [ast.parse(text) for text in texts]
    run = importlib.import_module("sweeper.cli.run").command
    options = [parameter for parameter in run.params if isinstance(parameter, click.Option)]
    return {
        "branches": sum(map(count_branches, trees)),
        "sentences": len({text for tree in trees for text in list_sentences(tree)}),
        "commands": len(COMMANDS),
        "options of run": len(options),
        "options in the first help of run": sum(
            line.startswith("  -") for line in run.get_help(click.Context(run)).splitlines()
        )
        - 2,  # --help and --help-all
    }


def test_the_product_is_no_larger_than_its_ceilings() -> None:
    sizes = measure_project()
    assert sizes.keys() == CEILINGS.keys()
    assert not {name: (size, CEILINGS[name]) for name, size in sizes.items() if size > CEILINGS[name]}


def test_each_kind_of_branch_and_sentence_is_counted() -> None:
    code = """
'''A docstring of four words.'''
if a and b or c: pass
x = 1 if a else f"one {b} two three four"
try: y = [i for i in z if i]
except ValueError: "a constant of five words"
match x:
    case 1: x = "a sentence of four words"
"""
    tree = ast.parse(code)
    assert count_branches(tree) == 7
    assert sorted(list_sentences(tree)) == ["a sentence of four words", "one {} two three four"]
