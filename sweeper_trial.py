"""sweeper compares losses in your own training: `from sweeper_trial import trial`. Needs torch and nothing else.

Without the variable SWEEPER_TRIAL the script trains as it always did: cross-entropy, its own rate, seed and length; its
scores are printed. With it, `sweeper` gives seed, loss, rate and length in a folder, and reads scores from there.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import json
import math
import os
import shutil
import struct
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)
from torch.nn.modules.module import register_module_forward_hook

VERSION = 2
BINS, LOGIT_RANGE = 512, 12.0
TAUS = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
IGNORE, MOST_CLASSES = 255, 254
BACKGROUND = ("background", "bg", "unlabeled", "unlabelled")
IMAGES_ONLY = ("boundary_ce", "soft_cldice", "boundary")
"""Losses that look at neighbouring pixels, and take no volumes."""
VALIDATED = "validated"
"""Folder of the validation scores of each network that may be restored for the test."""
BY_ITSELF = {"kind": "none", "lr_factor": 1.0, "share": 1.0, "splits": ["val", "test"], "calls": 4, "ends": False}


SENT = list[tuple[torch.cuda.Event, Tensor]]()
"""Values that were sent from a GPU to the processor and not yet read."""


class TrialError(ValueError):
    """The script gives something that cannot be used; the text says what to give instead."""


class EndOfProbe(SystemExit):
    """Ends a probed script after the last call of the loss that is needed; no `except Exception` catches it."""


def trial(classes: Sequence[str], ignore_index: int = 255, seed: int = 0, overlap: bool = False) -> Trial:
    """Return what this training is to use.

    Args:
        classes: names in the order of the labels, the background first.
        ignore_index: label of pixels that do not count.
        seed: the script's own, for a training outside sweeper.
        overlap: whether a pixel may have several classes; these have no background then, and targets have the shape
            (N, C, H, W) of the logits.
    """
    folder = os.environ.get("SWEEPER_TRIAL")
    if folder is None or folder not in _MADE:
        _MADE[folder] = Trial(classes, ignore_index, seed, overlap)
    return _MADE[folder]


_MADE: dict[str | None, Trial] = {}
"""The trial of each folder: a process has one, however often it calls `trial`."""


class Trial:
    """One training: its seed, rate, length and loss, and where its scores go."""

    def __init__(self, classes: Sequence[str], ignore_index: int = 255, seed: int = 0, overlap: bool = False) -> None:
        folder = os.environ.get("SWEEPER_TRIAL")
        self._folder = Path(folder) if folder else None
        self._settings: dict[str, Any] = {
            **BY_ITSELF,
            "seed": seed,
            "family": "cross_entropy",
            "params": {},
            "fold": None,
        }
        self._loss_function: Callable[[Tensor, Tensor], Tensor] = _compute_cross_entropy
        if self._folder:
            self._settings = json.loads((self._folder / "trial.json").read_text("utf-8"))
            loss = sys.modules["sweeper_trial_loss"] = ModuleType("sweeper_trial_loss")  # torch.compile looks it up
            exec(compile((self._folder / "loss.py").read_text("utf-8"), "loss.py", "exec"), vars(loss))
            self._loss_function = loss.criterion
        self._begun, self._calls = time.monotonic(), 0
        self._pixels: Tensor | None = None
        self._labelled = 0
        self._length: float | None = None
        self._names: dict[str, set[str]] = {}
        self._network = ""
        self._runs: dict[str, str] = {}
        self.classes, self.ignore_index, self.overlap = [str(name) for name in classes], ignore_index, overlap
        self._lone = torch.ones(len(self.classes), dtype=torch.bool)
        self.start = 0
        """First epoch of this process."""
        least, rule = (1, "none of them the background") if overlap else (2, "the background first")
        if not least <= len({*self.classes}) == len(self.classes) <= MOST_CLASSES or isinstance(classes, str):
            self._refuse(f"classes must be {least} to {MOST_CLASSES} different names, {rule}, got {classes!r}")
        begun = {"classes": self.classes, "ignore_index": int(ignore_index), "overlap": overlap}
        self._write("start", version=VERSION, **begun)

    @property
    def seed(self) -> int:
        """Seed for `torch.manual_seed` and the order of the data; images, labels and split are the same for all."""
        return int(self._settings["seed"])

    @property
    def family(self) -> str:
        """Name of the loss."""
        return str(self._settings["family"])

    @property
    def fold(self) -> int | None:
        """Number of the fold to leave out for the test, or None."""
        return None if self._settings["fold"] is None else int(self._settings["fold"])

    def lr(self, rate: float) -> float:
        """Return the script's own learning rate times this trial's factor."""
        return rate * float(self._settings["lr_factor"])

    def length(self, epochs: int) -> int:
        """Return how many epochs (or steps) to train, of the script's own number; at least 1."""
        self._length = epochs
        share: int = max(1, round(epochs * self._settings["share"]))
        return min(share, int(self._settings["calls"])) if self._settings["kind"] == "probe" else share

    def wants(self, split: str) -> bool:
        """Return whether scores of this split are wanted."""
        return split in self._settings["splits"]

    def stop_after(self, done: float) -> bool:
        """Note that so many epochs (or steps) are done, and return whether to stop; the same on every rank."""
        self._write("epoch", done=float(done), **self._get_totals())
        if self._settings["kind"] == "probe":
            return self._calls >= int(self._settings["calls"])
        return self._folder is not None and _share_first_rank((self._folder / "stop").exists())

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            logits: (N, C, H, W), or (N, 1, H, W) or (N, 2, H, W) of two classes, before any sigmoid or softmax; of
                volumes (N, C, D, H, W).
            target: (N, H, W) or (N, 1, H, W), labels as integers, booleans or floats; of volumes with D. Where classes
                overlap the logits' shape, 1 where a pixel has the class.
        """
        trains = torch.is_grad_enabled()  # else it is the loss of a validation
        self._calls += int(trains)
        if torch.is_tensor(logits) and logits.dim() == 5 and self.family in IMAGES_ONLY:
            self._refuse(f"{self.family} takes images only, as it looks at neighbouring pixels, got {logits.shape}")
        z, labels = self._prepare(logits, target)
        if trains and self._settings["kind"] == "probe":
            self._record_batch(logits, z, labels)
            if self._settings["ends"] and self._calls >= self._settings["calls"]:
                raise EndOfProbe(0)
        return self._loss_function(z, labels)

    def auxiliary_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a further output of the network (deep supervision), beyond that of `loss`."""
        return self._loss_function(*self._prepare(logits, target))

    def scoring(self, split: str) -> Scoring:
        """Return the scores of a split, to be filled in a `with` block: `s.add(logits, target, names)`."""
        return Scoring(self, split)

    def counts(self, split: str, table: Mapping[str, Any]) -> None:
        """Give a split's confusion counts, where the script decides by a rule of its own.

        Args:
            split: "val" or "test".
            table: name of the image → rows [tp, fp, fn] of pixels, one for each class.
        """
        k = len(self.classes)
        rows = {name: [[float(n) for n in row] for row in table[name]] for name in table}
        for name, image in rows.items():
            is_whole = all(0 <= n < 2**53 and n % 1 == 0 for row in image for n in row)
            if [len(row) for row in image] != [3] * k or not is_whole:
                self._refuse(
                    f"counts of an image must be {k} rows [tp, fp, fn] of whole numbers of pixels, one for each class, "
                    f"got {image} of {str(name)!r}"
                )
        data = torch.tensor([*rows.values()], dtype=torch.float64).long().view(-1, k, 3)
        self._write_scores(split, "counts", list(table), data=data)

    def score(self, split: str, names: Sequence[Any] | None, values: Any) -> None:
        """Give one number for each image, the higher the better; or one number for all, with None for names."""
        values = [float(v) for v in ([values] if names is None else values)]
        if bad := [v for v in values if not math.isfinite(v)]:
            self._refuse(
                f"a score must be a finite number, got {bad[0]}; leave out an image only if its labels do not define it"
            )
        if names is not None and len(names) != len(values):
            self._refuse(f"each image needs one score, got {len(names)} names and {len(values)} scores")
        what = "number" if names is None else "score"
        self._write_scores(
            split, what, [""] if names is None else list(names), data=torch.tensor(values, dtype=torch.float64)
        )

    # --- Batches ---

    def _prepare(self, logits: Tensor, target: Tensor, *, at_once: bool = False) -> tuple[Tensor, Tensor]:
        """Return logits (N, 1 or C, H, W) in at least float32, labels (N, H, W) with 255 for what does not count.

        `at_once` waits for the device to refuse wrong labels.
        """
        if not all(map(torch.is_tensor, (logits, target))):
            kinds = f"{type(logits).__name__} and {type(target).__name__}"
            ways = "give each output of the network by itself, and an array of NumPy as torch.as_tensor(array)"
            self._refuse(f"logits and target must be tensors, got {kinds}; {ways}")
        k, shapes = len(self.classes), f"got logits {tuple(logits.shape)} and target {tuple(target.shape)}"
        if self.overlap:
            return self._prepare_planes(logits, target, shapes, at_once=at_once)
        if logits.dim() == target.dim() >= 4 and target.shape[1] == 1:
            target = target[:, 0]
        elif k == 2 and logits.shape == target.shape and logits.dim() == 3:
            logits = logits.unsqueeze(1)
        if logits.dim() not in (4, 5) or logits.shape[:1] + logits.shape[2:] != target.shape:
            way = "give F.interpolate(logits, target.shape[-2:], mode='bilinear') if only their size differs"
            if logits.dim() == target.dim():
                way = "give target.argmax(1) if it is one-hot"
            self._refuse(f"logits must be (N, C, H, W) and target (N, H, W) or (N, 1, H, W), {shapes}; {way}")
        if logits.shape[1] not in ((1, 2) if k == 2 else (k,)):
            self._refuse(f"logits must have one channel for each of {k} classes{' (or one)' * (k == 2)}, {shapes}")
        z = _widen(logits)
        if k == 2 and z.shape[1] == 2:  # softmax over two channels is the sigmoid of their difference
            z = z[:, 1:] - z[:, :1]
        return z.flatten(2, -2), self._settle(target, k, at_once=at_once).flatten(1, -2)  # slices below each other

    def _prepare_planes(self, logits: Tensor, target: Tensor, shapes: str, *, at_once: bool) -> tuple[Tensor, Tensor]:
        """Return logits and labels, both (N, C, H, W), of classes that overlap."""
        if logits.shape != target.shape or logits.dim() not in (4, 5) or logits.shape[1] != len(self.classes):
            self._refuse(f"logits and target must both be (N, {len(self.classes)}, H, W), a plane a class, {shapes}")
        return _widen(logits).flatten(2, -2), self._settle(target, 2, at_once=at_once).flatten(2, -2)

    def _settle(self, target: Tensor, classes: int, *, at_once: bool) -> Tensor:
        try:
            labels = settle_labels(target.cpu() if at_once else target, classes, self.ignore_index).to(target.device)
        except ValueError as error:
            self._refuse(str(error))
        return torch.where(labels == self.ignore_index, IGNORE, labels)

    def _record_batch(self, logits: Tensor, z: Tensor, labels: Tensor) -> None:
        """Count the classes' pixels, and write what the first batches are like."""
        if self.overlap:
            planes = labels.transpose(0, 1).flatten(1).cpu()
            is_ignored, is_class = (planes == IGNORE).all(0), planes == 1
            is_lone = is_class == (is_class.sum(0) - is_class.long() == 0)  # the class is where no other is
            self._lone &= (is_lone | is_ignored).all(1)
            self._labelled += planes.shape[1] - int(is_ignored.sum())
            pixels = torch.stack([*is_class.sum(1), is_ignored.sum()])
        else:
            pixels = torch.bincount(labels.flatten().cpu(), minlength=IGNORE + 1)
            pixels = torch.cat([pixels[: len(self.classes)], pixels[IGNORE:]])
        self._pixels = pixels if self._pixels is None else self._pixels + pixels
        if self._calls > self._settings["calls"]:
            return
        values = z.detach().cpu().double()
        numbers = [float(n) for n in (values.mean(), values.std(correction=0), values.max())]
        self._write(
            "loss",
            call=self._calls,
            target=hashlib.sha256(_get_bytes(labels.to(torch.int16))).hexdigest()[:16],
            logits=numbers if all(map(math.isfinite, numbers)) else None,
            bounded=_is_bounded(logits),
            volume=logits.dim() == 5,
        )

    # --- Files ---

    def _get_totals(self) -> dict[str, Any]:
        pixels = None if self._pixels is None else self._pixels.tolist()
        self._runs |= _find_own_runs()
        more: dict[str, Any] = {"length": self._length, "runs": self._runs}
        if self.overlap:
            lone = self._lone & (self._labelled > 0)
            named = torch.tensor([name.lower() in BACKGROUND for name in self.classes])
            more |= {"labelled": self._labelled, "lone": (lone | named).nonzero().flatten().tolist()}
        return {"calls": self._calls, "pixels": pixels, **more}

    def _write(self, event: str, **more: Any) -> None:
        """Append a line to results.jsonl; only the first rank does."""
        if self._folder and _get_rank() == 0:
            seconds = round(time.monotonic() - self._begun, 6)
            with (self._folder / "results.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"event": event, "seconds": seconds, **more}, allow_nan=False) + "\n")

    def _refuse(self, text: str) -> NoReturn:
        self._write("problem", text=text[:1000])
        raise TrialError(text)

    def _log_prior(self, device: torch.device) -> Tensor:
        """Return the logarithm of the classes' shares of the training pixels, (C,); 0 where they are not known."""
        class_pixels = self._settings.get("class_pixels") or (None if self._pixels is None else self._pixels[:-1])
        if class_pixels is None:
            return torch.zeros(len(self.classes), device=device)
        pixels = torch.as_tensor(class_pixels, dtype=torch.float64).clamp(min=1)
        return (pixels / pixels.sum()).log().float().to(device)

    def _write_scores(
        self, split: str, what: str, names: list[Any], *, data: Any, sums: Any = None, network: str = "", **notes: bool
    ) -> None:
        """Write a split's scores, each rank its own; outside sweeper print them.

        If the test is of a network that was restored, the scores of validation become those of the same network.
        """
        if split not in ("val", "test"):
            self._refuse(f'a split must be "val" or "test", got {split!r}')
        if not names:
            self._refuse(f"scores of {split} must be of one image or more, got none; call s.add in the block")
        if self._folder is None:
            if _get_rank() == 0:
                print(f"{split}: {_format_scores(what, data, self.classes)} ({len(names)} images)", file=sys.stderr)
            return
        names = [str(name) for name in names]
        arrays = {"names": names, "data": data, "sums": sums}
        self._check_names(split, names)
        path = self._folder / (f"{split}.{_get_rank()}.npz" if _get_rank() else f"{split}.npz")
        part = path.with_suffix(".part")
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            for name, value in arrays.items():
                if value is not None:
                    file.writestr(f"{name}.npy", _encode_npy(value))
        part.replace(path)
        more = {"split": split, "what": what, "network": network}
        self._write("scores", **more, **{"finite": True, **notes}, **self._get_totals())
        kept = self._folder / VALIDATED / network
        noted = kept / f"rank{_get_rank()}.json"
        if split == "val" and network:
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, kept / path.name)
            noted.write_text(json.dumps({**more, "finite": True, **notes}), "utf-8")
            self._network = network
        elif split == "test" and network != self._network and noted.exists():
            for of_rank in kept.glob("*.npz"):  # of all ranks, as the first one may test alone
                shutil.copyfile(of_rank, self._folder / of_rank.name)
            self._network = network
            self._write("scores", **json.loads(noted.read_text("utf-8")), **self._get_totals())

    def _check_names(self, split: str, names: list[str]) -> None:
        """Refuse scores that lack images of earlier ones: of several folds only the last one's would count."""
        missing = self._names.get(split, set()) - {*names}
        if missing and names != [""] and _get_world_size() == 1:
            rule = f"scores of {split} must be of the same images each time, and {min(missing)!r} is missing now"
            self._refuse(f"{rule}; score all each time, and of several folds train one: t.fold, with --folds")
        self._names[split] = {*names}


