"""Statistics of confirmed trainings: intervals, verdict, recommendation; pure functions, no torch."""
