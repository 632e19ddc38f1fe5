"""What coordinates and options are tried at against the slow references: nothing at rest, nothing at a round number."""

from __future__ import annotations

from typing import Any

from sweeper.losses.certification.certified_loss import Subject
from sweeper.losses.families import LossTask

VALUES: dict[str, float | bool] = {
    "mix": 0.3,
    "gamma": 1.5,
    "alpha": 0.8,
    "pos_weight": 5.0,
    "class_weight_power": 0.7,
    "fn_weight": 0.8,
    "fp_weight": 0.3,
    "overlap_exponent": 0.6,
    "hard_fraction": 0.37,
    "boundary_weight": 3.0,
    "label_smoothing": 0.3,
    "effective_number": 0.99,
    "smoothing": 0.25,
    "per_image": True,
    "include_background": True,
    "squared": True,
    "weigh_overlap": True,
    "delta": 0.7,
    "suppression": 0.4,
    "volume_exponent": 1.3,
    "skeleton_weight": 0.4,
    "distance_mix": 0.3,
    "prior_odds": 7.0,
    "tau": 0.6,
    "first_term": -0.7,
    "robustness": 0.4,
    "reverse_share": 0.85,
    "sure_at": 0.55,
    "kept_at_least": 0.2,
    "error_exponent": 1.3,
    "sensitivity_share": 0.3,
    "log_exponent": 0.6,
    "instance_power": 0.6,
    "blob_share": 0.4,
    "margin": 1.7,
}
"""Each coordinate and option that the references know."""
PER_CLASS: dict[LossTask, tuple[float, ...]] = {
    "binary": (0.4, 0.9),
    "multiclass": (0.2, 0.9, 0.6),
    "multilabel": (0.3, 0.8),
}
"""One number for each class, in no order."""
OTHERS: dict[str, tuple[float | bool, ...]] = {
    "mix": (0.0, 1.0),
    "gamma": (0.0, 0.5, 2.0),
    "overlap_exponent": (1.0, 1.7),
    "include_background": (False,),
    "distance_mix": (1.0,),
    "skeleton_weight": (1.0,),
    "blob_share": (1.0,),
    "volume_exponent": (2.0,),
    "tau": (0.0,),
    "robustness": (0.0, 1.0),
    "sure_at": (0.0, 1.0),
    "kept_at_least": (0.0, 0.9),
    "error_exponent": (2.0,),
    "log_exponent": (1.0, 1.7),
}
"""More values of some: where the code takes another way."""
WEIGHTINGS = ("alpha", "pos_weight", "class_weight_power", "class_weights", "effective_number")
"""One of them at a time."""
AT_REST: dict[str, float | None] = {"alpha": None, "pos_weight": 1.0, "class_weight_power": 0.0}
PLAIN_ONLY = ("label_smoothing", "per_image", "squared")
"""Options that only the plain path has: with one of them, the other path is not seen."""


def variants(subject: Subject) -> dict[str, dict[str, Any]]:
    """Places at which the family is tried, by name: what `Subject.build` takes."""
    free, options = subject.entry.coordinates[subject.task], subject.entry.options(subject.task)
    base: dict[str, Any] = {name: VALUES[name] for name in free if name in VALUES}
    found: dict[str, dict[str, Any]] = {"literature": {}, "generic": base}

    def add(name: str, value: Any, word: str) -> None:
        found[f"{name} = {word}"] = _with(subject, base, {name: value})

    for name in (*free, *options):
        if name in VALUES and name not in base:
            add(name, VALUES[name], f"{VALUES[name]}")
        for value in OTHERS.get(name, ()):
            add(name, value, f"{value}")
        if name in ("alpha", "class_weights") or (
            name in ("pos_weight", "prior_odds", "margin") and subject.task == "multilabel"
        ):
            add(name, PER_CLASS[subject.task], "one for each class")
    return found | _together(subject)


def few(subject: Subject, *, options: bool = True) -> dict[str, dict[str, Any]]:
    """The generic place, and (`options`) all options at once, on each path."""
    return {"generic": variants(subject)["generic"], **(_together(subject) if options else {})}


def _together(subject: Subject) -> dict[str, dict[str, Any]]:
    """All options at once: those that the fused path has, and with those of the plain path."""
    taken = subject.entry.options(subject.task)
    fused: dict[str, Any] = {n: VALUES[n] for n in taken if n in VALUES and n not in (*PLAIN_ONLY, *WEIGHTINGS)}
    if "class_weights" in taken:
        fused["class_weights"] = PER_CLASS[subject.task]
    plain = {n: VALUES[n] for n in taken if n in PLAIN_ONLY}
    found = {"options of the fused path": fused, "all options": fused | plain if plain else {}}
    return {name: _with(subject, {}, options) for name, options in found.items() if options}


def _with(subject: Subject, base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """`base` and `more`; other ways of weighting classes rest where `more` has one."""
    free = subject.entry.coordinates[subject.task]
    weighs = any(name in WEIGHTINGS for name in more)
    resting = {name: value for name, value in AT_REST.items() if name in free} if weighs else {}
    return {**base, **resting, **more}
