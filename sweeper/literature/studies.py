"""Published comparisons of losses, as a table.

A figure stands here only where it was read in the place that `seen` names; what is known but was not read there is
left out, and the study says "not quoted". Loss names are those of the registry (`sweeper.losses.FAMILIES`), given to
what the study calls otherwise where the formula is of that family; losses without a counterpart are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.records import Task


class Figures(Record):
    """One data set (or network) of a study: the value of each loss, higher being better."""

    name: str
    values: dict[str, float]
    """Family → value, in the study's own measure."""


class Study(Record):
    """One publication or benchmark."""

    key: str
    title: str
    source: str
    """With arXiv:… or doi:… where there is one."""
    seen: str
    """Where its statements and figures were read."""
    compared: str
    tasks: tuple[Task, ...]
    """Kinds of segmentation tasks; () where it is about something else."""
    volumes: bool
    """Three-dimensional images."""
    share: tuple[float, float] | None = None
    """Least and largest share of foreground pixels in its data, 0–1; None where not stated where it was read."""
    thin: bool | None = None
    """Whether its objects are thin structures; None where of several kinds, or not stated."""
    measure: str
    figures: tuple[Figures, ...] = ()
    claims: tuple[tuple[str, str], ...] = Field((), description="(better, worse) families, where no figures are quoted")
    """What it states in words alone: (better, worse)."""
    result: str
    """In a sentence or two; numbers only where they were read."""

    @property
    def families(self) -> frozenset[str]:
        """Losses of the registry that it says something about."""
        told = {family for figures in self.figures for family in figures.values}
        return frozenset(told | {family for pair in self.claims for family in pair})


Direction = Literal["better", "worse", "mixed"]

UNANIMOUS = 0.75
"""A study has a direction where at least this share of its data sets point the same way."""


class Published(Record):
    """What a study says of one loss against another."""

    direction: Direction
    gain: float | None = None
    """Mean difference in the study's measure; None without figures."""
    agreeing: int = 0
    """Data sets on which the first is better…"""
    of: int = 0
    """…of so many."""


def published(study: Study, first: str, second: str) -> Published | None:
    """What `study` says of loss `first` against `second`; None where it does not compare them."""
    gaps = [f.values[first] - f.values[second] for f in study.figures if first in f.values and second in f.values]
    if gaps:
        ahead, behind = sum(g > 0 for g in gaps), sum(g < 0 for g in gaps)
        mean = sum(gaps) / len(gaps)
        direction: Direction = "mixed"
        if mean > 0 and ahead >= UNANIMOUS * len(gaps):
            direction = "better"
        elif mean < 0 and behind >= UNANIMOUS * len(gaps):
            direction = "worse"
        return Published(direction=direction, gain=mean, agreeing=ahead, of=len(gaps))
    if (first, second) in study.claims:
        return Published(direction="better")
    if (second, first) in study.claims:
        return Published(direction="worse")
    return None


def _rows(names: Sequence[str], table: dict[str, Sequence[float]]) -> tuple[Figures, ...]:
    """A table with a row for each loss and a column for each name."""
    return tuple(Figures(name=n, values={loss: row[i] for loss, row in table.items()}) for i, n in enumerate(names))


_SEGLOSS = "https://github.com/JunMa11/SegLossOdyssey, test/README.md"
_MMSEG = "https://github.com/open-mmlab/mmsegmentation, configs/unet/README.md"

