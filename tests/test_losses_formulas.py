"""Every family for every task equals its formula, written again in float64 NumPy without a line of the package (but
for the tubes of `skeleton_recall`)."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt, label

from sweeper.data.skeletons import tubes
from sweeper.losses import FAMILIES, build_loss
from tests.loss_cases import CASES, FREQUENCIES, IGNORE, VALUES, channels, needed, point

HARD = {**VALUES, "alpha": 0.65, "gamma": 1.3, "pos_weight": 3.0, "overlap_exponent": 0.8, "mix": 0.45}


def batch(task: str, seed: int, absent: bool):
    """float64 logits and labels, a fifth ignored; `absent`: class 2 (binary: the foreground) does not occur."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((2, channels(task), 7, 9))
    shape = z.shape if task == "multilabel" else (2, 7, 9)
    y = rng.integers(0, 3 if task == "multiclass" else 2, shape)
    if absent:
        if task == "multilabel":
            y[:, 2] = 0
        else:
            y[y == (1 if task == "binary" else 2)] = 0
    y[rng.random(shape) < 0.2] = IGNORE
    return z, y


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def probabilities(task, z):
    """(N, C, H, W) of every class; binary: background and foreground."""
    if task == "multiclass":
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    return np.concatenate([1 - sigmoid(z), sigmoid(z)], axis=1) if task == "binary" else sigmoid(z)


def problems(task, z, y):
    """The batch as one-against-all problems (p, is-the-class, labelled), each (N, H, W)."""
    p = probabilities(task, z)
    if task == "binary":
        return [(p[:, 1], y == 1, y != IGNORE)]
    if task == "multiclass":
        return [(p[:, c], y == c, y != IGNORE) for c in range(p.shape[1])]
    return [(p[:, c], y[:, c] == 1, y[:, c] != IGNORE) for c in range(p.shape[1])]


def weights_of(task, w, count):
    """Weights of the pixels in each of the problems, (N, H, W)."""
    return [w[:, c] if task == "multilabel" else w for c in range(count)]


def weighted_problems(task, z, y, w):
    """(p, is-the-class, labelled, weight) of each problem."""
    found = problems(task, z, y)
    return [(*problem, weight) for problem, weight in zip(found, weights_of(task, w, len(found)), strict=True)]


def ce_terms(task, z, y, w, v):
    """One (weighted, focal) cross-entropy per labelled pixel, in image order, and the labels at which it stands."""
    gamma, alpha = v.get("gamma", 0.0), v.get("alpha")
    p = probabilities(task, z)
    terms, places = [], []
    for index in np.ndindex(y.shape):
        label = y[index]
        if label == IGNORE:
            continue
        all_own = (p[index] if label == 1 else 1 - p[index]) if task == "multilabel" else None
        own = p[(index[0], label, *index[1:])] if all_own is None else all_own
        if task == "multiclass":
            weight = 1.0 if alpha is None else (1 - alpha if label == int(np.argmax(FREQUENCIES)) else alpha)
            if "class_weight_power" in v:
                f = np.array(FREQUENCIES)
                weight = f[label] ** -v["class_weight_power"] / (f * f ** -v["class_weight_power"]).sum()
        else:
            weight = (alpha if label else 1 - alpha) if alpha is not None else (v.get("pos_weight", 1) if label else 1)
        terms.append(-w[index] * weight * (1 - own) ** gamma * np.log(own))
        places.append(index)
    return np.array(terms), places


def cross_entropy(task, z, y, w, v):
    terms, _ = ce_terms(task, z, y, w, v)
    return terms.mean()


def hard(task, z, y, w, v):
    terms, _ = ce_terms(task, z, y, w, v)
    return np.sort(terms)[::-1][: max(1, int(v["hard_fraction"] * len(terms)))].mean()


def boundary_ce(task, z, y, w, v):
    terms, places = ce_terms(task, z, y, w, v)
    total = 0.0
    for term, index in zip(terms, places, strict=True):
        *lead, i, j = index
        around = y[(*lead, slice(max(0, i - 2), i + 3), slice(max(0, j - 2), j + 3))]
        near = len(set(around[around != IGNORE].tolist())) > 1
        total += term * (1 + v["boundary_weight"] * near)
    return total / len(terms)


