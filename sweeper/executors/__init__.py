"""Executors, which run trainings in this process, in worker processes or on a Ray cluster; one protocol for all."""
