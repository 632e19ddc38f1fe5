"""Places where trainings run: this process, worker processes, Ray, other machines; one protocol for all."""
