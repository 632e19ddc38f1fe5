"""The documents: the site builds, their commands are valid, their Python runs, their messages exist."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sweeper.cli.main import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
GUIDES = [ROOT / "docs/index.md", *sorted((ROOT / "docs/how-to").iterdir())]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def list_commands(text: str) -> list[list[str]]:
    """Return the words of each `sweeper …` in the blocks of a page."""
    lines = [
        line.split("#", 1)[0].strip()
        for language, block in FENCE.findall(text)
        if language in {"", "sh", "bash"}
        for line in block.replace("\\\n", " ").splitlines()
    ]
    parts = [part for line in lines for part in split_pipeline(line)]
    return [
        part[part.index("sweeper") + 1 :]
        for part in parts
        if part[:1] == ["sweeper"] or part[:2] == ["exec", "sweeper"]
    ]


def split_pipeline(line: str) -> list[list[str]]:
    """Return the words of each command of a line, divided at &&, | and > outside quotes, as by a shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|>")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    try:
        for word in lexer:
            parts.append([]) if set(word) <= set("&|>") else parts[-1].append(word)
    except ValueError:  # prose, or code of another language
        return []
    return parts


def test_commands_in_documents_are_valid() -> None:
    problems, by_page = [], {path: list_commands(path.read_text("utf-8")) for path in PAGES}
    assert sum(map(len, by_page.values())) > 40  # otherwise they are no longer recognised
    for path, lines in by_page.items():
        for name, *arguments in lines:
            command = cli.get_command(click.Context(cli), name)
            if command is None:
                problems.append(f"{path.relative_to(ROOT)}: there is no command {name}")
                continue
            words = [word for word in arguments if not word.startswith("$")]
            try:
                command.make_parser(click.Context(command)).parse_args(words)
            except click.UsageError as error:
                problems.append(f"{path.relative_to(ROOT)}: sweeper {name}: {error.format_message()}")
    assert not problems, "\n".join(problems)


def test_python_in_the_pages_runs() -> None:
    """Blocks called `python`, in order; those that need a study of the reader are called `py`."""
    for path in GUIDES:
        space: dict[str, object] = {}
        for language, block in FENCE.findall(path.read_text("utf-8")):
            if language == "python":
                exec(compile(block, str(path), "exec"), space)


def join_texts_of_package() -> str:
    """Return all texts of the package, without the values of their placeholders."""
    texts = []
    for path in (ROOT / "sweeper").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(part.value for part in node.values if isinstance(part, ast.Constant)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_the_explained_messages_are_those_of_the_package() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/troubleshooting.md").read_text("utf-8"), re.MULTILINE)
    texts = join_texts_of_package()
    assert len(rows) > 10
    assert [row for row in rows if row not in texts] == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Every page is reached, every link and anchor resolves."""
    pytest.importorskip("mkdocs", reason="the site needs the extra `docs`")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    commands_page = (tmp_path / "site/reference/commands.html").read_text("utf-8")
    assert all(f'id="sweeper-{name}"' in commands_page for name in COMMANDS)
    assert (tmp_path / "site/example/figures/classes.svg").exists()
    spaces = (tmp_path / "site/reference/spaces.html").read_text("utf-8")
    assert 'href="../losses.html' in spaces  # links are those of the site
