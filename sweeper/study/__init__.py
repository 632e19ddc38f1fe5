"""The search and the confirmation: what is trained next, decided with Optuna."""
