"""Optimisers as plain specifications, with Keras's names, arguments and defaults."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from nbbn import names_of_keras, schedules
from nbbn.names import find, suggesting
from nbbn.schedules import Schedule

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lion", "Nadam",
           "Optimizer", "RMSprop", "get"]

# Arguments of Keras's that no kernel computes, and the value at which they do nothing.
_ABSENT = {"use_ema": False, "ema_overwrite_frequency": None, "loss_scale_factor": None}
_NOT_WRITTEN = (*_ABSENT, "ema_momentum")
_CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")

LearningRate = float | Schedule | Callable[[int], float]


class Rate(float):
    """An optimiser's learning rate, which can be set as Keras's variable is."""

    _optimizer: Any

    @classmethod
    def of(cls, value: float, optimizer: Any) -> "Rate":
        """The rate of an optimiser."""
        rate = cls(value)
        rate._optimizer = optimizer
        return rate

    def assign(self, value: Any) -> None:
        """Set the optimiser's learning rate."""
        self._optimizer.learning_rate = value if callable(value) else float(value)

    def numpy(self) -> np.float64:
        """The number."""
        return np.float64(self)

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        return float, (float(self),)


@dataclass(kw_only=True, repr=False)
class Optimizer:
    """What every optimiser has; made once, and only `learning_rate` may be set afterwards.

    Parameters
    ----------
    weight_decay : float or None
        Decoupled: before each update every trained array shrinks by `learning_rate * weight_decay`
        of itself.
    clipnorm, clipvalue, global_clipnorm : float or None
        At most one of them: bound of each array's gradient norm, of each gradient value, of the
        norm of all gradients together.
    use_ema, ema_momentum, ema_overwrite_frequency, loss_scale_factor
        Keras's, not supported: taken at the values that do nothing.
    gradient_accumulation_steps : int or None
        Batches that make one update, at least 2. All data are in memory, so they are computed as
        one batch: the statistics of a batch norm are those of all their rows together, exactly.
    name : str or None

    Raises
    ------
    TypeError, ValueError
        For an argument that breaks its rule.

    Examples
    --------
    >>> from nbbn.optimizers import SGD
    >>> optimizer = SGD(0.1, momentum=0.9, global_clipnorm=1.0)
    >>> optimizer
    SGD(global_clipnorm=1.0, learning_rate=0.1, momentum=0.9)
    >>> optimizer.learning_rate = 0.01
    >>> optimizer.config()["class_name"]
    'SGD'
    """

    weight_decay: float | None = None
    clipnorm: float | None = None
    clipvalue: float | None = None
    global_clipnorm: float | None = None
    use_ema: bool = False
    ema_momentum: float = 0.99
    ema_overwrite_frequency: int | None = None
    loss_scale_factor: float | None = None
    gradient_accumulation_steps: int | None = None
    name: str | None = None
    learning_rate: LearningRate = 0.0  # of the subclasses the first argument, with their default

    # Arguments that weigh old values; those of at least 0; those that are bools.
    shares: ClassVar[tuple[str, ...]] = ()
    sizes: ClassVar[tuple[str, ...]] = ()
    flags: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in self.shares:
            object.__setattr__(self, name, self._number(name, most=1.0))
        for name in self.sizes:
            object.__setattr__(self, name, self._number(name))
        for name in self.flags:
            if not isinstance(getattr(self, name), bool):
                raise self._error(f"{name} must be True or False, got {getattr(self, name)!r}")
        for name in ("epsilon", "weight_decay", *_CLIPS):
            if getattr(self, name, None) is not None:
                object.__setattr__(self, name, self._number(name))
        self._check_clips({n: getattr(self, n) for n in _CLIPS if getattr(self, n) is not None})
        k: object = self.gradient_accumulation_steps
        if k is not None and (isinstance(k, bool) or not isinstance(k, Integral) or int(k) < 2):
            raise self._error("gradient_accumulation_steps must be None or a whole number above 1, "
                              f"got {k!r}")
        for name, nothing in _ABSENT.items():
            value = getattr(self, name, nothing)
            if value is not nothing and value != nothing:
                raise self._error(f"{name} is not supported, got {value!r}; leave it out")
        self.__dict__["_made"] = True

    def _check_clips(self, clips: dict[str, float]) -> None:
        if len(clips) > 1:
            raise self._error("only one of clipnorm, clipvalue and global_clipnorm can be given, "
                              f"got {clips}")
        for name, value in clips.items():
            if value == 0:
                raise self._error(f"{name} must be above 0, got 0; leave it out to clip nothing")

    def __repr__(self) -> str:
        shown = (
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)
            if getattr(self, f.name) != f.default
        )
        return f"{self._class}({', '.join(shown)})"

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name == "learning_rate" and isinstance(value, float):
            return Rate.of(value, self)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        if name == "learning_rate":
            value = self._checked_rate(value)
        elif "_made" in self.__dict__:
            raise AttributeError(f"{self._class}: only learning_rate can be set; "
                                 f"make a new {self._class} and call compile")
        object.__setattr__(self, name, value)

    @property
    def lr(self) -> Any:
        """The learning rate by its old name."""
        return self.learning_rate

    @property
    def slots(self) -> int:
        """Arrays of state for each trained array."""
        raise NotImplementedError

    @property
    def kernel(self) -> str:
        """The suffix of its kernels' names."""
        raise NotImplementedError

    @property
    def _class(self) -> str:
        return type(self).__name__

    def _error(self, text: str) -> ValueError:
        return ValueError(f"{self._class}: {text}")

    def _number(self, name: str, most: float = math.inf) -> float:
        value: object = getattr(self, name)
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else -1.0
        if not 0 <= number <= most or number == math.inf:
            bounded = f"a number in [0, {most:g}]"
            rule = "a finite number of at least 0" if most == math.inf else bounded
            raise self._error(f"{name} must be {rule}, got {value!r}")
        return number

    def _checked_rate(self, value: object) -> LearningRate:
        if callable(value):
            return value
        if "_made" in self.__dict__ and callable(self.learning_rate):
            raise TypeError(f"{self._class}: its learning_rate is a schedule, "
                            "which a number cannot replace; make the optimizer with a number")
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{self._class}: learning_rate must be a number, "
                            f"a schedule or a function of the step, got {value!r}")
        if not 0 <= float(value) < math.inf:
            raise self._error(f"learning_rate must be a finite number of at least 0, got {value}")
        return float(value)

    def learning_rates(self, steps: np.ndarray) -> np.ndarray:
        """The learning rate of each step, counted from 0: the number, or what the schedule says.

        Raises
        ------
        ValueError
            For a function that answers anything but a finite number of at least 0.
        """
        given = self.learning_rate
        if isinstance(given, Schedule) and not given.takes_one_step:
            return np.asarray(given(np.asarray(steps)))
        if not callable(given):
            return np.full(len(steps), given)
        rates = np.array([given(int(step)) for step in steps], np.float64)
        if not (np.isfinite(rates) & (rates >= 0)).all():
            raise self._error("the function learning_rate must give finite numbers of at least 0, "
                              f"got {rates}")
        return rates

    def rates(self, steps: np.ndarray) -> np.ndarray:
        """What the kernels multiply by in each step: the learning rate, corrections included."""
        return self.learning_rates(steps)

    def shrinks(self, steps: np.ndarray) -> np.ndarray | None:
        """The share of itself that every array loses before each step.

        None without weight decay.
        """
        return self.weight_decay * self.learning_rates(steps) if self.weight_decay else None

    def constants(self) -> list[float]:
        """What its kernels read."""
        raise NotImplementedError

    def _fixed(self) -> set[str]:
        """Fields that are no arguments."""
        return {f.name for f in fields(self) if not f.init}

    def get_config(self) -> dict[str, Any]:
        """The arguments, as Keras gives them."""
        return self.config()["config"]

    def config(self) -> dict:
        """The arguments, JSON-ready; `from_config` reads them.

        Raises
        ------
        ValueError
            For a learning rate that is a function: only numbers and schedules of `nbbn.schedules`
            can be written.
        """
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_WRITTEN}
        given = {n: float(v) if isinstance(v, Rate) else v for n, v in given.items()
                 if (v is not None or n == "weight_decay") and n not in self._fixed()}
        if isinstance(self.learning_rate, Schedule):
            given["learning_rate"] = self.learning_rate.config()
        elif callable(self.learning_rate):
            raise self._error("a learning_rate that is a function cannot be written to a file; "
                              "use nbbn.schedules")
        return {"class_name": self._class, "config": given}


