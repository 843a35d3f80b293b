"""Models that Keras saved."""

from __future__ import annotations

from nbbn.formats.files import PathLike
from nbbn.loading import model_of
from nbbn.models.sequential import Sequential


def from_keras(path: PathLike) -> Sequential:
    """Read a model that Keras saved, with h5py and json; Keras is not needed.

    Parameters
    ----------
    path : path-like
        A `.keras` file, or an HDF5 file (`.h5`) of a whole model; of Keras 3, or of Keras 2 with
        the same layers. Its content tells which, not its name.

    Returns
    -------
    Sequential
        Built, with the file's weights, running statistics and trainable flags; not compiled.

    Raises
    ------
    ImportError
        Without the package h5py.
    FileError
        For a missing, broken or foreign file, and for a model that nbbn cannot hold: several
        inputs, layers that are no single path, layers that it does not have, custom ones and
        `Lambda` (no code is run) included. The message names file and layer.

    Notes
    -----
    Sequential models and functional ones of one path are read. Weights are found by the layers'
    names. The policies float32, `mixed_float16` and `mixed_bfloat16`, whose weights are float32,
    give a model in float32, and float64 gives one in float64. Arguments of `compile` and the
    optimiser's state are not read: call `compile` before training on. An initializer that nbbn does
    not have becomes the layer's default one, which only new weights would show.

    No more memory is taken than a small multiple of the file's size, whatever the file promises.
    h5py reads in a process of its own, since damaged files can make the HDF5 library crash.
    """
    from nbbn.formats import keras

    return model_of(keras.read(path), path)
