"""The documents: the site builds, their commands can be given, their Python runs, their messages are real."""

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


def commands(text: str) -> list[list[str]]:
    """Words of each `sweeper …` in the blocks of a page."""
    lines = [
        line.split("#", 1)[0].strip()
        for language, block in FENCE.findall(text)
        if language in {"", "sh", "bash"}
        for line in block.replace("\\\n", " ").splitlines()
    ]
    found = [part for line in lines for part in pipeline(line)]
    return [
        part[part.index("sweeper") + 1 :]
        for part in found
        if part[:1] == ["sweeper"] or part[:2] == ["exec", "sweeper"]
    ]


def pipeline(line: str) -> list[list[str]]:
    """Words of each command of a line, as a shell would divide it at &&, | and >; quotes hide these."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|>")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    try:
        for word in lexer:
            parts.append([]) if set(word) <= set("&|>") else parts[-1].append(word)
    except ValueError:  # prose, or code of another language
        return []
    return parts


def test_commands_in_documents_can_be_given() -> None:
    problems, found = [], {path: commands(path.read_text("utf-8")) for path in PAGES}
    assert sum(map(len, found.values())) > 40  # else they are not found any more
    for path, lines in found.items():
        for name, *given in lines:
            command = cli.get_command(click.Context(cli), name)
            if command is None:
                problems.append(f"{path.relative_to(ROOT)}: there is no command {name}")
                continue
            words = [word for word in given if not word.startswith("$")]
            try:
                command.make_parser(click.Context(command)).parse_args(words)
            except click.UsageError as error:
                problems.append(f"{path.relative_to(ROOT)}: sweeper {name}: {error.format_message()}")
    assert not problems, "\n".join(problems)


def test_python_in_the_pages_runs() -> None:
    """Blocks called `python`, in order; what needs a study of the reader's is called `py`."""
    for path in GUIDES:
        space: dict[str, object] = {}
        for language, block in FENCE.findall(path.read_text("utf-8")):
            if language == "python":
                exec(compile(block, str(path), "exec"), space)


def texts_of_the_code() -> str:
    """Return all texts of the package, with what is filled in left out."""
    found = []
    for path in (ROOT / "sweeper").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value for part in node.values if isinstance(part, ast.Constant)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_the_messages_that_are_explained_are_told() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/troubleshooting.md").read_text("utf-8"), re.MULTILINE)
    told = texts_of_the_code()
    assert len(rows) > 10
    assert [row for row in rows if row not in told] == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Every page is reached, every link and anchor resolves."""
    pytest.importorskip("mkdocs", reason="the site needs the extra `docs`")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    commands_page = (tmp_path / "site/reference/commands.html").read_text("utf-8")
    assert all(f'id="sweeper-{name}"' in commands_page for name in COMMANDS)
    assert (tmp_path / "site/example/figures/gain.svg").exists()
    spaces = (tmp_path / "site/reference/spaces.html").read_text("utf-8")
    assert 'href="../losses.html' in spaces  # links are those of the site
