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
    "branches": 5_408,
    "sentences": 1_519,
    "statements with three hidden decisions": 22,
    "commands": 14,
    "options of run": 40,
    "options in the first help of run": 16,
}
"""What is worth less than what comes is taken away before one of these is raised. A statement hides decisions where its
expressions choose: name the value in between, return early, write the loop."""


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


def list_dense(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements whose own expressions decide three times or more: if, and, or, := in one statement."""
    for statement in (node for node in ast.walk(tree) if isinstance(node, ast.stmt)):
        hidden, parts = 0, list(ast.iter_child_nodes(statement))
        while parts:
            part = parts.pop()
            if not isinstance(part, ast.stmt | ast.ExceptHandler | ast.match_case):
                hidden += isinstance(part, ast.IfExp | ast.NamedExpr)
                hidden += len(part.values) - 1 if isinstance(part, ast.BoolOp) else len(getattr(part, "ifs", ()))
                parts += ast.iter_child_nodes(part)
        if hidden >= 3:
            yield statement


def measure_project() -> dict[str, int]:
    """Measure what the ceilings are for."""
    texts = [path.read_text("utf-8") for path in (ROOT / "sweeper").rglob("*.py")]
    trees = [ast.parse(text) for text in texts]
    run = importlib.import_module("sweeper.cli.run").command
    options = [parameter for parameter in run.params if isinstance(parameter, click.Option)]
    return {
        "branches": sum(map(count_branches, trees)),
        "sentences": len({text for tree in trees for text in list_sentences(tree)}),
        "statements with three hidden decisions": sum(1 for tree in trees for _ in list_dense(tree)),
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


def test_a_statement_that_hides_three_decisions_is_found() -> None:
    plain = "if a and b or c: x = [i for i in y if i] if z else (w := 1)"
    assert not [*list_dense(ast.parse(plain.replace(" else (w := 1)", " else 1")))]
    assert [*list_dense(ast.parse(plain))]
