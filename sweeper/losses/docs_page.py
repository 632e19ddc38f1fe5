"""docs/losses.md, made from the registry:  python -m sweeper.losses.docs_page > docs/losses.md

A test compares the committed file with `document()`. No torch.
"""

from __future__ import annotations

import re

from sweeper.core.records import Coordinate, Task
from sweeper.losses.accepted_values import CROSS_ENTROPY_OPTIONS, FLAGS, OVERLAP_OPTIONS, Limits
from sweeper.losses.coming_from_elsewhere import section
from sweeper.losses.families import FAMILIES, LIMITS, MEANINGS, Family, LossCoordinate
from sweeper.losses.family_records import MapKind

MAP_WORDS: dict[MapKind, str] = {
    "distance": "signed distances to the class boundaries",
    "sizes": "the pixels of the instance that each pixel belongs to, shaped as the target",
    "instances": "the number of that instance in its image (0 = none), shaped as the target",
    "skeleton": "nonzero on the widened skeleton of the pixel's class, shaped as the target",
}
TASK_WORDS: dict[Task, str] = {"binary": "binary", "multiclass": "multi-class"}

HEAD = """# Losses

<!-- Made by `python -m sweeper.losses.docs_page > docs/losses.md`; a test compares. Edit the registry instead. -->

```python
from sweeper.losses import build_loss

criterion = build_loss("dice_focal", task="binary", mix=0.4, gamma=2.0)
loss = criterion(logits, target)
```

A plain `torch.nn.Module` without parameters: it works in any training loop, under autocast, and pickles. `sweeper
losses` lists the families; `sweeper losses --certify` tries on your machine what a machine can get wrong: equalities
that hold to the last digits, slopes, ignored pixels, extreme inputs, precision, layouts of memory. Which of them won
on five kinds of scenes, and why the default spaces are what they are: [losses-measured.md](losses-measured.md).

Contents: [conventions](#conventions) · [symbols](#symbols) · [hyper-parameters](#hyper-parameters) ·
[options](#options) · [families](#families) · [coming from elsewhere](#coming-from-elsewhere) ·
[traps of the libraries](#traps-of-the-libraries)

## Conventions

Most families are points of one kernel,

```
L = λ · CE(γ, α | w) + (1 − λ) · mean_c (1 − TI_c(a, b))^κ
```

the others (*relatives*) have a formula of their own and keep the same conventions:

| task | logits | target |
|---|---|---|
| binary | (N, 1, H, W) | (N, H, W), 0, 1 or ignore |
| multi-class | (N, C, H, W), C ≥ 2 | (N, H, W), 0 … C − 1 or ignore |

- Logits are numbers before any sigmoid or softmax. Multi-class probabilities come from the softmax, in every family.
- The cross-entropy part is summed over labelled pixels and divided by *their number*, never by the sum of weights.
- The overlap part is taken over the whole batch, of the foreground (binary) or averaged over all classes, with one
  pixel added above and below the line.
- A class without a pixel in the batch contributes the mean of its probability in place of 1 − TI: false positives cost
  something there. The relatives have a policy of their own with the same effect.
- Ignored pixels (255 unless told otherwise) change neither value nor gradient, whatever stands there. A batch without
  any label has value 0 and gradient 0.
- Maps of the labels (distances, instances and their sizes, skeletons) are computed once for each image in a sweep, kept
  with the data, and cut and flipped with it. A loss that is called without its map makes it from the target, on the
  processor, at each call.
- Derivatives of any order, in any layout of memory, and under `torch.func` (`vmap`, `grad`, `hessian`, `jvp`).
- Computed in at least float32, whatever the autocast; float64 stays. Finite for logits up to ±1e4, and a NaN shows.

## Symbols

| symbol | meaning |
|---|---|
| p_t | probability of the pixel's own class |
| TP_c, FP_c, FN_c | soft counts of class c over the labelled pixels: Σ p y, Σ p (1 − y), Σ (1 − p) y |
| TI_c(a, b) | Tversky index (TP_c + 1) / (TP_c + a FP_c + b FN_c + 1); Dice at (½, ½), Jaccard at (1, 1) |
| λ, γ, α, w | `mix`, `gamma`, `alpha`, the weights of the classes |
| a, b, κ | `fp_weight`, `fn_weight`, `overlap_exponent` |
"""

