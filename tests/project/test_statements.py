"""One thought in a statement: none hides three decisions in its expressions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "sweeper"


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


def test_no_statement_hides_three_decisions() -> None:
    dense = [
        f"{path.relative_to(PACKAGE.parent)}:{statement.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for statement in list_dense(ast.parse(path.read_text("utf-8")))
    ]
    assert not dense, "name the value in between, return early, or write the loop: these decide three times or more"


def test_a_statement_that_hides_three_decisions_is_found() -> None:
    plain = "if a and b or c: x = [i for i in y if i] if z else (w := 1)"
    assert not [*list_dense(ast.parse(plain.replace(" else (w := 1)", " else 1")))]
    assert [*list_dense(ast.parse(plain))]
