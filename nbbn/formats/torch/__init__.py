"""PyTorch's state dicts: `tensors` reads them, `match` finds each layer's module, `order` turns images."""

from nbbn.formats.torch.reading import read, refuse

__all__ = ["read", "refuse"]
