"""What arguments of the common libraries are called here: a table of docs/losses.md. No torch."""

from __future__ import annotations

HEAD = """## Coming from elsewhere

What an argument of segmentation-models-pytorch 0.6 (smp), MONAI 1.6, nnU-Net v2 or MMSegmentation 1 (mmseg) is here.
`sweeper.losses.equivalent(family, params, task)` writes the other way: code for torch, smp or MONAI that computes one
of our losses, or None where no library agrees. A report has it for the loss that it names.

| there | here |
|---|---|
"""

NNUNET = 'build_loss("dice_ce", task="multiclass", mix=0.5, smoothing=5e-6, include_background=False)'
"""nnU-Net's default loss, up to the factor ½ and the constant 1."""
ROWS = (
    ("probabilities, `from_logits=False`, `sigmoid=True`, `softmax=True`", "logits always; the task decides"),
    ('smp `mode="binary"`, `"multiclass"`', '`task="binary"`, `"multiclass"`'),
    ("`ignore_index=-100` (torch), None (smp, MONAI)", "`ignore_index=255` unless given"),
    ("one-hot targets, MONAI `to_onehot_y=True`", "class indices, (N, H, W): `target.argmax(1)`"),
    ('`reduction="mean"` (mmseg: with `avg_non_ignore=True`)', "always: the mean over the labelled pixels"),
    (
        "torch `CrossEntropyLoss(weight=w)`",
        "`class_weights=w`, divided by the number of pixels, not by the weights' sum",
    ),
    ("torch `BCEWithLogitsLoss(pos_weight=w)`", '`build_loss("weighted_ce", task="binary", pos_weight=w)`'),
    ("`label_smoothing`", "the same"),
    ("smp `smooth=s`, MONAI `TverskyLoss(smooth_nr=s, smooth_dr=s)`", "`smoothing=s`"),
    ("MONAI `DiceLoss(smooth_nr=s, smooth_dr=s)`, nnU-Net and mmseg Dice `smooth=s`", "`smoothing=s/2`"),
    ("smp `eps`", "none: divisors are kept off 0, at `smoothing=0`, too"),
    ("MONAI `batch=False`, nnU-Net `batch_dice=False` (its 3D default), mmseg Dice", "`per_image=True`"),
    ("MONAI `include_background=False`, nnU-Net `do_bg=False`", "`include_background=False`; binary has it so"),
    ("MONAI `squared_pred=True`, mmseg `exponent=2`", "`squared=True`"),
    ("MONAI `jaccard=True`", '`build_loss("jaccard", …)`'),
    ("smp `log_loss=True`", '`build_loss("log_dice", …)`, where it is Dice'),
    ("smp, MONAI, mmseg Tversky `alpha=a, beta=b`", "`fp_weight=a, fn_weight=b`"),
    ("smp `TverskyLoss(gamma=g)`", "`overlap_exponent=g`, on each class, not on their mean"),
    ("focal Tversky's `gamma` of its paper", "`overlap_exponent=1/gamma`"),
    (
        "smp, MONAI, torchvision focal `alpha`, `gamma`",
        "the same for two classes; MONAI's softmax form: value × classes",
    ),
    ("MONAI `DiceCELoss(lambda_dice=d, lambda_ce=e)`", "`mix=e/(d + e)`; value × (d + e)"),
    ("MONAI `GeneralizedDiceLoss(w_type=…)`", '`volume_exponent`: "square" 2, "simple" 1, "uniform" 0'),
    (
        "MONAI `SoftDiceclDiceLoss(iter_=3, alpha=s)`",
        "`skeleton_weight=s`; always 3 rounds",
    ),
    (
        "Skeleton Recall's nnU-Net, `weight_srec=w`, other weights 1",
        "`skeleton_recall`, `skeleton_weight` = w / (w + 2)",
    ),
    ("blob loss `main_weight=α`, `blob_weight=β`", "`blob_dice`, `blob_share` = β / (α + β)"),
    ("nnU-Net's default, `DC_and_CE_loss` (2D: `batch_dice=True`)", f"`{NNUNET}`: half of it and ½ more"),
    ("nnU-Net `TopKLoss(k=10)`", '`build_loss("topk_ce", …, hard_fraction=0.1)`'),
    (
        "mmseg `OHEMPixelSampler(thresh=t, min_kept=n)`",
        "`ohem_ce`, `sure_at=t`, `kept_at_least`: n as a share of a batch",
    ),
    ("mmseg `class_weight`", "`class_weights` of the cross-entropy part"),
    (
        "smp `DiceLoss(class_weights=w)`, kornia `dice_loss(weight=w)`, MONAI `DiceLoss(weight=w)`",
        '`build_loss("dice", …, class_weights=w)`: Σ w_c (1 − TI_c) / Σ w_c; MONAI: value × the mean of the weights',
    ),
    ("MONAI `DiceCELoss(weight=w)`", '`build_loss("dice_focal", …, gamma=0, class_weights=w, weigh_overlap=True)`'),
    ("balanced softmax", '`build_loss("logit_adjusted", task="multiclass", tau=1, class_frequencies=…)`'),
    (
        "mmdet, mmseg `SeesawLoss(p, q)`",
        "none: its compensation factor (q) is kept out of the gradient, which then is no function's; `logit_adjusted` "
        "adjusts by frequencies as its mitigation factor (p) does, against rarer classes, too",
    ),
    (
        "Combo loss, CE(α) with weight λ",
        "`dice_ce` of one class: `pos_weight` = α / (1 − α), `mix` = λ (1 − α) / (λ (1 − α) + 1 − λ); another factor",
    ),
)
"""There, here: a row of the table each."""

STATED = """
What the relatives do in place of a setting: `soft_cldice` has 3 rounds of erosion, the authors' default (their later
code runs 10, whatever `iter_` says), so that structures up to some 6 pixels wide become lines; `generalized_dice` and
`unified_focal` count the background in every task, as their papers do; `boundary` takes distances beyond 100 pixels for
100, and a class absent from an image is that far away.
"""


def section() -> str:
    """The section, in markdown, ending with a line break."""
    return HEAD + "".join(f"| {there} | {here} |\n" for there, here in ROWS) + STATED
