"""The search and the confirmation: Optuna lives here and in `sweeper.space`."""
