"""PyTorch's state dicts: `tensors` reads them, `match` finds each layer's module, `order` turns the features of images."""

from nbbn.formats.torch.reading import from_torch

__all__ = ["from_torch"]
