"""What the site shows of files outside docs/: examples, pictures, spaces, changelog, the verdict's proof.

Links are written as they are in the repository, so that they work there; here they become those of the site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
EXAMPLES = ("example", "example-cracks", "example-judged")
PAGES = {
    "reference/spaces.md": ROOT / "search_spaces/README.md",
    "reference/changelog.md": ROOT / "CHANGELOG.md",
    "reference/contributing.md": ROOT / "CONTRIBUTING.md",
    "verdict-proof.md": ROOT / "bench/answer.md",
    "verdict-tables.md": ROOT / "bench/answer_tables.md",
    **{f"{name}/report.md": ROOT / f"reports/{name}/report.md" for name in EXAMPLES},
}
"""Page of the site: file of the repository."""
FILES = {
    f"{name}/figures/{path.name}": path
    for name in EXAMPLES
    for path in sorted((ROOT / f"reports/{name}/figures").iterdir())
} | {path.name: path for path in sorted((ROOT / "reports").glob("overview-*.svg"))}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages above, and the figures."""
    from mkdocs.structure.files import File

    for name, source in PAGES.items():
        files.append(File.generated(config, name, content=source.read_text("utf-8")))
    for name, source in FILES.items():
        files.append(File.generated(config, name, abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page with links as seen from it; those to what the site lacks become plain text."""
    name = page.file.src_uri
    source = PAGES.get(name, DOCS / name)
    places = {path.resolve(): at for at, path in {**PAGES, **FILES}.items()}
    up = "../" * name.count("/")

    def link(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return match.group(0)
        linked = (source.parent / path).resolve()
        if linked in places:
            at = places[linked]
        elif linked.is_relative_to(DOCS) and linked.is_file():
            at = linked.relative_to(DOCS).as_posix()
        else:
            return text
        return f"{mark}[{text}]({up}{at}{'#' + anchor if anchor else ''})"

    markdown = re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", link, markdown)
    return re.sub(r'((?:src|srcset)=")\.\./reports/(overview-[^"]+")', rf"\1{up}\2", markdown)