def soft_counts(p, own, known, w):
    """Soft true positives, false positives and false negatives: a pixel of weight 2 counts as two."""
    other = known & ~own
    return (w * p)[own].sum(), (w * p)[other].sum(), (w * (1 - p))[own].sum()


def mean_over(values, known, w):
    """Mean over the labelled pixels, a pixel of weight 2 counting as two."""
    return (w * values)[known].sum() / w[known].sum()


def tversky(task, z, y, w, v):
    each = []
    for p, own, known, u in weighted_problems(task, z, y, w):
        tp, fp, fn = soft_counts(p, own, known, u)
        fn_weight = v.get("fn_weight", 0.5)
        lost = 1 - (tp + 1) / (tp + v.get("fp_weight", 1 - fn_weight) * fp + fn_weight * fn + 1)
        each.append((lost if own.any() else mean_over(p, known, u)) ** v.get("overlap_exponent", 1))
    return np.average(each, weights=v.get("overlap_weights"))


def mixed(ce, overlap=None):
    return lambda task, z, y, w, v: (
        v["mix"] * ce(task, z, y, w, v) + (1 - v["mix"]) * tversky(task, z, y, w, overlap or {})
    )


def weighted_dice_ce(task, z, y, w, v):
    weights = np.array(FREQUENCIES) ** -v["class_weight_power"]
    overlap = tversky(task, z, y, w, {"overlap_weights": weights})
    return v["mix"] * cross_entropy(task, z, y, w, v) + (1 - v["mix"]) * overlap


def generalized_dice(task, z, y, w, v):
    found = weighted_problems(task, z, y, w)
    if task == "multiclass":
        groups = [found]
    else:
        groups = [[(1 - p, known & ~own, known, u), (p, own, known, u)] for p, own, known, u in found]
    values = []
    for group in groups:
        top = bottom = absent = 0.0
        for p, own, known, u in group:
            if not own.any():
                absent += mean_over(p, known, u)
                continue
            size = u[own].sum() ** -v["volume_exponent"]
            top += size * (u * p)[own].sum()
            bottom += size * ((u * p)[known].sum() + u[own].sum())
        present = sum(own.any() for _, own, _, _ in group)
        values.append((present * (1 - 2 * top / bottom) + absent) / len(group))
    return np.mean(values)


def unified_focal(task, z, y, w, v, *, symmetric=False):
    delta, s = v["delta"], v["suppression"]
    common = int(np.argmax(FREQUENCIES)) if task == "multiclass" else 0
    flat = []
    for c, (p, own, known, u) in enumerate(weighted_problems(task, z, y, w)):
        if task == "multiclass":
            flat.append((p, own, known, u, c == common))
        else:
            flat += [(1 - p, known & ~own, known, u, True), (p, own, known, u, False)]
    pixels = (y != IGNORE).sum()
    ce, overlap = 0.0, []
    for p, own, known, u, is_common in flat:
        surprise = -u[own] * np.log(p[own])
        focal = (1 - p[own]) ** s if is_common or symmetric else 1
        ce += ((1 - delta if is_common else delta) * focal * surprise).sum()
        tp, fp, fn = soft_counts(p, own, known, u)
        lost = 1 - (tp + 1) / (tp + (1 - delta) * fp + delta * fn + 1) if own.any() else mean_over(p, known, u)
        overlap.append(lost if is_common and not symmetric else lost ** (1 - s))
    return v["mix"] * ce / pixels + (1 - v["mix"]) * np.mean(overlap)


def lovasz(task, z, y, w, v):
    assert (w == 1).all()  # it takes no weights
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


