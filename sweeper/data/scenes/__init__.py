"""Synthetic scenes: images with exact labels, drawn from a seed, hard enough that losses differ.

Every scene is a function `(rng, Canvas) -> (image, mask)`; image i of a seed is keyed by (seed, i) and so does not
depend on how many are drawn.
"""
