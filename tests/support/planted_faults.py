"""Faults in the losses' source text, and whether the formulas of tests/losses/test_formulas.py or the certificate find
them.

`python -m tests.support.planted_faults` is the process that plants them: it loads torch once, and forks for each name
that it reads from its input. The child imports the losses anew, with the one file changed in memory. The source files
are never written to.
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

ROOT = Path(__file__).parents[2] / "sweeper"


class Fault(NamedTuple):
    """One change of one file."""

    name: str
    """What is wrong then."""
    file: str
    """Below `sweeper/`."""
    old: str
    """Stands in the file once."""
    new: str
    place: str
    """`family/task` where it is looked for."""

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
                f"{self.old!r}; write down in tests/support/planted_faults.py what stands there now"
            )
        return text.replace(self.old, self.new)


FAULTS = (
    Fault(
        "gamma off by one, sigmoid",
        "losses/kernel.py",
        "loss = loss * torch.exp(settings.gamma * (log_right - u))",
        "loss = loss * torch.exp((settings.gamma + 1) * (log_right - u))",
        "focal/binary",
    ),
    Fault(
        "class weights reversed, sigmoid",
        "losses/kernel.py",
        "loss = loss * (background * low + foreground * high)",
        "loss = loss * (background * high + foreground * low)",
        "weighted_ce/binary",
    ),
    Fault(
        "class weights of the overlap ignored, softmax",
        "losses/kernel.py",
        "weights = class_weights if settings.weigh_overlap else None",
        "weights = None",
        "weighted_dice_ce/multiclass",
    ),
    Fault(
        "class weights of the overlap not divided by their sum",
        "losses/kernel.py",
        "/ class_weights.sum().clamp(min=NEARLY_NOTHING)",
        "/ len(each)",
        "weighted_dice_ce/multiclass",
    ),
    Fault(
        "mix reversed, sigmoid",
        "losses/kernel.py",
        "parts.append((1 - settings.mix) * overlap)",
        "parts.append(settings.mix * overlap)",
        "dice_ce/binary",
    ),
    Fault(
        "overlap doubled, softmax",
        "losses/kernel.py",
        "parts.append((1 - settings.mix) * _classes_overlap(",
        "parts.append(2 * (1 - settings.mix) * _classes_overlap(",
        "dice_focal/multiclass",
    ),
    Fault(
        "smoothing doubled",
        "losses/kernel.py",
        "(true_positives + errors + settings.smoothing)",
        "(true_positives + errors + 2 * settings.smoothing)",
        "dice/binary",
    ),
    Fault(
        "false positives and negatives swapped",
        "losses/kernel.py",
        "settings.fp_weight * false_positives + settings.fn_weight * false_negatives",
        "settings.fn_weight * false_positives + settings.fp_weight * false_negatives",
        "tversky/binary",
    ),
    Fault(
        "overlap exponent off by one",
        "losses/kernel.py",
        "clamp(min=LINEAR_BELOW).pow(exponent - 1)",
        "clamp(min=LINEAR_BELOW).pow(exponent)",
        "focal_tversky/binary",
    ),
    Fault(
        "an absent class is free",
        "losses/kernel.py",
        "lost = torch.where(actual > 0, lost, mean_probability)",
        "lost = torch.where(actual > 0, lost, 0.0 * mean_probability)",
        "dice/binary",
    ),
    Fault(
        "class weights ignored, softmax",
        "losses/kernel.py",
        "loss = loss * class_weights[index]",
        "loss = loss * class_weights.mean()",
        "dice_ce/multiclass",
    ),
    Fault(
        "a part detached, softmax",
        "losses/kernel.py",
        "hit, predicted = p * own, p * mask",
        "hit, predicted = p.detach() * own, p * mask",
        "dice/multiclass",
    ),
    Fault(
        "torch's sum divided by all pixels",
        "losses/kernel.py",
        "return total / torch.count_nonzero(labelled).clamp(min=1)",
        "return total / labelled.numel()",
        "cross_entropy/multiclass",
    ),
    Fault(
        "mean over all pixels in place of the labelled ones",
        "losses/per_pixel.py",
        "return loss.sum() / labelled.sum().clamp(min=1)",
        "return loss.sum() / labelled.numel()",
        "cross_entropy/binary",
    ),
    Fault(
        "radius of the boundary off by one",
        "losses/per_pixel.py",
        "BOUNDARY_RADIUS = 2",
        "BOUNDARY_RADIUS = 3",
        "boundary_ce/binary",
    ),
    Fault(
        "ignored pixels make boundaries",
        "losses/per_pixel.py",
        "largest = largest_around(torch.where(known, flat, out))",
        "largest = largest_around(flat)",
        "boundary_ce/multiclass",
    ),
    Fault(
        "gamma off by one, softmax",
        "losses/per_pixel.py",
        "torch.exp(gamma * log_of_rest(loss))",
        "torch.exp((gamma + 1) * log_of_rest(loss))",
        "focal/multiclass",
    ),
    Fault(
        "what stands under ignore is not cleared",
        "losses/per_pixel.py",
        "return torch.where(labelled, z, 0.0)",
        "return z",
        "focal_tversky/multiclass",
    ),
    Fault(
        "pos_weight on the negatives",
        "losses/coordinates.py",
        'return (1.0, _number(point, "pos_weight", 1.0)) if alpha',
        'return (_number(point, "pos_weight", 1.0), 1.0) if alpha',
        "weighted_ce/binary",
    ),
    Fault(
        "class weights favour common classes",
        "losses/class_weights.py",
        "(f / total) ** -power",
        "(f / total) ** power",
        "weighted_ce/multiclass",
    ),
    Fault(
        "alpha on the commonest class",
        "losses/class_weights.py",
        "1 - alpha if c == most else alpha",
        "alpha if c == most else 1 - alpha",
        "focal/multiclass",
    ),
    Fault(
        "logit adjustment: tau doubled",
        "losses/class_weights.py",
        "tau * math.log(max(f, least) / total)",
        "tau * 2 * math.log(max(f, least) / total)",
        "logit_adjusted/multiclass",
    ),
    Fault(
        "Lovász: sign of the Jaccard loss",
        "losses/lovasz.py",
        "lost = 1 - (total - hit).to(dtype)",
        "lost = 1 + (total - hit).to(dtype)",
        "lovasz/binary",
    ),
    Fault(
        "Lovász: hinge of the wrong side",
        "losses/lovasz.py",
        "F.relu(1 - torch.where(own, z, -z))",
        "F.relu(1 - torch.where(own, -z, z))",
        "lovasz/binary",
    ),
    Fault(
        "unified focal: delta swapped in the overlap",
        "losses/unified_focal.py",
        "KernelSettings(0.0, 0.0, None, 1 - delta, delta, 1.0)",
        "KernelSettings(0.0, 0.0, None, delta, 1 - delta, 1.0)",
        "unified_focal/multiclass",
    ),
    Fault(
        "unified focal: delta swapped in the cross-entropy",
        "losses/unified_focal.py",
        "rare, common = self.delta, 1 - self.delta",
        "rare, common = 1 - self.delta, self.delta",
        "unified_focal/binary",
    ),
    Fault(
        "symmetric unified focal: rare pixels are not quietened",
        "losses/unified_focal.py",
        "of_rare = self.suppression if self.symmetric else 0.0",
        "of_rare = 0.0",
        "symmetric_unified_focal/multiclass",
    ),
    Fault(
        "generalised Dice: weights not squared",
        "losses/generalized_dice.py",
        "share.pow(-self.exponent)",
        "share.pow(-self.exponent / 2)",
        "generalized_dice/multiclass",
    ),
    Fault(
        "generalised Dice: factor 2 missing",
        "losses/generalized_dice.py",
        "(w * (errors + 2 * hit))",
        "(w * (errors + hit))",
        "generalized_dice/binary",
    ),
    Fault(
        "logit adjustment: tau ignored",
        "losses/logit_adjusted.py",
        "log_prior_shifts(class_frequencies, tau))",
        "log_prior_shifts(class_frequencies, 1.0))",
        "logit_adjusted/multiclass",
    ),
    Fault(
        "hard examples: threshold reversed",
        "losses/ohem_ce.py",
        "labelled & ~(found < self._cutoff",
        "labelled & ~(found > self._cutoff",
        "ohem_ce/binary",
    ),
    Fault(
        "hard examples: divided by all labelled pixels",
        "losses/ohem_ce.py",
        "number = chosen.sum().clamp(min=1)",
        "number = labelled.sum().clamp(min=1)",
        "ohem_ce/binary",
    ),
    Fault(
        "recall: both sides' shares swapped",
        "losses/recall_ce.py",
        "torch.where(there, present, absent)",
        "torch.where(there, absent, present)",
        "recall_ce/binary",
    ),
    Fault(
        "recall: none missed weighs nothing",
        "losses/recall_ce.py",
        "(own & wrong).sum(dim=(0, 2, 3)).clamp(min=1)",
        "(own & wrong).sum(dim=(0, 2, 3)).clamp(min=0)",
        "recall_ce/multiclass",
    ),
    Fault(
        "log Dice: without smoothing",
        "losses/log_dice.py",
        "(actual - missed + 1)",
        "(actual - missed + 1e-6)",
        "log_dice/binary",
    ),
    Fault(
        "log Dice: an absent class is free",
        "losses/log_dice.py",
        "marked / places.clamp(min=NEARLY_NOTHING)",
        "0 * marked",
        "log_dice/binary",
    ),
    Fault(
        "noise-robust Dice: exponent of own pixels dropped",
        "losses/noise_robust_dice.py",
        "log_p.scatter(1, index, log_missed)",
        "log_p.scatter(1, index, log_missed / self.exponent)",
        "robust_dice/multiclass",
    ),
    Fault(
        "noise-robust Dice: probabilities not squared",
        "losses/noise_robust_dice.py",
        "mass(predicted * p)",
        "mass(predicted)",
        "robust_dice/multiclass",
    ),
    Fault(
        "sensitivity and specificity swapped",
        "losses/sensitivity_specificity.py",
        "self.share * missed + (1 - self.share) * marked",
        "(1 - self.share) * missed + self.share * marked",
        "sens_spec/binary",
    ),
    Fault(
        "specificity over all pixels",
        "losses/sensitivity_specificity.py",
        "others.clamp(min=NEARLY_NOTHING)",
        "mass(mask.expand_as(p)).clamp(min=NEARLY_NOTHING)",
        "sens_spec/binary",
    ),
    Fault(
        "Matthews: sign of the correlation",
        "losses/matthews.py",
        "good, crossed = a * d - b * c",
        "good, crossed = b * c - a * d",
        "mcc/binary",
    ),
    Fault(
        "Matthews: no pixel added to the true negatives",
        "losses/matthews.py",
        "rest - marked + 1)",
        "rest - marked)",
        "mcc/multiclass",
    ),
    Fault(
        "exponential logarithmic: exponent of the overlap dropped",
        "losses/exponential_logarithmic.py",
        "raised(each, self.exponent).mean()",
        "each.mean()",
        "exp_log/multiclass",
    ),
    Fault(
        "exponential logarithmic: parts swapped",
        "losses/exponential_logarithmic.py",
        "parts.append((1 - self.mix)",
        "parts.append(self.mix",
        "exp_log/binary",
    ),
    Fault(
        "instances: exponent of the sizes dropped",
        "losses/instance_ce.py",
        ".pow(-self.power)",
        ".pow(-1.0)",
        "instance_ce/binary",
    ),
    Fault(
        "components: corners do not touch",
        "data/label_maps.py",
        "touching = np.ones((3,) * known.ndim, dtype=bool)",
        "touching = None",
        "blob_dice/binary",
    ),
    Fault(
        "components: ignored pixels connect",
        "data/label_maps.py",
        "known = np.where(labelled, labels, 0)\n    touching",
        "known = np.where(labelled, labels, 1)\n    touching",
        "blob_dice/binary",
    ),
    Fault(
        "blobs: parts swapped",
        "losses/blob_dice.py",
        "parts.append((1 - self.share) * self.dice",
        "parts.append(self.share * self.dice",
        "blob_dice/binary",
    ),
    Fault(
        "blobs: class 0 has instances",
        "losses/blob_dice.py",
        '(each[1:] if self.task == "multiclass" else each).mean()',
        "each.mean()",
        "blob_dice/multiclass",
    ),
    Fault(
        "blobs: an absent class is free",
        "losses/blob_dice.py",
        "mean_probability(classes))",
        "0 * mean_probability(classes))",
        "blob_dice/multiclass",
    ),
    Fault(
        "skeleton recall: parts swapped",
        "losses/skeleton_recall.py",
        "parts.append((1 - self.share) * self.rest",
        "parts.append(self.share * self.rest",
        "skeleton_recall/binary",
    ),
    Fault(
        "skeleton recall of lines: absence in place of presence",
        "losses/skeleton_recall.py",
        "torch.sigmoid(at_least_float32(",
        "torch.sigmoid(-at_least_float32(",
        "skeleton_recall/binary",
    ),
    Fault("centre lines: one round too few", "losses/soft_cldice.py", "ROUNDS = 3", "ROUNDS = 2", "soft_cldice/binary"),
    Fault(
        "centre lines: ignored pixels are eroded from",
        "losses/soft_cldice.py",
        "x = -torch.where(known, x, 1.0)",
        "x = -torch.where(known, x, 0.0)",
        "soft_cldice/binary",
    ),
    Fault(
        "boundary distances a pixel too long",
        "data/label_maps.py",
        "distance_transform_edt(~present) - 0.5",
        "distance_transform_edt(~present) + 0.5",
        "boundary/binary",
    ),
    Fault(
        "boundary: ignored pixels are of the other side",
        "data/label_maps.py",
        "absent = labelled & ~present",
        "absent = ~present",
        "boundary/multiclass",
    ),
    Fault(
        "class sums: false negatives of the other classes",
        "losses/class_sums.py",
        "_mass(p[1] * own)",
        "_mass(p[1] * others)",
        "generalized_dice/multiclass",
    ),
    Fault(
        "class sums: focal exponents of both sides swapped",
        "losses/class_sums.py",
        "low, high = part.gammas",
        "high, low = part.gammas",
        "unified_focal/binary",
    ),
    Fault(
        "instances: weights not of mean 1",
        "losses/instance_ce.py",
        "(shares * found).sum() / shares.sum()",
        "(shares * found).sum() / labelled.sum()",
        "instance_ce/multiclass",
    ),
    Fault(
        "boundary: divided by the number of pixels alone",
        "losses/boundary.py",
        " * logits.shape[1])",
        ")",
        "boundary/multiclass",
    ),
    Fault(
        "centre lines: recall is precision",
        "losses/soft_cldice.py",
        "/ (mass(actual_line) + 1)",
        "/ (mass(line) + 1)",
        "soft_cldice/binary",
    ),
)
"""All must be found. A new fault that is not found is a formula or a rule that is missing."""
UNCHANGED = Fault(
    "nothing", "losses/kernel.py", "NEARLY_NOTHING = 1e-12", "NEARLY_NOTHING = 1e-12  # so", "dice/binary"
)
"""None is to be found here."""


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
    """What finds the fault; None where nothing does. What raises does not count.

    Call once in a process, before anything of the losses is loaded.
    """
    assert fault.module not in sys.modules, fault.module
    finder = _Finder(fault)
    sys.meta_path.insert(0, finder)
    family, task = fault.place.split("/")
    formulas = importlib.import_module("tests.losses.test_formulas")
    certification = importlib.import_module("sweeper.losses.certification")
    told = next((where for where, value, expected in formulas.values(family, task) if value != expected), None)
    if told is None:
        failed = (check for check in certification.checks("cpu", [family], [task]) if not check.passed)
        told = next((check.name for check in failed if not check.detail.startswith("raised")), None)
    assert finder.used
    return told


def _serve() -> None:
    """A name on each line of the input → its answer as JSON on one line of the output."""
    for library in ("numpy", "pydantic", "scipy.ndimage", "torch", "torch.func"):
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
                except Exception as error:
                    answer = {"error": f"{type(error).__name__}: {error}"}
                os.write(writer, json.dumps(answer).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            print(pipe.read(), flush=True)
        os.waitpid(child, 0)


if __name__ == "__main__":
    _serve()
