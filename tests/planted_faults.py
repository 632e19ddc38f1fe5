"""Faults for the certificate to find: each a piece of the losses' source text, and what stands there instead.

`python -m tests.planted_faults` is the process that plants them: it loads torch once, and forks for each name that it
reads from its input. The child imports the losses anew, with the one file changed in memory, and tries the checks of
the fault's families until one fails. The source files are never written to.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1] / "sweeper"


class Fault(NamedTuple):
    """One change of one file."""

    name: str
    """What is wrong then."""
    file: str
    """Below `sweeper/`."""
    old: str
    """Stands in the file once."""
    new: str
    tried_on: tuple[str, ...]
    """`family/task`: where the certificate is asked for, to keep the run short. Elsewhere more checks would fail."""

    @property
    def module(self) -> str:
        return "sweeper." + self.file.removesuffix(".py").replace("/", ".")

    def source(self) -> str:
        """The file's text, with the fault."""
        text = (ROOT / self.file).read_text(encoding="utf-8")
        times = text.count(self.old)
        if times != 1:
            raise LookupError(
                f"the fault {self.name!r} must find its text once in sweeper/{self.file}, found {times} times: "
                f"{self.old!r}; write down in tests/planted_faults.py what stands there now"
            )
        return text.replace(self.old, self.new)


KERNEL, PIXELS, COORDINATES = "losses/kernel.py", "losses/per_pixel.py", "losses/coordinates.py"
POINTS, SIGMOID, SOFTMAX = "losses/fused_cpu/points.py", "losses/fused_cpu/sigmoid.py", "losses/fused_cpu/softmax.py"
SUMS, PLAIN_SUMS, PASSES = "losses/fused_cpu/sums.py", "losses/fused_cpu/plain.py", "losses/fused_cpu/passes.py"
WEIGHTS, BUILD, MODULE = "losses/class_weights.py", "losses/build.py", "losses/loss_module.py"
CLDICE, LOVASZ, UNIFIED = "losses/soft_cldice.py", "losses/lovasz.py", "losses/unified_focal.py"
BOUNDARY, GENERALIZED, LOG_COSH = "losses/boundary.py", "losses/generalized_dice.py", "losses/log_cosh_dice.py"
DISTANCES = "data/distance_maps.py"
ADJUSTED, POLY, ROBUST_CE = "losses/logit_adjusted.py", "losses/poly_ce.py", "losses/generalized_ce.py"
SYMMETRIC, OHEM, RECALL = "losses/symmetric_ce.py", "losses/ohem_ce.py", "losses/recall_ce.py"
SURPRISE, LOG_DICE, NOISE = "losses/surprise.py", "losses/log_dice.py", "losses/noise_robust_dice.py"
SENSITIVITY, MATTHEWS = "losses/sensitivity_specificity.py", "losses/matthews.py"
LDAM, METRIC = "losses/ldam.py", "losses/metric_overlap.py"
INSTANCE_CE, BLOBS, SKELETON_RECALL = "losses/instance_ce.py", "losses/blob_dice.py", "losses/skeleton_recall.py"
INSTANCES, SKELETONS = "data/instances.py", "data/skeletons.py"
EXPONENTIAL = "losses/exponential_logarithmic.py"

_SIGMOID_BOUNDARY = """\
            loss = loss * (1 + settings.boundary_weight * near_boundary(labels, labelled).to(loss.dtype))
        parts.append(settings.mix * averaged(loss, labelled, settings.hard_fraction, weight))
    if _matters(settings.mix, 1):
        wrong"""
_BACKGROUND_OUT = "    if settings.include_background is False:\n        p, own"

