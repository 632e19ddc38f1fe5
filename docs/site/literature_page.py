"""docs/literature.md, made from the table of studies:  python docs/site/literature_page.py > docs/literature.md

A test compares the committed file with `document()`.
"""

from __future__ import annotations

import re

from sweeper.evidence.other_metrics import THIN
from sweeper.literature.compare import STUDIES, UNANIMOUS, WIDER, Study

HEAD = """# What was published

<!-- Made by `python docs/site/literature_page.py > docs/literature.md`; a test compares. Edit the table instead. -->

Comparisons of losses for imbalanced segmentation that say which of two is better. A figure stands here only where it
was read in the place that is named. Losses have the names of [docs/losses.md](losses.md). Most of these compare at a
threshold of 0.5, with one training each, and without tuning the learning rate for each loss: what sweeper measures on
your data is the better guide for your data.

Contents: [studies](#studies) · [figures](#figures) · [how a report uses them](#how-a-report-uses-them)

## Studies

| study | compared | task, foreground | result | source, and where it was read |
|---|---|---|---|---|
"""
RULES = f"""## How a report uses them

For each study with two losses that were both confirmed, the report says one of these (`sweeper.literature.compare`):

- **outside what was studied**: the study is about another kind of task; or about thin structures where the rarest
  class here has at most {100 * THIN:.0f} % thin pixels (or the other way round); or the share of the rarest class here
  is more than {WIDER:g} times above or below what it studied. A share that is not stated excludes nothing, and is said.
- **agrees**, where the paired interval of the difference in test mIoU excludes 0 in the published direction;
- **conflicts**, where the interval excludes 0 in the other direction;
- **neither**, where the interval contains 0.

A study has a direction for two losses where the mean of its differences and at least {100 * UNANIMOUS:.0f} % of its
data sets point the same way, or where it states one in words. Sizes are not compared: the measures differ.
"""


def document() -> str:
    """The whole page. Of two losses on many data sets the result in words says as much as their figures."""
    rows = "\n".join(_row(study) for study in STUDIES)
    figures = "\n\n".join(_figures(study) for study in STUDIES if len(study.families) > len(study.figures) > 0)
    return f"{HEAD}{rows}\n\n## Figures\n\n{figures}\n\n{RULES}"


def _row(study: Study) -> str:
    kinds = {"binary": "binary", "multiclass": "multi-class"}
    task = ", ".join(kinds[t] for t in study.tasks)
    task += ", 3D" if study.volumes else ""
    task += ", thin structures" if study.thin else ""
    if study.share is not None:
        low, high = (f"{100 * s:.3g} %" for s in study.share)
        task += f", up to {high}" if study.share[0] == 0 else f", {low} to {high}"
    source = f"{_linked(study.source)}. Read: {_linked(study.seen)}."
    cells = (study.title, study.compared, task, study.result, source)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _figures(study: Study) -> str:
    names = [figures.name for figures in study.figures]
    lines = [f"**{study.title}**: {study.measure}\n", f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    lines += [
        f"| `{loss}` | {' | '.join(f'{figures.values[loss]:.4f}' for figures in study.figures)} |"
        for loss in study.figures[0].values
    ]
    return "\n".join(lines)


def _linked(source: str) -> str:
    """arXiv numbers, DOIs and addresses as links."""
    source = re.sub(r"(?<!\()(https://[^\s,]+)", r"<\1>", source)
    source = re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", source)
    return re.sub(r"doi:(\S+?)(?=[.,;)]?(?:\s|$))", r"[doi:\1](https://doi.org/\1)", source)


if __name__ == "__main__":
    print(document(), end="")
