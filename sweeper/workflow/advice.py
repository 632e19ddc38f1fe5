"""First trials of the search: the present loss, the order of the losses, and what was best on similar data.

The latter two come from the ledger. The advice moves trials forward and replaces random draws; it changes neither which
losses are tried and how often at least, nor how the verdict is found.
"""

from __future__ import annotations

import math

from sweeper.core.records import Coordinate, FamilySpace, FamilyStart, ImbalanceProfile, SearchSpace
from sweeper.fingerprint.ledger import POWERS, compute_features, rank_losses, read_ledger
from sweeper.losses.families import FAMILIES, parse_loss
from sweeper.space import fill_parameters, get_default_params, get_parameter_name, load_full_space


def add_present_loss(space: SearchSpace, text: str, imbalance: float) -> SearchSpace:
    """Return the space with the present loss, `--present text`, in ranges that contain the given parameters.

    Raises:
        LossError: if there is no such loss for these data, or a parameter is not its own.
    """
    (name, given), order = parse_loss(text), list(FAMILIES)
    fill_parameters(name, given, space.task, imbalance)  # refuses what is none of its parameters
    family = (load_full_space(space.task).by_name | space.by_name).get(name, FamilySpace(family=name, coordinates={}))
    coordinates, params = dict(family.coordinates), dict[str, float]()
    for key, value in given.items():
        one = coordinates.get(key, Coordinate(kind="fixed", low=value, high=value))
        searched = math.log(value) / math.log(imbalance) if one.kind == "power_of_imbalance" else value
        ends = (searched,) if one.kind == "fixed" else (searched, one.low, one.high)
        coordinates[key] = one.model_copy(update={"low": min(ends), "high": max(ends)})
        params[get_parameter_name(name, key, one)] = searched
    present = {name: family.model_copy(update={"coordinates": coordinates})}
    known = sorted((space.by_name | present).values(), key=lambda one: order.index(one.family))
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
    clipped = get_default_params(family, space)
    del clipped["loss"]
    free = FAMILIES[family.family].coordinates[space.task]
    for name, coordinate in family.coordinates.items():
        value = params.get("power" if free[name].role in POWERS else name)
        if value is None or coordinate.kind == "fixed":
            continue
        if free[name].role == "pos_weight" and coordinate.kind != "power_of_imbalance":
            value = imbalance**value
        clipped[get_parameter_name(family.family, name, coordinate)] = coordinate.clip(value)
    return clipped
