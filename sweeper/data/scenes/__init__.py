"""Synthetic scenes: images with exact labels, drawn from a seed, hard enough that losses differ.

Every scene is a function `(rng, SceneCanvas) -> DrawnImage`; image i of a seed depends on (seed, i), not on the number
of images.
"""
