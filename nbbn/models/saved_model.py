"""Models in files, their training included."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from nbbn.formats import native, of_layers
from nbbn.formats.files import FileError
from nbbn.models.compiled_model import CompiledModel
from nbbn.network import Network
from nbbn.warning import warn

Path = str | os.PathLike[str]


class SavedModel(CompiledModel):
    """A model that files hold."""

    # Orders of rows drawn so far.
    _shuffles = 0

    def save(self, filepath: Path, overwrite: bool = True) -> None:
        """Write the model to one file: layers, weights, and what training goes on from.

        Parameters
        ----------
        filepath : path-like
            Of any ending; the file is nbbn's own, and `nbbn.load` opens it. A `fit` of the loaded
            model goes on bit for bit.
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        FileError
            Where it cannot be written.
        ValueError
            Before the model is built, and for weights that are not finite.

        Examples
        --------
        >>> import nbbn
        >>> model = nbbn.Sequential([nbbn.layers.Dense(3, input_shape=(4,))])
        >>> model.save("model.safetensors")
        >>> nbbn.load("model.safetensors").count_params()
        15
        """
        _may_write(filepath, overwrite)
        network, meta, slots = of_layers(self.network(), self.name)
        meta |= self._own_words()
        try:
            meta["training"], slots = self.training_state()
        except ValueError as err:
            warn(f"{filepath}: saved without the arguments of compile: {err}")
        native.save(filepath, network, meta, slots)

    def save_weights(self, filepath: Path, overwrite: bool = True) -> None:
        """Write layers and weights alone; `load_weights` and `nbbn.load` read the file.

        Parameters
        ----------
        filepath, overwrite
            As of `save`.

        Examples
        --------
        >>> import nbbn
        >>> model = nbbn.Sequential([nbbn.layers.Dense(3, input_shape=(4,))])
        >>> model.save_weights("model.weights.h5")
        >>> model.load_weights("model.weights.h5")
        """
        _may_write(filepath, overwrite)
        network, meta, slots = of_layers(self.network(), self.name)
        native.save(filepath, network, meta | self._own_words(), slots)

    def load_weights(self, filepath: Path) -> None:
        """Take the weights of a file that `save` or `save_weights` wrote for the same shapes.

        Parameters
        ----------
        filepath : path-like

        Raises
        ------
        FileError
            For a file of another kind.
        ValueError
            For arrays of other shapes.
        """
        network, meta, _ = native.load(filepath)
        kind = self._kind
        if (name := meta.get("model")) != kind:
            raise ValueError(f"{filepath}: holds a {name}, no {kind}'s weights")
        if not self.built:
            self._layers.build(network.input_shape)
        if self._layers.network().links.calls == network.links.calls and all(
                entry.known_arrays().keys() == arrays.keys()
                for entry, arrays in zip(self._layers.entries, network.weights)):
            self._take([(entry, [arrays[name] for name in entry.known_arrays()])
                        for entry, arrays in zip(self._layers.entries, network.weights)])
            return
        other = type(self)._empty()
        other.restore(network, words=meta)
        self.set_weights(other.get_weights())

    def training_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a fit goes on from: JSON-ready values, and the optimiser's arrays.

        ValueError for a learning rate that is a function.
        """
        compiled, layers = self._compiled, self._layers
        meta = {"seed": layers.seed, "made": layers.made, "shuffles": self._shuffles}
        if compiled is None:
            return meta, {}
        counts = {"step": compiled.step, "norm_step": compiled.norm_step}
        return {**meta, **compiled.config(), **counts}, compiled.state()

    def restore(self, network: Network, meta: dict[str, Any] | None = None,
                slots: dict[str, np.ndarray] | None = None,
                words: dict[str, Any] | None = None) -> None:
        """Become what a file holds; `nbbn.load` calls it on a new model.

        `meta` and `slots` are what `training_state` gave; None: layers and weights alone. `words`
        are what `_own_words` gave.
        ValueError, TypeError or KeyError for anything else.
        """
        raise NotImplementedError

    def _resume(self, meta: dict[str, Any] | None, slots: dict[str, np.ndarray] | None) -> None:
        """Go on as `training_state` had it."""
        if meta is None:
            return
        layers, names = self._layers, ("seed", "made", "shuffles")
        layers.seed, layers.made, self._shuffles = (int(meta[name]) for name in names)
        if "loss" in meta:
            self._compiled = self._made_again(meta)
            counts = (int(meta[name]) for name in ("step", "norm_step"))
            self._require_compiled("restore").resume(slots or {}, *counts)

    def _own_words(self) -> dict[str, Any]:
        """What a file says of the model besides its network."""
        return {}

    def _row_names(self) -> dict[str, Any]:
        """What a file says of the inputs and outputs of a model."""
        return {}

    def _use(self, given: list[Any]) -> list[Any]:
        """What the model makes of values, of which they are within it: of each output one."""
        raise NotImplementedError

    @classmethod
    def _empty(cls) -> SavedModel:
        """A model to be restored."""
        raise NotImplementedError


def _may_write(path: Path, overwrite: bool) -> None:
    if not overwrite and os.path.exists(path):
        raise FileError(f"{path}: exists already; use overwrite=True, or another name")