TRAPS_HEAD = """## Traps of the libraries

What segmentation-models-pytorch 0.6.0 (smp), MONAI 1.6.1 and kornia 0.9.0 do, as tests/losses/test_traps.py shows on
the installed versions, and what ours does instead.

| library | what happens | here |
|---|---|---|
"""
TRAPS = (
    (
        "smp `SoftCrossEntropyLoss()`",
        "Fails with its own defaults: `smooth_factor=None` is calculated with (#372).",
        "`label_smoothing` is 0 unless given.",
    ),
    (
        "smp `SoftCrossEntropyLoss`",
        "The mean counts ignored pixels: half of them ignored, half the loss.",
        "Divides by the labelled pixels.",
    ),
    (
        "smp `FocalLoss`, multi-class",
        "A sigmoid for each class, though the answer is read from a softmax (#671).",
        "−α_t (1 − p_t)^γ log p_t with p from the softmax.",
    ),
    (
        "smp `FocalLoss`, multi-class",
        "One scalar α weighs every class against the rest, the common ones too (#808).",
        "α for all but the commonest class, 1 − α for that; or one number for each class.",
    ),
    ("smp `FocalLoss`", "NaN on a fully ignored batch.", "Value 0, gradient 0."),
    (
        "smp `FocalLoss`",
        '`reduction="none"` has lost the pixels: one number for multi-class, a flat list for binary with ignore.',
        "One number, the mean over the labelled pixels.",
    ),
    (
        "smp `TverskyLoss(gamma=…)`",
        "The exponent acts on the mean over classes (#734).",
        "The exponent acts on each class.",
    ),
    (
        "smp `TverskyLoss(gamma=…)`",
        "Below 1 the gradient is NaN on a batch without foreground.",
        "The slope is bounded.",
    ),
    (
        "smp `DiceLoss`, `JaccardLoss`, `TverskyLoss`",
        "A class absent from the batch has loss 0 and gradient 0, however much of it is predicted.",
        "Its mean probability over the labelled pixels.",
    ),
    ("smp `DiceLoss` in float16", "NaN at 512²: the sums leave float16's range.", "At least float32 inside."),
    (
        "smp `DiceLoss`, MONAI `DiceLoss`, `TverskyLoss`",
        "Ignored pixels are multiplied by 0, so that a NaN under ignore becomes a NaN everywhere.",
        "What stands under ignore is replaced before anything else.",
    ),
    (
        "smp `LovaszLoss`, kornia `TverskyLoss`",
        "Classes absent from the batch are left out of the mean: which wrong class is predicted makes no difference.",
        "False positives of absent classes cost.",
    ),
    (
        "MONAI `AsymmetricUnifiedFocalLoss`",
        "Documented to take logits, it clamps them to (0, 1) in place of a sigmoid: no gradient outside.",
        "Takes logits.",
    ),
    (
        "MONAI `AsymmetricUnifiedFocalLoss`",
        "The pixel part is a mean over pixels and classes: half of the paper's, so that λ means another mix.",
        "The paper's.",
    ),
    (
        "MONAI `BoundaryLoss`",
        "Without foreground in an image, value and gradient are 0.",
        "An absent class is as far away as can be.",
    ),
    (
        "MONAI `FocalLoss(use_softmax=True)`, kornia `FocalLoss`",
        "The mean divides by the number of classes as well; kornia's counts ignored pixels too.",
        "Divides by the labelled pixels.",
    ),
    (
        "kornia `LovaszHingeLoss`",
        "Has no ignore: a label of 255 is calculated with.",
        "Ignored pixels change nothing.",
    ),
)
"""Library, what happens there, what happens here: a row of the table each, and a test of tests/losses/test_traps.py."""


def document() -> str:
    """The whole page, in markdown, ending with a line break."""
    families = "\n".join(_section(family) for family in FAMILIES.values())
    traps = TRAPS_HEAD + "".join(f"| {' | '.join(row)} |\n" for row in TRAPS)
    return "\n".join([HEAD, _coordinates(), _options(), f"## Families\n\n{_overview()}\n{families}", section(), traps])