class Scoring:
    """Counts of one split, image by image, as sweeper's own evaluation makes them."""

    def __init__(self, trial: Trial, split: str) -> None:
        self._trial, self._split, self._finite, self._bounded = trial, split, True, True
        self._names: list[str] = []
        self._data: list[Tensor] = []
        self._sums: list[Tensor] = []
        self._network = ""
        self._modules = modules = dict[int, torch.nn.Module]()
        warnings.filterwarnings("ignore", "Using `torch.compile", UserWarning)  # the hook runs twice in vain
        self._hook = register_module_forward_hook(lambda module, *_: modules.update({id(module): module}))

    def __enter__(self) -> Scoring:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._hook.remove()
        if kind is None:
            self.close()

    def close(self) -> None:
        """Write the scores, which the end of a `with` block does."""
        self._hook.remove()
        data, sums = (torch.cat(parts).cpu() if parts else None for parts in (self._data, self._sums))
        notes = {"finite": self._finite, "bounded": self._bounded}
        self._trial._write_scores(
            self._split, "logits", self._names, data=data, sums=sums, network=self._network, **notes
        )

    @torch.no_grad()
    def add(self, logits: Tensor, target: Tensor, names: Any) -> None:
        """Count a batch; logits and target as for the loss, of whole images.

        Args:
            logits: (N, C, H, W).
            target: (N, H, W) or (N, 1, H, W).
            names: of the N images; the same for the same image in every training. Parts of one image have one name.
        """
        names = [names] if isinstance(names, (str, bytes, int, os.PathLike)) else list(names)
        if len(names) != len(logits):
            self._trial._refuse(f"each image needs a name, got {len(names)} names for {len(logits)} images")
        if not self._names:
            self._hook.remove()
            self._network = _identify_network(self._modules.values())
        z, labels = self._trial._prepare(logits, target, at_once=True)
        k = len(self._trial.classes)
        self._finite &= bool(z.isfinite().all())
        self._bounded = self._bounded and _is_bounded(logits)
        z = torch.nan_to_num(z.float())
        self._names += [str(name.item() if torch.is_tensor(name) else name) for name in names]
        is_labelled = labels != IGNORE
        is_labelled = is_labelled if self._trial.overlap else is_labelled.unsqueeze(1)
        self._sums.append(torch.where(is_labelled, z.abs(), 0.0).sum((1, 2, 3)).double().cpu())
        if self._trial.overlap:
            each = [_count_bins(z[:, c : c + 1], labels[:, c]) for c in range(k)]
            self._data.append(torch.stack(each, 1))
        else:
            self._data.append(
                _count_bins(z, labels) if k == 2 else _count_at_taus(z, labels, self._trial._log_prior(z.device))
            )


