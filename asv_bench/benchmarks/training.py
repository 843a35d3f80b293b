"""Training: epochs of an MNIST-sized network on made-up data."""

import warnings

import numpy as np

import nbbn

ROWS, FEATURES, CLASSES = 60_000, 784, 10
HIDDEN = (128, 64, 32)


def make_images(rows=ROWS):
    """Rows as dark as handwritten digits, with labels that depend on them."""
    rng = np.random.default_rng(7)
    x = rng.random((rows, FEATURES), dtype=np.float32)
    x *= x > 0.8
    return x, (x @ rng.standard_normal((FEATURES, CLASSES)).astype(np.float32)).argmax(1)


def fit(x, y, batch_size, epochs=1, **params):
    """Fit for a number of epochs, whatever the loss does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nbbn.MLPClassifier(
            HIDDEN, batch_size=batch_size, max_iter=epochs, tol=0, n_iter_no_change=epochs, random_state=0, **params
        ).fit(x, y)


class Epoch:
    """One epoch of 784-128-64-32-10, Adam, as a whole fit: validation of the input included."""

    params = ([32, 256, 1024], [True, False])
    param_names = ("batch_size", "batch_norm")
    version = "1"
    number, warmup_time = 1, 0

    def setup(self, batch_size, batch_norm):
        self.x, self.y = make_images()
        fit(self.x[: 4 * batch_size], self.y[: 4 * batch_size], batch_size, batch_norm=batch_norm)

    def time_fit(self, batch_size, batch_norm):
        fit(self.x, self.y, batch_size, batch_norm=batch_norm)


class Solvers:
    """One epoch at batch 256 with each solver."""

    params = ["sgd", "rmsprop", "adam"]
    param_names = ("solver",)
    version = "1"
    number, warmup_time = 1, 0

    def setup(self, solver):
        self.x, self.y = make_images()
        fit(self.x[:1024], self.y[:1024], 256, solver=solver)

    def time_fit(self, solver):
        fit(self.x, self.y, 256, solver=solver)


class Memory:
    """Largest memory of a process that makes 60,000 rows and fits."""

    version = "1"

    def setup(self):
        self.x, self.y = make_images()

    def peakmem_rows_alone(self):
        self.x.sum()

    def peakmem_fit(self):
        fit(self.x, self.y, 256)