@dataclass(repr=False)
class SGD(Optimizer):
    """Stochastic gradient descent: `v = momentum * v - rate * g; p += v`.

    Nesterov's: `p += momentum * v - rate * g`.

    Parameters
    ----------
    learning_rate : float, Schedule or callable
        A callable takes the step's number, counted from 0.
    momentum : float
        In [0, 1].
    nesterov : bool
        Look ahead by one momentum step (Sutskever et al., 2013); needs a momentum.
    **base
        See `Optimizer`.

    Examples
    --------
    >>> import nbbn
    >>> from nbbn.optimizers import SGD
    >>> model = nbbn.Sequential([nbbn.layers.Dense(1, input_shape=(3,))])
    >>> model.compile(SGD(0.05, momentum=0.9, nesterov=True), "mse")
    >>> model.optimizer
    SGD(learning_rate=0.05, momentum=0.9, nesterov=True)
    """

    learning_rate: LearningRate = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    slots = 1
    shares = ("momentum",)
    flags = ("nesterov",)

    @property
    def kernel(self) -> str:
        return "nesterov" if self.nesterov and self.momentum > 0 else "sgd"

    def constants(self) -> list[float]:
        return [self.momentum]


@dataclass(repr=False)
class RMSprop(Optimizer):
    """`v = rho * v + (1 - rho) * g^2; p -= rate * g / sqrt(v + epsilon)`.

    Tieleman and Hinton (2012).

    Parameters
    ----------
    learning_rate : float, Schedule or callable
        A callable takes the step's number, counted from 0.
    rho : float
        Weight of the old mean square, in [0, 1].
    momentum : float
        Weight of the old step in the new one, in [0, 1].
    epsilon : float
        Added inside the root.
    centered : bool
        Whether the squared mean of the gradient, averaged like v, is taken off v.
    **base
        See `Optimizer`.

    Examples
    --------
    >>> from nbbn.optimizers import RMSprop
    >>> RMSprop(0.01, rho=0.95)
    RMSprop(learning_rate=0.01, rho=0.95)
    """

    learning_rate: LearningRate = 0.001
    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False

    shares = ("rho", "momentum")
    flags = ("centered",)

    @property
    def slots(self) -> int:
        return 3 if self.momentum or self.centered else 1

    @property
    def kernel(self) -> str:
        return "rmsprop_momentum" if self.momentum or self.centered else "rmsprop"

    def constants(self) -> list[float]:
        return [self.rho, 1 - self.rho, self.epsilon, self.momentum, float(self.centered)]


