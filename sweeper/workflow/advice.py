"""First trials of the search: the present loss, the order of the losses, and what was best on similar data.

The latter two come from the ledger. The advice moves trials forward and replaces random draws; it changes neither which
losses are tried and how often at least, nor how the verdict is found.
"""

from __future__ import annotations

import math

from sweeper.core.errors import UsageError
from sweeper.core.records import FamilySpace, FamilyStart, ImbalanceProfile, SearchSpace
from sweeper.fingerprint.ledger import POWERS, compute_features, rank_losses, read_ledger
from sweeper.losses.families import FAMILIES, parse_loss
from sweeper.space import get_default_params, get_parameter_name, load_full_space


def add_present_loss(space: SearchSpace, text: str, imbalance: float) -> SearchSpace:
    """Return the space with the present loss, `--present text`, which is added if it is missing.

    Raises:
        UsageError: if the loss is not for these data, or its parameters are not in the search's ranges.
    """
    (name, given), order = parse_loss(text), list(FAMILIES)
    families = load_full_space(space.task).by_name | space.by_name
    if name not in families:
        raise UsageError(f"--present must be a loss for {space.task} tasks, got {name}; `sweeper losses` lists them")
    family, params, problems = families[name], dict[str, float](), []
    for key, value in given.items():
        coordinate = family.coordinates.get(key)
        if coordinate is None or coordinate.kind == "fixed":
            takes = ", ".join(k for k, one in family.coordinates.items() if one.kind != "fixed") or "nothing"
            problems.append(f"{key} is not searched for {name}; it takes {takes}")
            continue
        ends = [coordinate.low, coordinate.high]
        if coordinate.kind == "power_of_imbalance":
            ends = [imbalance**end for end in ends]
        searched = value
        if not min(ends) <= value <= max(ends):
            problems.append(f"{key} must be {min(ends):.3g} to {max(ends):.3g}, got {value:g}")
        elif coordinate.kind == "power_of_imbalance" and imbalance != 1:
            searched = coordinate.clip(math.log(value) / math.log(imbalance))
        params[get_parameter_name(name, key, coordinate)] = searched
    if problems:
        raise UsageError(f"--present {text}: {'; '.join(problems)}")
    known = sorted({**space.by_name, name: family}.values(), key=lambda one: order.index(one.family))
    return space.model_copy(update={"families": tuple(known), "present": FamilyStart(family=name, params=params)})


def add_advice(space: SearchSpace, profile: ImbalanceProfile, imbalance: float) -> SearchSpace:
    """Return the space with `starts`: the ledger's families, most promising first, at each of its configurations."""
    families = space.by_name
    features = tuple(compute_features(profile).values())
    starts = tuple(
        FamilyStart(family=advised.family, params=_clip_into_space(params, families[advised.family], space, imbalance))
        for advised in rank_losses(space.task, features, read_ledger())
        if advised.family in families
        for params in (advised.params, *advised.others)
    )
    return space.model_copy(update={"starts": starts})


def _clip_into_space(
    params: dict[str, float], family: FamilySpace, space: SearchSpace, imbalance: float
) -> dict[str, float]:
    """Return a ledger configuration in Optuna's parameters, clipped into the space; missing ones are the defaults."""
    clipped = {
        name: value
        for name, value in get_default_params(family, space).items()
        if name not in ("loss", f"{family.family}.lr")
    }
    free = FAMILIES[family.family].coordinates[space.task]
    for name, coordinate in family.coordinates.items():
        value = params.get("power" if free[name].role in POWERS else name)
        if value is None or coordinate.kind == "fixed":
            continue
        if free[name].role == "pos_weight" and coordinate.kind != "power_of_imbalance":
            value = imbalance**value
        clipped[get_parameter_name(family.family, name, coordinate)] = coordinate.clip(value)
    return clipped
