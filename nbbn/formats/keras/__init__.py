"""Keras's files: `config` reads descriptions of layers, `hdf5` the weights, `reading` joins them."""

from nbbn.formats.keras.reading import read

__all__ = ["read"]
