"""Which loss to choose by what someone cares about more than mIoU, from the same confirmed runs."""

from __future__ import annotations

from sweeper.core.records import Evidence, Preference
from sweeper.core.text import count, listed
from sweeper.evidence.intervals import LEVEL
from sweeper.evidence.preferences import PreferenceRow, preference_rows, recommended_index
from sweeper.report.facts import Facts, finalist_name
from sweeper.report.formatting import code, escape_md, level, number, signed_interval, table


def preferences_table(facts: Facts) -> str:
    """A row per preference: the choice and its score; empty where nothing was judged or compared."""
    evidence = facts.recommendation.evidence
    if evidence is None or len(evidence.finalists) < 2:
        return ""
    rows = [
        [escape_md(row.care_about), _choice(facts, row), _score(facts, row)]
        for row in preference_rows(facts.recommendation)
    ]
    return table(["if you care most about", "choose", f"its score [{level(LEVEL)}]"], rows, left=2) if rows else ""


def _score(facts: Facts, row: PreferenceRow) -> str:
    score = facts.scored(row.value, facts.finalists[row.finalist])
    return score if row.higher_is_better else f"{score}, lower is better"


def preferences_detail(facts: Facts) -> str:
    """By what each was judged, and why the choice is not another."""
    evidence = facts.recommendation.evidence
    if evidence is None or len(evidence.finalists) < 2:
        return ""
    rows = []
    for row, preference in zip(preference_rows(facts.recommendation), evidence.preferences, strict=True):
        against = _against(facts, evidence, preference, row.finalist)
        rows.append([escape_md(row.care_about), escape_md(row.measure), against])
    header = ["if you care most about", "measured by", "the choice against the others"]
    return table(header, rows, left=3) if rows else ""


def _name(facts: Facts, index: int) -> str:
    return code(finalist_name(facts, facts.finalists[index]))


def _choice(facts: Facts, row: PreferenceRow) -> str:
    """The loss, in bold where it is not the recommended one, with the operating point that goes with it."""
    name = _name(facts, row.finalist)
    if row.finalist != recommended_index(facts.recommendation):
        name = f"**{name}**"
    return name if row.point is None else f"{name} at {facts.point_name} {number(row.point, 2)}"


def _against(facts: Facts, evidence: Evidence, preference: Preference, index: int) -> str:
    """What the choice was weighed against, with the paired difference."""
    best = preference.best
    if index != best and number(preference.versus[index].estimate) == "0.000":
        return f"level with {_name(facts, best)}"
    if index != best:
        return f"{_name(facts, best)} leads by {signed_interval(preference.versus[index])}, which is not shown"
    recommended = recommended_index(facts.recommendation)
    if recommended is not None and recommended != best:
        return f"{signed_interval(preference.versus[recommended])} against {_name(facts, recommended)}"
    others = [i for i in range(len(evidence.finalists)) if i != best]
    nearest = min(others, key=lambda i: abs(preference.versus[i].estimate))
    return f"{signed_interval(preference.versus[nearest])} against {_name(facts, nearest)}, the next"


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


def preferences_note(facts: Facts) -> str:
    """What the differences of the detailed table allow to say."""
    rows = preference_rows(facts.recommendation)
    return (
        f"The differences of one row hold together at {level(LEVEL)}. They are corrected neither for the interim "
        f"analyses nor for there being {count(len(rows), 'row')}: a row is exploratory unless it was chosen beforehand."
    )
