"""The losses on a processor: class sums and cross-entropy in one pass over the logits, their gradient in another.

`sweeper.losses.kernel` says the same in plain operations of torch; it is the reference this is tested against, what
`torch.compile` fuses, and what runs elsewhere. Here the pixels are walked in blocks that stay in the processor's cache,
logarithm and probability come from one exponential, and between the passes one array of the logits' size is kept,
which becomes the gradient. Derivatives are written down; where a derivative of them is wanted
(`create_graph=True`), the backward pass is done in plain operations, which have any.

sums.py      what a pass gives, what decides it, the hardest pixels
sigmoid.py   binary and multi-label
softmax.py   multi-class
passes.py    the passes of both as autograd calls them
walk.py      the one call for both
plain.py     the sums in plain operations, and a gradient that can be differentiated
points.py    points of the kernel from the sums

Left to the plain operations: `label_smoothing`, `per_image`, `squared`, weights of pixels that want a gradient,
torch.func's transformations, and forward-mode derivatives.
"""

from __future__ import annotations

from sweeper.losses.fused_cpu.plain import plain_sums
from sweeper.losses.fused_cpu.points import covers, kernel_loss
from sweeper.losses.fused_cpu.sums import Entropy, Sums
from sweeper.losses.fused_cpu.walk import class_sums, walks

__all__ = ["Entropy", "Sums", "class_sums", "covers", "kernel_loss", "plain_sums", "walks"]
