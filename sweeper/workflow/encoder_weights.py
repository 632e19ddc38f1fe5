"""Initial weights of the encoder: a file, ImageNet weights from the local cache or the hub, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sweeper.core.errors import UsageError
from sweeper.core.recipe import IMAGENET_MEAN, IMAGENET_STD
from sweeper.core.redact import hide_address_secrets, redact
from sweeper.executors.start_process import LaunchedProcess, WorkerDiedError, begin_loading
from sweeper.system.clocks import get_running_seconds
from sweeper.system.machine import format_memory
from sweeper.training.pretrained import (
    ANSWER_SECONDS,
    EncoderInputs,
    PendingDownload,
    explain_missing_hub,
    fetch_imagenet,
    get_encoder_inputs,
)

LOAD_SECONDS = 120.0
"""Time limit for loading the libraries."""
DOWNLOAD_SECONDS = 60.0
"""Time limit for a download, from its first request."""
PAGE = "docs/how-to/own-data.md#pretrained-encoders"


class EncoderWeights(NamedTuple):
    """Initial weights of an encoder, as the recipe stores them."""

    name: str
    """`none`, `imagenet`, or the path of a file."""
    inputs: EncoderInputs


NOTHING = EncoderWeights("none", EncoderInputs(IMAGENET_MEAN, IMAGENET_STD))


def choose_weights(
    requested: str | None, encoder: str, *, synthetic: bool, log: Callable[[str], None]
) -> EncoderWeights:
    """Return the initial weights of the encoder, and log a choice made for the user in one line.

    `requested` is `auto` (None), `imagenet`, `none`, or a file, which `check_file` has accepted. With `auto` synthetic
    images get no weights.

    Raises:
        UsageError: if `imagenet` is not available.
    """
    requested = requested or "auto"
    has_nothing_to_use = synthetic and requested == "auto"
    if requested == "none" or has_nothing_to_use:
        return NOTHING
    if requested not in {"auto", "imagenet"}:
        inputs = get_encoder_inputs(encoder)
        log(
            f"encoder weights: {requested}; inputs are normalised by mean {inputs.mean}, SD {inputs.std}, as "
            f"{encoder}'s"
        )
        return EncoderWeights(requested, inputs)
    fetched = read_imagenet_inputs(encoder, log)
    if isinstance(fetched, EncoderInputs):
        log(f"encoder weights: ImageNet's of {encoder}; inputs are normalised by mean {fetched.mean}, SD {fetched.std}")
        return EncoderWeights("imagenet", fetched)
    if requested == "imagenet":
        raise UsageError(
            f"--encoder-weights imagenet needs ImageNet weights of {encoder}, which are not whole in the local cache "
            f"and could not be downloaded ({fetched}); give --encoder-weights FILE ({PAGE}), or none"
        )
    log(
        f"encoder weights: none (random), as ImageNet's of {encoder} are not whole in the local cache and could not be "
        f"downloaded ({fetched}); --encoder-weights FILE takes them from a file ({PAGE}), none skips this"
    )
    return NOTHING


def read_imagenet_inputs(encoder: str, log: Callable[[str], None]) -> EncoderInputs | str:
    """Return the input normalisation of the encoder's ImageNet weights once they are cached, else why they are not.

    It tries once, in a process of its own that is ended at its time limit. `log` receives size and source of a
    download.
    """
    if (why := explain_missing_hub()) is not None:
        return why
    try:
        child = LaunchedProcess(fetch_imagenet, (encoder,), begin_loading())
    except WorkerDiedError as error:
        return str(error)
    seconds, end = LOAD_SECONDS, get_running_seconds() + LOAD_SECONDS
    try:
        while child.pipe.poll(max(0.0, end - get_running_seconds())):
            match child.pipe.recv():
                case None:  # half as long again for the name lookup before the request
                    seconds, end = ANSWER_SECONDS, get_running_seconds() + 1.5 * ANSWER_SECONDS
                case PendingDownload() as coming:
                    seconds, end = DOWNLOAD_SECONDS, get_running_seconds() + DOWNLOAD_SECONDS
                    size = "" if coming.size is None else f", {format_memory(coming.size)},"
                    log(
                        f"downloading ImageNet weights of {encoder}{size} from {hide_address_secrets(coming.url)} for "
                        f"at most {DOWNLOAD_SECONDS:.0f} s"
                    )
                case EncoderInputs() as found:
                    return found
                case why:
                    return redact(str(why))
    except (EOFError, OSError):
        return child.explain_end()
    finally:
        child.end_process()
    return f"no answer within {seconds:.0f} s"
