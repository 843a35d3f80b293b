"""Keras's files: `config` reads descriptions of layers, `hdf5` the weights, `reading` puts both together."""

from nbbn.formats.keras.reading import from_keras

__all__ = ["from_keras"]
