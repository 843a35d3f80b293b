"""PyTorch's state dicts: `tensors` reads them, `match` finds modules, `order` turns images."""

from nbbn.formats.torch.reading import read, refuse

__all__ = ["read", "refuse"]
