"""Families of Dice's kind beside the kernel; no torch.

Part of the registry (`sweeper.losses.families`), which puts them in their place.
"""

from __future__ import annotations

from sweeper.losses.accepted_values import Limits
from sweeper.losses.family_records import Family, LossCoordinate, Reduction, everywhere, uniform

OVERLAP_FAMILIES = (
    Family(
        name="log_dice",
        title="−log Dice",
        fixed={},
        coordinates=everywhere(),
        helps="As Dice, ever steeper the worse a class does: what is hardly found yet pulls most.",
        caveat="A class that cannot be learned takes over the gradient of the others.",
        source="Wong et al. 2018, arXiv:1809.00076 (without exponents)",
        formula="mean_c (−log TI_c(½, ½))",
        relative=True,
        module="log_dice",
    ),
    Family(
        name="robust_dice",
        title="Noise-robust Dice",
        fixed={},
        coordinates=everywhere(
            error_exponent=LossCoordinate(
                search=uniform(1.0, 2.0),
                start=1.5,
                default=1.5,
                limits=Limits(1, 2),
                meaning="e in the errors |p − y|^e of noise-robust Dice; 2 = squared, 1 = absolute",
            )
        ),
        helps="Small foregrounds with wrong labels: between V-Net's Dice and an absolute error, which follows less.",
        caveat="Near 1 slow to begin on a rare class, whose own pixels look like wrong labels.",
        source="Wang et al. 2020, COPLE-Net, doi:10.1109/TMI.2020.3000314",
        formula="mean_c Σ |p_c − y_c|^e / (Σ p_c² + Σ y_c² + 2)",
        relative=True,
        module="noise_robust_dice",
        becomes=(
            Reduction(
                words="e = 2 is Dice with squared errors",
                at={"error_exponent": 2.0},
                other="dice",
                others_at={"squared": True},
            ),
        ),
    ),
    Family(
        name="sens_spec",
        title="Sensitivity–specificity",
        fixed={},
        coordinates=everywhere(
            sensitivity_share=LossCoordinate(
                search=uniform(0.02, 0.9),
                start=0.05,
                default=0.05,
                limits=Limits(0, 1),
                meaning="weight of each class's own pixels as a whole; all others as a whole have 1 − this",
            )
        ),
        helps="Strong imbalance: a class's own pixels and all others count as two wholes, whatever their numbers.",
        caveat="Few false alarms of the many others hardly show: answers come out too large as r grows.",
        source="Brosch et al. 2015, doi:10.1007/978-3-319-24574-4_1",
        formula="mean_c (r · mean_{y = c} (1 − p_c)² + (1 − r) · mean_{y ≠ c} p_c²)",
        relative=True,
        module="sensitivity_specificity",
    ),
    Family(
        name="mcc",
        title="Matthews correlation",
        fixed={},
        coordinates=everywhere(),
        helps="Class and background matter alike: an overlap that sees true negatives, too.",
        caveat="Flat where an answer is unrelated to the labels; noisy when a batch holds few pixels of a class.",
        source="Abhishek & Hamarneh 2021, arXiv:2010.13454",
        formula="mean_c (1 − (TP_c TN_c − FP_c FN_c) / √((TP_c + FP_c)(TP_c + FN_c)(TN_c + FP_c)(TN_c + FN_c)))",
        relative=True,
        module="matthews",
    ),
    Family(
        name="exp_log",
        title="Exponential logarithmic",
        fixed={},
        coordinates=everywhere(
            mix=LossCoordinate(search=uniform(0.0, 1.0), start=0.2, default=0.2),
            log_exponent=LossCoordinate(
                search=uniform(0.3, 2.0),
                start=0.3,
                default=0.3,
                limits=Limits(0, 10, open_low=True),
                meaning="exponent of −log p_t and −log TI_c",
            ),
        ),
        helps="Very small structures among large ones: an exponent below 1 keeps slopes steep to the end.",
        caveat="Below 1 steep near the answer, so that it never settles; two numbers to tune.",
        source="Wong et al. 2018, 3D segmentation with exponential logarithmic loss, arXiv:1809.00076",
        formula="λ · mean (−log p_t)^e + (1 − λ) · mean_c (−log TI_c(½, ½))^e",
        relative=True,
        module="exponential_logarithmic",
        becomes=(
            Reduction(
                words="e = 1 and mix = 1 is cross-entropy", at={"mix": 1.0, "log_exponent": 1.0}, other="cross_entropy"
            ),
            Reduction(words="e = 1 and mix = 0 is −log Dice", at={"mix": 0.0, "log_exponent": 1.0}, other="log_dice"),
        ),
    ),
)
"""From the simplest on."""
