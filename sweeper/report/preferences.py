"""Which loss to choose by what someone cares about more than mIoU, from the same confirmed runs."""

from __future__ import annotations

from sweeper.core.text import listed
from sweeper.evidence.intervals import LEVEL
from sweeper.evidence.preferences import PreferenceRow, preference_rows, recommended_index
from sweeper.report.facts import Facts, finalist_name
from sweeper.report.formatting import code, escape_md, level, number, table


def preferences_table(facts: Facts) -> str:
    """A row per preference: the choice and its score; empty where nothing was judged or compared."""
    rows = [[escape_md(row.care_about), _choice(facts, row), _score(facts, row)] for row in _compared(facts)]
    return table(["if you care most about", "choose", f"its score [{level(LEVEL)}]"], rows, left=2) if rows else ""


def _compared(facts: Facts) -> list[PreferenceRow]:
    return preference_rows(facts.recommendation) if len(facts.finalists) > 1 else []


def _score(facts: Facts, row: PreferenceRow) -> str:
    score = facts.scored(row.value, facts.finalists[row.finalist])
    return score if row.higher_is_better else f"{score}, lower is better"


def preferences_detail(facts: Facts) -> str:
    """By what each was judged; empty where nothing was judged or compared."""
    rows = [[escape_md(row.care_about), escape_md(row.measure)] for row in _compared(facts)]
    return table(["if you care most about", "measured by"], rows, left=2) if rows else ""


def _name(facts: Facts, index: int) -> str:
    return code(finalist_name(facts, facts.finalists[index]))


def _choice(facts: Facts, row: PreferenceRow) -> str:
    """The loss, in bold where it is not the recommended one, with the operating point that goes with it."""
    name = _name(facts, row.finalist)
    if row.finalist != recommended_index(facts.recommendation):
        name = f"**{name}**"
    return name if row.point is None else f"{name} at {facts.point_name} {number(row.point, 2)}"


def preferences_text(facts: Facts) -> str:
    """Whether any preference changes the answer."""
    rows = preference_rows(facts.recommendation)
    recommended = recommended_index(facts.recommendation)
    if not rows:
        return ""
    if recommended is None:
        return "Nothing is recommended, so each row names the best estimate."
    away = list(dict.fromkeys(_name(facts, row.finalist) for row in rows if row.finalist != recommended))
    name = _name(facts, recommended)
    if away:
        return (
            f"In bold where a loss is shown to be better than {name} ({listed(away)}); where none is, {name} stays, "
            "even if another one reads higher."
        )
    return f"None of these changes the answer: no finalist is shown to be better than {name} by any of them."
