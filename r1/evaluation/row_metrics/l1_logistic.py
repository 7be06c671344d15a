"""Logistic regression on probabilities with an L1 penalty, as AlpacaEval's GLM needs it.

The same problem as scikit-learn's `LogisticRegressionCV(penalty="l1", solver="liblinear",
fit_intercept=False)`: minimise |w|_1 + C * sum of weighted log losses, C out of ten by
five-fold cross-validation. With a handful of features, Newton steps whose quadratic is
minimised by coordinate descent reach the optimum in a few iterations (Yuan, Ho and Lin
2012, "An Improved GLMNET for L1-regularized Logistic Regression").
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_CHOICES_OF_C = np.logspace(-4, 4, 10)
_NUM_FOLDS = 5
_MAX_ITERATIONS, _TOLERANCE = 200, 1e-10


def fit_cross_validated(features: Array, targets: Array, weights: Array) -> Array:
    """Coefficients with the C of the best mean log loss on folds that were left out.

    `features` is (rows, features); `targets` are probabilities; `weights` weigh the rows.
    """
    folds = _folds(len(targets))
    losses = []
    for c in _CHOICES_OF_C:
        fold_losses = []
        for fold in range(_NUM_FOLDS):
            fit, left = folds != fold, folds == fold
            coefficients = fit_l1(features[fit], targets[fit], weights[fit], c)
            loss = _log_losses(predict(features[left], coefficients), targets[left])
            fold_losses.append(np.mean(weights[left] * loss))
        losses.append(np.mean(fold_losses))
    return fit_l1(features, targets, weights, float(_CHOICES_OF_C[int(np.argmin(losses))]))


def fit_l1(features: Array, targets: Array, weights: Array, c: float) -> Array:
    """Coefficients that minimise |w|_1 + c * the weighted log loss."""
    objective = partial(_objective, features, targets, weights, c)
    coefficients = np.zeros(features.shape[1])
    for _ in range(_MAX_ITERATIONS):
        probabilities = predict(features, coefficients)
        gradient = c * features.T @ (weights * (probabilities - targets))
        curvature = c * weights * probabilities * (1 - probabilities)
        hessian = (features.T * curvature) @ features + 1e-12 * np.eye(len(coefficients))
        step = _newton_step(coefficients, gradient, hessian)
        if np.max(np.abs(step)) < _TOLERANCE:
            break
        scale = _step_length(objective, coefficients, step, gradient)
        coefficients = coefficients + scale * step
    return coefficients


def predict(features: Array, coefficients: Array) -> Array:
    """The probabilities that the model gives."""
    return np.exp(-np.logaddexp(0, -features @ coefficients))


def _newton_step(coefficients: Array, gradient: Array, hessian: Array) -> Array:
    """The minimum of the quadratic model plus |w + step|_1, by coordinate descent."""
    step = np.zeros_like(coefficients)
    for _ in range(1000):
        largest_change = 0.0
        for j, curvature in enumerate(np.diag(hessian)):
            slope = gradient[j] + hessian[j] @ step
            moved = coefficients[j] + step[j] - slope / curvature
            shrunk = np.sign(moved) * max(abs(moved) - 1 / curvature, 0.0)
            change = shrunk - coefficients[j] - step[j]
            step[j] += change
            largest_change = max(largest_change, abs(change))
        if largest_change < _TOLERANCE / 10:
            break
    return step


def _objective(features: Array, targets: Array, weights: Array, c: float, at: Array) -> float:
    z = features @ at
    losses = targets * np.logaddexp(0, -z) + (1 - targets) * np.logaddexp(0, z)
    return float(np.abs(at).sum() + c * (weights * losses).sum())


def _step_length(
    objective: Callable[[Array], float], coefficients: Array, step: Array, gradient: Array
) -> float:
    """Halve the step until the objective falls as much as it should (Armijo's rule)."""
    here = objective(coefficients)
    expected = gradient @ step + np.abs(coefficients + step).sum() - np.abs(coefficients).sum()
    scale = 1.0
    while scale > 1e-10 and objective(coefficients + scale * step) > here + 0.01 * scale * expected:
        scale /= 2
    return scale


def _folds(num_rows: int) -> npt.NDArray[np.int64]:
    """The fold of each row, as scikit-learn's GroupKFold deals groups of equal size."""
    folds = np.empty(num_rows, dtype=np.int64)
    folds[np.argsort(np.full(num_rows, 2))[::-1]] = np.arange(num_rows) % _NUM_FOLDS
    return folds


def _log_losses(probabilities: Array, targets: Array) -> Array:
    clipped = np.clip(probabilities, 1e-15, 1 - 1e-15)
    return -(targets * np.log(clipped) + (1 - targets) * np.log(1 - clipped))
