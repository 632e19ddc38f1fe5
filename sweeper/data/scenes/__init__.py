"""Synthetic scenes: images with exact labels, drawn from a seed, hard enough that losses differ.

Every scene is a function `(rng, Canvas) -> (image, mask)`; image i of a seed is keyed by (seed, i) and so does not
depend on how many are drawn.
"""

from sweeper.data.scenes.blobs import draw_blobs
from sweeper.data.scenes.canvas import Canvas, Drawn
from sweeper.data.scenes.cracks import draw_cracks
from sweeper.data.scenes.shapes import draw_shapes
from sweeper.data.scenes.street import draw_street

__all__ = ["Canvas", "Drawn", "draw_blobs", "draw_cracks", "draw_shapes", "draw_street"]