@dataclass(repr=False)
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015, algorithm 1, in the form at the end of section 2).

    Parameters
    ----------
    learning_rate : float, Schedule or callable
        A callable takes the step's number, counted from 0.
    beta_1, beta_2 : float
        Weights of the old first and second moment, in [0, 1).
    epsilon : float
        Added outside the root.
    amsgrad : bool
        Whether to divide by the largest second moment so far (Reddi, Kale and Kumar, 2018).
    **base
        See `Optimizer`.

    Examples
    --------
    >>> from nbbn.optimizers import Adam
    >>> from nbbn.schedules import CosineDecay
    >>> Adam()
    Adam()
    >>> Adam(CosineDecay(0.01, decay_steps=1000)).learning_rates([0, 500, 1000]).round(4)
    array([0.01 , 0.005, 0.   ])
    """

    learning_rate: LearningRate = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    amsgrad: bool = False

    shares = ("beta_1", "beta_2")
    flags = ("amsgrad",)

    @property
    def slots(self) -> int:
        return 3 if self.amsgrad else 2

    @property
    def kernel(self) -> str:
        return "amsgrad" if self.amsgrad else "adam"

    def __post_init__(self) -> None:
        super().__post_init__()
        if 1.0 in (self.beta_1, self.beta_2):
            given = f"{self.beta_1} and {self.beta_2}"
            raise self._error(f"beta_1 and beta_2 must lie below 1, got {given}")

    def constants(self) -> list[float]:
        return [self.beta_1, self.beta_2, self.epsilon, 1 - self.beta_1, 1 - self.beta_2]

    def rates(self, steps: np.ndarray) -> np.ndarray:
        """The learning rate of each step, counted from 0, with both bias corrections."""
        t = np.asarray(steps, np.float64) + 1
        return self.learning_rates(steps) * np.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon, amsgrad
        See `Adam`.
    weight_decay : float or None
        See `Optimizer`.
    **base
        See `Optimizer`.

    Examples
    --------
    >>> from nbbn.optimizers import AdamW
    >>> AdamW(weight_decay=0.01).weight_decay
    0.01
    """

    def __init__(self, learning_rate: LearningRate = 0.001, weight_decay: float | None = 0.004,
                 beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
                 amsgrad: bool = False, **base: Any):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay,
                         **base)


