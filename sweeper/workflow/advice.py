"""First trials of the search: the order of the losses, and the configurations that were best on similar data.

Both come from the ledger. The advice moves trials forward and replaces random draws; it changes neither which losses
are tried and how often at least, nor how the verdict is found.
"""

from __future__ import annotations

from sweeper.core.records import FamilySpace, FamilyStart, ImbalanceProfile, SearchSpace
from sweeper.fingerprint.ledger import POWERS, compute_features, rank_losses, read_ledger
from sweeper.losses.families import FAMILIES
from sweeper.space import get_default_params, get_parameter_name


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
