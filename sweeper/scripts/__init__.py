"""Trainings by the user's script: the folder of each, its start and end, and the probe of the script."""
