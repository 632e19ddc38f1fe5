"""Comparison at the plain operating point, 0.5 or τ = 0: does the answer depend on the tuned one?"""

from __future__ import annotations

from sweeper.core.records import Evidence, PlainPoint
from sweeper.evidence.interim_analyses import get_comparison_level
from sweeper.evidence.verdict_predicates import REGRET_TIE, get_difference


def compare_at_plain_point(evidence: Evidence | None, recommended: int | None) -> PlainPoint | None:
    """Compare finalist `recommended` with another at the plain point; None without another or without tuned points.

    The other is cross-entropy, or the best other finalist there where cross-entropy is `recommended` or was not
    confirmed. The recommendation depends on the tuned points where another finalist leads by the margin or more at the
    plain point, and where its gain over cross-entropy is the margin or more at the tuned points but less at the plain
    one.
    """
    if evidence is None or recommended is None or not evidence.at_plain:
        return None
    plain = evidence.model_copy(update={"comparisons": evidence.at_plain})
    others = [i for i in range(len(evidence.finalists)) if i != recommended]
    best = min(others, key=lambda i: get_difference(plain, recommended, i).estimate)
    against = best if evidence.baseline in (None, recommended) else evidence.baseline
    assert against is not None
    gap, margin = get_difference(plain, recommended, against), evidence.margin
    lost = (
        against == evidence.baseline
        and gap.estimate < margin <= get_difference(evidence, recommended, against).estimate
    )
    return PlainPoint(
        against=evidence.finalists[against].family,
        difference=gap,
        level=get_comparison_level(evidence, recommended, against),
        best=evidence.finalists[best if get_difference(plain, recommended, best).estimate < 0 else recommended].family,
        depends=lost or get_difference(plain, recommended, best).estimate <= -margin,
        worse={
            f.family: f.score_at_default - f.score.estimate
            for f in evidence.finalists
            if f.score_at_default - f.score.estimate >= REGRET_TIE * evidence.scale.hundredth
        },
    )
