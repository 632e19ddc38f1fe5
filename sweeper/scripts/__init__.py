"""Trainings by the user's script: their folders, the start and end of processes, and the probe of the script."""
