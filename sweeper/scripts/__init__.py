"""Trainings by a script of the user's: the folder that each has, its start and end, and the probe of it."""
