from __future__ import annotations

import numpy as np
import pytest

from r1.evaluation.row_metrics.l1_logistic import fit_cross_validated, fit_l1, predict


def test_one_feature_against_its_equation() -> None:
    # One constant feature, targets .8, C = 2, three rows: at the optimum
    # 1 = 2 * 3 * (.8 - p), so p = .8 - 1/6.
    features, targets, weights = np.ones((3, 1)), np.full(3, 0.8), np.ones(3)
    fitted = fit_l1(features, targets, weights, 2.0)
    assert predict(features, fitted)[0] == pytest.approx(0.8 - 1 / 6)


def test_a_strong_penalty_gives_zero() -> None:
    features, targets, weights = np.ones((3, 1)), np.full(3, 0.8), np.ones(3)
    # |gradient at 0| = c * 3 * .3 must exceed 1.
    assert fit_l1(features, targets, weights, 1.1)[0] == 0.0
    assert fit_l1(features, targets, weights, 1.2)[0] > 0.0


def test_a_row_of_weight_two_is_two_rows() -> None:
    draws = np.random.default_rng(0)
    features, targets = draws.normal(size=(20, 3)), draws.uniform(size=20)
    weights = np.ones(20)
    weights[0] = 2
    doubled = fit_l1(
        np.concatenate([features, features[:1]]), np.append(targets, targets[0]), np.ones(21), 1.0
    )
    assert fit_l1(features, targets, weights, 1.0) == pytest.approx(doubled, abs=1e-8)


def test_without_a_penalty_that_counts_it_finds_the_truth() -> None:
    draws = np.random.default_rng(1)
    truth = np.array([1.0, -2.0, 0.5])
    features = draws.normal(size=(500, 3))
    targets = predict(features, truth)
    assert fit_l1(features, targets, np.ones(500), 1e6) == pytest.approx(truth, abs=1e-3)
    assert fit_cross_validated(features, targets, np.ones(500)) == pytest.approx(truth, abs=1e-2)


def test_separable_data_end() -> None:
    features = np.array([[-1.0], [-2.0], [1.0], [2.0]])
    fitted = fit_l1(features, np.array([0.0, 0.0, 1.0, 1.0]), np.ones(4), 1e4)
    assert np.isfinite(fitted).all() and fitted[0] > 5
