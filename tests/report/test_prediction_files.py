"""Masks drawn over their images."""

from __future__ import annotations

import numpy as np

from sweeper.core.records import IGNORE
from sweeper.report.figures.style import make_palette
from sweeper.report.prediction_files import make_display_image, make_overlay, thin_mask


def test_images_of_any_depth_can_be_displayed():
    deep = np.random.default_rng(0).integers(0, 40_000, (8, 9, 12)).astype(np.uint16)
    assert make_display_image(deep).shape == (8, 9, 3) and make_display_image(deep).dtype == np.uint8
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    assert np.array_equal(make_display_image(grey), grey)
    assert make_display_image(np.full((4, 4, 1), 900, np.uint16)).shape == (4, 4, 1)


def test_an_overlay_tints_classes_but_not_the_background():
    image, labels = np.full((30, 30, 3), 100, np.uint8), np.zeros((30, 30), np.uint8)
    labels[10:20, 10:20], labels[25:] = 1, IGNORE
    overlay = make_overlay(image, [labels], make_palette(2))
    assert (overlay[0, 0] == overlay[0, 0, 0]).all() and len(set(overlay[15, 15].tolist())) > 1
    assert overlay[10, 12].tolist() == make_palette(2)[1].tolist()  # the outline is opaque
    assert (overlay[25:] == 245).any()


def test_thin_structures_survive_thinning():
    labels = np.zeros((101, 90), np.uint8)
    labels[37], labels[60:80, 10:12] = 1, IGNORE
    small = thin_mask(labels, 4)
    assert small.shape == (26, 23) and (small[9] == 1).all() and (small == IGNORE).any()
    assert np.array_equal(thin_mask(labels, 1), labels)


def test_neighbouring_colours_of_a_palette_differ():
    colours = make_palette(22).astype(int)
    assert len(colours) == 22
    distance = np.abs(colours[1:, None] - colours[None, 1:]).sum(axis=2)
    assert distance[~np.eye(21, dtype=bool)].min() > 20
