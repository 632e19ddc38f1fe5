"""The table of remarks in docs/report.md, made from the one table of phrases.

    python docs/site/remarks.py docs/report.md

What stands between the two marks of the page is written again; a test compares.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sweeper.evidence.phrases import REMARKS

BEGIN, END = "<!-- remarks: begin -->\n", "<!-- remarks: end -->\n"
PLACES = {"head": "the head", "text": "Mind", "fold": "folded"}


def insert_remarks(page: str) -> str:
    """Return the page with today's remarks between its marks."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    rows = [
        f'| <a id="{code.lower()}"></a>`{code}` | {PLACES[phrase.place]} | {_name_fields(phrase.text)} |'
        for code, phrase in REMARKS.items()
    ]
    return f"{before}{BEGIN}\n| code | stands in | says |\n|---|---|---|\n" + "\n".join(rows) + f"\n\n{END}{after}"


def _name_fields(text: str) -> str:
    """Return a sentence with the names of its values in italics."""
    return re.sub(r"{(\w+)[^}]*}", lambda field: f"*{field[1].replace('_', ' ')}*", text)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(insert_remarks(path.read_text("utf-8")), "utf-8")
