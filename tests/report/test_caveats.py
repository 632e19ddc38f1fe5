"""The caveats of an answer are computed from the study, and are listed only where they apply."""

from __future__ import annotations

from typing import Any

from sweeper.core.records import SweepRecord
from sweeper.report.caveats import list_caveats
from sweeper.report.facts import collect_facts
from tests.report.test_markdown import CLEAR, recommend
from tests.support import builders


def write_caveats(
    sweep: SweepRecord | None = None, finalists: dict[str, dict[str, Any]] | None = None, **changes: Any
) -> str:
    evidence = builders.evidence(CLEAR, finalists=finalists, **changes)
    return "\n".join(list_caveats(collect_facts(sweep or builders.sweep(), recommend(evidence))))


def test_caveats_follow_from_the_study() -> None:
    plain = write_caveats()
    for words in (
        "24 test images, fewer than 40",
        "0.01 mIoU, which is about 0.02 foreground IoU",
        "Predicting only background scores 0.490",
        "The images are synthetic",
    ):
        assert words in plain
    assert "counts as a difference is 0.0004 mIoU, which is about 0.0008" in write_caveats(
        builders.sweep(margin=0.0004)
    )
    assert not any(word in plain for word in ("concluded", "edge", "related"))
    recipe = builders.conditions().recipe
    words = f"tuned at {recipe.steps:,} steps and are used at {recipe.confirm_steps:,}. This assumes that the same"
    assert words in plain
    same = builders.conditions(steps=200, confirm_steps=200)
    assert "values suit both" not in write_caveats(builders.sweep(conditions=same))
    assert "concluded 3 times from different confirmations" in write_caveats(builders.sweep(conclusions=3))
    assert "high edge" in write_caveats(finalists={"dice_focal": {"lr": 0.0099}})
    assert "The 24 test images come in 9 groups" in write_caveats(test_groups=9)
    real = write_caveats(builders.sweep(data=builders.dataset(synthetic=False, warnings=("masks of a.png are small",))))
    assert "synthetic" not in real and "The data: masks of a.png are small" in real
    profile = builders.profile()
    row = profile.classes[-1].model_copy(update={"name": "fence", "pixel_share": 0.0})
    absent = write_caveats(builders.sweep(profile=profile.model_copy(update={"classes": (*profile.classes, row)})))
    assert "Classes without a pixel, left out of every mean: fence." in absent and "without a pixel" not in real


def test_a_side_of_the_split_that_lacks_a_class_is_a_caveat() -> None:
    data = builders.dataset()
    images = [
        image.model_copy(update={"split": split, "pixels": (400, 0) if split == "val" else image.pixels})
        for image, split in zip(data.images, ["train"] * 4 + ["val"] * 3 + ["test"] * 3, strict=True)
    ]
    lacking = write_caveats(builders.sweep(data=builders.dataset(images=images)))
    note = f"The validation split (3 images) has no pixel of: {data.classes[1]}; its operating point is unknown; add"
    assert note in lacking and "no pixel of" not in write_caveats()


def test_trainings_on_two_machines_are_a_caveat() -> None:
    trials = [builders.trial("dice_focal", 0.7, 0), builders.trial("focal", 0.6, 1)]
    assert "combinations of device" not in write_caveats(builders.sweep(trials))
    trials[1] = trials[1].model_copy(update={"device": "another processor"})
    assert "made under 2 combinations of device and versions" in write_caveats(builders.sweep(trials))


def test_losses_with_few_completed_trials_are_listed_with_their_counts() -> None:
    trials = [builders.trial("dice_focal", 0.7, 0)]
    trials += [builders.trial("dice_focal", 0.5, 1 + i, state="pruned") for i in range(4)]
    trials += [builders.trial("cross_entropy", 0.6, 5)]  # nothing but a learning rate, which all trials tune
    trials += [builders.trial("focal", 0.5, 6)]
    hardly = "fewer than 3 completed search trials:"
    for completed, losses in ((2, "`focal` (1) and `dice_focal` (2)."), (3, "`focal` (1).")):
        # Those of the same function by another name count.
        finalists = {"dice_focal": {"trials_completed": completed}}
        assert f"{hardly} {losses}" in write_caveats(builders.sweep(trials), finalists)
