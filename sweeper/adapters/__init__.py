"""Frameworks as training scripts of `sweeper confirm`; these modules run in the user's process, not in sweeper's."""
