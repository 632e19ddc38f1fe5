"""Which loss to choose by what someone cares about more than mIoU, from the same confirmed runs."""

from __future__ import annotations

from sweeper.records import Evidence, Preference
from sweeper.report.facts import Facts, finalist_name
from sweeper.report.words import code, escape_md, interval, level, listed, signed_interval, table

CARES = {
    "misses": "finding all there is (a miss is dear)",
    "false_alarms": "no false alarms (each is dear)",
    "boundaries": "exact boundaries",
    "thin_structures": "unbroken thin structures",
    "rare_classes": "the worst class",
    "probabilities": "probabilities that can be trusted",
}
"""Each preference in words, after *if you care most about*."""


def choice(facts: Facts, preference: Preference) -> int:
    """Index of the finalist to choose: the recommended one where none is shown to be better, else the best."""
    chosen = next((i for i, f in enumerate(facts.finalists) if f is facts.chosen), None)
    return chosen if chosen is not None and chosen in preference.unbeaten else preference.best


def preferences_table(facts: Facts) -> str:
    """A row per preference: the choice, its score, and why not another; empty where nothing was judged or compared."""
    evidence = facts.recommendation.evidence
    if evidence is None or len(evidence.finalists) < 2 or not evidence.preferences:
        return ""
    rows = []
    for preference in evidence.preferences:
        index = choice(facts, preference)
        finalist = facts.finalists[index]
        name = code(finalist_name(facts, finalist))
        first = name if finalist is facts.chosen else f"**{name}**"
        better = "" if preference.higher_is_better else ", lower is better"
        rows.append(
            [
                CARES[preference.name],
                first,
                f"{escape_md(preference.measure)}{better}",
                _against(facts, evidence, preference, index),
                interval(preference.scores[index]),
            ]
        )
    header = ["if you care most about", "choose", "measured by", "against the others", f"its score [{level(0.95)}]"]
    return table(header, rows, left=4)


def _against(facts: Facts, evidence: Evidence, preference: Preference, index: int) -> str:
    """What the choice was weighed against, with the paired difference."""
    best = preference.best
    leader = code(finalist_name(facts, facts.finalists[best]))
    if index != best:
        return f"{leader} leads by {signed_interval(preference.versus[index])}, which is not shown"
    chosen = next((i for i, f in enumerate(facts.finalists) if f is facts.chosen), None)
    if chosen is not None and chosen != best:
        gap = signed_interval(preference.versus[chosen])
        return f"{gap} against {code(finalist_name(facts, facts.finalists[chosen]))}"
    others = [i for i in range(len(evidence.finalists)) if i != best]
    nearest = min(others, key=lambda i: abs(preference.versus[i].estimate))
    gap = signed_interval(preference.versus[nearest])
    return f"best; {gap} against {code(finalist_name(facts, facts.finalists[nearest]))}"


def preferences_text(facts: Facts) -> str:
    """One sentence: whether any preference changes the answer, and what the intervals are."""
    evidence = facts.recommendation.evidence
    if evidence is None or not evidence.preferences:
        return ""
    if facts.chosen is None:
        return "Nothing is recommended, so each row names the best estimate."
    away = [p for p in evidence.preferences if facts.finalists[choice(facts, p)] is not facts.chosen]
    names = dict.fromkeys(code(finalist_name(facts, facts.finalists[choice(facts, p)])) for p in away)
    name = code(finalist_name(facts, facts.chosen))
    if not away:
        text = f"None of these changes the answer: no finalist is shown to be better than {name} by any of them."
    else:
        text = f"Where a loss is shown to be better than {name} it is named in bold ({listed(list(names))})."
    return (
        f"{text} Each row has its own paired {level(0.95)} interval; they are not corrected for there being "
        f"{len(evidence.preferences)} of them."
    )
