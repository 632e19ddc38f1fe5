"""Count how much of a report has to be read.

    python bench/report_words.py reports/example/report.md …

Prints for each report the words of its card, the words outside of `<details>`, the sentences of more than 25 words
among these, and all words. Code does not count. A number with an interval counts as one word for each part
(`+0.003 [−0.006, +0.012]` is three). Takes no time.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NamedTuple

MOST_WORDS = 25
"""Words of the longest sentence that is not called long."""


class WordCounts(NamedTuple):
    """Counts of a report in markdown."""

    card: int
    """Words between the title and the first figure, heading or code."""
    unfolded: int
    """Words outside of `<details>`."""
    long_sentences: int
    """Sentences outside of `<details>` with more than `MOST_WORDS` words."""
    total: int
    """All words."""


def count_words(text: str) -> WordCounts:
    """Count the words of a report."""
    card = re.split(r"^(?:```|!|#)", text.split("\n", 1)[-1], maxsplit=1, flags=re.MULTILINE)[0]
    bare = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    unfolded = re.sub(r"<details>\n<summary>(.*?)</summary>.*?</details>", r"\n\1\n", bare, flags=re.DOTALL)
    long = sum(len(_split_words(s)) > MOST_WORDS for s in _split_sentences(unfolded))
    return WordCounts(len(_split_words(card)), len(_split_words(unfolded)), long, len(_split_words(bare)))


def _split_words(text: str) -> list[str]:
    without_images = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    without_links = re.sub(r"\]\([^)]*\)", "]", without_images)
    return [word for word in re.split(r"[\s|]+", without_links) if re.search(r"\w", word)]


def _split_sentences(text: str) -> list[str]:
    """Return the sentences of paragraphs and lists, without rows of tables."""
    prose = [line for line in text.splitlines() if not line.startswith(("|", "!", "#", ">", "<"))]
    return [s for line in prose for s in re.split(r"(?<=[.!?])\s+(?=\S)", line.lstrip("- "))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+")
    for name in parser.parse_args().reports:
        print(name, count_words(Path(name).read_text("utf-8")))


if __name__ == "__main__":
    main()
