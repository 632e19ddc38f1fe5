"""The report as one self-contained HTML file: no script, no other file, no network.

It is made from the markdown, so that both have the same content. Raw HTML in the markdown stays text; figures become
`data:` addresses. The Content-Security-Policy forbids loading and scripts, and allows only this stylesheet.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape, unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.rules_block import StateBlock
from markdown_it.token import Token

from sweeper.report.formatting import make_one_line

STYLE = Path(__file__).parent / "templates" / "report.css"
_FOLD = re.compile(r"</?details>|<summary>(?P<summary>[^<>]*)</summary>")
_FIGURE = re.compile(r"figures/([A-Za-z0-9_-]+\.svg)")


def write_page(text: str, markdown: Path) -> None:
    """Write a page as markdown, and as HTML next to it; its figures are in `figures/` of the same folder."""
    markdown.write_text(text, "utf-8")
    markdown.with_suffix(".html").write_text(make_html(text, markdown.parent / "figures"), "utf-8")


def make_html(markdown: str, figures: Path) -> str:
    """Make a whole HTML document, titled like the markdown's first heading.

    A figure missing in the folder `figures` is replaced by its description.

    Raises:
        OSError: if a figure cannot be read.
    """
    parser = _make_parser()
    environment = {"figures": {path.name: path.read_bytes() for path in sorted(figures.glob("*.svg"))}}
    tokens = parser.parse(markdown, environment)
    body = parser.renderer.render(tokens, parser.options, environment)
    style = STYLE.read_text("utf-8")
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(_get_title(tokens))}</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def _make_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.add_render_rule("image", _render_image)
    # A table scrolls, also by keyboard, so that the page is no wider than the screen.
    parser.add_render_rule("table_open", lambda *_: '<div class="table" tabindex="0"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    parser.add_render_rule("fold", _render_fold)
    parser.block.ruler.before("paragraph", "fold", _fold_rule, {"alt": ["paragraph", "list", "table"]})
    for cell in ("th_open", "td_open"):
        parser.add_render_rule(cell, _render_cell)
    return parser


def _get_title(tokens: Sequence[Token]) -> str:
    """Return the plain text of the first heading."""
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            words = "".join(child.content for child in token.children or ())
            return make_one_line(words.replace("\u2060", "")) or "Report"  # added by `escape_md`
    return "Report"


def _render_image(
    renderer: Any, tokens: Sequence[Token], index: int, options: Any, environment: Mapping[str, Mapping[str, bytes]]
) -> str:
    token = tokens[index]
    alt = escape(renderer.renderInlineAsText(token.children or [], options, environment))
    named = _FIGURE.fullmatch(str(token.attrGet("src") or ""))
    data = environment["figures"].get(named[1]) if named else None
    if named is None or data is None:
        return alt
    return f'<img alt="{alt}" src="data:image/svg+xml;base64,{b64encode(data).decode()}">'


def _fold_rule(state: StateBlock, start: int, _end: int, silent: bool) -> bool:
    """Parse `<details>`, its summary and its end, each on its own line at the top level, as the only HTML."""
    line = state.src[state.bMarks[start] : state.eMarks[start]]
    if state.level or not _FOLD.fullmatch(line):
        return False
    if not silent:
        state.push("fold", "", 0).content = line
        state.line = start + 1
    return True


def _render_fold(_renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    match = _FOLD.fullmatch(tokens[index].content)
    if match is None or match["summary"] is None:
        return f"{tokens[index].content}\n"
    return f"<summary>{escapeHtml(unescape(match['summary']))}</summary>\n"


def _render_cell(_renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    """Render a cell with a class in place of the style attribute, which the policy forbids."""
    right = "right" in str(tokens[index].attrGet("style") or "")
    return f'<{tokens[index].tag} class="number">' if right else f"<{tokens[index].tag}>"
