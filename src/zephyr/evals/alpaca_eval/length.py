"""The length-controlled win rate: what it would be if the model's outputs were as long as the baseline's.

A logistic regression predicts the judge's preference from the difference in length, the difficulty of the instruction and the model::

    logit p = a tanh(delta_len / sd) + c difficulty + b,    delta_len = len(output_1) - len(output_2) in characters

and the rate is the mean of p at delta_len = 0. Two "gamed" variants of the baseline (told to be verbose, told to be concise) stand in
the fit with weight 0.1 a row and without b, so that a is learnt from them too. As in the original the fit carries an L1 penalty whose
strength is chosen by five-fold cross-validation of the log loss.

Source: Dubois, Galambosi, Liang & Hashimoto 2024, "Length-Controlled AlpacaEval"; alpaca_eval, metrics/glm_winrate.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zephyr.evals.alpaca_eval.files import Annotation, position
from zephyr.evals.alpaca_eval.tables import GAMED_WEIGHT, Floats, Tables, Weights
from zephyr.evals.statistics import student_t_975

STRENGTHS = tuple(float(c) for c in np.logspace(-4, 4, 10))
FOLDS = 5


@dataclass(frozen=True)
class Problem:
    """A weighted logistic regression with soft labels: features [n, k], points [n] from 0 to 1, weights [n] of the rows."""

    features: Floats
    points: Floats
    weights: Floats

    def rows(self, chosen: Floats) -> Problem:
        """Some of the rows."""
        return Problem(self.features[chosen], self.points[chosen], self.weights[chosen])


@dataclass(frozen=True)
class Controlled:
    """A length-controlled win rate.

    Attributes:
        rate: 0 to 100.
        weights: what predicts it.
        stderr: standard error of the rate in percentage points, instructions being a sample.
        groups: instructions it rests on.
        strength: the inverse of the penalty; None where the weights were given.
    """

    rate: float
    weights: Weights
    stderr: float
    groups: int
    strength: float | None = None

    @property
    def ci95(self) -> list[float] | None:
        """[low, high] within 0 and 100."""
        if self.groups < 2:
            return None
        half = student_t_975(self.groups - 1) * self.stderr
        return [max(0.0, self.rate - half), min(100.0, self.rate + half)]


def from_weights(weights: Weights, difficulties: Floats) -> float:
    """The rate (0 to 100) of published weights over instructions of these difficulties."""
    return float(100 * _sigmoid(weights.difficulty * difficulties + weights.bias).mean())


def own_difficulties(annotations: Sequence[Annotation], difficulties: Floats, *, positional: bool) -> Floats | None:
    """The difficulty of each row's instruction; None if one is not among them.

    Args:
        annotations: the rows.
        difficulties: by position in AlpacaEval's set.
        positional: by the row's number in the file, as the original has it: where a row is missing, all that follow get another's.
    """
    at = list(range(len(annotations))) if positional else [position(a.instruction) for a in annotations]
    if any(i is None or i >= len(difficulties) for i in at):
        return None
    return difficulties[np.array(at, dtype=np.intp)]


def problem_of(annotations: Sequence[Annotation], difficulty: Floats, tables: Tables) -> Problem | None:
    """What is fitted: the gamed baselines' rows, then those of the annotations with a verdict.

    Args:
        annotations: of one model.
        difficulty: of each row.
        tables: with the gamed baselines, if they are at hand.

    Returns:
        None where nothing can be told: fewer than two verdicts, or outputs that all differ by the same length.
    """
    delta = np.array([len(a.output_1) - len(a.output_2) for a in annotations], dtype=np.float64)
    judged = np.array([a.points is not None for a in annotations])
    if judged.sum() < 2 or not delta.std() > 0:
        return None
    features = np.stack([np.tanh(delta / delta.std(ddof=1)), difficulty, np.ones_like(delta)], axis=1)[judged]
    points = np.array([a.points for a in annotations if a.points is not None])
    gamed_features, gamed_points = tables.gamed or (np.zeros((0, 3)), np.zeros(0))
    return Problem(
        np.concatenate([gamed_features, features]),
        np.concatenate([gamed_points, points]),
        np.concatenate([np.full(len(gamed_points), GAMED_WEIGHT), np.ones(len(points))]),
    )


def fit(problem: Problem, names: Sequence[str], predict_on: Floats) -> Controlled:
    """The rate of a new fit.

    Args:
        problem: of `problem_of`.
        names: the instruction of each judged row.
        predict_on: difficulties of the instructions that the rate is the mean over.
    """
    strength = chosen_strength(problem)
    return at(Weights(*(float(v) for v in solve(problem, strength))), problem, names, predict_on, strength)


def at(weights: Weights, problem: Problem, names: Sequence[str], predict_on: Floats, strength: float | None = None) -> Controlled:
    """The rate that weights give, with the error it has if they were fitted to these rows."""
    error = _standard_error(problem, np.array([weights.length, weights.difficulty, weights.bias]), names, predict_on)
    return Controlled(from_weights(weights, predict_on), weights, 100 * error, len(set(names)), strength)


def misfit(weights: Weights, problem: Problem) -> float:
    """How far weights are from predicting the win rate of the judged rows, in percentage points.

    The bias is free in the fit and belongs to the model's rows alone, so that there the mean prediction is the mean verdict: weights
    that were fitted to these rows miss it by the penalty's share only.
    """
    own = problem.rows(problem.features[:, 2] == 1)
    predicted = _sigmoid(own.features @ np.array([weights.length, weights.difficulty, weights.bias]))
    return float(100 * abs(predicted.mean() - own.points.mean()))


def solve(problem: Problem, strength: float, start: Floats | None = None) -> Floats:
    """Coefficients [k] that minimise ||w||_1 + strength * sum of weighted log losses (liblinear's objective).

    Newton steps on the loss, each with its penalty minimised coordinate by coordinate; k is three, so this takes milliseconds.
    """
    x, y, s = problem.features, problem.points, problem.weights
    penalty = 1 / strength
    w = np.zeros(x.shape[1]) if start is None else start
    value = _objective(problem, w, penalty)
    for _ in range(100):
        p = _sigmoid(x @ w)
        gradient, hessian = x.T @ (s * (p - y)), (x * (s * p * (1 - p))[:, None]).T @ x + 1e-10 * np.eye(len(w))
        step = _penalised_minimum(w.tolist(), gradient.tolist(), hessian.tolist(), penalty) - w
        size = 1.0
        while (after := _objective(problem, w + size * step, penalty)) > value + 1e-12 * abs(value) and size > 1e-8:
            size /= 2
        w, value = w + size * step, after
        if np.abs(step).max() < 1e-9:
            break
    return w


def chosen_strength(problem: Problem) -> float:
    """The strength with the lowest log loss on held-out fifths; the original draws its folds by the row's number too."""
    fold = (len(problem.points) - 1 - np.arange(len(problem.points))) % FOLDS
    losses = np.zeros(len(STRENGTHS))
    for k in range(FOLDS):
        training, held_out, w = problem.rows(fold != k), problem.rows(fold == k), None
        for i, strength in enumerate(STRENGTHS):
            w = solve(training, strength, w)
            losses[i] += _losses(held_out, w).mean()
    return STRENGTHS[int(np.argmin(losses))]


def _penalised_minimum(w: list[float], gradient: list[float], hessian: list[list[float]], penalty: float) -> Floats:
    """Minimum of the quadratic model of the loss plus the penalty; in plain floats, for arrays of three are mostly overhead."""
    v = list(w)
    for _ in range(1000):
        largest = 0.0
        for j, row in enumerate(hessian):
            free = v[j] - (gradient[j] + sum(h * (a - b) for h, a, b in zip(row, v, w, strict=True))) / row[j]
            new = math.copysign(max(abs(free) - penalty / row[j], 0.0), free)
            largest, v[j] = max(largest, abs(new - v[j])), new
        if largest < 1e-12:
            break
    return np.array(v)


def _objective(problem: Problem, w: Floats, penalty: float) -> float:
    return float(_losses(problem, w).sum() + penalty * np.abs(w).sum())


def _losses(problem: Problem, w: Floats) -> Floats:
    z = problem.features @ w
    return problem.weights * (np.logaddexp(0, z) - problem.points * z)


def _standard_error(problem: Problem, w: Floats, names: Sequence[str], predict_on: Floats) -> float:
    """Of the rate (0 to 1), from the influence of each instruction on it; the gamed rows are given, the penalty is left out.

    The influence of row i is (g_i - rate) / n, for the instructions themselves are a sample, plus G H^-1 u_i, for the fit:
    g the prediction at equal length, G its mean gradient, H the Hessian of the loss, u_i the row's score.
    """
    x, y, s = problem.features, problem.points, problem.weights
    p = _sigmoid(x @ w)
    hessian = (x * (s * p * (1 - p))[:, None]).T @ x + 1e-10 * np.eye(len(w))
    at_zero = _sigmoid(w[1] * predict_on + w[2])
    slope = at_zero * (1 - at_zero)
    gradient = np.array([0.0, (slope * predict_on).mean(), slope.mean()])
    own_rows = x[:, 2] == 1
    x, y, p = x[own_rows], y[own_rows], p[own_rows]
    own = _sigmoid(x[:, 1] * w[1] + w[2])
    influence = (own - own.mean()) / len(own) + ((y - p)[:, None] * x) @ np.linalg.solve(hessian, gradient)
    sums: dict[str, float] = {}
    for name, value in zip(names, influence.tolist(), strict=True):
        sums[name] = sums.get(name, 0.0) + value
    k = len(sums)
    return math.sqrt(k / (k - 1) * math.fsum(v**2 for v in sums.values())) if k > 1 else math.nan


def _sigmoid(z: Floats) -> Floats:
    found: Floats = np.exp(-np.logaddexp(0, -z))
    return found
