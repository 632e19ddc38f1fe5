"""The search space: a file with the losses and ranges, and what Optuna is asked from it."""

from sweeper.space.search_space import (
    FLOOR,
    Choice,
    default_choice,
    default_space_name,
    defaults,
    edge_of,
    first_trials,
    floor_of,
    load_space,
    parameter_name,
    shipped_spaces,
    space_path,
    suggest,
)
