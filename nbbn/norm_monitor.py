"""A callback that looks at batch norms while a model trains: `nbbn.callbacks.NormMonitor`."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbn.callback import Callback, Logs
from nbbn.inputs import check_rows
from nbbn.layers import BatchNormalization, Layer, ReLU
from nbbn.network import Call, Graph, Network, apart, beside
from nbbn.predictor import Predictor
from nbbn.warning import warn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Layers that a picture's legend has room for.
_MOST_NAMES = 8
# A channel whose gamma is smaller says nothing to the layers above.
_NO_GAMMA = 1e-3


class NormWarning(UserWarning):
    """What `NormMonitor` has to say at the end of a fit.

    Examples
    --------
    >>> import nbbn
    >>> issubclass(nbbn.callbacks.NormWarning, UserWarning)
    True
    """


@dataclass(frozen=True)
class Look:
    """What the layers of a model make of some rows, normalised by these rows' own statistics.

    Each by the layer's name.
    """

    lag: dict[str, float]
    spread: dict[str, np.ndarray]  # of a batch norm's inputs, by channel
    dead: dict[str, np.ndarray]  # numbers of channels


def lag(mean: np.ndarray, var: np.ndarray, batch_mean: np.ndarray, batch_var: np.ndarray,
        epsilon: float) -> float:
    """How far running statistics are from a batch's, in the batch's standard deviations.

    The root of the mean over channels of `(mean - batch_mean)**2 / s**2 + (r / s - 1)**2` with `s`
    and `r` the batch's and the running deviation, epsilon inside.
    """
    s2, r2 = batch_var + epsilon, var + epsilon
    squares = (mean - batch_mean) ** 2 / s2 + (np.sqrt(r2 / s2) - 1) ** 2
    return float(np.sqrt(np.mean(squares)))


def look(network: Network, x: np.ndarray) -> Look:
    """The layers of a network one after the other, as in a step of training on the rows.

    A batch norm takes the statistics of the rows, but where it trains with running ones, too;
    dropout and noise are left out.
    """
    found, graph = Look({}, {}, {}), network.links
    rows = apart(x, graph.inputs) if len(graph.inputs) > 1 else [x]
    of_value = {-k: part for k, part in enumerate(rows, 1)}
    for at, call in enumerate(graph.calls):
        layer = network.layers[call.layer]
        name, arrays = str(layer.name), dict(network.weights[call.layer])
        sources = [of_value[source] for source in call.sources]
        x = sources[0]
        if isinstance(layer, BatchNormalization):
            channels = _channels(x, layer.axis).astype(np.float64)
            mean, var = channels.mean(0), channels.var(0)
            found.spread[name] = np.sqrt(var)
            found.dead[name] = np.flatnonzero(np.abs(arrays.get("gamma", np.ones(1))) < _NO_GAMMA)
            if not layer.uses_running:
                found.lag[name] = lag(arrays["mean"], arrays["var"], mean, var, layer.epsilon)
                arrays |= {"mean": mean.astype(network.dtype), "var": var.astype(network.dtype)}
        x = of_value[at] = _alone(network, layer, arrays, sources)
        if _is_relu(layer):
            found.dead[name] = np.flatnonzero(_channels(x, -1).max(0) <= 0)
    return found


def _alone(network: Network, layer: Layer, arrays: dict[str, np.ndarray],
           sources: list[np.ndarray]) -> np.ndarray:
    """What one layer makes of rows."""
    x, rows, graph = sources[0], len(sources[0]), None
    shape = x.shape[1:]
    if len(sources) > 1:
        shapes = tuple(source.shape[1:] for source in sources)
        graph = Graph((Call(0, tuple(-k for k in range(1, len(sources) + 1))),), shapes, (0,))
        x, shape = beside(sources, network.dtype), graph.input_shape
    alone = Network((layer,), shape, [arrays], network.dtype, graph)
    return Predictor(alone)(x).reshape(rows, *alone.output_shape)


def _channels(x: np.ndarray, axis: int) -> np.ndarray:
    """The numbers of each channel, `(numbers, channels)`."""
    return np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])


def _is_relu(layer: Layer) -> bool:
    if isinstance(layer, ReLU):
        return not layer.negative_slope
    return getattr(layer, "activation", None) in ("relu", "relu6")


class NormMonitor(Callback):
    """Looks after every epoch at batch norms and what is around them; warns once, at the end.

    Parameters
    ----------
    x : array-like of shape (n, ...)
        Rows to look at, as `fit` takes them: some hundred of those trained on. Their statistics
        stand for a batch's.
    max_lag : float
        Warn where the running statistics are further than so many of the batch's standard
        deviations from the batch's.
    max_dead : float
        Warn where more than this share of a layer's channels is dead.
    max_growth : float
        A channel explodes where the deviation of its inputs to a batch norm has grown by more than
        this factor since training began, or is not finite.

    Attributes
    ----------
    epoch : list of int
        Epochs looked at, counted from 0.
    lag : dict of str to list of float
        For each batch norm the distance of running from batch statistics, epoch by epoch: the root
        of the mean over channels of `((mean - batch_mean) / s)**2 + (r / s - 1)**2`, with `s` and
        `r` the batch's and the running standard deviation. Batch norms that train with running
        statistics have none.
    dead : dict of str to list of int
        For each ReLU the number of channels that are 0 for all rows, and for each batch norm that
        of channels with a gamma below 0.001.
    exploding : dict of str to list of int
        For each batch norm the number of exploding channels.
    update : dict of str to list of float
        For each layer with trained arrays the length of their change over the epoch, over their
        length before it. That is a norm of updates, not of gradients.
    dead_channels, exploding_channels : dict of str to list of int
        Which channels those are, at the last look.
    messages : list of str
        What was wrong at the end.

    Warns
    -----
    NormWarning
        Once, at the end of a fit, where anything is wrong.

    Notes
    -----
    A look takes the rows through the layers, one after the other, as in a step of training: each
    batch norm sees rows normalised by their own statistics below it. Dropout and noise are left
    out. Callbacks of `Sequential` and of the estimators around it; the MLPs take functions alone.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> import nbbn
    >>> from nbbn.callbacks import NormMonitor, NormWarning
    >>> nbbn.utils.set_random_seed(0)
    >>> x = np.random.default_rng(0).normal(3, 5, (500, 4))
    >>> y = (x.sum(1) > 12).astype(int)
    >>> model = nbbn.Sequential([
    ...     nbbn.layers.BatchNormalization(name="first"),
    ...     nbbn.layers.Dense(8, activation="relu"), nbbn.layers.Dense(2, activation="softmax"),
    ... ])
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> monitor = NormMonitor(x[:200])
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always", NormWarning)
    ...     history = model.fit(x, y, epochs=2, verbose=0, callbacks=[monitor])
    >>> len(caught), "recalibrate" in str(caught[0].message)
    (1, True)
    >>> monitor.lag["first"][0] > monitor.lag["first"][1]
    True
    """

    def __init__(self, x: Any, max_lag: float = 0.4, max_dead: float = 0.5,
                 max_growth: float = 100.0):
        super().__init__()
        for name, value in (("max_lag", max_lag), ("max_dead", max_dead),
                            ("max_growth", max_growth)):
            given: object = value
            if isinstance(given, bool) or not isinstance(given, Real) or not value > 0:
                raise ValueError(f"NormMonitor: {name} must be a number above 0, got {value!r}")
        self.x, self.max_lag, self.max_dead, self.max_growth = x, max_lag, max_dead, max_growth
        self._forget()

    def _forget(self) -> None:
        self.epoch: list[int] = []
        self.lag: dict[str, list[float]] = {}
        self.dead: dict[str, list[int]] = {}
        self.exploding: dict[str, list[int]] = {}
        self.update: dict[str, list[float]] = {}
        self.dead_channels: dict[str, list[int]] = {}
        self.exploding_channels: dict[str, list[int]] = {}
        self.messages: list[str] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._forget()
        network = self.model.network()
        name = "NormMonitor's x"
        x = self.model._rows(self.x, name)
        self._rows = check_rows(x, network.input_shape, network.dtype, name)
        if len(self._rows) < 2:
            raise ValueError("NormMonitor: x must have 2 rows or more, got 1: it has no variance")
        self._first = look(network, self._rows).spread

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._before = _trained(self.model.network())

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        network = self.model.network()
        seen = look(network, self._rows)
        self.epoch.append(epoch)
        for name, distance in seen.lag.items():
            self.lag.setdefault(name, []).append(distance)
        for name, channels in seen.dead.items():
            self.dead.setdefault(name, []).append(len(channels))
            self.dead_channels[name] = channels.tolist()
        for name, spread in seen.spread.items():
            most = self.max_growth * self._first[name]
            channels = np.flatnonzero(~((spread <= most) | (self._first[name] == 0)))
            self.exploding.setdefault(name, []).append(len(channels))
            self.exploding_channels[name] = channels.tolist()
        for name, after in _trained(network).items():
            before = self._before[name]
            length = np.linalg.norm(before)
            change = float(np.linalg.norm(after - before) / length) if length else math.inf
            self.update.setdefault(name, []).append(change)
        self._sizes = _sizes(network)

    def on_train_end(self, logs: Logs | None = None) -> None:
        if not self.epoch:
            return
        self.messages = [*self._lagging(), *self._dying(), *self._exploded()]
        if self.messages:
            warn("NormMonitor: " + "; ".join(self.messages), NormWarning)

    def _lagging(self) -> list[str]:
        late = {name: values[-1] for name, values in self.lag.items()
                if not values[-1] <= self.max_lag}
        if not late:
            return []
        shown = ", ".join(f"{name} ({value:.2g})" for name, value in late.items())
        return ["running statistics lag behind the batch's, by so many standard deviations: "
                f"{shown}; call recalibrate on the training rows, train longer, or give these "
                "batch norms a smaller momentum"]

    def _dying(self) -> list[str]:
        dead = {name: values[-1] for name, values in self.dead.items()
                if values[-1] > self.max_dead * self._sizes[name]}
        if not dead:
            return []
        shown = ", ".join(f"{name} ({n} of {self._sizes[name]})" for name, n in dead.items())
        return [f"channels are dead, 0 for every row or of gamma 0: {shown}; "
                "take a smaller learning rate or fewer units"]

    def _exploded(self) -> list[str]:
        found = {name: values[-1] for name, values in self.exploding.items() if values[-1]}
        if not found:
            return []
        shown = ", ".join(f"{name} ({n} of {self._sizes[name]})" for name, n in found.items())
        return [f"inputs of batch norms have grown more than {self.max_growth:g} times since "
                f"training began, or are not finite: {shown}; take a smaller learning rate, or "
                "weight decay"]

    def plot(self, figure: "Figure | None" = None) -> "Figure":
        """The picture: distance, dead and exploding channels, and updates over the epochs.

        Parameters
        ----------
        figure : matplotlib.figure.Figure, optional
            An empty one to draw on, such as pyplot's; a new one by default.

        Raises
        ------
        ImportError
            Without matplotlib.
        RuntimeError
            Before a fit.
        """
        if not self.epoch:
            raise RuntimeError("NormMonitor: nothing to draw yet; call fit with it first")
        if figure is None:
            try:
                from matplotlib.figure import Figure as New
            except ModuleNotFoundError as err:
                raise ImportError("a picture needs matplotlib, which is not installed; install "
                                  'it: python -m pip install "nbbn[plot]"') from err
            figure = New(figsize=(9, 6))
        figure.set_layout_engine("constrained")
        axes: Any = figure.subplots(2, 2, sharex=True)
        drawn: list[tuple[str, dict[str, Any]]] = [
            ("Running from batch statistics (deviations)", self.lag),
            ("Update of an epoch, relative", self.update),
            ("Dead channels", self.dead), ("Exploding channels", self.exploding),
        ]
        for ax, (title, series) in zip(axes.ravel(), drawn):
            for name, values in series.items():
                ax.plot(self.epoch, values, marker="o", markersize=3, label=name)
            ax.set_title(title, fontsize="medium")
            ax.grid(alpha=0.3)
            if 0 < len(series) <= _MOST_NAMES:
                ax.legend(fontsize="x-small")
        axes[0, 0].axhline(self.max_lag, color="black", linestyle=":", linewidth=1)
        for ax in axes[1]:
            ax.set_xlabel("epoch")
            ax.set_ylim(0, max(1, ax.get_ylim()[1]))
            for axis in (ax.xaxis, ax.yaxis):
                axis.get_major_locator().set_params(integer=True)
        return figure


def _trained(network: Network) -> dict[str, np.ndarray]:
    """All trained numbers of each layer, in float64."""
    found = {}
    for layer, arrays in zip(network.layers, network.weights):
        own = [array.ravel() for name, array in arrays.items() if name not in layer.statistics]
        if own and layer.trainable:
            found[str(layer.name)] = np.concatenate(own).astype(np.float64)
    return found


def _sizes(network: Network) -> dict[str, int]:
    """The number of channels of each layer's outputs."""
    axes = [layer.axis if isinstance(layer, BatchNormalization) else -1
            for layer in network.layers]
    return {str(layer.name): (0, *shape)[axis]
            for layer, (_, shape), axis in zip(network.layers, network.layer_shapes, axes)}
