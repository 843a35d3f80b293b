"""Networks as C source: `export` writes the file, `steps` lowers layers, `functions` is the C of each kind of step."""

from nbbn.formats.csource.export import name_for, to_c

__all__ = ["name_for", "to_c"]