@dataclass(repr=False)
class Nadam(Adam):
    """Adam with Nesterov's momentum (Dozat, 2016).

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon
        See `Adam`.
    **base
        See `Optimizer`.

    Examples
    --------
    >>> from nbbn.optimizers import Nadam
    >>> Nadam(0.002)
    Nadam(learning_rate=0.002)
    """

    amsgrad: bool = field(default=False, init=False)

    slots = 5
    kernel = "nadam"

    def rates(self, steps: np.ndarray) -> np.ndarray:
        """The learning rate of each step; the kernel corrects it."""
        return self.learning_rates(steps)


@dataclass(repr=False)
class Adamax(Adam):
    """Adam with the largest gradient in the place of the second moment.

    Kingma and Ba (2015), algorithm 2.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon
        See `Adam`.
    **base
        See `Optimizer`.

    Examples
    --------
    >>> from nbbn.optimizers import Adamax
    >>> Adamax(0.002)
    Adamax(learning_rate=0.002)
    """

    amsgrad: bool = field(default=False, init=False)

    slots = 2
    kernel = "adamax"

    def rates(self, steps: np.ndarray) -> np.ndarray:
        """The learning rate of each step, with the bias correction."""
        t = np.asarray(steps, np.float64) + 1
        return self.learning_rates(steps) / (1 - self.beta_1**t)


@dataclass(repr=False)
class Adagrad(Optimizer):
    """`a += g^2; p -= rate * g / sqrt(a + epsilon)` (Duchi, Hazan and Singer, 2011).

    Parameters
    ----------
    learning_rate : float, Schedule or callable
        A callable takes the step's number, counted from 0.
    initial_accumulator_value : float
        What `a` begins with.
    epsilon : float
    **base
        See `Optimizer`.

    Examples
    --------
    >>> from nbbn.optimizers import Adagrad
    >>> Adagrad(0.01)
    Adagrad(learning_rate=0.01)
    """

    learning_rate: LearningRate = 0.001
    initial_accumulator_value: float = 0.1
    epsilon: float = 1e-7

    slots = 1
    kernel = "adagrad"
    sizes = ("initial_accumulator_value",)

    def constants(self) -> list[float]:
        return [self.initial_accumulator_value, self.epsilon]


@dataclass(repr=False)
class Adadelta(Optimizer):
    """Steps as large as the mean of those before, over that of the gradients (Zeiler, 2012).

    Parameters
    ----------
    learning_rate : float, Schedule or callable
        A callable takes the step's number, counted from 0.
    rho : float
        Weight of the old mean squares, in [0, 1].
    epsilon : float
    **base
        See `Optimizer`.

    Examples
    --------
    >>> from nbbn.optimizers import Adadelta
    >>> Adadelta(1.0)
    Adadelta(learning_rate=1.0)
    """

    learning_rate: LearningRate = 0.001
    rho: float = 0.95
    epsilon: float = 1e-7

    slots = 2
    kernel = "adadelta"
    shares = ("rho",)

    def constants(self) -> list[float]:
        return [self.rho, 1 - self.rho, self.epsilon]


