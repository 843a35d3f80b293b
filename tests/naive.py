"""The oracle: NumPy alone, float64, written straight from the formulas and never from the library.

Everything here is slow and short on purpose. Arrays have rows first; a dense kernel is `(in, out)`.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np


def sigmoid(z):
    """`1 / (1 + exp(-z))`, without overflow for any z."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def softmax(z):
    """Rows of `exp(z) / sum(exp(z))`."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


ACTIVATIONS = {
    "identity": lambda z: z, "relu": lambda z: np.where(z < 0, 0, z), "logistic": sigmoid,
    "tanh": np.tanh, "softmax": softmax,
}
DERIVATIVES = {
    "identity": lambda z: np.ones_like(z), "relu": lambda z: (z > 0).astype(float),
    "logistic": lambda z: sigmoid(z) * (1 - sigmoid(z)), "tanh": lambda z: 1 - np.tanh(z) ** 2,
}


def _per_channel(vector, x, axis, absent):
    """`vector` (or `absent`) shaped to broadcast along `axis` of x."""
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    vector = np.full(x.shape[axis], absent) if vector is None else vector
    return np.asarray(vector, dtype=float).reshape(shape)


def _other_axes(x, axis):
    return tuple(i for i in range(x.ndim) if i != axis % x.ndim)


def batch_norm_inference(x, gamma, beta, mean, var, epsilon=1e-5, axis=-1, activation=None):
    """`activation(gamma * (x - mean) / sqrt(var + epsilon) + beta)`."""
    x = np.asarray(x, dtype=float)
    mean, var = _per_channel(mean, x, axis, 0.0), _per_channel(var, x, axis, 1.0)
    gamma, beta = _per_channel(gamma, x, axis, 1.0), _per_channel(beta, x, axis, 0.0)
    return ACTIVATIONS[activation or "identity"](gamma * (x - mean) / np.sqrt(var + epsilon) + beta)


def batch_norm_train(x, gamma, beta, epsilon=1e-5, axis=-1, activation=None):
    """Return `(y, mean, var)`: statistics over all axes but `axis`, the variance biased."""
    x = np.asarray(x, dtype=float)
    others = _other_axes(x, axis)
    mean, var = x.mean(axis=others), x.var(axis=others)
    return batch_norm_inference(x, gamma, beta, mean, var, epsilon, axis, activation), mean, var


def batch_norm_backward(dy, x, gamma, beta, epsilon=1e-5, axis=-1, activation=None):
    """Return `(dx, dgamma, dbeta)` (Ioffe and Szegedy, 2015, the chain rule below algorithm 1)."""
    x, dy = np.asarray(x, dtype=float), np.asarray(dy, dtype=float)
    others = _other_axes(x, axis)
    rows = x.size // x.shape[axis]
    centred = x - x.mean(axis=others, keepdims=True)
    variance = (centred**2).mean(axis=others, keepdims=True) + epsilon
    xhat = centred / np.sqrt(variance)
    scale = _per_channel(gamma, x, axis, 1.0)
    z = scale * xhat + _per_channel(beta, x, axis, 0.0)

    dz = dy * DERIVATIVES[activation or "identity"](z)
    dxhat = dz * scale
    dvar = (dxhat * centred).sum(axis=others, keepdims=True) * -0.5 * variance**-1.5
    dmean = -(dxhat / np.sqrt(variance)).sum(axis=others, keepdims=True)
    dx = dxhat / np.sqrt(variance) + dvar * 2 * centred / rows + dmean / rows
    return dx, (dz * xhat).sum(axis=others), dz.sum(axis=others)


def running_update(old, batch, momentum, step):
    """Bias-corrected moving average.

    `step` counts from 0, where the batch's value replaces the old one.
    """
    weight = momentum * (1 - momentum**step) / (1 - momentum ** (step + 1))
    return weight * old + (1 - weight) * batch


def dense_forward(x, kernel, bias):
    """`x @ kernel + bias`."""
    return x @ kernel + bias


def dense_backward(dz, x, kernel):
    """Return `(dx, dkernel, dbias)`."""
    return dz @ kernel.T, x.T @ dz, dz.sum(axis=0)


def softmax_cross_entropy(z, y):
    """Mean over rows of `-log softmax(z)[class]`; y is one-hot."""
    shifted = z - z.max(axis=1, keepdims=True)
    return (y * (np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted)).sum(axis=1).mean()


def binary_cross_entropy(z, y):
    """Mean over rows, sum over outputs, of `-y log sigmoid(z) - (1 - y) log(1 - sigmoid(z))`.

    Y is 0 or 1.
    """
    return (np.logaddexp(0, z) - y * z).sum(axis=1).mean()


def squared_error(z, y):
    """Half the mean, over rows and outputs, of `(y - z)^2`."""
    return 0.5 * ((y - z) ** 2).mean()


LOSSES = {
    "softmax": softmax_cross_entropy, "logistic": binary_cross_entropy, "identity": squared_error,
}


def loss_gradient(z, y, out_activation):
    """Gradient of the loss by z, the affine output.

    `(prediction - y) / rows`, as scikit-learn has it.

    For k regression targets that is k times the gradient of `squared_error`: scikit-learn reports
    the mean over targets and descends along the sum.
    """
    return (ACTIVATIONS[out_activation](z) - y) / len(z)


def sgd(grad, state, step, *, learning_rate, momentum=0.9, nesterov=True):
    """The change of a parameter under SGD with momentum.

    `state` is the parameter's own dict, steps count from 1.
    """
    state["velocity"] = momentum * state.get("velocity", 0.0) - learning_rate * grad
    return momentum * state["velocity"] - learning_rate * grad if nesterov else state["velocity"]


def adam(grad, state, step, *, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
    """The change of a parameter under Adam (Kingma and Ba, 2014, the efficient form at the end of
    section 2).
    """
    state["m"] = beta_1 * state.get("m", 0.0) + (1 - beta_1) * grad
    state["v"] = beta_2 * state.get("v", 0.0) + (1 - beta_2) * grad**2
    rate = learning_rate * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    return -rate * state["m"] / (np.sqrt(state["v"]) + epsilon)


def rmsprop(grad, state, step, *, learning_rate, rho=0.9, epsilon=1e-8):
    """The change of a parameter under RMSprop; epsilon stands inside the root, as in Keras."""
    state["mean_square"] = rho * state.get("mean_square", 0.0) + (1 - rho) * grad**2
    return -learning_rate * grad / np.sqrt(state["mean_square"] + epsilon)


OPTIMIZERS = {"sgd": sgd, "adam": adam, "rmsprop": rmsprop}


def batches(rows, batch_size, merge_tail):
    """Consecutive slices of `batch_size` rows.

    The last is shorter where the division leaves a rest.

    With `merge_tail` a rest of one row, or of less than a quarter of a batch, joins the batch
    before it.
    """
    starts = list(range(0, rows, batch_size))
    tail = rows - starts[-1]
    if merge_tail and len(starts) > 1 and (tail == 1 or 4 * tail < batch_size):
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], rows], strict=True)]


@dataclass
class MLP:
    """A perceptron with batch norm: `batch_norm[i]` is "pre", "post" or False for hidden layer i.

    "pre" stands between the affine map and the activation, "post" after the activation. A hidden
    layer with batch norm has no trained bias. Lists have one entry per hidden layer, None without
    batch norm.
    """

    coefs: list
    intercepts: list
    batch_norm: list
    activation: str = "relu"
    out_activation: str = "softmax"
    bn_epsilon: float = 1e-5
    bn_momentum: float = 0.9
    gammas: list = field(init=False)
    betas: list = field(init=False)
    running_means: list = field(init=False)
    running_vars: list = field(init=False)
    steps: int = 0

    def __post_init__(self):
        self.coefs = [np.array(w, dtype=float) for w in self.coefs]
        self.intercepts = [np.array(b, dtype=float) for b in self.intercepts]
        units = [
            w.shape[1] if norm else None
            for w, norm in zip(self.coefs[:-1], self.batch_norm, strict=True)
        ]
        self.gammas, self.running_vars = (
            [None if n is None else np.ones(n) for n in units] for _ in range(2)
        )
        self.betas, self.running_means = (
            [None if n is None else np.zeros(n) for n in units] for _ in range(2)
        )
        for i, norm in enumerate(self.batch_norm):
            if norm:
                self.intercepts[i] = np.zeros_like(self.intercepts[i])

    def predict(self, x):
        """The output in inference mode."""
        for i, norm in enumerate(self.batch_norm):
            x = dense_forward(x, self.coefs[i], self.intercepts[i])
            x = ACTIVATIONS[self.activation](x) if norm == "post" else x
            if norm:
                statistics = self.running_means[i], self.running_vars[i]
                x = batch_norm_inference(
                    x, self.gammas[i], self.betas[i], *statistics, self.bn_epsilon
                )
            x = x if norm == "post" else ACTIVATIONS[self.activation](x)
        return ACTIVATIONS[self.out_activation](
            dense_forward(x, self.coefs[-1], self.intercepts[-1])
        )

    def forward_train(self, x):
        """Return the affine output in training mode and one dict of intermediates per hidden layer."""
        tape = []
        for i, norm in enumerate(self.batch_norm):
            t = {"x": x, "z": dense_forward(x, self.coefs[i], self.intercepts[i])}
            if norm == "pre":
                args = self.gammas[i], self.betas[i], self.bn_epsilon
                x, t["mean"], t["var"] = batch_norm_train(t["z"], *args, activation=self.activation)
            elif norm == "post":
                t["a"] = ACTIVATIONS[self.activation](t["z"])
                x, t["mean"], t["var"] = batch_norm_train(
                    t["a"], self.gammas[i], self.betas[i], self.bn_epsilon
                )
            else:
                x = ACTIVATIONS[self.activation](t["z"])
            tape.append(t)
        tape.append({"x": x})
        return dense_forward(x, self.coefs[-1], self.intercepts[-1]), tape

    def loss_and_gradients(self, x, y, alpha):
        """The penalised loss of a batch, the gradient of each trained array by `(name, layer)`, and
        the tape.
        """
        z, tape = self.forward_train(x)
        rows = len(x)
        loss = (
            LOSSES[self.out_activation](z, y)
            + 0.5 * alpha * sum((w**2).sum() for w in self.coefs) / rows
        )
        grads = {}
        dz = loss_gradient(z, y, self.out_activation)
        for i in reversed(range(len(self.coefs))):
            if i < len(self.batch_norm):
                t, norm = tape[i], self.batch_norm[i]
                if norm:
                    inside, activation = (
                        (t["z"], self.activation) if norm == "pre" else (t["a"], None)
                    )
                    dz, grads["gammas", i], grads["betas", i] = batch_norm_backward(
                        dz, inside, self.gammas[i], self.betas[i], self.bn_epsilon,
                        activation=activation,
                    )
                if norm != "pre":
                    dz = dz * DERIVATIVES[self.activation](t["z"])
            dx, dkernel, dbias = dense_backward(dz, tape[i]["x"], self.coefs[i])
            grads["coefs", i] = dkernel + alpha * self.coefs[i] / rows
            if i == len(self.batch_norm) or not self.batch_norm[i]:
                grads["intercepts", i] = dbias
            dz = dx
        return loss, grads, tape


def train_mlp(mlp, x, y, epochs, optimizer, alpha=0.0, **hyper):
    """Return a trained copy of `mlp` and the loss of each epoch.

    `epochs` holds one list of batches (slices or index arrays) per epoch, `optimizer` is one of
    `OPTIMIZERS`, `hyper` its arguments. The loss of an epoch is the mean over rows of the batches'
    losses, each taken before its step.
    """
    mlp = deepcopy(mlp)
    states: dict = {}
    curve = []
    for epoch in epochs:
        total = rows = 0
        for batch in epoch:
            loss, grads, tape = mlp.loss_and_gradients(x[batch], y[batch], alpha)
            total += loss * len(x[batch])
            rows += len(x[batch])
            for i, t in enumerate(tape):
                if "mean" in t:
                    for running, name in ((mlp.running_means, "mean"), (mlp.running_vars, "var")):
                        running[i] = running_update(running[i], t[name], mlp.bn_momentum, mlp.steps)
            mlp.steps += 1
            for (name, i), grad in grads.items():
                change = optimizer(grad, states.setdefault((name, i), {}), mlp.steps, **hyper)
                getattr(mlp, name)[i] = getattr(mlp, name)[i] + change
        curve.append(total / rows)
    return mlp, curve
