"""Networks as C source.

`export` writes the file, `steps` lowers operations, `functions` is their C, and `buffers` says
where results stand.
"""

from nbbn.formats.csource.export import name_for, to_c

__all__ = ["name_for", "to_c"]
