"""The search space: a file with losses and ranges, and the parameters suggested by Optuna."""

from sweeper.space.search_space import (
    FLOOR,
    TrialChoice,
    count_floor_trials,
    find_range_edge,
    get_default_params,
    get_parameter_name,
    list_first_trials,
    make_default_choice,
    suggest_choice,
)
from sweeper.space.space_file import get_space_path, list_shipped_spaces, load_space
