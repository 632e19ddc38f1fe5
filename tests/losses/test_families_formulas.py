"""Every family for every task equals its formula, in float64 NumPy without code of the package."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from sweeper.losses import FAMILIES
from tests.support.loss_cases import (
    CASES,
    FREQUENCIES,
    IGNORE,
    count_channels,
    list_points,
    make_loss,
    pick_point,
    pick_required,
)


def draw_arrays(task: str, seed: int, absent: bool):
    """Return float64 logits and labels, a fifth ignored; `absent`: class 2 (binary: the foreground) does not occur.

    With seed 0 the label of each pixel is random; with others labels form regions, and all of class 1 is predicted.
    """
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((2, count_channels(task), 7, 9))
    y = rng.integers(0, 3 if task == "multiclass" else 2, (2, 7, 9))
    if seed:
        y = np.kron([[[0, 1], [1, 2]], [[1, 0], [2, 0]]], np.ones((4, 5), dtype=int))[:, :7, :9]
        y = np.minimum(y, 1) if task == "binary" else y
        channel = 0 if task == "binary" else 1
        z[:, channel] = np.where(y == 1, np.abs(z).max(axis=1) + 1, z[:, channel])
    if absent:
        y[y == (1 if task == "binary" else 2)] = 0
    y[rng.random(y.shape) < 0.2] = IGNORE
    return z, y


def compute_probabilities(task, z):
    """Return the probability of every class, (N, C, H, W); binary: of background and foreground."""
    if task == "multiclass":
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    foreground = 1 / (1 + np.exp(-z))
    return np.concatenate([1 - foreground, foreground], axis=1)


def list_classes(task, z, y):
    """Return each class against all others as (p, is-the-class, labelled), each (N, H, W)."""
    return [(p, y == c, y != IGNORE) for c, p in enumerate(np.moveaxis(compute_probabilities(task, z), 1, 0))]


def list_problems(task, z, y):
    """Return the classes that an overlap loss averages over: all, of a binary task the foreground."""
    return list_classes(task, z, y)[1 if task == "binary" else 0 :]


def list_pixel_losses(task, z, y, v):
    """Return the (weighted, focal) cross-entropy of each labelled pixel, in image order, and their labels."""
    gamma, alpha = v.get("gamma", 0.0), v.get("alpha")
    p = compute_probabilities(task, z)
    terms, places = [], []
    for index in np.ndindex(y.shape):
        label = y[index]
        if label == IGNORE:
            continue
        likelihood = p[(index[0], label, *index[1:])]
        if task == "multiclass":
            weight = 1.0 if alpha is None else (1 - alpha if label == int(np.argmax(FREQUENCIES)) else alpha)
            if "class_weight_power" in v:
                f = np.array(FREQUENCIES)
                weight = f[label] ** -v["class_weight_power"] / (f * f ** -v["class_weight_power"]).sum()
        else:
            weight = (alpha if label else 1 - alpha) if alpha is not None else (v.get("pos_weight", 1) if label else 1)
        terms.append(-weight * (1 - likelihood) ** gamma * np.log(likelihood))
        places.append(index)
    return np.array(terms), places


def cross_entropy(task, z, y, v):
    terms, _ = list_pixel_losses(task, z, y, v)
    return terms.mean()


def topk_ce(task, z, y, v):
    terms, _ = list_pixel_losses(task, z, y, v)
    return np.sort(terms)[::-1][: max(1, int(v["hard_fraction"] * len(terms)))].mean()


def boundary_ce(task, z, y, v):
    terms, places = list_pixel_losses(task, z, y, v)
    total = 0.0
    for term, index in zip(terms, places, strict=True):
        *lead, i, j = index
        window = y[(*lead, slice(max(0, i - 2), i + 3), slice(max(0, j - 2), j + 3))]
        is_near = len(set(window[window != IGNORE].tolist())) > 1
        total += term * (1 + v["boundary_weight"] * is_near)
    return total / len(terms)


def sum_soft_counts(p, positive, labelled):
    """Return soft true positives, false positives and false negatives."""
    other = labelled & ~positive
    return p[positive].sum(), p[other].sum(), (1 - p)[positive].sum()


def tversky(task, z, y, v):
    each = []
    for p, positive, labelled in list_problems(task, z, y):
        tp, fp, fn = sum_soft_counts(p, positive, labelled)
        fn_weight = v.get("fn_weight", 0.5)
        missed = 1 - (tp + 1) / (tp + v.get("fp_weight", 1 - fn_weight) * fp + fn_weight * fn + 1)
        each.append((missed if positive.any() else p[labelled].mean()) ** v.get("overlap_exponent", 1))
    return np.mean(each)


def mix_with_overlap(ce, overlap=None):
    return lambda task, z, y, v: v["mix"] * ce(task, z, y, v) + (1 - v["mix"]) * tversky(task, z, y, overlap or {})


def generalized_dice(task, z, y, v):
    """Compute generalised Dice; of one class background and foreground count."""
    classes = list_classes(task, z, y)
    top = bottom = absent = 0.0
    for p, positive, labelled in classes:
        if not positive.any():
            absent += p[labelled].mean()
            continue
        size = float(positive.sum()) ** -v["volume_exponent"]
        top += size * p[positive].sum()
        bottom += size * (p[labelled].sum() + positive.sum())
    present = sum(positive.any() for _, positive, _ in classes)
    return (present * (1 - 2 * top / bottom) + absent) / len(classes)


def unified_focal(task, z, y, v):
    delta, s = v["delta"], v["suppression"]
    common = int(np.argmax(FREQUENCIES)) if task == "multiclass" else 0
    pixels = (y != IGNORE).sum()
    ce, overlap = 0.0, []
    for c, (p, positive, labelled) in enumerate(list_classes(task, z, y)):
        is_common = c == common
        surprise = -np.log(p[positive])
        focal = (1 - p[positive]) ** s if is_common else 1
        ce += ((1 - delta if is_common else delta) * focal * surprise).sum()
        tp, fp, fn = sum_soft_counts(p, positive, labelled)
        missed = 1 - (tp + 1) / (tp + (1 - delta) * fp + delta * fn + 1) if positive.any() else p[labelled].mean()
        overlap.append(missed if is_common else missed ** (1 - s))
    return v["mix"] * ce / pixels + (1 - v["mix"]) * np.mean(overlap)


def lovasz(task, z, y, v):
    each = []
    for c, (p, positive, labelled) in enumerate(list_problems(task, z, y)):
        if task == "multiclass":
            errors = np.where(positive, 1 - p, p)[labelled]
        else:
            errors = np.maximum(0, 1 - z[:, c] * np.where(positive, 1, -1))[labelled]
        truth = positive[labelled]
        if not truth.any():
            each.append(errors.mean())
            continue
        # Lovász extension, level by level: Σ (e_i − e_{i+1}) · (1 − Jaccard of the i worst pixels being wrong).
        order = np.argsort(-errors, kind="stable")
        errors, truth = np.append(errors[order], 0.0), truth[order]
        value = 0.0
        for i in range(1, len(truth) + 1):
            wrong = truth[:i]
            jaccard = (truth.sum() - wrong.sum()) / (truth.sum() + (~wrong).sum())
            value += (errors[i - 1] - errors[i]) * (1 - jaccard)
        each.append(value)
    return np.mean(each)


def pick_neighbours(values, labelled, pick, square):
    """Return the smallest or largest labelled value in a cross or a square around each pixel of an image."""
    out = values.copy()
    for i, j in np.ndindex(values.shape):
        cells = [
            values[a, b]
            for a in range(max(0, i - 1), min(values.shape[0], i + 2))
            for b in range(max(0, j - 1), min(values.shape[1], j + 2))
            if labelled[a, b] and (square or a == i or b == j)
        ]
        out[i, j] = pick(cells) if cells else (1.0 if pick is min else 0.0)
    return out


def compute_skeleton(p, labelled):
    eroded = pick_neighbours(p, labelled, min, False)
    line = np.maximum(0, p - pick_neighbours(eroded, labelled, max, True))
    for _ in range(3):
        p, eroded = eroded, pick_neighbours(eroded, labelled, min, False)
        detail = np.maximum(0, p - pick_neighbours(eroded, labelled, max, True))
        line = line + np.maximum(0, detail - line * detail)
    return np.where(labelled, line, 0)


def soft_cldice(task, z, y, v):
    each = []
    for p, positive, labelled in list_problems(task, z, y):
        if not positive.any():
            each.append(p[labelled].mean())
            continue
        predicted = np.stack([compute_skeleton(a, k) for a, k in zip(p, labelled, strict=True)])
        true = np.stack([compute_skeleton(a.astype(float), k) for a, k in zip(positive, labelled, strict=True)])
        precision = (predicted[positive].sum() + 1) / (predicted[labelled].sum() + 1)
        recall = ((true * p).sum() + 1) / (true.sum() + 1)
        each.append(1 - 2 * precision * recall / (precision + recall))
    return (1 - v["skeleton_weight"]) * tversky(task, z, y, {}) + v["skeleton_weight"] * np.mean(each)


def boundary(task, z, y, v):
    total, number = 0.0, 0
    for p, positive, labelled in list_problems(task, z, y):
        for image in range(len(p)):
            inside, other, k = positive[image], labelled[image] & ~positive[image], labelled[image]
            far = np.full(inside.shape, 100.0)
            if inside.any():
                far[other] = (distance_transform_edt(~inside) - 0.5)[other]
            if other.any():
                far[inside] = (distance_transform_edt(~other) - 0.5)[inside]
            total += (np.minimum(far, 100) * np.abs(p[image] - inside))[k].sum()
            number += k.sum()
    return (1 - v["distance_mix"]) * tversky(task, z, y, {}) + v["distance_mix"] * total / number


def logit_adjusted(task, z, y, v):
    shift = v["tau"] * np.log(FREQUENCIES).reshape(1, -1, 1, 1) if task == "multiclass" else -np.log(v["prior_odds"])
    return cross_entropy(task, z + shift, y, {})


def ohem_ce(task, z, y, v):
    p = np.exp(-list_pixel_losses(task, z, y, {})[0])
    hardest = np.sort(p)[: max(1, int(v["kept_at_least"] * len(p)))]
    chosen = p <= max(v["sure_at"], hardest[-1])
    return (-np.log(p))[chosen].sum() / chosen.sum()


REFERENCES = {
    "cross_entropy": cross_entropy,
    "weighted_ce": cross_entropy,
    "focal": cross_entropy,
    "topk_ce": topk_ce,
    "boundary_ce": boundary_ce,
    "logit_adjusted": logit_adjusted,
    "ohem_ce": ohem_ce,
    "dice": tversky,
    "jaccard": lambda task, z, y, v: tversky(task, z, y, {"fp_weight": 1, "fn_weight": 1}),
    "generalized_dice": generalized_dice,
    "tversky": tversky,
    "focal_tversky": tversky,
    "lovasz": lovasz,
    "dice_ce": mix_with_overlap(cross_entropy),
    "dice_focal": mix_with_overlap(cross_entropy),
    "dice_topk": mix_with_overlap(topk_ce),
    "unified_focal": unified_focal,
    "soft_cldice": soft_cldice,
    "boundary": boundary,
}


def test_every_family_has_a_formula_in_this_module():
    for name in set(FAMILIES) - set(REFERENCES):
        pytest.fail(f"{name}: no slow reference; add it to {__file__} REFERENCES")
    for name in set(REFERENCES) - set(FAMILIES):
        pytest.fail(f"{name}: no such family; take its reference out of {__file__} REFERENCES")


@pytest.mark.parametrize(("family", "task"), CASES)
def test_every_family_equals_its_formula(family, task):
    """Within its ranges, and at their ends, where parts of several families have no weight."""
    free = FAMILIES[family].coordinates[task]
    defaults = {name: c.default for name, c in free.items() if c.default is not None}
    points = list_points(family, task) | {"within": pick_point(family, task)}
    for name, point in points.items():
        coordinates = pick_required(family, task) | point
        loss = make_loss(family, task, coordinates)
        loss.checks_labels = False  # batch after batch without foreground would be warned of
        for absent in (False, True):
            for seed in range(2):
                z, y = draw_arrays(task, seed, absent)
                value = loss(torch.from_numpy(z), torch.from_numpy(y)).item()
                expected = REFERENCES[family](task, z, y, {**defaults, **coordinates})
                assert value == pytest.approx(expected, rel=1e-6, abs=1e-12), (name, seed, absent)
