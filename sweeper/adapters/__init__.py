"""Adapters that make frameworks training scripts of `sweeper confirm`; they run in the user's process."""
