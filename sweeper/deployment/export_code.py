"""Python text that rebuilds an exported network, or trains with the recommended loss outside of sweeper. No torch.

Rebuilding needs only segmentation-models-pytorch; training is in a plain loop or in nnU-Net, and begins with the
report's snippet (`criterion`, `make_optimizer`, `compute_rate_factor`, `predict`).
"""

from __future__ import annotations

from sweeper.core.records import IGNORE, SweepRecord, Use
from sweeper.core.tasks import RULES
from sweeper.data.folds import get_split
from sweeper.losses import FAMILIES
from sweeper.training.weights_file import SEAL, WeightsRecord

_HEAD = '''"""The network that sweeper trained with the recommended loss.

Needs torch, safetensors and {needs}.

{training}; the averaged weights. Classes: {classes}.
"""

import hashlib
{imports}

'''
_BODY = '''

def check_file(path):
    """Return the path of a file if its bytes have the digest in its header, so are as they were written."""
    before, key, after = Path(path).read_bytes().partition(b'"{seal}":"')
    if key and hashlib.blake2b(before + key + after[64:], digest_size=32).hexdigest().encode() != after[:64]:
        raise ValueError(f"{{path}} is not as it was written; copy it again")
    return path


def load(path=Path(__file__).with_name("model.safetensors")):
    """Return the network, ready to predict."""
{network}
    return model.eval()


@torch.no_grad()
def compute_logits(model, images):
    """Return logits (N, {outputs}, H, W) of images (N, {channels}, H, W), values 0 to {full_scale}, any size."""
    height, width = images.shape[-2:]
    pad = (0, -width % {stride}, 0, -height % {stride})
    padded = torch.nn.functional.pad(images.float() / {full_scale}, pad)
    logits = model((padded - MEAN) / STD)
    return logits[..., :height, :width]


def predict(model, images):
    """Return the {labels} of such images."""
    logits = compute_logits(model, images)
    {answer}
'''
_LIBRARY_NETWORK = """    model = smp.create_model(
        {arch!r},
        encoder_name={encoder!r},
        encoder_weights=None,
        encoder_depth={depth},
        in_channels={channels},
        classes={outputs},{decoder}
    )
    missing, unexpected = model.load_state_dict(load_file(check_file(path)), strict=False)
    # What is missing are stages of the encoder that a network of this depth never calls.
    if unexpected or not all(name.startswith("encoder.") for name in missing):
        raise ValueError(f"these weights do not fit: unexpected {{unexpected}}, missing {{missing}}")"""
_USER_NETWORK = """    model = {function}(in_channels={channels}, classes={outputs})
    model.load_state_dict(load_file(check_file(path)))"""


def make_model_code(record: WeightsRecord) -> str:
    """Return the text of a module with `load()` and `predict(model, images)`."""
    rules = RULES[record.task]
    outputs = rules.count_channels(len(record.classes))
    constants = [
        f"MEAN = torch.tensor({list(record.mean)!r}).view(-1, 1, 1)",
        f"STD = torch.tensor({list(record.std)!r}).view(-1, 1, 1)",
    ]
    constants.append(f"{rules.point_key.upper()} = {record.point!r}  # chosen on validation images")
    answer = "return (logits[:, 0] >= math.log(THRESHOLD / (1 - THRESHOLD))).long()"
    if rules.is_exclusive:
        constants.append(f"LOG_PRIOR = torch.tensor({list(record.log_prior)!r}).view(-1, 1, 1)")
        answer = "return (logits - TAU * LOG_PRIOR).argmax(1)"
    elif rules.has_planes:
        answer = "return (logits >= torch.tensor(THRESHOLD).logit().view(-1, 1, 1).to(logits)).long()"
    widths, code = record.decoder_channels, record.model
    imports = ["import math"] if "math" in answer else []
    imports += ["from pathlib import Path", ""]
    if code is None:
        network, needs = _LIBRARY_NETWORK, "segmentation-models-pytorch"
        imports.append("import segmentation_models_pytorch as smp")
    else:
        network, needs = _USER_NETWORK, f"the module {code.module}, whose source had the SHA-256\n{code.digest}"
    imports += ["import torch", "from safetensors.torch import load_file"]
    if code is not None:
        imports += ["", f"from {code.module} import {code.function}"]
    function = "" if code is None else code.function
    network = network.format(
        function=function,
        arch=record.arch,
        encoder=record.encoder,
        depth=record.encoder_depth,
        channels=record.channels,
        outputs=outputs,
        decoder="" if widths is None else f"\n        decoder_channels={widths!r},",
    )
    # Names come from files: they are escaped, so that they cannot end the surrounding text.
    classes = ", ".join(ascii(name).replace("\\", "/").replace('"', "'") for name in record.classes)
    body = _BODY.format(
        network=network,
        channels=record.channels,
        outputs=outputs,
        stride=2**record.encoder_depth,
        full_scale=record.full_scale,
        answer=answer,
        labels=f"0 and 1 of each class (N, {outputs}, H, W)" if rules.has_planes else "class indices (N, H, W)",
        seal=SEAL,
    )
    trained = f"One training of {record.spec.steps} steps on seed {record.spec.seed}"
    trained += ", as scored on the test split" if record.spec.is_tested else f", on the images `{record.on}`"
    head = _HEAD.format(needs=needs, training=trained, classes=classes, imports="\n".join(imports))
    return head + "\n".join(constants) + body


