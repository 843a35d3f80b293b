"""PyTorch's state dicts: `tensors` reads them, `match` finds modules, `reading` makes networks."""

from nbbn.formats.torch.reading import read, refuse

__all__ = ["read", "refuse"]
