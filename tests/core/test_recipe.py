"""New fields of the recipe do not invalidate paused checkpoints."""

from __future__ import annotations

import inspect

from sweeper.core.recipe import Recipe
from sweeper.training import checkpoint
from tests.support import builders

FROZEN = "df72d53f0222765d7fc3a5cd3ea94779be8bbd50a747e51cb5c545b95772b674"
"""The key of paused checkpoints with the default recipe, on a data set with a fixed digest, with seed 0."""


def test_a_new_field_does_not_change_the_key_of_paused_checkpoints() -> None:
    conditions = builders.conditions(builders.dataset(digest="sha256:frozen"))
    line = inspect.getsourcelines(checkpoint.make_checkpoint_key)[1]
    assert checkpoint.make_checkpoint_key(conditions) == FROZEN, (
        f"{checkpoint.__file__}:{line}: paused checkpoints would be trained again, silently. Where "
        f"{inspect.getfile(Recipe)} has a new field, leave its default out of the key in `key_of`, as that of `crops` "
        "is. Where a default was meant to change, this key changes with it: say so in CHANGELOG.md."
    )
    changes = {"crops": "balanced", "size": 128, "deterministic": True, "input_mean": (0.5, 0.5, 0.5)}
    for name, value in changes.items():
        changed = conditions.model_copy(update={"recipe": conditions.recipe.model_copy(update={name: value})})
        assert checkpoint.make_checkpoint_key(changed) != FROZEN, name