def _widen(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _identify_network(modules: Iterable[torch.nn.Module]) -> str:
    """Return a checksum of the weights of modules, the same after they were restored; "" without weights."""
    weights = {id(weight): weight for module in modules for weight in module.parameters()}.values()
    trained = [weight for weight in weights if weight.requires_grad] or weights
    sums = sorted(float(weight.detach().sum(dtype=torch.float64)) for weight in trained)
    return hashlib.sha256(repr(sums).encode()).hexdigest()[:16] if sums else ""


def settle_labels(target: Tensor, classes: int, ignore_index: int, error: type[Exception] = ValueError) -> Tensor:
    """Return labels as int64, and refuse values that are no class: on a GPU one call later, as nothing waits for it.

    Where nothing can be read, as in a compiled or recorded step, such pixels do not count.

    Raises:
        error: if a value is no class.
    """
    labels = target.long()
    given = target if target.is_floating_point() else labels
    wrong = (labels.clamp(0, classes - 1) != given) & (given != ignore_index)
    for low, high in read_ends(torch.where(wrong, given, 0)):
        value = low or high
        if value:
            way = (
                "labels between classes, as of mixing, smoothing or several annotators, cannot be used; train without"
                if value % 1
                else f"give ignore_index={value:g} if it marks pixels that do not count, else number the classes from "
                "0, as (target > 0).long() does for a mask of 0 and 255"
            )
            rule = f"target must be class labels 0 to {classes - 1}, or {ignore_index} for pixels that do not count"
            raise error(f"{rule}, got {value:g}; {way}")
    return torch.where(wrong, ignore_index, labels)


def read_ends(values: Tensor) -> list[list[float]]:
    """Return minimum and maximum on a processor; on a GPU those of earlier calls that have arrived."""
    if torch.compiler.is_compiling() or not values.numel():
        return []
    ends = torch.stack(torch.aminmax(values))
    if ends.device.type == "cpu":
        return [ends.tolist()]
    arrived = list[list[float]]()
    if values.is_cuda and not torch.cuda.is_current_stream_capturing():
        copy = ends.to("cpu", non_blocking=True)
        SENT.append((torch.cuda.current_stream(values.device).record_event(), copy))
        while SENT and SENT[0][0].query():  # type: ignore[no-untyped-call]
            arrived.append(SENT.pop(0)[1].tolist())
    return arrived


def _is_bounded(logits: Tensor) -> bool:
    """Return whether all lie within 0 and 1, as after a sigmoid or softmax."""
    return bool(((logits >= 0) & (logits <= 1)).all())


def _count_bins(z: Tensor, labels: Tensor) -> Tensor:
    """Count the pixels of each image by true class and bin of the logit, (N, 2, BINS)."""
    bins = ((z[:, 0] + LOGIT_RANGE) * (BINS / (2 * LOGIT_RANGE))).floor().clamp(0, BINS - 1).long()
    return _count_cells(labels * BINS + bins, labels != IGNORE, 2 * BINS).view(-1, 2, BINS)


def _count_at_taus(z: Tensor, labels: Tensor, log_prior: Tensor) -> Tensor:
    """Return true positives, false positives and false negatives of each image, τ and class, (N, T, C, 3)."""
    k, is_labelled, rows = z.shape[1], labels != IGNORE, []
    labelled, z = _count_cells(labels, is_labelled, k), z.movedim(1, -1).contiguous()  # on a processor twice as fast
    for tau in TAUS:
        answer = (z - tau * log_prior).argmax(-1)
        hit = _count_cells(answer, is_labelled & (answer == labels), k)
        rows.append(torch.stack([hit, _count_cells(answer, is_labelled, k) - hit, labelled - hit], -1))
    return torch.stack(rows, 1)


def _count_cells(cells: Tensor, kept: Tensor, size: int) -> Tensor:
    """Count how often each of `size` cells occurs in each image, (N, size)."""
    flat = torch.where(kept, cells, size).flatten(1)
    return torch.zeros(len(flat), size + 1, dtype=torch.int64, device=flat.device).scatter_add_(
        1, flat, torch.ones_like(flat)
    )[:, :size]


def _compute_cross_entropy(z: Tensor, labels: Tensor) -> Tensor:
    """Compute plain cross-entropy over the pixels that count."""
    is_labelled = labels != IGNORE
    if z.shape == labels.shape:
        loss = F.binary_cross_entropy_with_logits(z, (labels == 1).to(z.dtype), reduction="none")
        return torch.where(is_labelled, loss, 0.0).sum() / is_labelled.sum().clamp(min=1)
    if z.shape[1] == 1:
        loss = F.binary_cross_entropy_with_logits(z[:, 0], (labels == 1).to(z.dtype), reduction="none")
        return torch.where(is_labelled, loss, 0.0).sum() / is_labelled.sum().clamp(min=1)
    return F.cross_entropy(z, labels, ignore_index=IGNORE, reduction="sum") / is_labelled.sum().clamp(min=1)


def _format_scores(what: str, data: Tensor, classes: list[str]) -> str:
    """Return scores in words."""
    if what in ("score", "number"):
        return f"{float(data.mean()):.4f}"
    total = data.sum(0)
    if what == "logits" and total.dim() == 3 and total.shape[-1] == BINS:
        low, high = total[..., : BINS // 2].sum(-1), total[..., BINS // 2 :].sum(-1)
        total = torch.stack([high[:, 1], high[:, 0], low[:, 1]], -1)
    elif what == "logits" and len(classes) == 2:
        (tn, fp), (fn, tp) = ((row[: BINS // 2].sum(), row[BINS // 2 :].sum()) for row in total)
        total = torch.tensor([[tn, fn, fp], [tp, fp, fn]])
    elif what == "logits":
        total = total[TAUS.index(0.0)]
    iou = {n: float(r[0] / r.sum()) for n, r in zip(classes, total, strict=True) if r[0] + r[2] > 0}
    each = ", ".join(f"{name} {value:.4f}" for name, value in iou.items())
    return f"mIoU {sum(iou.values()) / max(1, len(iou)):.4f}: {each}"


def _find_own_runs() -> dict[str, str]:
    """Return the run that the script itself writes to, in MLflow or Weights & Biases, if it uses them."""
    runs, modules = {}, sys.modules
    try:
        if "mlflow" in modules and (run := modules["mlflow"].active_run()) is not None:
            runs["mlflow"] = str(run.info.run_id)
        if "wandb" in modules and (run := getattr(modules["wandb"], "run", None)) is not None:
            runs["wandb"] = str(run.path)
    except Exception as error:  # a note for the reader, which must not end a training
        print(f"sweeper_trial: the script's own run is not noted: {error}", file=sys.stderr)
    return runs


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _get_rank() -> int:
    return torch.distributed.get_rank() if _is_distributed() else int(os.environ.get("RANK") or 0)


def _get_world_size() -> int:
    return torch.distributed.get_world_size() if _is_distributed() else int(os.environ.get("WORLD_SIZE") or 1)


def _share_first_rank(value: bool) -> bool:
    """Return the first rank's value, on every rank."""
    box = [value]
    if _is_distributed():
        torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def _get_bytes(tensor: Tensor) -> bytes:
    tensor = tensor.detach().cpu().contiguous()
    return ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size())


def _encode_npy(value: Any) -> bytes:
    """Return names, or a tensor of int64 or float64, as a file of NumPy's."""
    if isinstance(value, list):
        width = max(1, *map(len, value))
        kind, shape = f"<U{width}", (len(value),)
        raw = b"".join(name.encode("utf-32-le", "replace").ljust(4 * width, b"\0") for name in value)
    else:
        kind = "<f8" if value.dtype == torch.float64 else "<i8"
        shape, raw = tuple(value.shape), _get_bytes(value)
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    out = io.BytesIO()
    out.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode("latin-1") + raw)
    return out.getvalue()
