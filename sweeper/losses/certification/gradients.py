"""The slope of every loss is that of its value."""

from __future__ import annotations

from sweeper.losses.certification.certified_loss import Subject
from sweeper.losses.certification.checks import Finding, Rule, worst

DIRECTIONS = 3
STEP = 1e-6


def _slope_agrees_with_finite_differences(subject: Subject) -> Finding:
    """Directional derivatives in random directions against central differences of the value."""
    logits, target = subject.logits(size=6), subject.target(size=6, ignored=0.1)
    findings = {}
    for point, coordinates in subject.points(options=True).items():
        loss = subject.build(**coordinates)
        _, gradient = subject.value_and_gradient(loss, logits, target)
        for k in range(DIRECTIONS):
            along = subject.logits(seed=100 + k, scale=1.0, size=6)
            ahead = subject.call(loss, logits + STEP * along, target)
            behind = subject.call(loss, logits - STEP * along, target)
            slope = (gradient * along).sum()
            measured = (ahead - behind) / (2 * STEP)
            gap = (slope - measured).abs().item()
            allowed = 1e-7 + 1e-5 * measured.abs().item()
            findings[f"{point}, direction {k}"] = Finding(
                gap <= allowed, f"slope {slope.item():.6g}, measured {measured.item():.6g}"
            )
    return worst(findings)


RULES = (Rule("its slope agrees with finite differences", _slope_agrees_with_finite_differences),)
