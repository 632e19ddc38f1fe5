"""New fields of the recipe do not invalidate paused checkpoints."""

from __future__ import annotations

import inspect

from sweeper.training import network_in_training
from tests.support import builders

FROZEN = "4f80bd2d9cd456c66140525740caa37e7baa782e4baf9ebf7c389b50a27ae46f"
"""The key of paused checkpoints with the default recipe, on a data set with a fixed digest, with seed 0."""


def test_a_new_field_does_not_change_the_key_of_paused_checkpoints() -> None:
    conditions = builders.conditions(builders.dataset(digest="sha256:frozen"))
    line = inspect.getsourcelines(network_in_training.make_checkpoint_key)[1]
    assert network_in_training.make_checkpoint_key(conditions) == FROZEN, (
        f"{network_in_training.__file__}:{line}: paused checkpoints would be trained again, silently. A new "
        "field has the default of older recipes; where the key was meant to change, say so in CHANGELOG.md."
    )
    changes = {"size": 128, "precision": "bfloat16", "input_mean": (0.5, 0.5, 0.5)}
    for name, value in changes.items():
        changed = conditions.model_copy(update={"recipe": conditions.recipe.model_copy(update={name: value})})
        assert network_in_training.make_checkpoint_key(changed) != FROZEN, name