def _coordinates() -> str:
    used = {name for family in FAMILIES.values() for task in family.tasks for name in family.coordinates[task]}
    rows = [f"| `{name}` | {_cell(MEANINGS[name])} | {_limits(name)} |" for name in MEANINGS if name in used]
    return "\n".join(["## Hyper-parameters\n", "| name | meaning | may be |", "|---|---|---|", *rows, ""])


def _options() -> str:
    parts = (("cross-entropy", CROSS_ENTROPY_OPTIONS), ("overlap", OVERLAP_OPTIONS))
    rows = [
        f"| `{name}` | {_cell(MEANINGS[name])} | {_limits(name)} | {part} |" for part, names in parts for name in names
    ]
    return "\n".join(
        [
            "## Options\n",
            "What `build_loss` takes beside a family's own hyper-parameters, where the family is a point of the kernel",
            "and has the part. The shipped spaces leave them alone.\n",
            "| name | meaning | may be | part |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _overview() -> str:
    rows = [
        f"| [{f.name}](#{f.name}) | {'relative' if f.relative else 'kernel'} | `{_cell(f.formula)}` |"
        for f in FAMILIES.values()
    ]
    return "\n".join(
        [
            "Simplest first, which is the order that settles ties.\n",
            "| family | kind | formula |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _section(family: Family) -> str:
    lines = [f"### {family.name}\n", f"**{family.title}.** {family.helps} *{family.caveat}*\n"]
    lines += ["```", family.formula, "```\n"]
    rows = _rows(family)
    if rows:
        lines += [
            "| hyper-parameter | task | searched | first tried | unless given |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    else:
        lines += ["No hyper-parameters.\n"]
    extra = []
    if family.needs_map:
        extra.append(f"Takes `loss(logits, target, {family.needs_map}=…)`, {MAP_WORDS[family.needs_map]}.")
    lines += [" ".join([f"Source: {_linked(family.source)}.", *extra]), ""]
    return "\n".join(lines)


def _rows(family: Family) -> list[str]:
    """One row for each coordinate; tasks that agree share one."""
    tasks: dict[tuple[str, str, str, str], list[str]] = {}
    for task in family.tasks:
        for name, free in family.coordinates[task].items():
            tasks.setdefault((name, *_cells(name, free)), []).append(TASK_WORDS[task])
    return [
        f"| `{name}` | {'all' if len(where) == len(family.tasks) else ', '.join(where)} "
        f"| {searched} | {start} | {default} |"
        for (name, searched, start, default), where in tasks.items()
    ]


def _cells(name: str, free: LossCoordinate) -> tuple[str, str, str]:
    unless = {"alpha": "off", "fp_weight": "1 − fn_weight"}.get(name, "must be given")
    default = unless if free.default is None else f"{free.default:g}"
    if free.search is None:
        return "no", "–" if free.start is None else f"{free.start:g}", default
    power = free.search.kind == "power_of_imbalance"
    start = "–" if free.start is None else f"imbalance^{free.start:g}" if power else f"{free.start:g}"
    return _range(free.search), start, default


def _range(search: Coordinate) -> str:
    ends = f"{search.low:g} … {search.high:g}"
    if search.kind == "power_of_imbalance":
        return f"imbalance^({ends})"
    return f"{ends}, logarithmic" if search.kind == "log" else ends


def _limits(name: str) -> str:
    if name in FLAGS:
        return "true, false"
    limits: Limits = LIMITS[name]
    return f"{'(' if limits.open_low else '['}{limits.low:g}, {limits.high:g}{')' if limits.open_high else ']'}"


def _linked(source: str) -> str:
    """arXiv numbers and DOIs as links."""
    source = re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", source)
    return re.sub(r"doi:(\S+?)(?=[.,;)]?(?:\s|$))", r"[doi:\1](https://doi.org/\1)", source)


def _cell(text: str) -> str:
    """A vertical bar would end a cell."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(document(), end="")