STUDIES: tuple[Study, ...] = (
    Study(
        key="ma2021",
        title="Ma et al. 2021, Loss odyssey in medical image segmentation",
        source="Medical Image Analysis 71, 102035, doi:10.1016/j.media.2021.102035",
        seen=f"the authors' table of results in {_SEGLOSS}",
        compared="20 losses (14 with a counterpart here) with nnU-Net on liver, liver tumour, pancreas and several "
        "organs in CT",
        tasks=("binary", "multiclass"),
        volumes=True,
        measure="Dice (mean)",
        figures=_rows(
            ("liver", "liver tumour", "pancreas", "organs"),
            {
                "cross_entropy": (0.9672, 0.5641, 0.8221, 0.8483),
                "dice": (0.9547, 0.6187, 0.8362, 0.8449),
                "boundary": (0.9629, 0.6262, 0.8397, 0.8450),
                "dice_ce": (0.9624, 0.6009, 0.8249, 0.8512),
                "dice_focal": (0.9566, 0.5951, 0.8416, 0.8554),
                "dice_topk": (0.9690, 0.6125, 0.8375, 0.8512),
                "focal": (0.9587, 0.4675, 0.8016, 0.8173),
                "focal_tversky": (0.9320, 0.6193, 0.8229, 0.7497),
                "generalized_dice": (0.9474, 0.5486, 0.8285, 0.0132),
                "jaccard": (0.9568, 0.6079, 0.8353, 0.8439),
                "lovasz": (0.9294, 0.6083, 0.8309, 0.6568),
                "topk_ce": (0.6924, 0.5995, 0.8406, 0.8527),
                "tversky": (0.9390, 0.6120, 0.8260, 0.8371),
                "weighted_ce": (0.8284, 0.2697, 0.4744, 0.6904),
            },
        ),
        result="No loss is best on all four; compound losses with Dice (Dice + top-k, focal, Hausdorff or boundary) "
        "are "
        "the most robust, above all where the imbalance is high.",
    ),
    Study(
        key="segloss_v2",
        title="Ma, rerun of six losses with nnU-Net v2",
        source="https://github.com/JunMa11/SegLossOdyssey",
        seen=f"the second table in {_SEGLOSS}",
        compared="cross-entropy, Dice, top-k and three sums of them, with deep supervision and SGD",
        tasks=("binary", "multiclass"),
        volumes=True,
        measure="Dice (mean)",
        figures=_rows(
            ("liver tumour", "pancreas", "organs"),
            {
                "cross_entropy": (0.6415, 0.8338, 0.8570),
                "dice": (0.6200, 0.8399, 0.8577),
                "dice_ce": (0.6185, 0.8410, 0.8626),
                "dice_focal": (0.6303, 0.8401, 0.8631),
                "dice_topk": (0.6691, 0.8387, 0.8636),
                "topk_ce": (0.6512, 0.8383, 0.8560),
            },
        ),
        result="Another trainer, another ranking: Dice + top-k leads on two of three, and Dice + cross-entropy falls "
        "behind cross-entropy on liver tumours.",
    ),
    Study(
        key="mmseg_vessels",
        title="MMSegmentation's U-Nets on retinal vessels (DRIVE, STARE, CHASE_DB1, HRF)",
        source="https://github.com/open-mmlab/mmsegmentation/tree/main/configs/unet",
        seen=_MMSEG,
        compared="cross-entropy against cross-entropy + 3 · Dice, three heads on each of four data sets, one training "
        "each",
        tasks=("binary",),
        volumes=False,
        thin=True,
        measure="vessel Dice",
        figures=_rows(
            (
                *(f"DRIVE, {head}" for head in ("FCN", "PSPNet", "DeepLabV3")),
                *(f"STARE, {head}" for head in ("FCN", "PSPNet", "DeepLabV3")),
                *(f"CHASE_DB1, {head}" for head in ("FCN", "PSPNet", "DeepLabV3")),
                *(f"HRF, {head}" for head in ("FCN", "PSPNet", "DeepLabV3")),
            ),
            {
                "cross_entropy": (
                    *(0.7867, 0.7862, 0.7869),
                    *(0.8102, 0.8122, 0.8093),
                    *(0.8024, 0.8036, 0.8047),
                    *(0.7945, 0.8007, 0.8021),
                ),
                "dice_ce": (
                    *(0.7932, 0.7942, 0.7956),
                    *(0.8270, 0.8284, 0.8271),
                    *(0.8040, 0.8028, 0.8037),
                    *(0.8087, 0.8096, 0.8071),
                ),
            },
        ),
        result="The sum is ahead on DRIVE, STARE and HRF, by 0.005 to 0.018, and level on CHASE_DB1 (ahead once, "
        "behind "
        "twice, by at most 0.002).",
    ),
    Study(
        key="isensee2021",
        title="Isensee et al. 2021, nnU-Net",
        source="Nature Methods 18, 203–211, arXiv:1809.10486, arXiv:1904.08128",
        seen="the abstracts, and the loss implementations of nnU-Net v2 (Dice, cross-entropy, top-k and their sums)",
        compared="no comparison of losses that was read here: Dice + cross-entropy is the fixed choice for all tasks",
        tasks=("binary", "multiclass"),
        volumes=True,
        measure="Dice",
        result="With Dice + cross-entropy throughout it surpasses most specialised pipelines in 19 public "
        "competitions. "
        "Its ablations, Dice + top-k among them, are not quoted.",
    ),
    Study(
        key="lin2017",
        title="Lin et al. 2017, Focal loss for dense object detection",
        source="ICCV 2017, arXiv:1708.02002",
        seen="summaries of the paper",
        compared="focal loss against (balanced) cross-entropy in a one-stage detector",
        tasks=(),
        volumes=False,
        measure="AP on COCO",
        result="γ = 2 with α = 0.25 is recommended, for some 1 : 1000 foreground to background; RetinaNet reads 39.1 "
        "AP. "
        "Detection: it says nothing of segmentation. The ablation against cross-entropy is not quoted.",
    ),
    Study(
        key="salehi2017",
        title="Salehi et al. 2017, Tversky loss",
        source="MLMI 2017, arXiv:1706.05721",
        seen="the abstract and the introduction",
        compared="Tversky losses that weigh misses more against the Dice loss, multiple sclerosis lesions in MR",
        tasks=("binary",),
        volumes=True,
        share=(0.0, 0.002),
        measure="F2, Dice, area under the precision–recall curve",
        claims=(("tversky", "dice"),),
        result="Better F2, Dice and area under the curve, at typically more than 500 voxels of background to one of a "
        "lesion. Figures not quoted.",
    ),
    Study(
        key="abraham2019",
        title="Abraham & Khan 2019, Focal Tversky loss",
        source="ISBI 2019, arXiv:1810.07842",
        seen="the abstract and the benchmark entries of the paper",
        compared="focal Tversky against Dice, breast ultrasound (BUS 2017) and skin lesions (ISIC 2018)",
        tasks=("binary",),
        volumes=False,
        share=(0.0484, 0.214),
        thin=False,
        measure="Dice",
        claims=(("focal_tversky", "dice"),),
        result="A better balance of precision and recall than with Dice, where lesions take 4.84 % and 21.4 % of the "
        "area. "
        "U-Net with focal Tversky reads 0.669 and 0.829, attention U-Net with Dice 0.615 and 0.806: another network, "
        "so "
        "that the difference is not the loss's alone.",
    ),
    Study(
        key="yeung2022",
        title="Yeung et al. 2022, Unified focal loss",
        source="Computerized Medical Imaging and Graphics 95, 102026, arXiv:2102.04525",
        seen="the abstract; that cross-entropy and Dice are among the six is known from the paper, and was not read "
        "again",
        compared="unified focal loss against six losses based on Dice or cross-entropy, five data sets in 2D and 3D",
        tasks=("binary", "multiclass"),
        volumes=False,
        measure="Dice, IoU",
        claims=(("unified_focal", "cross_entropy"), ("unified_focal", "dice")),
        result="It consistently outperforms the others on CVC-ClinicDB, DRIVE, BUS2017, BraTS20 and KiTS19. Figures "
        "not "
        "quoted.",
    ),
    Study(
        key="berman2018",
        title="Berman et al. 2018, Lovász-Softmax",
        source="CVPR 2018, arXiv:1705.08790",
        seen="the abstract and the benchmark entries of the paper",
        compared="Lovász-Softmax against cross-entropy, Pascal VOC and Cityscapes",
        tasks=("multiclass",),
        volumes=False,
        measure="mIoU",
        claims=(("lovasz", "cross_entropy"),),
        result="Better with respect to the Jaccard index than cross-entropy: DeepLab-v2 79.0 % on Pascal VOC, ENet "
        "63.06 % "
        "on Cityscapes with it. The values of cross-entropy are not quoted.",
    ),
    Study(
        key="sudre2017",
        title="Sudre et al. 2017, Generalised Dice",
        source="DLMIA 2017, arXiv:1707.03237",
        seen="the abstract and a summary",
        compared="weighted cross-entropy, Dice, sensitivity–specificity and generalised Dice, at several learning "
        "rates",
        tasks=("binary",),
        volumes=True,
        measure="Dice",
        result="Generalised Dice is proposed as robust and accurate for unbalanced tasks; no direction against a "
        "single "
        "loss was read. Figures not quoted.",
    ),
    Study(
        key="kervadec2019",
        title="Kervadec et al. 2019, Boundary loss",
        source="MIDL 2019, arXiv:1812.07032",
        seen="the abstract",
        compared="generalised Dice with and without the boundary loss, stroke lesions and white matter "
        "hyperintensities",
        tasks=("binary",),
        volumes=True,
        measure="Dice, Hausdorff distance",
        claims=(("boundary", "generalized_dice"),),
        result="Significant gains, and steadier training, on highly unbalanced problems. Figures not quoted.",
    ),
    Study(
        key="shit2021",
        title="Shit et al. 2021, clDice",
        source="CVPR 2021, arXiv:2003.07311",
        seen="the abstract",
        compared="soft clDice (with Dice) against Dice, five data sets of vessels, roads and neurons",
        tasks=("binary",),
        volumes=False,
        thin=True,
        measure="clDice, graph similarity, Dice",
        claims=(("soft_cldice", "dice"),),
        result="More accurate connectivity, higher graph similarity and better volumetric scores. Figures not quoted.",
    ),
    Study(
        key="bertels2019",
        title="Bertels et al. 2019, Optimizing the Dice score and Jaccard index",
        source="MICCAI 2019, arXiv:1911.01685",
        seen="the abstract",
        compared="soft Dice, soft Jaccard and Lovász against (weighted) cross-entropy, five medical tasks",
        tasks=("binary",),
        volumes=False,
        measure="Dice, Jaccard",
        claims=tuple((a, b) for a in ("dice", "jaccard", "lovasz") for b in ("cross_entropy", "weighted_ce")),
        result="Surrogates of the metric beat cross-entropy, weighted or not; which surrogate makes no statistical "
        "difference. No weight makes cross-entropy approximate Dice. Figures not quoted.",
    ),
    Study(
        key="eelbode2020",
        title="Eelbode et al. 2020, Optimization for medical image segmentation",
        source="IEEE Transactions on Medical Imaging 39, arXiv:2010.13499",
        seen="the abstract",
        compared="the same on six tasks, multi-class too, with Tversky losses",
        tasks=("binary", "multiclass"),
        volumes=False,
        measure="Dice, Jaccard",
        claims=tuple((a, b) for a in ("dice", "jaccard", "lovasz") for b in ("cross_entropy", "weighted_ce")),
        result="Losses that approximate the metric are superior across object sizes and ratios of foreground to "
        "background; "
        "Tversky approximates it worse the farther its weights are from Dice's. Figures not quoted.",
    ),
    Study(
        key="cabezas2024",
        title="Cabezas & Diez 2024, Loss functions for heavily imbalanced lesion segmentation",
        source="Sensors 24, 1981, doi:10.3390/s24061981",
        seen="the abstract",
        compared="common losses for brain lesions with a 3D U-Net, initial weights and order varied",
        tasks=("binary",),
        volumes=True,
        share=(0.0, 0.05),
        measure="Dice, true positives",
        result="Where lesions take less than 5 % of the volume, weighted losses perform alike on average; weighing the "
        "foreground heavily finds more of it. No direction between two losses was read.",
    ),
)
