"""The HTML report: the same content as the markdown, in one file without scripts or external resources."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.report import formatting as words
from sweeper.report import write_report
from sweeper.report.figures import FIGURES
from sweeper.report.html import make_html
from tests.report.test_markdown import GFM, HOSTILE, check_figures, name_everything
from tests.support.marks import rest_slow
from tests.support.simulated_studies import Study, cracks, street

VOID = {"meta", "img", "br", "hr"}
ATTRIBUTES = {
    "html": {"lang"},
    "meta": {"charset", "name", "content", "http-equiv"},
    "a": {"href"},
    "img": {"alt", "src"},
    "div": {"class", "tabindex"},
    "th": {"class"},
    "td": {"class"},
    "code": {"class"},
}
"""Every attribute that a report may have; tags without an entry have none."""
TAGS = {
    *("html", "head", "title", "style", "body", "main", "h1", "h2", "h3", "p", "ul", "li", "strong", "em", "pre"),
    *("table", "thead", "tbody", "tr", "details", "summary", *ATTRIBUTES),
}
CONTROL = re.compile(r"[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f\x7f]")


class Document(HTMLParser):
    """Collects tags with their attributes and the visible text; refuses tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def check_harmless(text: str) -> Document:
    """Check that there are only known tags and attributes, and no address but neighbouring files."""
    document = Document(text)
    for tag, attributes in document.found:
        assert tag in TAGS
        assert set(attributes) <= ATTRIBUTES.get(tag, set())
    for link in document.of("a"):
        assert re.match(r"recommendation\.json$|(trials|split)\.csv$", link["href"] or "")
    for image in document.of("img"):
        assert re.match(r"data:image/svg\+xml;base64,", image["src"] or "")
    assert not CONTROL.search(text)
    return document


@pytest.mark.parametrize("make", rest_slow([street, cracks]))
def test_a_report_has_every_figure_and_its_page_has_the_same_headings(
    tmp_path: Path, make: Callable[[], Study]
) -> None:
    study = make()
    paths = write_report(study.sweep, study.document, study.evidence, tmp_path, pixels=study.pixels)
    markdown, text = paths.markdown.read_text("utf-8"), paths.html.read_text("utf-8")
    check_figures(markdown, paths.figures)
    assert {*FIGURES} == {path.stem for path in paths.figures.iterdir()}
    assert not re.search(r"\b(nan|None(?! is)|inf)\b", markdown)
    for table in re.findall(r"<table>.*?</table>", GFM.render(markdown), re.DOTALL):
        assert len({len(re.findall(r"<t[hd]", line)) for line in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)}) == 1
    document = check_harmless(text)
    pieces = [b64decode((i["src"] or "").split(",")[1]) for i in document.of("img")]
    assert {*pieces} == {path.read_bytes() for path in paths.figures.iterdir()} and len(pieces) == len(FIGURES)
    harmful = re.compile(r"<script|<text|<foreignObject|href=\"(?!#|data:image/png)|\bon\w+=|@import")
    assert not any(harmful.search(piece.decode()) for piece in pieces)
    assert "url(" not in text and "@import" not in text and "<script" not in text
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", markdown, flags=re.S), re.M)
    assert [re.sub(r"<[^>]+>", "", h) for h in re.findall(r"<h\d[^>]*>(.*?)</h\d>", text)] == headings


def test_the_policy_allows_this_stylesheet_and_nothing_else(tmp_path: Path) -> None:
    text = make_html("# a\n", tmp_path)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    (policy,) = [m["content"] for m in Document(text).of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "script-src" not in policy and "unsafe" not in policy
    assert not any("style" in attributes for _, attributes in Document(text).found)


def write_page(names: tuple[str, str], text: str, folder: Path) -> Document:
    """Return the checked page of a report in which everything is called so."""
    return check_harmless(write_report(*name_everything(names, text), folder).html.read_text("utf-8"))


@pytest.fixture(scope="module")
def plain_page(tmp_path_factory: pytest.TempPathFactory) -> Document:
    return write_page(("background", "crack"), "word", tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("name", rest_slow(HOSTILE, 2, 3))
def test_hostile_names_add_no_tag_and_no_attribute(tmp_path: Path, plain_page: Document, name: str) -> None:
    hostile = write_page((name, name + "2"), name, tmp_path)
    # A plain code span may stay one in a sentence: it is inert.
    kinds = [[t for t, _ in page.found if t != "code" or "`" not in name] for page in (plain_page, hostile)]
    assert kinds[0] == kinds[1]


@settings(deadline=None, max_examples=150)
@given(st.text(st.one_of(st.sampled_from("`*_[]()<>|\\#~$&!'\"=/ \n1aא\u202e\u2067"), st.characters()), max_size=40))
def test_any_name_is_displayed_verbatim(text: str) -> None:
    line = words.make_one_line(text)
    page = make_html(
        f"# {words.escape_md(text)}\n\n{words.make_table(['a'], [[words.escape_md(text)]])}\n", Path("nowhere")
    )
    document = check_harmless(page)
    visible_text = document.text.replace("\u2060", "")
    assert visible_text.split() == [*(line or "Report").split(), *line.split(), "a", *line.split()]


def test_an_image_from_another_folder_is_replaced_by_its_description(tmp_path: Path) -> None:
    (tmp_path / "here.svg").write_bytes(b"<svg/>")
    for source in ("http://evil.example/x.png", "figures/../x.svg", "figures/gone.svg", "javascript:alert(1)"):
        document = Document(make_html(f"# t\n\n![what <b> it](<{source}>)\n", tmp_path))
        assert not document.of("img")
        assert "what <b> it" in document.text
    assert Document(make_html("![a](figures/here.svg)", tmp_path)).of("img")


def test_raw_html_and_dangerous_links_are_displayed_as_text(tmp_path: Path) -> None:
    document = check_harmless(
        make_html("# t\n\n<b onclick=x>hi</b> [x](javascript:alert(1)) <script>y</script>\n", tmp_path)
    )
    assert "<b onclick=x>hi</b>" in document.text
    assert not document.of("a")


def test_numbers_line_up_right_without_a_style_attribute(tmp_path: Path) -> None:
    document = Document(make_html(words.make_table(["a", "b"], [["x", "1"]]), tmp_path))
    assert document.of("th") == [{}, {"class": "number"}]
    assert document.of("td") == [{}, {"class": "number"}]
