"""Initial networks of all trainings of a seed, made once per process."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from sweeper.core.recipe import Recipe
from sweeper.core.records import Task
from sweeper.training.model import build_model

KEPT = 2
"""Number of seeds whose networks are kept: a search has one, a confirmation moves on seed by seed."""


class InitialNetworks:
    """Initial networks by seed; each training gets its own copy. One per process and study."""

    def __init__(self) -> None:
        self._models: OrderedDict[tuple[Any, ...], nn.Module] = OrderedDict()

    def make_model(
        self, recipe: Recipe, *, channels: int, class_pixels: npt.NDArray[np.int64], task: Task, seed: int
    ) -> nn.Module:
        """Return a network like `build_model`, in an eighth of the time if the same was built before."""
        key = (recipe, channels, tuple(class_pixels.tolist()), task, seed)
        if key not in self._models:
            self._models[key] = build_model(recipe, channels=channels, class_pixels=class_pixels, task=task, seed=seed)
            while len(self._models) > KEPT:
                self._models.popitem(last=False)
        self._models.move_to_end(key)
        return copy.deepcopy(self._models[key])