def soft_cldice(task, z, y, w, v):
    each = []
    for p, own, known, u in weighted_problems(task, z, y, w):
        if not own.any():
            each.append(mean_over(p, known, u))
            continue
        mine = np.stack([skeleton(a, k) for a, k in zip(p, known, strict=True)])
        true = np.stack([skeleton(a.astype(float), k) for a, k in zip(own, known, strict=True)])
        mine, true = mine * u, true * u  # what a line is, its neighbours decide, whatever their weights
        precision = (mine[own].sum() + 1) / (mine[known].sum() + 1)
        recall = ((true * p).sum() + 1) / (true.sum() + 1)
        each.append(1 - 2 * precision * recall / (precision + recall))
    return (1 - v["skeleton_weight"]) * tversky(task, z, y, w, {}) + v["skeleton_weight"] * np.mean(each)


def boundary(task, z, y, w, v):
    total, number = 0.0, 0
    for p, own, known, u in weighted_problems(task, z, y, w):
        for image in range(len(p)):
            here, other, k = own[image], known[image] & ~own[image], known[image]
            far = np.full(here.shape, 100.0)
            if here.any():
                far[other] = (distance_transform_edt(~here) - 0.5)[other]
            if other.any():
                far[here] = (distance_transform_edt(~other) - 0.5)[here]
            total += (np.minimum(far, 100) * u[image] * np.abs(p[image] - here))[k].sum()
            number += k.sum()
    return (1 - v["distance_mix"]) * tversky(task, z, y, w, {}) + v["distance_mix"] * total / number


def instance_problems(task, z, y, w):
    """Those with instances: all but the first of several classes."""
    found = weighted_problems(task, z, y, w)
    return found[1:] if task == "multiclass" else found


def instance_ce(task, z, y, w, v):
    """Each connected component, and all of class 0 in an image (of each label), has s^(1 − e) of the weight."""
    p, above, below = probabilities(task, z), 0.0, 0.0
    for index in np.ndindex(y.shape[:2] if task == "multilabel" else y.shape[:1]):
        of = p[index[0]] if task != "multilabel" else np.stack([1 - p[index], p[index]])
        for c in range(len(of)):
            regions, number = label(y[index] == c, np.ones((3, 3))) if c else (y[index] == 0, 1)
            for k in range(1, number + 1):
                own = regions == k
                if own.any():
                    share = own.sum() ** -v["instance_power"]
                    above -= share * (w[index] * np.log(of[c]))[own].sum()
                    below += share * own.sum()
    return above / below


def blob_dice(task, z, y, w, v):
    each = []
    for p, own, known, u in instance_problems(task, z, y, w):
        costs = []
        for image in range(len(p)):
            regions, number = label(own[image], np.ones((3, 3)))
            for k in range(1, number + 1):
                blob = regions == k
                tp, fp, fn = soft_counts(p[image], blob, known[image] & (blob | ~own[image]), u[image])
                costs.append(1 - (tp + 1) / (tp + fp / 2 + fn / 2 + 1))
        each.append(np.mean(costs) if costs else mean_over(p, known, u))
    return (1 - v["blob_share"]) * tversky(task, z, y, w, {}) + v["blob_share"] * np.mean(each)


def skeleton_recall(task, z, y, w, v):
    """With the package's own tubes, which tests/test_label_maps.py looks at."""
    each = []
    for p, own, known, u in instance_problems(task, z, y, w):
        if not own.any():
            each.append(mean_over(p, known, u))
            continue
        tube = np.stack([tubes(one.astype(int), k) for one, k in zip(own, known, strict=True)]) > 0
        each.append(1 - ((u * p)[tube].sum() + 1) / (u[tube].sum() + 1))
    rest = (cross_entropy(task, z, y, w, {}) + tversky(task, z, y, w, {})) / 2
    return (1 - v["skeleton_weight"]) * rest + v["skeleton_weight"] * np.mean(each)


def logit_adjusted(task, z, y, w, v):
    shift = v["tau"] * np.log(FREQUENCIES).reshape(1, -1, 1, 1) if task == "multiclass" else -np.log(v["prior_odds"])
    return cross_entropy(task, z + shift, y, w, {})


