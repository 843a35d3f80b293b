"""Keras's files: `config` reads descriptions of layers, `hdf5` weights, `reading` joins them."""

from nbbn.formats.keras.reading import read

__all__ = ["read"]
