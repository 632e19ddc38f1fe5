"""Every family for every task equals its formula, written again in float64 NumPy without a line of the package."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from sweeper.losses import FAMILIES, build_loss
from tests.support.loss_cases import CASES, FREQUENCIES, IGNORE, channels, needed, point


def batch(task: str, seed: int, absent: bool):
    """float64 logits and labels, a fifth ignored; `absent`: class 2 (binary: the foreground) does not occur.

    Of seed 0 each pixel has a label of its own; of others there are regions, and class 1 is found wherever it is.
    """
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((2, channels(task), 7, 9))
    y = rng.integers(0, 3 if task == "multiclass" else 2, (2, 7, 9))
    if seed:
        y = np.kron([[[0, 1], [1, 2]], [[1, 0], [2, 0]]], np.ones((4, 5), dtype=int))[:, :7, :9]
        y = np.minimum(y, 1) if task == "binary" else y
        own = 0 if task == "binary" else 1
        z[:, own] = np.where(y == 1, np.abs(z).max(axis=1) + 1, z[:, own])
    if absent:
        y[y == (1 if task == "binary" else 2)] = 0
    y[rng.random(y.shape) < 0.2] = IGNORE
    return z, y


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def probabilities(task, z):
    """(N, C, H, W) of every class; binary: background and foreground."""
    if task == "multiclass":
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    return np.concatenate([1 - sigmoid(z), sigmoid(z)], axis=1)


def problems(task, z, y):
    """Return the batch as one-against-all problems (p, is-the-class, labelled), each (N, H, W)."""
    p = probabilities(task, z)
    if task == "binary":
        return [(p[:, 1], y == 1, y != IGNORE)]
    return [(p[:, c], y == c, y != IGNORE) for c in range(p.shape[1])]


def both_sides(task, z, y):
    """Return the problems of all classes, background and foreground of a binary task."""
    return [(p, y == c, y != IGNORE) for c, p in enumerate(np.moveaxis(probabilities(task, z), 1, 0))]


def ce_terms(task, z, y, v):
    """Return the (weighted, focal) cross-entropy of each labelled pixel, in image order, and their labels."""
    gamma, alpha = v.get("gamma", 0.0), v.get("alpha")
    p = probabilities(task, z)
    terms, places = [], []
    for index in np.ndindex(y.shape):
        label = y[index]
        if label == IGNORE:
            continue
        own = p[(index[0], label, *index[1:])]
        if task == "multiclass":
            weight = 1.0 if alpha is None else (1 - alpha if label == int(np.argmax(FREQUENCIES)) else alpha)
            if "class_weight_power" in v:
                f = np.array(FREQUENCIES)
                weight = f[label] ** -v["class_weight_power"] / (f * f ** -v["class_weight_power"]).sum()
        else:
            weight = (alpha if label else 1 - alpha) if alpha is not None else (v.get("pos_weight", 1) if label else 1)
        terms.append(-weight * (1 - own) ** gamma * np.log(own))
        places.append(index)
    return np.array(terms), places


def cross_entropy(task, z, y, v):
    terms, _ = ce_terms(task, z, y, v)
    return terms.mean()


def hard(task, z, y, v):
    terms, _ = ce_terms(task, z, y, v)
    return np.sort(terms)[::-1][: max(1, int(v["hard_fraction"] * len(terms)))].mean()


def boundary_ce(task, z, y, v):
    terms, places = ce_terms(task, z, y, v)
    total = 0.0
    for term, index in zip(terms, places, strict=True):
        *lead, i, j = index
        around = y[(*lead, slice(max(0, i - 2), i + 3), slice(max(0, j - 2), j + 3))]
        near = len(set(around[around != IGNORE].tolist())) > 1
        total += term * (1 + v["boundary_weight"] * near)
    return total / len(terms)


def soft_counts(p, own, known):
    """Soft true positives, false positives and false negatives."""
    other = known & ~own
    return p[own].sum(), p[other].sum(), (1 - p)[own].sum()


def tversky(task, z, y, v):
    each = []
    for p, own, known in problems(task, z, y):
        tp, fp, fn = soft_counts(p, own, known)
        fn_weight = v.get("fn_weight", 0.5)
        lost = 1 - (tp + 1) / (tp + v.get("fp_weight", 1 - fn_weight) * fp + fn_weight * fn + 1)
        each.append((lost if own.any() else p[known].mean()) ** v.get("overlap_exponent", 1))
    return np.mean(each)


def mixed(ce, overlap=None):
    return lambda task, z, y, v: v["mix"] * ce(task, z, y, v) + (1 - v["mix"]) * tversky(task, z, y, overlap or {})


def generalized_dice(task, z, y, v):
    """Compute generalised Dice; of one class background and foreground count."""
    classes = both_sides(task, z, y)
    top = bottom = absent = 0.0
    for p, own, known in classes:
        if not own.any():
            absent += p[known].mean()
            continue
        size = float(own.sum()) ** -v["volume_exponent"]
        top += size * p[own].sum()
        bottom += size * (p[known].sum() + own.sum())
    present = sum(own.any() for _, own, _ in classes)
    return (present * (1 - 2 * top / bottom) + absent) / len(classes)


def unified_focal(task, z, y, v):
    delta, s = v["delta"], v["suppression"]
    common = int(np.argmax(FREQUENCIES)) if task == "multiclass" else 0
    pixels = (y != IGNORE).sum()
    ce, overlap = 0.0, []
    for c, (p, own, known) in enumerate(both_sides(task, z, y)):
        is_common = c == common
        surprise = -np.log(p[own])
        focal = (1 - p[own]) ** s if is_common else 1
        ce += ((1 - delta if is_common else delta) * focal * surprise).sum()
        tp, fp, fn = soft_counts(p, own, known)
        lost = 1 - (tp + 1) / (tp + (1 - delta) * fp + delta * fn + 1) if own.any() else p[known].mean()
        overlap.append(lost if is_common else lost ** (1 - s))
    return v["mix"] * ce / pixels + (1 - v["mix"]) * np.mean(overlap)


def lovasz(task, z, y, v):
    each = []
    for c, (p, own, known) in enumerate(problems(task, z, y)):
        if task == "multiclass":
            errors = np.where(own, 1 - p, p)[known]
        else:
            errors = np.maximum(0, 1 - z[:, c] * np.where(own, 1, -1))[known]
        truth = own[known]
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


def around(values, known, pick, square):
    """Smallest or largest of the labelled values in a cross or a square around each pixel of one image."""
    out = values.copy()
    for i, j in np.ndindex(values.shape):
        cells = [
            values[a, b]
            for a in range(max(0, i - 1), min(values.shape[0], i + 2))
            for b in range(max(0, j - 1), min(values.shape[1], j + 2))
            if known[a, b] and (square or a == i or b == j)
        ]
        out[i, j] = pick(cells) if cells else (1.0 if pick is min else 0.0)
    return out


def skeleton(p, known):
    eroded = around(p, known, min, False)
    line = np.maximum(0, p - around(eroded, known, max, True))
    for _ in range(3):
        p, eroded = eroded, around(eroded, known, min, False)
        detail = np.maximum(0, p - around(eroded, known, max, True))
        line = line + np.maximum(0, detail - line * detail)
    return np.where(known, line, 0)


def soft_cldice(task, z, y, v):
    each = []
    for p, own, known in problems(task, z, y):
        if not own.any():
            each.append(p[known].mean())
            continue
        mine = np.stack([skeleton(a, k) for a, k in zip(p, known, strict=True)])
        true = np.stack([skeleton(a.astype(float), k) for a, k in zip(own, known, strict=True)])
        precision = (mine[own].sum() + 1) / (mine[known].sum() + 1)
        recall = ((true * p).sum() + 1) / (true.sum() + 1)
        each.append(1 - 2 * precision * recall / (precision + recall))
    return (1 - v["skeleton_weight"]) * tversky(task, z, y, {}) + v["skeleton_weight"] * np.mean(each)


def boundary(task, z, y, v):
    total, number = 0.0, 0
    for p, own, known in problems(task, z, y):
        for image in range(len(p)):
            here, other, k = own[image], known[image] & ~own[image], known[image]
            far = np.full(here.shape, 100.0)
            if here.any():
                far[other] = (distance_transform_edt(~here) - 0.5)[other]
            if other.any():
                far[here] = (distance_transform_edt(~other) - 0.5)[here]
            total += (np.minimum(far, 100) * np.abs(p[image] - here))[k].sum()
            number += k.sum()
    return (1 - v["distance_mix"]) * tversky(task, z, y, {}) + v["distance_mix"] * total / number


def logit_adjusted(task, z, y, v):
    shift = v["tau"] * np.log(FREQUENCIES).reshape(1, -1, 1, 1) if task == "multiclass" else -np.log(v["prior_odds"])
    return cross_entropy(task, z + shift, y, {})


def ohem_ce(task, z, y, v):
    p = np.exp(-ce_terms(task, z, y, {})[0])
    hardest = np.sort(p)[: max(1, int(v["kept_at_least"] * len(p)))]
    chosen = p <= max(v["sure_at"], hardest[-1])
    return (-np.log(p))[chosen].sum() / chosen.sum()


REFERENCES = {
    "cross_entropy": cross_entropy,
    "weighted_ce": cross_entropy,
    "focal": cross_entropy,
    "topk_ce": hard,
    "boundary_ce": boundary_ce,
    "logit_adjusted": logit_adjusted,
    "ohem_ce": ohem_ce,
    "dice": tversky,
    "jaccard": lambda task, z, y, v: tversky(task, z, y, {"fp_weight": 1, "fn_weight": 1}),
    "generalized_dice": generalized_dice,
    "tversky": tversky,
    "focal_tversky": tversky,
    "lovasz": lovasz,
    "dice_ce": mixed(cross_entropy),
    "dice_focal": mixed(cross_entropy),
    "dice_topk": mixed(hard),
    "unified_focal": unified_focal,
    "soft_cldice": soft_cldice,
    "boundary": boundary,
}


def test_every_family_has_its_formula_here():
    for name in set(FAMILIES) - set(REFERENCES):
        pytest.fail(f"{name}: no slow reference; add it to {__file__} REFERENCES")
    for name in set(REFERENCES) - set(FAMILIES):
        pytest.fail(f"{name}: no such family; take its reference out of {__file__} REFERENCES")


def values(family, task):
    """Yield each case's name, loss, and the formula's value, to be compared by `==`."""
    free = FAMILIES[family].coordinates[task]
    defaults = {name: c.default for name, c in free.items() if c.default is not None}
    places = {"low": point(family, task), "high": point(family, task, 0.6), "defaults": {}}
    frequencies = FREQUENCIES if task == "multiclass" else None
    for place, coordinates in places.items():
        given = needed(family, task) | coordinates
        loss = build_loss(family, task=task, class_frequencies=frequencies, **given)
        loss.checks_labels = False  # batch after batch without foreground would be warned of
        for absent in (False, True):
            for seed in range(2):
                z, y = batch(task, seed, absent)
                value = loss(torch.from_numpy(z), torch.from_numpy(y)).item()
                expected = REFERENCES[family](task, z, y, {**defaults, **given})
                name = f"{place}, seed {seed}, {'a class absent' if absent else 'all classes'}"
                yield name, value, pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("family", "task"), CASES)
def test_every_family_equals_its_formula(family, task):
    for name, value, expected in values(family, task):
        assert value == expected, name
