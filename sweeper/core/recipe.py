"""The recipe: everything about a training but its loss.

A recommendation holds for its recipe and says so; two trials of a study never differ in it.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from sweeper.core.base import Record, ShownCommand
from sweeper.core.own_code import UserCode

Architecture = Literal["unet", "unetplusplus", "manet", "linknet", "deeplabv3plus", "upernet", "segformer"]
"""Architectures of segmentation-models-pytorch that answer at the image's own resolution at every depth."""
FULL_DEPTH = 5
"""Downsampling stages of the encoders as published."""
LEAST_DEPTH = 3
CPU_PRETRAINED = ("tu-tf_efficientnet_lite0", 4)
"""Encoder and depth on a CPU if its ImageNet weights are available: docs/transfer.md has what they change."""
PUBLISHED_WIDTH = 16
"""Channels of the last stage of the decoders as published."""
_WITH_STAGES = {"unet", "unetplusplus", "manet"}
"""Architectures whose decoder's width can be chosen."""
Precision = Literal["float32", "bfloat16"]
Augmentation = Literal["none", "light", "full"]
Engine = Literal["eager", "graph", "deterministic"]
OF_SCRIPT = {"command", "steps", "confirm_steps", "metric"}
"""Fields of a recipe that apply if the user's script trains."""
Channels = tuple[float, float, float]
"""A number for each of red, green and blue."""
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)
FINAL_TIMES = 4
"""Multiple of the confirmation's steps that the final training of the same network has."""
FINAL_STEPS = 500
"""Least steps of the final training of another network: what docs/transfer.md measured."""
FINAL_SIZE = 96
"""Side of its crops, unless the images are smaller or the search's crops larger."""
FINAL_COST = 2.0
"""Time of a step of the published network, as a multiple of the cut one's on crops of the same size (1.7 with
EfficientNet-Lite0, 3.3 with ResNet-18)."""


class FinalNetwork(Record):
    """The network of the final training and its crops, where they are not the search's; fields as in `Recipe`."""

    encoder: str
    encoder_depth: int = FULL_DEPTH
    decoder_width: int = PUBLISHED_WIDTH
    encoder_weights: str
    input_mean: Channels = IMAGENET_MEAN
    input_std: Channels = IMAGENET_STD
    size: int


class Recipe(Record):
    """Settings by which every trial of a study is trained and scored. Defaults are those for a CPU."""

    command: ShownCommand | None = None
    """The user's script that trains, with its arguments; None = sweeper trains. `steps` are then per cent of the
    script's own length, learning rates factors of its own rate, and network, crops and batches are the script's."""
    model: UserCode | None = None
    """The user's function that makes the network; None = `arch` with `encoder`, of segmentation-models-pytorch."""
    arch: str = "unet"
    """Architecture name of segmentation-models-pytorch; for the user's own network `module:function`."""
    encoder: str = "resnet18"
    """Its encoder; "" for the user's own network."""
    encoder_depth: int = Field(LEAST_DEPTH, ge=LEAST_DEPTH, le=FULL_DEPTH)
    """Number of downsampling stages of the encoder that are used; the network's stride is 2 to this power. Below
    `FULL_DEPTH` it is not the published encoder: ResNet-18 at depth 3 has 0.7 of its 11 million weights. Of the
    user's own network it determines only the stride."""
    decoder_width: int = Field(PUBLISHED_WIDTH, ge=4)
    """Channels of the decoder's last stage; each stage before it has twice as many as the next. Only for U-Net,
    U-Net++ and MAnet: other decoders are as published."""
    encoder_weights: str = "none"
    """`none`, `imagenet`, or the path of a file with the encoder's state."""
    input_mean: Channels = IMAGENET_MEAN
    """Mean that is subtracted from 8-bit RGB images of full scale 1 (its mean, from grey ones), as the encoder
    weights require. Other images are normalised by their own training pixels."""
    input_std: Channels = IMAGENET_STD
    """Standard deviation by which they are then divided."""
    size: int = Field(96, ge=16)
    """Side of the square training crop, in pixels at native resolution."""
    batch_size: int = Field(8, ge=1)
    steps: int = Field(100, ge=4)
    """Optimiser steps of a search trial."""
    confirm_steps: int = Field(200, ge=4)
    """Optimiser steps of a confirmation training."""
    evaluations: int = Field(4, ge=1)
    """Evaluations of a trial, evenly spaced; the first is no earlier than 1/evaluations of the budget."""
    augmentation: Augmentation = "light"
    """`light` = flips left–right, contrast, brightness; `full` = also flips top–bottom, rotation, zoom, noise."""
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.05, ge=0, le=1)
    """Share of the steps over which the learning rate rises linearly from 0."""
    decay: float = Field(0.3, ge=0, le=1)
    """Share of the steps, at the end, over which the learning rate falls linearly to 0."""
    average: float = Field(0.1, gt=0, le=1)
    """Horizon of the exponential moving average of weights, as a share of the steps."""
    engine: Engine = "eager"
    """Way to take steps: `eager` one by one, `graph` recorded as a CUDA graph, `deterministic` one by one without the
    algorithms whose sums vary in their order."""
    precision: Precision = "float32"
    """Autocast type of the forward pass; losses are computed in at least float32 whatever this says."""
    metric: str = "miou"
    """Metric that the search maximises and the verdict compares: a name in `sweeper.core.metrics.METRICS`, or
    `module:function` for the user's own."""
    own_metric: UserCode | None = None
    """The user's function that measures it."""
    final: FinalNetwork | None = None
    """The network of the final training; None = that of the search."""

    @property
    def as_final(self) -> Recipe:
        """The recipe of the final training."""
        return self if self.final is None else self.model_copy(update={**dict(self.final), "final": None})

    @property
    def final_steps(self) -> int:
        """Steps of the final training, unless the user gives them; of a script its own length.

        Another network sees at least as many pixels as a confirmation.
        """
        if self.command is not None:
            return 100
        if self.final is None:
            return FINAL_TIMES * self.confirm_steps
        return max(FINAL_STEPS, round(self.confirm_steps * (self.size / self.final.size) ** 2))

    @property
    def final_cost(self) -> float:
        """Time of a step of the final training, about, as a multiple of a step of the search."""
        return 1.0 if self.final is None else FINAL_COST * (self.final.size / self.size) ** 2

    @property
    def decoder_channels(self) -> tuple[int, ...] | None:
        """Widths of the decoder's stages; None where they cannot be chosen."""
        if self.model is not None or self.arch not in _WITH_STAGES:
            return None
        return tuple(self.decoder_width * 2**stage for stage in reversed(range(self.encoder_depth)))

    def format_steps(self, steps: int) -> str:
        """Format a length: `200 steps`, or per cent of the script's own."""
        return f"{steps:,} steps" if self.command is None else f"{steps:,} % of the script's length"

    @property
    def stride(self) -> int:
        """Number of pixels to whose multiples images are padded."""
        return int(2**self.encoder_depth)

    def rungs(self, steps: int) -> tuple[int, ...]:
        """Return the steps after which a training of `steps` steps is evaluated, ascending; the last is `steps`."""
        return tuple(sorted({math.ceil(steps * i / self.evaluations) for i in range(1, self.evaluations + 1)}))
