"""Keras's files: `config` reads what they say of a layer, `graph` of a model, `hdf5` weights."""

from nbbn.formats.keras.reading import read

__all__ = ["read"]