FAULTS = (
    # --- The plain path of the kernel -------------------------------------------------------------------------------
    Fault(
        "gamma off by one, sigmoid, plain path",
        KERNEL,
        "loss = loss * torch.exp(settings.gamma * (log_right - u))",
        "loss = loss * torch.exp((settings.gamma + 1) * (log_right - u))",
        ("focal/binary",),
    ),
    Fault(
        "class weights reversed, sigmoid, plain path",
        KERNEL,
        "loss = loss * (background * low + foreground * high)",
        "loss = loss * (background * high + foreground * low)",
        ("weighted_ce/binary",),
    ),
    Fault(
        "label smoothing doubled, sigmoid",
        KERNEL,
        "share = settings.label_smoothing / 2",
        "share = settings.label_smoothing",
        ("cross_entropy/binary",),
    ),
    Fault(
        "label smoothing with the pixel's own weight, sigmoid",
        KERNEL,
        "share * other * (background * high + foreground * low)",
        "share * other * (background * low + foreground * high)",
        ("weighted_ce/multilabel",),
    ),
    Fault(
        "label smoothing without the focal factor, sigmoid",
        KERNEL,
        "other = other * torch.exp(settings.gamma * log_right)",
        "other = other * 1.0",
        ("focal/binary",),
    ),
    Fault(
        "boundary weight ignored, sigmoid, plain path",
        KERNEL,
        _SIGMOID_BOUNDARY,
        _SIGMOID_BOUNDARY.replace("settings.boundary_weight *", "0.0 *"),
        ("boundary_ce/multilabel",),
    ),
    Fault(
        "class weights of the overlap ignored, softmax, plain path",
        KERNEL,
        "weights = class_weights if settings.weigh_overlap else None",
        "weights = None",
        ("weighted_dice_ce/multiclass",),
    ),
    Fault(
        "class weights of the overlap not divided by their sum",
        KERNEL,
        "/ class_weights.sum().clamp(min=NEARLY_NOTHING)",
        "/ len(each)",
        ("weighted_dice_ce/multiclass",),
    ),
    Fault(
        "one class weight for all labels is summed over them",
        KERNEL,
        "    class_weights = class_weights.expand_as(each)\n",
        "",
        ("combo/multilabel",),
    ),
    Fault(
        "class weights of the overlap shifted where the background is out",
        KERNEL,
        "class_weights = None if class_weights is None else class_weights[1:]",
        "class_weights = None if class_weights is None else class_weights[:-1]",
        ("weighted_dice_ce/multiclass",),
    ),
    Fault(
        "class weights of the overlap swapped, sigmoid, plain path",
        KERNEL,
        "overlap = (high * overlap + low * behind) / (low + high)",
        "overlap = (low * overlap + high * behind) / (low + high)",
        ("dice/binary",),
    ),
    Fault(
        "class weights of the overlap swapped, sigmoid, fused path",
        POINTS,
        "torch.cat([swapped, each])",
        "torch.cat([each, swapped])",
        ("tversky/binary",),
    ),
    Fault(
        "class weights of the overlap ignored, several labels, fused path",
        POINTS,
        "weights if len(each) > 1 else None",
        "None",
        ("jaccard/multilabel",),
    ),
    Fault(
        "class weights of the cross-entropy weigh the overlap unasked",
        COORDINATES,
        'weights is not None and (overlap_alone or bool(point.get("weigh_overlap")))',
        "weights is not None",
        ("dice_ce/multiclass",),
    ),
    Fault(
        "mix reversed, sigmoid, plain path",
        KERNEL,
        "parts.append((1 - settings.mix) * overlap)",
        "parts.append(settings.mix * overlap)",
        ("dice_ce/binary",),
    ),
    Fault(
        "overlap doubled, softmax, plain path",
        KERNEL,
        "parts.append((1 - settings.mix) * _classes_overlap(",
        "parts.append(2 * (1 - settings.mix) * _classes_overlap(",
        ("dice_focal/multiclass",),
    ),
    Fault(
        "pixel weights squared in the overlap, sigmoid, plain path",
        KERNEL,
        "foreground, background = foreground * weight, background * weight",
        "foreground, background = foreground * weight * weight, background * weight * weight",
        ("dice/binary",),
    ),
    Fault(
        "background of a binary loss left out of the overlap, plain path",
        KERNEL,
        "overlap = (high * overlap + low * behind) / (low + high)",
        "overlap = (high * overlap + low * overlap) / (low + high)",
        ("jaccard/binary",),
    ),
    Fault(
        "the last class left out in place of the background, plain path",
        KERNEL,
        "p, own = p[:, 1:], own[:, 1:]",
        "p, own = p[:, :-1], own[:, :-1]",
        ("dice/multiclass",),
    ),
    Fault(
        "include_background inverted, softmax, plain path",
        KERNEL,
        _BACKGROUND_OUT,
        _BACKGROUND_OUT.replace("is False", "is True"),
        ("dice/multiclass",),
    ),
    Fault(
        "squared errors of false positives alone, softmax",
        KERNEL,
        "false_negatives = _mass((own - hit) * (1 - p), settings)",
        "false_negatives = _mass(own - hit, settings)",
        ("dice/multiclass",),
    ),
    Fault(
        "squared errors of false positives alone, sigmoid",
        KERNEL,
        "false_positives, false_negatives = false_positives * wrong, false_negatives * wrong",
        "false_positives = false_positives * wrong",
        ("tversky/binary",),
    ),
    Fault(
        "images without labels count, per_image",
        KERNEL,
        "has = (weights.sum(dim=(2, 3)) > 0).to(each.dtype).expand_as(each)",
        "has = torch.ones_like(each)",
        ("dice/multiclass",),
    ),
    Fault(
        "smoothing doubled",
        KERNEL,
        "(true_positives + errors + settings.smoothing)",
        "(true_positives + errors + 2 * settings.smoothing)",
        ("dice/binary",),
    ),
    Fault(
        "smoothing ignored",
        KERNEL,
        "(true_positives + errors + settings.smoothing)",
        "(true_positives + errors + 1.0)",
        ("dice/binary",),
    ),
    Fault(
        "false positives and negatives swapped",
        KERNEL,
        "settings.fp_weight * false_positives + settings.fn_weight * false_negatives",
        "settings.fn_weight * false_positives + settings.fp_weight * false_negatives",
        ("tversky/binary",),
    ),
    Fault(
        "factor 2 of Dice missing",
        KERNEL,
        "(true_positives + errors + settings.smoothing)",
        "(true_positives / 2 + errors + settings.smoothing)",
        ("dice/multilabel",),
    ),
    Fault(
        "overlap exponent off by one",
        KERNEL,
        "clamp(min=LINEAR_BELOW).pow(exponent - 1)",
        "clamp(min=LINEAR_BELOW).pow(exponent)",
        ("focal_tversky/binary",),
    ),
    Fault(
        "an absent class is free",
        KERNEL,
        "lost = torch.where(actual > 0, lost, mean_probability)",
        "lost = torch.where(actual > 0, lost, 0.0 * mean_probability)",
        ("dice/binary",),
    ),
    Fault(
        "class weights ignored, softmax, plain path",
        KERNEL,
        "loss = loss * class_weights[index]",
        "loss = loss * class_weights.mean()",
        ("weighted_ce/multiclass",),
    ),
    Fault(
        "smoothed labels without class weights, softmax",
        KERNEL,
        "spread = spread * class_weights.view(1, -1, 1, 1)",
        "spread = spread * 1.0",
        ("weighted_ce/multiclass",),
    ),
    Fault(
        "smoothed labels spread over the first class alone",
        KERNEL,
        "settings.label_smoothing * spread.mean(dim=1)",
        "settings.label_smoothing * spread[:, 0]",
        ("cross_entropy/multiclass",),
    ),
    Fault(
        "a part detached, softmax, plain path",
        KERNEL,
        "hit, predicted = p * own, p * mask",
        "hit, predicted = p.detach() * own, p * mask",
        ("dice/multiclass",),
    ),
    Fault(
        "torch's sum divided by all pixels",
        KERNEL,
        "return total / torch.count_nonzero(labelled).clamp(min=1)",
        "return total / labelled.numel()",
        ("cross_entropy/multiclass",),
    ),
    # --- What is done pixel by pixel --------------------------------------------------------------------------------
    Fault(
        "mean over all pixels in place of the labelled ones, plain path",
        PIXELS,
        "return loss.sum() / labelled.sum().clamp(min=1)",
        "return loss.sum() / labelled.numel()",
        ("cross_entropy/binary",),
    ),
    Fault(
        "radius of the boundary off by one",
        PIXELS,
        "BOUNDARY_RADIUS = 2",
        "BOUNDARY_RADIUS = 3",
        ("boundary_ce/binary",),
    ),
    Fault(
        "ignored pixels make boundaries",
        PIXELS,
        "largest = largest_around(torch.where(known, flat, out))",
        "largest = largest_around(flat)",
        ("boundary_ce/multiclass",),
    ),
    Fault(
        "gamma off by one, softmax, plain path",
        PIXELS,
        "torch.exp(gamma * log_of_rest(loss))",
        "torch.exp((gamma + 1) * log_of_rest(loss))",
        ("focal/multiclass",),
    ),
    Fault(
        "what stands under ignore is not cleared",
        PIXELS,
        "return torch.where(labelled, z, 0.0)",
        "return z",
        ("focal_tversky/multiclass",),
    ),
    Fault(
        "hardest share of all pixels in place of the labelled ones, plain path",
        PIXELS,
        "wanted = (labelled.sum().double() * hard_fraction",
        "wanted = (labelled.numel() * torch.ones((), dtype=torch.float64) * hard_fraction",
        ("topk_ce/binary",),
    ),
    # --- Coordinates and options ------------------------------------------------------------------------------------
    Fault(
        "pos_weight on the negatives",
        COORDINATES,
        'return (1.0, _number(point, "pos_weight", 1.0)) if alpha',
        'return (_number(point, "pos_weight", 1.0), 1.0) if alpha',
        ("weighted_ce/binary",),
    ),
    Fault(
        "alpha and 1 − alpha swapped, binary",
        COORDINATES,
        "(1.0 - alpha, float(alpha))",
        "(float(alpha), 1.0 - alpha)",
        ("focal/binary",),
    ),
    Fault(
        "alpha of each class on its absence",
        COORDINATES,
        "return each, tuple(1.0 - a for a in each)",
        "return tuple(1.0 - a for a in each), each",
        ("focal/multilabel",),
    ),
    Fault(
        "alpha of each class ignored, multi-class",
        COORDINATES,
        "    if isinstance(alpha, tuple):\n        return alpha\n",
        "    if isinstance(alpha, tuple):\n        return None\n",
        ("focal/multiclass",),
    ),
    Fault(
        "pos_weight of each class reversed",
        COORDINATES,
        "each = pos if isinstance(pos, tuple)",
        "each = pos[::-1] if isinstance(pos, tuple)",
        ("weighted_ce/multilabel",),
    ),
    Fault(
        "class weights reversed",
        COORDINATES,
        "    if isinstance(given, tuple):\n        return given,",
        "    if isinstance(given, tuple):\n        return given[::-1],",
        ("cross_entropy/multiclass",),
    ),
    Fault(
        "label smoothing ignored",
        COORDINATES,
        'label_smoothing=_number(point, "label_smoothing", 0.0)',
        "label_smoothing=0.0",
        ("dice_ce/multiclass",),
    ),
    Fault(
        "hard_fraction ignored",
        COORDINATES,
        'hard_fraction=_number(point, "hard_fraction", 1.0)',
        "hard_fraction=1.0",
        ("cross_entropy/multilabel",),
    ),
    Fault(
        "boundary weight halved",
        COORDINATES,
        'boundary_weight=_number(point, "boundary_weight", 0.0)',
        'boundary_weight=_number(point, "boundary_weight", 0.0) / 2',
        ("cross_entropy/binary",),
    ),
    Fault(
        "effective number's beta ignored",
        COORDINATES,
        "return effective_number_weights(frequencies, beta), None",
        "return effective_number_weights(frequencies, 0.0), None",
        ("cross_entropy/binary",),
    ),
    Fault(
        "per_image ignored",
        COORDINATES,
        'per_image=bool(point.get("per_image"))',
        "per_image=False",
        ("dice/multilabel",),
    ),
    Fault(
        "squared ignored",
        COORDINATES,
        'squared=bool(point.get("squared"))',
        "squared=False",
        ("jaccard/multiclass",),
    ),
    Fault(
        "include_background ignored",
        COORDINATES,
        "include_background=None if background is None else bool(background)",
        "include_background=None",
        ("dice/binary",),
    ),
    Fault(
        "false positives weigh as false negatives unless given",
        COORDINATES,
        'fp_weight=_number(point, "fp_weight", 1.0 - fn_weight)',
        'fp_weight=_number(point, "fp_weight", fn_weight)',
        ("tversky/binary",),
    ),
    Fault(
        "class weights favour common classes",
        WEIGHTS,
        "(f / total) ** -power",
        "(f / total) ** power",
        ("weighted_ce/multiclass",),
    ),
    Fault(
        "class weights not scaled to a mean of 1",
        WEIGHTS,
        "return tuple((largest if w is None else w) / mean for w in raw)",
        "return tuple(largest if w is None else w for w in raw)",
        ("cross_entropy/binary",),
    ),
    Fault(
        "effective number of one pixel",
        WEIGHTS,
        "-math.expm1(n * math.log(beta))",
        "-math.expm1(math.log(beta))",
        ("cross_entropy/multiclass",),
    ),
    Fault(
        "alpha on the commonest class",
        WEIGHTS,
        "1 - alpha if c == most else alpha",
        "alpha if c == most else 1 - alpha",
        ("focal/multiclass",),
    ),
    # --- Modules ----------------------------------------------------------------------------------------------------
    Fault(
        "255 hard-coded, fused path",
        BUILD,
        "return kernel_loss(logits, target, settings, self.ignore_index,",
        "return kernel_loss(logits, target, settings, 255,",
        ("cross_entropy/binary",),
    ),
    Fault(
        "255 hard-coded, plain path",
        BUILD,
        "return sigmoid_loss(logits, target, settings, self.ignore_index,",
        "return sigmoid_loss(logits, target, settings, 255,",
        ("dice/multilabel",),
    ),
    Fault(
        "255 hard-coded for the weights of pixels",
        MODULE,
        "labelled = target.long() != self.ignore_index",
        "labelled = target.long() != 255",
        ("cross_entropy/binary",),
    ),
    Fault(
        "weights of the absence of a class where it is, plain path",
        BUILD,
        "both = (weights[1].view(-1, 1, 1), weights[0].view(-1, 1, 1))",
        "both = (weights[0].view(-1, 1, 1), weights[1].view(-1, 1, 1))",
        ("weighted_ce/multilabel",),
    ),
    Fault(
        "weights of pixels dropped, softmax, plain path",
        BUILD,
        "weights[0] if weights else None, weight=weight\n",
        "weights[0] if weights else None, weight=None\n",
        ("cross_entropy/multiclass",),
    ),
    Fault(
        "volumes: labels mirrored",
        MODULE,
        "as_image(target, axis)",
        "as_image(target.flip(-1), axis)",
        ("dice/multilabel",),
    ),
    Fault(
        "volumes: taken where neighbours matter",
        MODULE,
        "if logits.ndim != IMAGES and self.planar:\n",
        "if False:\n",
        ("cross_entropy/binary",),
    ),
    # --- The fused path ---------------------------------------------------------------------------------------------
    Fault(
        "mix reversed, fused path",
        POINTS,
        "return settings.mix * sums.entropy + (1 - settings.mix) * overlap",
        "return (1 - settings.mix) * sums.entropy + settings.mix * overlap",
        ("dice_ce/multiclass",),
    ),
    Fault(
        "background and foreground weights swapped, fused path",
        POINTS,
        "absent, weights = weights[:1], weights[1:]",
        "weights, absent = weights[:1], weights[1:]",
        ("weighted_ce/binary",),
    ),
    Fault(
        "hard_fraction ignored, fused path",
        POINTS,
        "return Entropy(gammas, weights, absent, settings.hard_fraction)",
        "return Entropy(gammas, weights, absent)",
        ("topk_ce/binary",),
    ),
    Fault(
        "boundary weight fixed at 1, fused path",
        POINTS,
        "alpha=settings.boundary_weight,",
        "alpha=1.0,",
        ("boundary_ce/multiclass",),
    ),
    Fault(
        "background not left out, fused path",
        POINTS,
        "each, weights = each[1:], None if weights is None else weights[1:]",
        "pass",
        ("dice/multiclass",),
    ),
    Fault(
        "background has the foreground's errors, fused path",
        POINTS,
        "swapped = class_cost(missed, marked, rest,",
        "swapped = class_cost(marked, missed, rest,",
        ("tversky/binary",),
    ),
    Fault(
        "gradient of the cross-entropy doubled, sigmoid, fused path",
        SIGMOID,
        "found = _at(slope, place).mul_(-g)",
        "found = _at(slope, place).mul_(-2 * g)",
        ("focal/binary",),
    ),
    Fault(
        "gradient of the cross-entropy doubled, softmax, fused path",
        SOFTMAX,
        "float(of_entropy) / kept.number",
        "2 * float(of_entropy) / kept.number",
        ("dice_ce/multiclass",),
    ),
    Fault(
        "gradient under ignore, softmax, fused path",
        SOFTMAX,
        "        q.mul_(at.known)\n",
        "        q.mul_(1)\n",
        ("cross_entropy/multiclass",),
    ),
    Fault(
        "what stands under ignore is not cleared, sigmoid, fused path",
        SIGMOID,
        "u = (x if known.known is None else torch.where(known.known > 0, x, 0.0)) * known.sign",
        "u = x * known.sign",
        ("cross_entropy/multilabel",),
    ),
    Fault(
        "mean over all pixels, softmax, fused path",
        SOFTMAX,
        "divisor = float(max(1, number))",
        "divisor = float(target.numel())",
        ("cross_entropy/multiclass",),
    ),
    Fault(
        "mean over all pixels, sigmoid, fused path",
        SIGMOID,
        "divisor = float(max(1, number))",
        "divisor = float(target.numel())",
        ("cross_entropy/binary",),
    ),
    Fault(
        "slope of the focal factor with the wrong sign, softmax, fused path",
        SOFTMAX,
        "eased * (1 + power * odds / torch.expm1(odds)) * k",
        "eased * (1 - power * odds / torch.expm1(odds)) * k",
        ("focal/multiclass",),
    ),
    Fault(
        "slope of the focal factor left out, sigmoid, fused path",
        SIGMOID,
        "steep = torch.sub(wrong, steep, out=steep)",
        "steep = wrong.clone()",
        ("focal/multilabel",),
    ),
    Fault(
        "short cut of gamma 2 is gamma 1",
        SIGMOID,
        "eased = wrong * wrong if squared",
        "eased = wrong if squared",
        ("focal/binary",),
    ),
    Fault(
        "weights do not reach the gradient, sigmoid, fused path",
        SIGMOID,
        "found.mul_(_at(weight, place))",
        "found.mul_(1.0)",
        ("dice/binary",),
    ),
    Fault(
        "weights do not reach the gradient of the overlap, softmax, fused path",
        SOFTMAX,
        "        rest.mul_(weight)\n",
        "        rest.mul_(1.0)\n",
        ("dice/multiclass",),
    ),
    Fault(
        "slopes of false positives and negatives swapped, softmax, fused path",
        SOFTMAX,
        "    marked, missed = slopes\n",
        "    missed, marked = slopes\n",
        ("tversky/multiclass",),
    ),
    Fault(
        "the last block left out, softmax, fused path",
        SOFTMAX,
        "for start in range(0, pixels, most):",
        "for start in range(0, max(most, pixels - most), most):",
        ("cross_entropy/multiclass",),
    ),
    Fault(
        "the second image left out, sigmoid, fused path",
        SIGMOID,
        "for first in range(0, images, together):",
        "for first in range(0, max(1, images - together), together):",
        ("dice_focal/multilabel",),
    ),
    Fault(
        "one pixel too many among the hardest, fused path",
        SUMS,
        "number = max(1, int(labelled * fraction + ROUNDING))",
        "number = int(labelled * fraction + ROUNDING) + 1",
        ("topk_ce/multiclass",),
    ),
    Fault(
        "second derivatives silently missing",
        PASSES,
        "if torch.is_grad_enabled() or transformed(*slopes):",
        "if transformed(*slopes):",
        ("dice/binary",),
    ),
    Fault(
        "focal exponents of both classes swapped, plain sums",
        PLAIN_SUMS,
        "(low * absent + high * there)",
        "(high * absent + low * there)",
        ("unified_focal/binary",),
    ),
    Fault(
        "false negatives of the other classes, plain sums",
        PLAIN_SUMS,
        "_mass(p[1] * own)",
        "_mass(p[1] * others)",
        ("generalized_dice/multilabel",),
    ),
    # --- Relatives --------------------------------------------------------------------------------------------------
    Fault(
        "centre lines: recall is precision",
        CLDICE,
        "recall = (mass(actual_line * plain.p) + 1) / (mass(actual_line) + 1)",
        "recall = precision",
        ("soft_cldice/binary",),
    ),
    Fault("centre lines: one round too few", CLDICE, "ROUNDS = 3", "ROUNDS = 2", ("soft_cldice/binary",)),
    Fault(
        "centre lines: pixel weights squared",
        CLDICE,
        "line = soft_skeleton(plain.p, labelled) * weighted.mask",
        "line = soft_skeleton(plain.p, labelled) * weighted.mask * weighted.mask",
        ("soft_cldice/multiclass",),
    ),
    Fault(
        "centre lines: ignored pixels are eroded from",
        CLDICE,
        "x = -torch.where(known, x, 1.0)",
        "x = -torch.where(known, x, 0.0)",
        ("soft_cldice/binary",),
    ),
    Fault(
        "centre lines: shares of both parts swapped",
        CLDICE,
        "parts.append((1 - self.share) * self.dice(logits, target, weight))",
        "parts.append(self.share * self.dice(logits, target, weight))",
        ("soft_cldice/multilabel",),
    ),
    Fault(
        "centre lines: the prediction's has no gradient",
        CLDICE,
        "line = soft_skeleton(plain.p, labelled)",
        "line = soft_skeleton(plain.p.detach(), labelled)",
        ("soft_cldice/binary",),
    ),
    Fault(
        "boundary distances a pixel too long",
        DISTANCES,
        "distance_transform_edt(~present) - 0.5",
        "distance_transform_edt(~present) + 0.5",
        ("boundary/binary",),
    ),
    Fault(
        "boundary: ignored pixels are of the other side",
        DISTANCES,
        "absent = labelled & ~present",
        "absent = ~present",
        ("boundary/multiclass",),
    ),
    Fault(
        "boundary: divided by the number of pixels alone",
        BOUNDARY,
        "number = number * logits.shape[1]",
        "number = number * 1",
        ("boundary/multiclass",),
    ),
    Fault(
        "boundary: gradient without the outer slope",
        BOUNDARY,
        "ctx.gradient * slopes[0]",
        "ctx.gradient",
        ("boundary/binary",),
    ),
    Fault(
        "boundary: weights of pixels inside the absolute value, where 0 has no slope",
        BOUNDARY,
        "classes = as_classes(logits, target, self.task, self.ignore_index)\n",
        "classes, weight = as_classes(logits, target, self.task, self.ignore_index, weight), None\n",
        ("boundary/binary",),
    ),
    Fault(
        "Lovász: sign of the Jaccard loss",
        LOVASZ,
        "lost = 1 - (total - hit).to(dtype)",
        "lost = 1 + (total - hit).to(dtype)",
        ("lovasz/binary",),
    ),
    Fault(
        "Lovász: steps added in place of subtracted",
        LOVASZ,
        "lost[..., 1:] - lost[..., :-1]",
        "lost[..., 1:] + lost[..., :-1]",
        ("lovasz/multiclass",),
    ),
    Fault(
        "Lovász: smallest errors first, plain path",
        LOVASZ,
        "argsort(dim=1, descending=True)",
        "argsort(dim=1, descending=False)",
        ("lovasz/multilabel",),
    ),
    Fault(
        "Lovász: hinge of the wrong side",
        LOVASZ,
        "F.relu(1 - torch.where(own, z, -z))",
        "F.relu(1 - torch.where(own, -z, z))",
        ("lovasz/binary",),
    ),
    Fault(
        "log-cosh Dice without the logarithm",
        LOG_COSH,
        "torch.log1p(torch.sinh(dice).square()) / 2",
        "torch.cosh(dice) - 1",
        ("log_cosh_dice/binary",),
    ),
    Fault(
        "unified focal: delta swapped in the overlap",
        UNIFIED,
        "KernelSettings(0.0, 0.0, None, 1 - delta, delta, 1.0)",
        "KernelSettings(0.0, 0.0, None, delta, 1 - delta, 1.0)",
        ("unified_focal/multiclass",),
    ),
    Fault(
        "unified focal: delta swapped in the cross-entropy",
        UNIFIED,
        "rare, common = self.delta, 1 - self.delta",
        "rare, common = 1 - self.delta, self.delta",
        ("unified_focal/binary",),
    ),
    Fault(
        "unified focal: the common class is bent",
        UNIFIED,
        "torch.where(common, each, steep)",
        "torch.where(common, steep, each)",
        ("unified_focal/multilabel",),
    ),
    Fault(
        "generalised Dice: weights not squared",
        GENERALIZED,
        "share.pow(-self.exponent)",
        "share.pow(-self.exponent / 2)",
        ("generalized_dice/multiclass",),
    ),
    Fault(
        "generalised Dice: factor 2 missing",
        GENERALIZED,
        "(w * (errors + 2 * hit))",
        "(w * (errors + hit))",
        ("generalized_dice/binary",),
    ),
    # --- Families for rare classes and wrong labels -------------------------------------------------------------------
    Fault(
        "logit adjustment: tau ignored",
        ADJUSTED,
        "log_prior_shifts(class_frequencies, tau))",
        "log_prior_shifts(class_frequencies, 1.0))",
        ("logit_adjusted/multiclass",),
    ),
    Fault(
        "logit adjustment: sign of the odds",
        ADJUSTED,
        "tuple(-math.log(o) for o in odds)",
        "tuple(math.log(o) for o in odds)",
        ("logit_adjusted/binary",),
    ),
    Fault(
        "logit adjustment: one channel's odds for all",
        ADJUSTED,
        ".view(-1, 1, 1), target, weight)",
        "[:1].view(-1, 1, 1), target, weight)",
        ("logit_adjusted/multilabel",),
    ),
    Fault(
        "logit adjustment: weights of pixels dropped",
        ADJUSTED,
        ".view(-1, 1, 1), target, weight)",
        ".view(-1, 1, 1), target)",
        ("logit_adjusted/binary",),
    ),
    Fault(
        "logit adjustment: tau doubled",
        WEIGHTS,
        "tau * math.log(max(f, least) / total)",
        "tau * 2 * math.log(max(f, least) / total)",
        ("logit_adjusted/multiclass",),
    ),
    Fault(
        "PolyLoss: sign of epsilon",
        POLY,
        "found + self.epsilon * missed(found)",
        "found - self.epsilon * missed(found)",
        ("poly_ce/binary",),
    ),
    Fault(
        "PolyLoss: the first term detached",
        POLY,
        "self.epsilon * missed(found)",
        "self.epsilon * missed(found.detach())",
        ("poly_ce/multiclass",),
    ),
    Fault(
        "PolyLoss: the second power in place of the first",
        POLY,
        "self.epsilon * missed(found)",
        "self.epsilon * missed(found).square()",
        ("poly_ce/multilabel",),
    ),
    Fault(
        "generalised cross-entropy: q off",
        ROBUST_CE,
        "missed(self.q * found) / self.q if",
        "missed((self.q + 0.1) * found) / (self.q + 0.1) if",
        ("generalized_ce/binary",),
    ),
    Fault(
        "generalised cross-entropy: not divided by q",
        ROBUST_CE,
        "missed(self.q * found) / self.q if",
        "missed(self.q * found) if",
        ("generalized_ce/multiclass",),
    ),
    Fault(
        "symmetric cross-entropy: shares swapped",
        SYMMETRIC,
        "(1 - self.share) * found + self.share * missed(found)",
        "self.share * found + (1 - self.share) * missed(found)",
        ("symmetric_ce/binary",),
    ),
    Fault(
        "symmetric cross-entropy: the whole of the cross-entropy",
        SYMMETRIC,
        "(1 - self.share) * found + self",
        "found + self",
        ("symmetric_ce/multilabel",),
    ),
    Fault(
        "hard examples: threshold reversed",
        OHEM,
        "labelled & ~(found < self._cutoff",
        "labelled & ~(found > self._cutoff",
        ("ohem_ce/binary",),
    ),
    Fault(
        "hard examples: threshold of the missing probability",
        OHEM,
        "-math.log(sure_at) if sure_at > 0",
        "-math.log(1 - sure_at) if 0 < sure_at < 1",
        ("ohem_ce/multiclass",),
    ),
    Fault(
        "hard examples: the smallest share ignored",
        OHEM,
        "if self.least == 0 or found.numel() == 0:",
        "if self.least >= 0:",
        ("ohem_ce/multilabel",),
    ),
    Fault(
        "hard examples: share of all pixels, plain path",
        OHEM,
        "wanted = (labelled.sum().double() * self.least",
        "wanted = (labelled.numel() * torch.ones((), dtype=torch.float64) * self.least",
        ("ohem_ce/binary",),
    ),
    Fault(
        "hard examples: divided by all labelled pixels",
        OHEM,
        "number = chosen.sum().clamp(min=1)",
        "number = labelled.sum().clamp(min=1)",
        ("ohem_ce/binary",),
    ),
    Fault(
        "recall of the prediction's side, several classes",
        RECALL,
        "own = (labels.unsqueeze(1) == classes)",
        "own = (z.argmax(1, keepdim=True) == classes)",
        ("recall_ce/multiclass",),
    ),
    Fault(
        "recall: both sides' shares swapped",
        RECALL,
        "torch.where(there, present, absent)",
        "torch.where(there, absent, present)",
        ("recall_ce/binary",),
    ),
    Fault(
        "recall: none missed weighs nothing",
        RECALL,
        "(own & wrong).sum(dim=(0, 2, 3)).clamp(min=1)",
        "(own & wrong).sum(dim=(0, 2, 3)).clamp(min=0)",
        ("recall_ce/multiclass",),
    ),
    Fault(
        "recall: ignored pixels are of the background",
        RECALL,
        "_missed_share(~there & labelled, wrong",
        "_missed_share(~there, wrong",
        ("recall_ce/multilabel",),
    ),
    Fault(
        "surprise: what stands under ignore is not cleared",
        SURPRISE,
        "    z = cleaned(logits, labelled)\n",
        "    z = logits\n",
        ("poly_ce/binary",),
    ),
    Fault(
        "surprise: labels reversed",
        SURPRISE,
        "torch.where(labels == 1, z, -z)",
        "torch.where(labels == 1, -z, z)",
        ("generalized_ce/multilabel",),
    ),
    Fault(
        "surprise: weights of pixels dropped",
        SURPRISE,
        "averaged(self.cost(found), labelled, 1.0, weight)",
        "averaged(self.cost(found), labelled, 1.0)",
        ("symmetric_ce/multiclass",),
    ),
    Fault(
        "log Dice: without smoothing",
        LOG_DICE,
        "(actual - missed + 1)",
        "(actual - missed + 1e-6)",
        ("log_dice/binary",),
    ),
    Fault(
        "log Dice: without the logarithm",
        LOG_DICE,
        "torch.log1p(more)",
        "more / (1 + more)",
        ("log_dice/multiclass",),
    ),
    Fault(
        "log Dice: Jaccard in place of Dice",
        LOG_DICE,
        "(marked + missed) / 2 /",
        "(marked + missed) /",
        ("log_dice/multilabel",),
    ),
    Fault(
        "log Dice: an absent class is free",
        LOG_DICE,
        "marked / places.clamp(min=NEARLY_NOTHING)",
        "0 * marked",
        ("log_dice/binary",),
    ),
    Fault(
        "noise-robust Dice: exponent dropped",
        NOISE,
        "torch.exp(self.exponent * log_error)",
        "torch.exp(log_error)",
        ("robust_dice/binary",),
    ),
    Fault(
        "noise-robust Dice: exponent of own pixels dropped",
        NOISE,
        "log_p.scatter(1, index, log_missed)",
        "log_p.scatter(1, index, log_missed / self.exponent)",
        ("robust_dice/multiclass",),
    ),
    Fault(
        "noise-robust Dice: probabilities not squared",
        NOISE,
        "mass(predicted * p)",
        "mass(predicted)",
        ("robust_dice/multiclass",),
    ),
    Fault(
        "sensitivity and specificity swapped",
        SENSITIVITY,
        "self.share * missed + (1 - self.share) * marked",
        "(1 - self.share) * missed + self.share * marked",
        ("sens_spec/binary",),
    ),
    Fault(
        "precision in place of sensitivity",
        SENSITIVITY,
        "/ actual.clamp(min=NEARLY_NOTHING)",
        "/ mass(p * mask).clamp(min=NEARLY_NOTHING)",
        ("sens_spec/multiclass",),
    ),
    Fault(
        "sensitivity not squared",
        SENSITIVITY,
        "mass(own * (1 - p).square())",
        "mass(own * (1 - p))",
        ("sens_spec/multilabel",),
    ),
    Fault(
        "specificity over all pixels",
        SENSITIVITY,
        "others.clamp(min=NEARLY_NOTHING)",
        "mass(mask.expand_as(p)).clamp(min=NEARLY_NOTHING)",
        ("sens_spec/binary",),
    ),
    Fault(
        "specificity of the class's own pixels, too",
        SENSITIVITY,
        "p.scatter(1, index, 0.0).square()",
        "p.square()",
        ("sens_spec/multiclass",),
    ),
    Fault(
        "a mask left out where pixels are ignored",
        "losses/class_probabilities.py",
        "values if known and bool((mask == 1).all())",
        "values if known and bool((mask == 1).any())",
        ("sens_spec/multiclass",),
    ),
    Fault(
        "Matthews: sign of the correlation",
        MATTHEWS,
        "good, crossed = a * d - b * c",
        "good, crossed = b * c - a * d",
        ("mcc/binary",),
    ),
    Fault(
        "Matthews: no pixel added to the true negatives",
        MATTHEWS,
        "rest - marked + 1)",
        "rest - marked)",
        ("mcc/multiclass",),
    ),
    Fault(
        "Matthews: divided by the product, not by its root",
        MATTHEWS,
        "1 - good / root)",
        "1 - good / square)",
        ("mcc/multilabel",),
    ),
    Fault(
        "Matthews: a class that is everywhere is as any other",
        MATTHEWS,
        "(actual > 0) & (rest > 0)",
        "actual > 0",
        ("mcc/multilabel",),
    ),
    Fault(
        "exponential logarithmic: exponent of the pixels dropped",
        EXPONENTIAL,
        "averaged(raised(found, self.exponent)",
        "averaged(raised(found, 1.0)",
        ("exp_log/binary",),
    ),
    Fault(
        "exponential logarithmic: exponent of the overlap dropped",
        EXPONENTIAL,
        "raised(each, self.exponent).mean()",
        "each.mean()",
        ("exp_log/multiclass",),
    ),
    Fault(
        "exponential logarithmic: mean raised in place of each class",
        EXPONENTIAL,
        "raised(each, self.exponent).mean()",
        "raised(each.mean(), self.exponent)",
        ("exp_log/multilabel",),
    ),
    Fault(
        "exponential logarithmic: parts swapped",
        EXPONENTIAL,
        "parts.append((1 - self.mix)",
        "parts.append(self.mix",
        ("exp_log/binary",),
    ),
    # --- Instances and skeletons ------------------------------------------------------------------------------------
    Fault(
        "instances: exponent of the sizes dropped",
        INSTANCE_CE,
        ".pow(-self.power)",
        ".pow(-1.0)",
        ("instance_ce/binary",),
    ),
    Fault(
        "instances: weights not of mean 1",
        INSTANCE_CE,
        "(labelled.sum() / shares.sum().clamp(min=NEARLY_NOTHING))",
        "1.0",
        ("instance_ce/multiclass",),
    ),
    Fault(
        "instances: pixel weights dropped",
        INSTANCE_CE,
        "shares = shares * weight",
        "shares = shares * 1.0",
        ("instance_ce/multilabel",),
    ),
    Fault(
        "components: corners do not touch",
        INSTANCES,
        "touching = np.ones((3,) * known.ndim, dtype=bool)",
        "touching = None",
        ("blob_dice/binary",),
    ),
    Fault(
        "components: ignored pixels connect",
        INSTANCES,
        "known = np.where(labelled, labels, 0)\n    touching",
        "known = np.where(labelled, labels, 1)\n    touching",
        ("blob_dice/binary",),
    ),
    Fault(
        "components: numbers of two classes overlap",
        INSTANCES,
        "components + number, 0)",
        "components, 0)",
        ("blob_dice/multiclass",),
    ),
    Fault(
        "sizes: ignored pixels belong to the background",
        INSTANCES,
        "np.bincount(ids[labelled], minlength=1)",
        "np.bincount(ids.ravel(), minlength=1)",
        ("instance_ce/binary",),
    ),
    Fault(
        "blobs: false positives are free",
        BLOBS,
        "(rows.false_positives.gather(1, of_class) + size - hit) / 2",
        "(size - hit) / 2",
        ("blob_dice/multilabel",),
    ),
    Fault(
        "blobs: parts swapped",
        BLOBS,
        "parts.append((1 - self.share) * self.dice",
        "parts.append(self.share * self.dice",
        ("blob_dice/binary",),
    ),
    Fault(
        "blobs: what is no instance is one",
        BLOBS,
        "(torch.arange(room, device=size.device) > 0)",
        "(torch.arange(room, device=size.device) >= 0)",
        ("blob_dice/binary",),
    ),
    Fault(
        "blobs: class 0 has instances",
        BLOBS,
        '(each[1:] if self.task == "multiclass" else each).mean()',
        "each.mean()",
        ("blob_dice/multiclass",),
    ),
    Fault(
        "blobs: false positives of another image",
        BLOBS,
        "marked.repeat_interleave(marked.shape[1], dim=0)",
        "marked.repeat(marked.shape[1], 1)",
        ("blob_dice/multilabel",),
    ),
    Fault(
        "blobs: an absent class is free",
        BLOBS,
        "mean_probability(classes))",
        "0 * mean_probability(classes))",
        ("blob_dice/multiclass",),
    ),
    Fault(
        "blobs: smoothing doubled",
        BLOBS,
        "(hit + errors + 1)",
        "(hit + errors + 2)",
        ("blob_dice/binary",),
    ),
    Fault(
        "blobs: mean of the classes' sums",
        BLOBS,
        "lost / blobs.clamp(min=1)",
        "lost",
        ("blob_dice/binary",),
    ),
    Fault(
        "skeleton recall: precision in place of recall",
        SKELETON_RECALL,
        "(length - hit) / (length + 1)",
        "(length - hit) / (segment_sums(p, index, channels) + 1)",
        ("skeleton_recall/binary",),
    ),
    Fault(
        "skeleton recall under torch.func: precision in place of recall",
        SKELETON_RECALL,
        "(length - mass(lines * classes.p)) / (length + 1)",
        "(length - mass(lines * classes.p)) / (mass(classes.p * classes.mask) + 1)",
        ("skeleton_recall/binary",),
    ),
    Fault(
        "skeleton recall: the whole class in place of its tube",
        SKELETON_RECALL,
        "torch.where(tube != 0, classes.own, 0.0)",
        "classes.own",
        ("skeleton_recall/multilabel",),
    ),
    Fault(
        "skeleton recall: parts swapped",
        SKELETON_RECALL,
        "parts.append((1 - self.share) * self.rest",
        "parts.append(self.share * self.rest",
        ("skeleton_recall/binary",),
    ),
    Fault(
        "skeleton recall under torch.func: class 0 has a skeleton",
        SKELETON_RECALL,
        '(each[1:] if self.task == "multiclass" else each).mean()',
        "each.mean()",
        ("skeleton_recall/multiclass",),
    ),
    Fault(
        "skeleton recall of lines: weights of pixels ignored",
        SKELETON_RECALL,
        "weight.flatten()[at].to(p.dtype)",
        "torch.ones_like(p)",
        ("skeleton_recall/multiclass",),
    ),
    Fault(
        "skeleton recall of lines: labels mixed up",
        SKELETON_RECALL,
        "at // logits.shape[2:].numel() % channels",
        "at % channels",
        ("skeleton_recall/multilabel",),
    ),
    Fault(
        "skeleton recall of lines: absence in place of presence",
        SKELETON_RECALL,
        "torch.sigmoid(at_least_float32(",
        "torch.sigmoid(-at_least_float32(",
        ("skeleton_recall/binary",),
    ),
    Fault(
        "skeleton recall of lines: the probability of no class in place of the label's",
        SKELETON_RECALL,
        "torch.exp(-lost.flatten()",
        "1 - torch.exp(-lost.flatten()",
        ("skeleton_recall/multiclass",),
    ),
    Fault(
        "skeleton recall of lines: precision in place of recall",
        SKELETON_RECALL,
        "each = (length - hit) / (length + 1)",
        "each = (length - hit) / (hit + 1)",
        ("skeleton_recall/multilabel",),
    ),
    Fault(
        "skeletons: tubes of one pixel",
        SKELETONS,
        "WIDENED = 2",
        "WIDENED = 1",
        ("skeleton_recall/binary",),
    ),
    Fault(
        "skeletons: tubes reach into other classes",
        SKELETONS,
        "iterations=WIDENED) & present)",
        "iterations=WIDENED))",
        ("skeleton_recall/multiclass",),
    ),
    Fault(
        "skeletons: blobs that thinning took away are lost",
        SKELETONS,
        "if lost.size:",
        "if lost.size > 10**6:",
        ("skeleton_recall/binary",),
    ),
    Fault(
        "skeletons: half of each round left out",
        SKELETONS,
        "for half in _HALVES:",
        "for half in _HALVES[:1]:",
        ("skeleton_recall/binary",),
    ),
    # --- Margins, and the symmetric unified focal loss --------------------------------------------------------------
    Fault(
        "margins: of the other classes",
        LDAM,
        "z.scatter_add(1, index, -own)",
        "z.scatter_add(1, index, own)",
        ("ldam/multiclass",),
    ),
    Fault(
        "margins: of presence and absence swapped",
        LDAM,
        "each[1:], each[:1])",
        "each[:1], each[1:])",
        ("ldam/binary",),
    ),
    Fault(
        "margins: absence has the sign of presence",
        LDAM,
        "-there.view(-1, 1, 1), absent",
        "-there.view(-1, 1, 1), -absent",
        ("ldam/binary",),
    ),
    Fault(
        "margins: a square root for the fourth",
        WEIGHTS,
        "** -0.25 for f",
        "** -0.5 for f",
        ("ldam/multiclass",),
    ),
    Fault(
        "margins: largest for the commonest",
        WEIGHTS,
        "(max(f, least) / least) ** -0.25",
        "(max(f, least) / max(frequencies)) ** 0.25",
        ("ldam/multiclass",),
    ),
    Fault(
        "margins: of several labels the first's",
        LDAM,
        "return MarginCrossEntropy(task, ignore_index, margin, given, (0.0,))",
        "return MarginCrossEntropy(task, ignore_index, margin, given[:1], (0.0,))",
        ("ldam/multilabel",),
    ),
    Fault(
        "symmetric unified focal: rare pixels are not quietened",
        UNIFIED,
        "of_rare = self.suppression if self.symmetric else 0.0",
        "of_rare = 0.0",
        ("symmetric_unified_focal/multiclass",),
    ),
    Fault(
        "symmetric unified focal: common overlaps are not bent",
        UNIFIED,
        "steep if self.symmetric else torch.where(common, each, steep)",
        "torch.where(common, each, steep)",
        ("symmetric_unified_focal/binary",),
    ),
    # --- Soft labels ------------------------------------------------------------------------------------------------
    Fault(
        "soft labels: hits are products",
        METRIC,
        "torch.relu(p - y), torch.relu(y - p)",
        "torch.relu(p - y), y * (1 - p)",
        ("jaccard_metric/multiclass",),
    ),
    Fault(
        "soft labels: an ignored channel alone is out",
        METRIC,
        "labelled = labelled.all(dim=1, keepdim=True)",
        "labelled = labelled.any(dim=1, keepdim=True) | (labelled.sum() > 0)",
        ("dice_metric/multiclass",),
    ),
    Fault(
        "soft labels: entropy without the absence",
        METRIC,
        "entropy = F.softplus(z) - y * z",
        "entropy = y * F.softplus(-z)",
        ("dice_metric/binary",),
    ),
    Fault(
        "soft labels: parts swapped",
        METRIC,
        "(1 - self.mix) * class_cost",
        "self.mix * class_cost",
        ("jaccard_metric/multilabel",),
    ),
    Fault(
        "soft labels: a class without a share costs nothing",
        METRIC,
        "mean = mass(p) /",
        "mean = 0 * mass(p) /",
        ("dice_metric/multilabel",),
    ),
    Fault(
        "soft labels: rounded",
        METRIC,
        "else torch.where(labelled, target.to(z.dtype), 0.0)",
        "else torch.where(labelled, target.to(z.dtype).round(), 0.0)",
        ("dice_metric/binary",),
    ),
)
"""All must be found. A new fault that is not found is a rule that the certificate lacks."""
UNCHANGED = Fault("nothing", KERNEL, "NEARLY_NOTHING = 1e-12", "NEARLY_NOTHING = 1e-12  # so", ("dice/binary",))
"""None is to be found here."""


