"""Check that names, docstrings, messages and documents keep to the language rules of CONTRIBUTING.md."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = sorted((ROOT / "sweeper").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "bench").rglob("*.py"))
SCRIPTS = sorted([*BENCHMARKS, *(ROOT / "docs").rglob("*.py"), ROOT / "sweeper_trial.py"])
MARKDOWN = ("*.md", "bench/*.md", "docs/**/*.md", "search_spaces/*.md")
DOCUMENTS = sorted(path for pattern in MARKDOWN for path in ROOT.glob(pattern))

NO_VERB = re.compile(
    r"(?:the|an?|what|whether|how|of|where|which|why|as|one|all|each|every|from|that|with|without|those|this|these|its?|"
    r"same|another|both|some|any|no|not|nothing|none|everything|something|only|also|in|on|at|by|for|to|between|whose|who|"
    r"when|if|so|seconds|names|images|classes|losses|trainings|scores|pixels|two|three)\b",
    re.IGNORECASE,
)
"""First words of a docstring that are no imperative. Ruff's D401 recognises only inflected verbs."""

BANNED = {
    r"told|tells?|telling": "log, report, say",
    r"lies?(?! (?:above|below|within|between|outside|inside|on the edge))": "is, is stored at",
    r"go on|goes on|going on|went on|gone on": "continue, resume",
    r"beside": "next to, alongside",
    r"anew": "again, from scratch",
    r"mend|mends|mended|mending": "fix",
    r"dearer": "more costly",
    r"commonest": "most common",
    r"look-alikes?": "near-duplicate",
    r"by now": "already",
    r"but for": "except, without",
    r"for people": "say for whom, or nothing",
    r"so many (?:steps|seeds|trials|images|seconds)": "n steps",
    r"of the user's(?=[.,;:)]|$)": "the user's …",
    r"reads? (?:as )?[-−+]?[0-9]": "scores",
}
WORDS = re.compile("|".join(rf"\b(?:{pattern})(?!\w)" for pattern in BANNED), re.IGNORECASE)

VAGUE_CLASSES = re.compile(r"_?(?:Asked|Lost|Advanced|Found|Drawn|Probed|Held|Taken|There|Need|Way|Words|About|Given)")
VAGUE_VARIABLES = re.compile(r"found|own|given|known|there|taken|told|asked|said")
VAGUE_TESTS = re.compile(r"_(?:told|tells?|said|asked|goes_on|beside|lies|anew|mend(?:s|ed|ing)?|dearer|spoilt)(?=_|$)")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
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


def list_written_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of comments and strings of a module, of any other file all lines, with their numbers."""
    text = path.read_text("utf-8")
    if not WORDS.search(text):  # quicker than to find what is a comment or a string
        return
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in {tokenize.STRING, tokenize.COMMENT}:
            yield from enumerate(token.string.splitlines(), token.start[0])


def test_docstrings_of_functions_begin_with_an_imperative() -> None:
    wrong = [
        f"{relative(path)}:{node.lineno}: {text.splitlines()[0]}"
        for path in [*PACKAGE, *SCRIPTS, *TESTS]
        for node, text in list_docstrings(path)
        if NO_VERB.match(text)
    ]
    assert not wrong, "\n".join(wrong)


def test_private_vocabulary_is_not_used() -> None:
    wrong = [
        f"{relative(path)}:{number}: '{match.group()}' in: {line.strip()}"
        for path in [*PACKAGE, *SCRIPTS, *TESTS, *DOCUMENTS]
        if path != Path(__file__).resolve() and path.name != "CONTRIBUTING.md"
        for number, line in list_written_lines(path)
        for match in WORDS.finditer(line)
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


def test_names_say_what_they_hold() -> None:
    wrong = []
    for path in [*PACKAGE, *SCRIPTS, *TESTS]:
        tree = parse(path)
        fields = {  # they may be stored, or keys of documents
            field.target
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            for field in node.body
            if isinstance(field, ast.AnnAssign)
        }
        for node in ast.walk(tree):
            if node in fields:
                continue
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and VAGUE_TESTS.search(node.name):
                wrong.append(f"{relative(path)}:{node.lineno}: {node.name}")
            elif isinstance(node, ast.ClassDef) and VAGUE_CLASSES.fullmatch(node.name):
                wrong.append(f"{relative(path)}:{node.lineno}: class {node.name}")
            elif isinstance(node, ast.arg) and VAGUE_VARIABLES.fullmatch(node.arg):
                wrong.append(f"{relative(path)}:{node.lineno}: {node.arg}")
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and VAGUE_VARIABLES.fullmatch(node.id):
                wrong.append(f"{relative(path)}:{node.lineno}: {node.id}")
    assert not wrong, "\n".join(wrong)
