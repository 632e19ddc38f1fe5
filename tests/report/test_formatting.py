"""Numbers and names as text."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from sweeper.core import text
from sweeper.core.recipe import Recipe
from sweeper.evidence import answer_text
from sweeper.report import formatting as words

GFM = MarkdownIt("commonmark").enable(["table", "strikethrough"])
hostile_text = st.text(st.one_of(st.sampled_from("`*_[]()<>|\\#~$&!-+=.:@ \n\t1ax"), st.characters()), max_size=30)


def get_visible_text(rendered: str) -> str:
    return html.unescape(rendered).replace("\u2060", "")


@settings(deadline=None, max_examples=300)
@given(hostile_text)
def test_markdown_renders_an_escaped_name_verbatim(text: str) -> None:
    line = words.make_one_line(text)
    rendered = GFM.render(words.escape_md(text)).strip()
    assert get_visible_text(rendered) == (f"<p>{line}</p>" if line else "")


@settings(deadline=None, max_examples=200)
@given(hostile_text)
def test_prose_and_code_make_nothing_but_text_and_code_spans(text: str) -> None:
    for rendered in (GFM.renderInline(words.escape_prose(text)), GFM.renderInline(words.format_code(text))):
        assert set(re.findall(r"</?\w+", rendered)) <= {"<code", "</code"}


def test_code_spans_of_plain_characters_stay_code() -> None:
    assert words.escape_prose("`dice` +0.1 (`focal`) +0.2") == "`dice` +0.1 (`focal`) +0.2"
    text = "`sweeper run --study 'two dice' --resume` or *"
    assert words.escape_prose(text) == text.replace("*", r"\*")


@pytest.mark.parametrize("text", ["www.evil.example", "https://evil.example", "mailto:a@b.example", "a@b.example"])
def test_addresses_do_not_become_links_on_github(text: str) -> None:
    escaped = words.escape_md(text)
    assert not re.search(r"www\.|https?://|mailto:|@\w", escaped)


@settings(deadline=None, max_examples=100)
@given(st.text(st.sampled_from("`a\n~ "), max_size=30))
def test_a_fence_contains_any_text_verbatim(text: str) -> None:
    tokens = GFM.parse(words.make_fence(text, "python"))
    assert [t.type for t in tokens] == ["fence"]
    assert tokens[0].content.rstrip("\n") == text.rstrip("\n")


def test_missing_numbers_are_dashes_and_no_number_has_many_digits() -> None:
    for write in (
        words.format_number,
        words.format_signed_number,
        words.format_significant,
        text.format_share,
        words.format_elapsed,
    ):
        assert write(None) == write(float("nan")) == write(float("inf")) == "–"
        assert len(write(1 / 3)) <= 8


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (words.format_number(-0.0001), "0.000"),
        (words.format_number(-0.0126), "−0.013"),
        (words.format_signed_number(0.0126), "+0.013"),
        (words.format_significant(0.00031234), "0.000312"),
        (words.format_significant(0.0000312), "3.12e-05"),
        (words.format_significant(12345.6), "12,346"),
        (words.format_significant(999.6), "1,000"),
        (words.format_significant(-0.25), "−0.25"),
        (text.format_share(0.0161234), "1.61 %"),
        (text.format_share(0.99999), "> 99.9 %"),
        (text.format_share(0.00994), "0.994 %"),
        (words.format_elapsed(241), "4 min 1 s"),
        (words.format_elapsed(7500), "2 h 5 min"),
        (text.join_words(["a", "b", "c"]), "a, b and c"),
        (answer_text.format_network(Recipe(encoder="resnet34", encoder_depth=5)), "U-Net/ResNet-34"),
        (
            answer_text.format_network(Recipe(encoder="tu-tf_efficientnet_lite0", encoder_depth=5)),
            "U-Net/EfficientNet-Lite0",
        ),
        (
            answer_text.format_network(Recipe(decoder_width=8)),
            "U-Net/ResNet-18 cut to depth 3 of 5 with decoder 32-16-8",
        ),
        (
            answer_text.format_network(Recipe(arch="linknet", encoder="mit_b0", encoder_depth=4)),
            "linknet/mit_b0 cut to depth 4 of 5",
        ),
    ],
)
def test_numbers_and_networks_are_formatted_as_people_write_them(written: str, expected: str) -> None:
    assert written == expected