@dataclass(repr=False)
class Lion(Optimizer):
    """The sign of a mean of gradients (Chen et al., 2023).

    Parameters
    ----------
    learning_rate : float, Schedule or callable
        A callable takes the step's number, counted from 0.
    beta_1, beta_2 : float
        Weights of the old mean: in the step, and in the mean that is kept.
    **base
        See `Optimizer`.

    Examples
    --------
    >>> from nbbn.optimizers import Lion
    >>> Lion(1e-4)
    Lion(learning_rate=0.0001)
    """

    learning_rate: LearningRate = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.99

    slots = 1
    kernel = "lion"
    shares = ("beta_1", "beta_2")

    def constants(self) -> list[float]:
        return [self.beta_1, self.beta_2, 1 - self.beta_1, 1 - self.beta_2]


@dataclass(repr=False)
class Ftrl(Optimizer):
    """Follow the regularised leader (McMahan et al., 2013): weights become exactly 0.

    Parameters
    ----------
    learning_rate : float, Schedule or callable
        A callable takes the step's number, counted from 0.
    learning_rate_power : float
        Only -0.5.
    initial_accumulator_value : float
        What the sum of squares begins with.
    l1_regularization_strength, l2_regularization_strength : float
        At least 0.
    l2_shrinkage_regularization_strength : float
        A penalty of the gradient alone.
    beta : float
    **base
        See `Optimizer`.

    Examples
    --------
    >>> from nbbn.optimizers import Ftrl
    >>> Ftrl(0.1, l1_regularization_strength=0.01)
    Ftrl(learning_rate=0.1, l1_regularization_strength=0.01)
    """

    learning_rate: LearningRate = 0.001
    learning_rate_power: float = -0.5
    initial_accumulator_value: float = 0.1
    l1_regularization_strength: float = 0.0
    l2_regularization_strength: float = 0.0
    l2_shrinkage_regularization_strength: float = 0.0
    beta: float = 0.0

    slots = 2
    kernel = "ftrl"
    sizes = ("initial_accumulator_value", "l1_regularization_strength",
             "l2_regularization_strength", "l2_shrinkage_regularization_strength", "beta")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learning_rate_power != -0.5:
            raise self._error("learning_rate_power must be -0.5, got "
                              f"{self.learning_rate_power!r}; the square root alone is computed")

    def constants(self) -> list[float]:
        return [self.initial_accumulator_value, self.l1_regularization_strength,
                2 * self.l2_regularization_strength, 2 * self.l2_shrinkage_regularization_strength,
                self.beta]


_CLASSES: tuple[type[Optimizer], ...] = (SGD, RMSprop, Adam, AdamW, Nadam, Adamax, Adagrad,
                                         Adadelta, Lion, Ftrl)
for _each in _CLASSES:
    suggesting(_each)
_OPTIMIZERS = {cls.__name__.lower(): cls for cls in _CLASSES}


def get(identifier: str | Optimizer | dict) -> Optimizer:
    """The optimiser that a name, an object or a config stands for.

    Parameters
    ----------
    identifier : str, Optimizer or dict
        A name as in `"adam"` or `"Adam"`, which has the default arguments; what `Optimizer.config`
        gave.

    Returns
    -------
    Optimizer

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For any other type.

    Examples
    --------
    >>> from nbbn import optimizers
    >>> optimizers.get("adam")
    Adam()
    >>> optimizers.get(optimizers.SGD(0.5).config())
    SGD(learning_rate=0.5)
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, dict):
        return _class(identifier.get("class_name"))(**_arguments(identifier["config"]))
    if isinstance(identifier, str):
        return _class(identifier)()
    if isinstance(identifier, type) and issubclass(identifier, Optimizer):
        name = identifier.__name__
        raise TypeError(f"optimizer is the class {name}; make an object of it: {name}()")
    raise TypeError("optimizer must be a name or an object of nbbn.optimizers, "
                    f"got {type(identifier).__name__}")


def _class(name: object) -> type[Optimizer]:
    if str(name).lower() in _OPTIMIZERS:
        return _OPTIMIZERS[str(name).lower()]
    return find("optimizer", name, _OPTIMIZERS, {},
                instead=names_of_keras.INSTEAD["optimizers"])


def _arguments(config: dict) -> dict:
    rate = config.get("learning_rate")
    if isinstance(rate, dict):
        return {**config, "learning_rate": schedules.from_config(rate)}
    return config


def __getattr__(name: str) -> Any:
    """Keras's other names of what is here; what to use in place of the rest."""
    return names_of_keras.attribute(__name__, name)


def __dir__() -> list[str]:
    return __all__
