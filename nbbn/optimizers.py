"""Optimisers as plain specifications."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: `v = momentum * v - rate * g; p += v` (Nesterov: `p += momentum * v - rate * g`).

    Parameters
    ----------
    learning_rate : float
    momentum : float
        In [0, 1).
    nesterov : bool
        Look ahead by one momentum step (Sutskever et al., 2013); needs a momentum.
    """

    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    slots = 1

    @property
    def kernel(self) -> str:
        """The suffix of its kernels' names."""
        return "nesterov" if self.nesterov and self.momentum > 0 else "sgd"

    def constants(self) -> list[float]:
        """What its kernels read."""
        return [self.momentum]

    def rates(self, steps: np.ndarray) -> np.ndarray:
        """Learning rate of each step, counted from 0, corrections included."""
        return np.full(len(steps), self.learning_rate)


@dataclass(frozen=True)
class RMSprop:
    """`v = rho * v + (1 - rho) * g^2; p -= rate * g / (sqrt(v) + epsilon)` (Tieleman and Hinton, 2012).

    Parameters
    ----------
    learning_rate : float
    rho : float
        Weight of the old mean square, in [0, 1).
    epsilon : float
        Added outside the root.
    """

    learning_rate: float = 0.001
    rho: float = 0.9
    epsilon: float = 1e-7

    slots = 1
    kernel = "rmsprop"

    def constants(self) -> list[float]:
        """What its kernels read."""
        return [self.rho, 1 - self.rho, self.epsilon]

    def rates(self, steps: np.ndarray) -> np.ndarray:
        """Learning rate of each step, counted from 0."""
        return np.full(len(steps), self.learning_rate)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015, algorithm 1, in the form at the end of section 2).

    Parameters
    ----------
    learning_rate : float
    beta_1, beta_2 : float
        Weights of the old first and second moment, in [0, 1).
    epsilon : float
        Added outside the root.
    """

    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    slots = 2
    kernel = "adam"

    def constants(self) -> list[float]:
        """What its kernels read."""
        return [self.beta_1, self.beta_2, self.epsilon, 1 - self.beta_1, 1 - self.beta_2]

    def rates(self, steps: np.ndarray) -> np.ndarray:
        """Learning rate of each step, counted from 0, with both bias corrections."""
        t = np.asarray(steps, np.float64) + 1
        return self.learning_rate * np.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)


Optimizer = SGD | RMSprop | Adam
