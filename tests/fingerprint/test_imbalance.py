"""The imbalance profile, against counts made by hand and by other means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from sweeper.core.errors import UsageError
from sweeper.core.records import IGNORE, ImbalanceProfile
from sweeper.data import load_dataset
from sweeper.fingerprint.imbalance import (
    compute_imbalance,
    explain_consequences,
    find_rarest_class,
    profile_dataset,
    profile_masks,
)

TWO = ("background", "crack")


def make_mask(height: int = 20, width: int = 30) -> np.ndarray:
    return np.zeros((height, width), dtype=np.uint8)


def test_shares_prevalence_and_components_equal_a_count_by_hand():
    first, second = make_mask(), make_mask(10, 10)
    first[2, 3] = first[3, 4] = 1  # touch at a corner: one component
    first[10:12, 20:25] = 1
    second[:, 5] = IGNORE
    profile = profile_masks([first, second], TWO)
    crack = profile.classes[1]
    assert profile.images == 2
    assert profile.labelled_pixels == 690
    assert profile.ignored_share == 10 / 700
    assert profile.empty_images == 1
    assert crack.pixel_share == 12 / 690
    assert crack.image_share == 0.5
    assert crack.components == 2
    assert crack.component_pixels == pytest.approx((2.8, 6.0, 9.2))
    assert profile.classes[0].components == 3  # the ignored column cuts the second image in two
    assert profile.imbalance == profile.pos_weight == pytest.approx(678 / 12)
    assert profile.alpha == pytest.approx(678 / 690)
    assert profile.class_weights == pytest.approx((690 / 678 / 2, 690 / 12 / 2))


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(
        np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.sampled_from([0, 1, 2, 255])
    )
)
def test_thinness_is_the_share_of_pixels_within_two_pixels_of_other_classes(mask):
    if len(set(np.unique(mask)) - {IGNORE}) < 2:
        with pytest.raises(UsageError):
            profile_masks([mask], ("a", "b", "c"))
        return
    profile = profile_masks([mask], ("a", "b", "c"))
    for label in range(3):
        inside = mask == label
        if not inside.any():
            assert profile.classes[label].thinness is None
            continue
        distance = ndimage.distance_transform_edt(inside | (mask == IGNORE))
        assert profile.classes[label].thinness == pytest.approx((distance[inside] <= 2).mean())
        assert profile.classes[label].components == ndimage.label(inside, np.ones((3, 3)))[1]


def test_a_class_that_never_occurs_is_listed_without_sizes():
    mask = make_mask()
    mask[0, 0] = 2
    profile = profile_masks([mask], ("a", "b", "c"))
    absent = profile.classes[1]
    assert (absent.pixel_share, absent.image_share, absent.components) == (0, 0, 0)
    assert absent.component_pixels is None and absent.thinness is None
    assert profile.class_weights[1] == max(profile.class_weights)
    assert profile.pos_weight is None and profile.alpha is None
    assert profile.imbalance == 599


def test_imbalance_has_a_direction_for_two_classes_and_none_for_more():
    assert compute_imbalance([90, 10]) == 9
    assert compute_imbalance([10, 90]) == pytest.approx(1 / 9)
    assert compute_imbalance([10, 90, 0, 30]) == 9
    for counts in ([5, 0], [0, 5], [0, 7, 0], [0, 0]):
        with pytest.raises(UsageError, match="at least two classes"):
            compute_imbalance(counts)


def test_consequences_state_the_numbers():
    def profile(cracked: slice) -> ImbalanceProfile:
        mask = make_mask(100, 100)
        mask[cracked] = 1
        return profile_masks([mask], TWO)

    thin, mostly = profile(slice(50, 51)), profile(slice(1, 100))
    words = " ".join(explain_consequences(thin))
    assert "Predicting only background would score 99.0 % pixel accuracy and 0.495 mIoU." in words
    assert "100 % of the pixels of crack lie within 2 pixels" in words
    assert "only crack would score 99.0 %" in " ".join(explain_consequences(mostly))


@pytest.mark.parametrize(
    ("pixels", "labelled", "rarest"),
    [
        ({"background": 990, "crack": 10}, None, ("crack", 0.01, 99)),
        ({"background": 10, "crack": 990}, None, ("background", 0.01, 99)),
        ({"road": 0.5, "car": 0.3, "sign": 0.2, "absent": 0}, None, ("sign", 0.2, 2.5)),
        ({"nucleus": 40, "cell": 500}, 1000, ("nucleus", 0.04, 24)),  # each has a background of its own
    ],
)
def test_the_rarest_class_is_compared_with_the_most_common_or_its_own_background(pixels, labelled, rarest):
    assert find_rarest_class(pixels, labelled) == (rarest[0], *map(pytest.approx, rarest[1:]))


@pytest.mark.real_data
def test_real_data_sets_have_their_measured_imbalance(tmp_path, real_data):
    cracks = profile_dataset(load_dataset(str(real_data / "cracks_cfd"), tmp_path))
    assert round(100 * cracks.classes[1].pixel_share, 3) == 1.615
    assert round(cracks.imbalance, 1) == 60.9
    camvid = profile_dataset(load_dataset(str(real_data / "camvid"), tmp_path))
    assert round(100 * camvid.ignored_share, 2) == 3.39
    assert round(camvid.imbalance, 1) == 48.8
    assert [round(100 * c.pixel_share, 3) for c in camvid.classes][:3] == [16.318, 24.698, 1.015]
    fruits = profile_dataset(load_dataset(str(real_data / "fruits_both"), tmp_path))
    assert [round(100 * c.pixel_share, 3) for c in fruits.classes] == [78.839, 13.014, 4.924, 3.223]
