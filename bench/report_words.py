"""How much a report asks to be read: words in the open, words of the card, sentences over 25 words.

    python bench/report_words.py reports/example/report.md …

What stands in `<details>` is folded and does not count, nor does code. A number of a table or an interval is a word
for each of its parts (`+0.003 [−0.006, +0.012]` is three).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

LONG = 25
"""Words beyond which a sentence is called long."""


class Wording(NamedTuple):
    """Counts of a report in markdown."""

    card: int
    """Words between the title and the first figure, heading or code."""
    open: int
    """Words of all that is not folded."""
    long: int
    """Sentences of the open part over `LONG` words."""
    whole: int
    """Words with the folded parts."""


def wording(text: str) -> Wording:
    """Count the words of a report."""
    card = re.split(r"^(?:```|!|#)", text.split("\n", 1)[-1], maxsplit=1, flags=re.MULTILINE)[0]
    bare = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    shown = re.sub(r"<details>\n<summary>(.*?)</summary>.*?</details>", r"\n\1\n", bare, flags=re.DOTALL)
    long = sum(len(_words(s)) > LONG for s in _sentences(shown))
    return Wording(len(_words(card)), len(_words(shown)), long, len(_words(bare)))


def _words(text: str) -> list[str]:
    without = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    seen = re.sub(r"\]\([^)]*\)", "]", without)
    return [word for word in re.split(r"[\s|]+", seen) if re.search(r"\w", word)]


def _sentences(text: str) -> list[str]:
    """Return the sentences of paragraphs and lists, without rows of tables."""
    prose = [line for line in text.splitlines() if not line.startswith(("|", "!", "#", ">", "<"))]
    return [s for line in prose for s in re.split(r"(?<=[.!?])\s+(?=\S)", line.lstrip("- "))]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(name, wording(Path(name).read_text("utf-8")))