def ldam(task, z, y, w, v):
    """Of two classes without frequencies the foreground alone has a margin."""
    if task != "multiclass":
        there = (y if task == "multilabel" else y[:, None]) == 1
        return cross_entropy(task, z - v["margin"] * there, y, w, {})
    margins = v["margin"] * (np.array(FREQUENCIES) / min(FREQUENCIES)) ** -0.25
    shifted = z.copy()
    for c in range(3):
        shifted[:, c] -= np.where(y == c, margins[c], 0)
    return cross_entropy(task, shifted, y, w, {})


def own_probabilities(task, z, y, w):
    """Probability and weight of each labelled pixel's own class."""
    p, found = probabilities(task, z), []
    for index in np.ndindex(y.shape):
        if (label := y[index]) == IGNORE:
            continue
        if task == "multilabel":
            found.append((p[index] if label else 1 - p[index], w[index]))
        else:
            found.append((p[(index[0], label, *index[1:])], w[index]))
    return np.array(found).T


def of_own(cost):
    def formula(task, z, y, w, v):
        p, u = own_probabilities(task, z, y, w)
        return (u * cost(p, v)).mean()

    return formula


def ohem_ce(task, z, y, w, v):
    p, u = own_probabilities(task, z, y, w)
    hardest = np.sort(p)[: max(1, int(v["kept_at_least"] * len(p)))]
    chosen = p <= max(v["sure_at"], hardest[-1])
    return (-u * np.log(p))[chosen].sum() / chosen.sum()


def recall_ce(task, z, y, w, v):
    """The class of each pixel, or its absence, is found or missed; a class weighs what is missed of it."""
    p = probabilities(task, z)
    total, number = 0.0, (y != IGNORE).sum()
    if task == "multilabel":
        groups = [(np.stack([1 - p[:, c], p[:, c]], axis=1), y[:, c], w[:, c]) for c in range(p.shape[1])]
    else:
        groups = [(p, y, w)]
    for each, labels, u in groups:
        for c in range(each.shape[1]):
            own = labels == c
            missed = (each.argmax(axis=1) != c)[own].sum()
            total += max(1, missed) / max(1, own.sum()) * (-u * np.log(each[:, c]))[own].sum()
    return total / number


def log_dice(task, z, y, w, v):
    each, exponent = [], v.get("log_exponent", 1)
    for p, own, known, u in weighted_problems(task, z, y, w):
        tp, fp, fn = soft_counts(p, own, known, u)
        index = (tp + 1) / (tp + fp / 2 + fn / 2 + 1)
        each.append((-np.log(index) if own.any() else mean_over(p, known, u)) ** exponent)
    return np.mean(each)


def noise_robust_dice(task, z, y, w, v):
    each = []
    for p, own, known, u in weighted_problems(task, z, y, w):
        errors = (u * np.abs(p - own) ** v["error_exponent"])[known].sum()
        squares = (u * (p**2 + own))[known].sum()
        each.append(errors / (squares + 2) if own.any() else mean_over(p, known, u))
    return np.mean(each)


def sensitivity_specificity(task, z, y, w, v):
    each = []
    for p, own, known, u in weighted_problems(task, z, y, w):
        if not own.any():
            each.append(mean_over(p, known, u))
            continue
        missed, marked = mean_over((1 - p) ** 2, own, u), mean_over(p**2, known & ~own, u)
        each.append(v["sensitivity_share"] * missed + (1 - v["sensitivity_share"]) * marked)
    return np.mean(each)