# --- The process that plants them -----------------------------------------------------------------------------------


class _Changed(importlib.machinery.SourceFileLoader):
    """Loads a module from a text in place of its file's."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.module, str(ROOT / fault.file))
        self.text = fault.source()

    def get_code(self, fullname: str):
        return compile(self.text, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, fault: Fault) -> None:
        self.fault, self.used = fault, False

    def find_spec(self, fullname, path, target=None):
        if fullname != self.fault.module:
            return None
        self.used = True
        return importlib.util.spec_from_loader(fullname, _Changed(self.fault))


def found(fault: Fault) -> str | None:
    """The first check that fails for what it measured (not because something was raised); None where all pass.

    Call once in a process, before anything of the losses is loaded.
    """
    assert fault.module not in sys.modules, fault.module
    finder = _Finder(fault)
    sys.meta_path.insert(0, finder)
    certification = importlib.import_module("sweeper.losses.certification")
    for place in fault.tried_on:
        family, task = place.split("/")
        for check in certification.checks("cpu", [family], [task]):
            if not check.passed and not check.detail.startswith("raised"):
                assert finder.used
                return f"{family}, {task}: {check.name}: {check.detail}"
    assert finder.used
    return None


def _serve() -> None:
    """A name on each line of the input → its answer as JSON on one line of the output."""
    for library in ("numpy", "pydantic", "scipy.ndimage", "torch", "torch.func", "torchvision.ops"):
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    by_name = {fault.name: fault for fault in (*FAULTS, UNCHANGED)}
    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                try:
                    answer = {"found": found(by_name[line.rstrip("\n")])}
                except Exception as error:  # told to the test
                    answer = {"error": f"{type(error).__name__}: {error}"}
                os.write(writer, json.dumps(answer).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
        print(answer.decode() or '{"error": "the process died"}', flush=True)


if __name__ == "__main__":
    _serve()
