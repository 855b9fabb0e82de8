"""The search for decision thresholds on development data: one for all classes, or one for each."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def best_threshold(
    scores: Float[np.ndarray, " P"], gold: Bool[np.ndarray, " P"], total_gold: int
) -> tuple[float, float]:
    """The threshold θ with the best micro-F1 when every score above θ (`score > θ`) is a prediction, and that F1.

    scores [P] finite, gold [P] bool; `total_gold` counts gold triples that are not among the P as well (recall
    needs them). θ lies halfway between two scores, 1 beyond them at the ends; of equally good ones the highest.
    All thresholds are tried by one sort, as GAIN does. Found on the data it is scored on, the F1 flatters.
    """
    scores, gold = _checked(scores, gold, total_gold, 1)
    theta, right, chosen = _cuts(scores, gold)
    f1 = _f1_of(right, chosen, total_gold)
    best = int(np.argmax(f1))
    return float(theta[best]), float(f1[best])


def cyclic_thresholds(
    scores: Float[np.ndarray, "P R"], gold: Bool[np.ndarray, "P R"], total_gold: int
) -> Float[np.ndarray, " R"]:
    """A threshold for each class by cyclic coordinate ascent on micro-F1 (Fan & Lin; ATLOP Table 6, "per-class").

    scores [P, R] finite, gold [P, R] bool, thresholds [R]; leave the class NA out. Starts at the best common
    threshold; each class in turn takes the value that is best given the others, until a whole round changes nothing.
    The end is a local optimum and depends on the order of the classes. Rare classes over-fit: ATLOP found per-class
    thresholds better than a common one on development data (61.73 to 60.14) and worse on test (60.35 to 60.62).
    """
    scores, gold = _checked(scores, gold, total_gold, 2)
    thetas = np.full(scores.shape[1], best_threshold(scores.ravel(), gold.ravel(), total_gold)[0])
    above = scores > thetas
    right, chosen = (above & gold).sum(0), above.sum(0)
    cuts = [_cuts(scores[:, r], gold[:, r]) for r in range(len(thetas))]
    best, changed = _f1_of(right.sum(), chosen.sum(), total_gold), True
    while changed:
        changed = False
        for r, (theta, hits, picks) in enumerate(cuts):
            f1 = _f1_of(right.sum() - right[r] + hits, chosen.sum() - chosen[r] + picks, total_gold)
            k = int(np.argmax(f1))
            if f1[k] > best:  # strictly, so that the rounds end
                best, changed = f1[k], True
                thetas[r], right[r], chosen[r] = theta[k], hits[k], picks[k]
    return thetas


def _checked(scores: np.ndarray, gold: np.ndarray, total_gold: int, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    scores, gold = np.asarray(scores, dtype=float), np.asarray(gold, dtype=bool)
    if scores.ndim != dimensions or scores.shape != gold.shape:
        raise ValueError(f"scores {scores.shape} and gold {gold.shape} must both have {dimensions} axes and agree")
    if not np.isfinite(scores).all():
        raise ValueError("some scores are not finite; leave out pairs that are not to be classified")
    if total_gold < gold.sum():
        raise ValueError(f"total_gold is {total_gold}, but {gold.sum()} of the scored are gold")
    return scores, gold


def _f1_of(right, chosen, total_gold: int):
    return 2 * right / np.maximum(chosen + total_gold, 1)  # 2TP / (predicted + gold), and 0 for 0 / 0


def _cuts(scores: np.ndarray, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every threshold that can be best, from the top: θ [K], gold above θ [K], all above θ [K]."""
    if not len(scores):
        return np.zeros(1), np.zeros(1, int), np.zeros(1, int)
    order = np.argsort(-scores)
    ranked, right = scores[order], np.cumsum(gold[order])
    last = np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True))  # equal scores cannot be told apart
    upper = ranked[last]
    middle = (upper + np.append(upper[1:], upper[-1] - 2)) / 2
    # between two neighbouring floats there is no middle
    theta = np.where(middle < upper, middle, np.append(upper[1:], upper[-1] - 1))
    theta, right, chosen = np.append(upper[0] + 1, theta), np.append(0, right[last]), np.append(0, last + 1)
    # going down past scores that are all wrong only costs precision: such a cut is never the best
    useful = np.append(True, np.diff(right) > 0)
    return theta[useful], right[useful], chosen[useful]