def mcc(task, z, y, w, v):
    each = []
    for p, own, known, u in weighted_problems(task, z, y, w):
        tp, fp, fn = soft_counts(p, own, known, u)
        tp, tn = tp + 1, (u * (1 - p))[known & ~own].sum() + 1
        found = (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        each.append(1 - found if own.any() else mean_over(p, known, u))
    return np.mean(each)


def exp_log(task, z, y, w, v):
    pixels = of_own(lambda p, v: (-np.log(p)) ** v["log_exponent"])(task, z, y, w, v)
    return v["mix"] * pixels + (1 - v["mix"]) * log_dice(task, z, y, w, v)


FORMULAS = {
    "cross_entropy": cross_entropy,
    "weighted_ce": cross_entropy,
    "focal": cross_entropy,
    "topk_ce": hard,
    "boundary_ce": boundary_ce,
    "logit_adjusted": logit_adjusted,
    "ldam": ldam,
    "poly_ce": of_own(lambda p, v: -np.log(p) + v["first_term"] * (1 - p)),
    "generalized_ce": of_own(lambda p, v: (1 - p ** v["robustness"]) / v["robustness"]),
    "symmetric_ce": of_own(lambda p, v: -(1 - v["reverse_share"]) * np.log(p) + v["reverse_share"] * (1 - p)),
    "ohem_ce": ohem_ce,
    "recall_ce": recall_ce,
    "instance_ce": instance_ce,
    "dice": tversky,
    "jaccard": lambda task, z, y, w, v: tversky(task, z, y, w, {"fp_weight": 1, "fn_weight": 1}),
    "dice_metric": mixed(cross_entropy),
    "jaccard_metric": mixed(cross_entropy, {"fp_weight": 1, "fn_weight": 1}),
    "generalized_dice": generalized_dice,
    "log_cosh_dice": lambda task, z, y, w, v: np.log(np.cosh(tversky(task, z, y, w, {}))),
    "tversky": tversky,
    "focal_tversky": tversky,
    "lovasz": lovasz,
    "log_dice": log_dice,
    "robust_dice": noise_robust_dice,
    "sens_spec": sensitivity_specificity,
    "mcc": mcc,
    "exp_log": exp_log,
    "dice_ce": mixed(cross_entropy),
    "weighted_dice_ce": weighted_dice_ce,
    "dice_focal": mixed(cross_entropy),
    "dice_topk": mixed(hard),
    "combo": mixed(cross_entropy),
    "unified_focal": unified_focal,
    "symmetric_unified_focal": partial(unified_focal, symmetric=True),
    "blob_dice": blob_dice,
    "soft_cldice": soft_cldice,
    "skeleton_recall": skeleton_recall,
    "boundary": boundary,
}


def test_every_family_has_its_formula_here():
    assert set(FORMULAS) == set(FAMILIES)


@pytest.mark.parametrize("absent", [False, True], ids=["all-classes", "one-absent"])
@pytest.mark.parametrize("coordinates", ["generic", "other", "defaults"])
@pytest.mark.parametrize(("family", "task"), CASES)
def test_every_family_equals_its_formula(family, task, coordinates, absent):
    free = FAMILIES[family].coordinates[task]
    given = {"generic": point(family, task), "other": {name: HARD[name] for name in free}, "defaults": {}}[coordinates]
    given = needed(family, task) | given
    defaults = {name: c.default for name, c in free.items() if c.default is not None}
    frequencies = FREQUENCIES if task == "multiclass" else None
    loss = build_loss(family, task=task, class_frequencies=frequencies, **given)
    loss.checks_labels = False  # batch after batch without foreground would be warned of
    for seed in range(2):
        z, y = batch(task, seed, absent)
        ones, drawn = np.ones(y.shape), 3 * np.random.default_rng(seed).random(y.shape)
        for w in (None, drawn) if loss.takes_weight else (None,):
            value = loss(torch.from_numpy(z), torch.from_numpy(y), None if w is None else torch.from_numpy(w))
            expected = FORMULAS[family](task, z, y, ones if w is None else w, {**defaults, **given})
            assert value.item() == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_recall_of_scores_that_are_0_is_that_of_the_absence(task):
    """As by argmax of (0, z), and as a last layer of zeros gives them: the background is found, not missed."""
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[0, 0, 0] = 1
    z = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    both = build_loss("recall_ce", task="multiclass")(torch.cat([z, z], dim=1), labels)
    one = build_loss("recall_ce", task=task)(z, labels if task == "binary" else labels.unsqueeze(1))
    assert one.item() == pytest.approx(both.item(), rel=1e-12)
    assert one.item() == pytest.approx((1 / 15 * 15 + 1) * np.log(2) / 16, rel=1e-12)
