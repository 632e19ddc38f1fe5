"""Python text that rebuilds an exported network with segmentation-models-pytorch alone. No torch."""

from __future__ import annotations

from sweeper.core.calibration import ClassCalibration
from sweeper.core.own_code import OwnCode
from sweeper.training.weights_file import SEAL, WeightsRecord

_HEAD = '''"""The network that sweeper trained with the recommended loss.

Needs torch, safetensors and segmentation-models-pytorch.

{training}; the averaged weights. Classes: {classes}.
"""

import hashlib
import math
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file

'''
_BODY = '''

def sealed(path):
    """The path of a file whose header holds the digest of all its other bytes, if they are as they were written."""
    before, key, after = Path(path).read_bytes().partition(b'"{seal}":"')
    if key and hashlib.blake2b(before + key + after[64:], digest_size=32).hexdigest().encode() != after[:64]:
        raise ValueError(f"{{path}} is not as it was written; copy it again")
    return path


def load(path=Path(__file__).with_name("model.safetensors")):
    """The network, ready to predict."""
    model = smp.create_model(
        {arch!r},
        encoder_name={encoder!r},
        encoder_weights=None,
        encoder_depth={depth},
        in_channels={channels},
        classes={outputs},{decoder}
    )
    missing, unexpected = model.load_state_dict(load_file(sealed(path)), strict=False)
    # What is missing are stages of the encoder that a network of this depth never calls.
    if unexpected or not all(name.startswith("encoder.") for name in missing):
        raise ValueError(f"these weights do not fit: unexpected {{unexpected}}, missing {{missing}}")
    return model.eval()


@torch.no_grad()
def logits_of(model, images):
    """Logits (N, {outputs}, H, W) of images (N, {channels}, H, W) with values from 0 to {full_scale}, of any size."""
    height, width = images.shape[-2:]
    pad = (0, -width % {stride}, 0, -height % {stride})
    padded = torch.nn.functional.pad(images.float() / {full_scale}, pad)
    logits = model((padded - MEAN) / STD)
    return logits[..., :height, :width]


def predict(model, images):
    """Class indices (N, H, W) of such images."""
    logits = logits_of(model, images)
    {answer}
{more}'''
_PROBABILITIES = '''

def probabilities(model, images):
    """Calibrated probabilities {of}; slope and bias were fitted on validation images."""
    return {value}
'''


def _own(code: OwnCode) -> tuple[str, str]:
    """The same two parts for a network of the user's: it is imported by its name."""
    head = _HEAD.replace(
        "Needs torch, safetensors and segmentation-models-pytorch.",
        f"Needs torch, safetensors and the module {code.module}, whose source had the SHA-256\n{code.digest}.",
    ).replace("import segmentation_models_pytorch as smp\nimport torch\n", "import torch\n")
    head = head.replace(
        "from safetensors.torch import load_file\n",
        f"from safetensors.torch import load_file\n\nfrom {code.module} import {code.function}\n",
    )
    begin, end = _BODY.index("    model = smp.create_model("), _BODY.index("    return model.eval()")
    made = f"    model = {code.function}(in_channels={{channels}}, classes={{outputs}})\n"
    return head, _BODY[:begin] + made + "    model.load_state_dict(load_file(sealed(path)))\n" + _BODY[end:]


def model_code(record: WeightsRecord) -> str:
    """A module with `load()` and `predict(model, images)`."""
    binary = record.task == "binary"
    constants = [
        f"MEAN = torch.tensor({list(record.mean)!r}).view(-1, 1, 1)",
        f"STD = torch.tensor({list(record.std)!r}).view(-1, 1, 1)",
    ]
    if binary:
        constants.append(f"THRESHOLD = {record.point!r}  # {record.point_from}")
        answer = "return (logits[:, 0] >= math.log(THRESHOLD / (1 - THRESHOLD))).long()"
    else:
        constants.append(f"TAU = {record.point!r}  # {record.point_from}")
        constants.append(f"LOG_PRIOR = torch.tensor({list(record.log_prior)!r}).view(-1, 1, 1)")
        answer = "return (logits - TAU * LOG_PRIOR).argmax(1)"
    known, more = record.calibration, ""
    if isinstance(known, ClassCalibration):
        biases = f"torch.tensor({list(known.biases)!r}).view(-1, 1, 1)"
        constants += [f"SLOPE = {known.slope!r}", f"BIAS = {biases}"]
        value = "(SLOPE * logits_of(model, images) + BIAS).softmax(1)"
        more = _PROBABILITIES.format(of="of the classes, (N, C, H, W)", value=value)
    elif known is not None:
        constants += [f"SLOPE = {known.slope!r}", f"BIAS = {known.bias!r}"]
        value = "torch.sigmoid(SLOPE * logits_of(model, images)[:, 0] + BIAS)"
        more = _PROBABILITIES.format(of="of the foreground, (N, H, W)", value=value)
    widths = record.decoder_channels
    head, body = (_HEAD, _BODY) if record.model is None else _own(record.model)
    head = head if binary else head.replace("import math\n", "")
    # Names come from files: escaped, and nothing in them can end the text they stand in.
    classes = ", ".join(ascii(name).replace("\\", "/").replace('"', "'") for name in record.classes)
    body = body.format(
        arch=record.arch,
        encoder=record.encoder,
        depth=record.encoder_depth,
        channels=record.channels,
        outputs=1 if binary else len(record.classes),
        decoder="" if widths is None else f"\n        decoder_channels={widths!r},",
        stride=2**record.encoder_depth,
        full_scale=record.full_scale,
        answer=answer,
        more=more,
        seal=SEAL,
    )
    trained = f"One training of {record.spec.steps} steps on seed {record.spec.seed}"
    trained += ", as scored on the test split" if record.spec.purpose == "confirm" else f", on the images `{record.on}`"
    return head.format(training=trained, classes=classes) + "\n".join(constants) + body
