"""The search space: a file with losses and ranges, and the parameters suggested by Optuna."""

from sweeper.space.space_file import (
    FLOOR,
    TrialChoice,
    count_floor_trials,
    fill_parameters,
    find_range_edge,
    get_default_params,
    get_middle_rate,
    get_parameter_name,
    list_first_trials,
    list_named_losses,
    list_shipped_spaces,
    load_full_space,
    load_named_losses,
    load_space,
    make_default_choice,
    read_space_file,
    suggest_choice,
)