# --- Training elsewhere ---

_PLAIN = '''"""A plain training loop with the loss that sweeper recommends, and with what its trainings had besides.

Give `fit` your network and your batches; `python {name}` tries it on random ones.
"""

import math

{snippet}

PRIOR = {prior!r}  # where the output starts, so that no step is spent on learning how rare a class is


def start_at_prior(last_convolution):
    """Set the bias of the network's last layer."""
    with torch.no_grad():
        last_convolution.bias.copy_(torch.tensor(PRIOR))


def fit(model, batches, steps, device="cpu"):
    """Train on `batches` of images (N, C, H, W) float and masks {masks}; return the loss of each step."""
    model = model.to(device).train()
    optimizer = make_optimizer(model)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: compute_rate_factor(step, steps))
    losses = []
    for _, (images, masks) in zip(range(steps), batches):
        loss = criterion(model(images.to(device)), masks.to(device))
        if not math.isfinite(float(loss.detach())):
            raise ValueError(f"the training diverged in step {{len(losses)}}; lower the learning rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate.step()
        losses.append(float(loss.detach()))
    return losses


def draw_batches():
    """Yield random images and masks, in place of your data."""
    while True:
        yield torch.rand(2, 3, 32, 32), torch.randint(0, {labels}, (2, {planes}32, 32))


if __name__ == "__main__":
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, {outputs}, 1)
    )
    start_at_prior(network[-1])
    print("loss by step:", [round(loss, 4) for loss in fit(network, draw_batches(), steps=8)])
    print("labels:", predict(network(torch.rand(1, 3, 32, 32))).shape)
'''

_NNUNET = '''"""The loss that sweeper recommends as an nnU-Net trainer (nnU-Net 2).

Copy this file to nnunetv2/training/nnUNetTrainer/variants/loss/ and train with `-tr nnUNetTrainerSweeper`. Learning
rate, optimiser and augmentation stay nnU-Net's own. Slices of a volume are laid below each other.
"""

import numpy as np
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

{snippet}

class SweeperLoss(torch.nn.Module):
    """The loss for nnU-Net's shapes, logits (N, C, [D,] H, W) and target (N, {target}, [D,] H, W)."""

    def __init__(self, ignore_label):
        super().__init__()
        self.criterion, self.ignore_label = criterion, ignore_label

    def forward(self, logits, target):
        logits, target = logits.flatten(2, -2), target.flatten(2, -2){settle}
        return self.criterion(logits, target)


class nnUNetTrainerSweeper(nnUNetTrainer):
    """nnU-Net's own training with another loss."""

    def _build_loss(self):
        if self.label_manager.has_regions != {has_planes}:
            raise ValueError("the loss is for {kind}, and this data set has others")
        loss = SweeperLoss(self.label_manager.ignore_label)
        if self.enable_deep_supervision:
            weights = np.array([1 / 2**i for i in range(len(self._get_deep_supervision_scales()))])
            # Parameters that get no gradient end distributed training: nnU-Net does the same.
            weights[-1] = 1e-6 if self.is_ddp and not self._do_i_compile() else 0
            loss = DeepSupervisionWrapper(loss, weights / weights.sum())
        return loss
'''

_LABELS = f"""
        target = target[:, 0]
        if self.ignore_label is not None:
            target = torch.where(target == self.ignore_label, {IGNORE}, target)"""
_REGIONS = f"""
        if self.ignore_label is not None:  # ignored pixels are the last plane
            target = torch.where(target[:, -1:] == 1, {IGNORE}, target[:, :-1])"""
_DIFFERENCE = """
        if logits.shape[1] == 2:  # softmax over two channels is the sigmoid of their difference
            logits = logits[:, 1:] - logits[:, :1]"""


EXAMPLES = {"train_plain.py": _PLAIN, "nnUNetTrainerSweeper.py": _NNUNET}
"""File name → its text with placeholders."""


def make_examples(sweep: SweepRecord, chosen: Use) -> dict[str, str]:
    """Return file name → Python text.

    Empty if the user's script trained, or the loss needs maps of the labels.
    """
    conditions = sweep.conditions
    dataset, rules = conditions.dataset, RULES[conditions.dataset.task]
    if FAMILIES[chosen.loss].needs_map or conditions.recipe.command is not None:
        return {}
    prior = rules.compute_bias(dataset, get_split(conditions, conditions.seed).train)
    values = {
        "snippet": chosen.snippet.rstrip("\n") + "\n",
        "prior": [round(value, 4) for value in prior],
        "masks": "(N, H, W) integers",
        "labels": len(dataset.classes),
        "planes": "",
        "outputs": len(prior),
        "has_planes": rules.has_planes,
        "kind": "labels",
        "target": "1",
        "settle": _LABELS + _DIFFERENCE * rules.first_channel,
    }
    if rules.has_planes:
        values |= {"masks": "of 0 and 1, (N, classes, H, W)", "labels": 2, "planes": f"{len(prior)}, "}
        values |= {"kind": "regions", "target": "C", "settle": _REGIONS}
    return {name: text.format(name=name, **values) for name, text in EXAMPLES.items()}
