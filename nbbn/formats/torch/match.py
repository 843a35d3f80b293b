"""Which module of a state dict is which layer: by the layers' names, else in order."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from nbbn.formats.files import Refused
from nbbn.formats.torch.tensors import Tensor
from nbbn.layers import Dense, Layer

# Torch's names of a layer's arrays.
_PART_OF = {
    "kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias", "mean": "running_mean",
    "var": "running_var", "alpha": "weight", "embeddings": "weight",
}
_PARTS = (*dict.fromkeys(_PART_OF.values()), "num_batches_tracked")


class Module(NamedTuple):
    """A module of the state dict: its path, and its tensors by their last name."""

    path: str
    tensors: dict[str, Tensor]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of what a layer takes, by the tensors' last name."""
        return {part: t.shape for part, t in self.tensors.items() if part != "num_batches_tracked"}

    @property
    def shown(self) -> str:
        """Its tensors and their shapes, in an error's words."""
        return f"{self.path!r} ({_listed(self.shapes)})"


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{part} {shape}" for part, shape in shapes.items())


def modules_of(tensors: dict[str, Tensor]) -> list[Module]:
    """The modules in the order in which they first appear; Refused for a tensor of no known one."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        path, _, part = name.rpartition(".")
        if part not in _PARTS:
            raise Refused(f"key {name!r} is of no module that nbbn reads, "
                          f"whose tensors are {', '.join(_PARTS)}")
        found.setdefault(path, {})[part] = tensor
    return [Module(path, parts) for path, parts in found.items()]


def wanted_tensors(layer: Layer,
                   arrays: dict[str, tuple[int, ...]]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Torch's name of each array of a layer; the array's name, and its shape in torch's layout."""
    if unknown := [array for array in arrays if array not in _PART_OF]:
        raise Refused(f"layer {layer.name!r} ({type(layer).__name__}) has {', '.join(unknown)}, "
                      "which no module of torch's has; give layers as the modules are, such as a "
                      "depthwise convolution and one of size 1")
    return {_PART_OF[array]: (array, torch_shape(layer, array, shape))
            for array, shape in arrays.items()}


def torch_shape(layer: Layer, array: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that torch gives an array of this layer."""
    if array == "alpha":
        return shape if any(n > 1 for n in shape[:-1]) else shape[-1:]
    if array != "kernel":
        # A layer norm over whole images has its weights channels first.
        return (shape[2], *shape[:2]) if len(shape) == 3 else shape
    if isinstance(layer, Dense):
        return shape[::-1]
    *window, first, second = shape
    if _is_depthwise(layer):
        return first * second, 1, *window
    return second, first, *window


def _is_depthwise(layer: Layer) -> bool:
    return type(layer).__name__.startswith("DepthwiseConv")


def in_our_layout(layer: Layer, array: str, values: np.ndarray,
                  shape: tuple[int, ...]) -> np.ndarray:
    """An array of torch's layout in ours, of `shape`."""
    if array == "alpha":
        return values.reshape(shape)
    if array != "kernel":
        return values.transpose(1, 2, 0) if values.ndim == 3 else values
    if isinstance(layer, Dense):
        return values.T
    *window, first, second = shape
    axes = range(2, values.ndim)
    if _is_depthwise(layer):
        return values.reshape(first, second, *window).transpose(*axes, 0, 1)
    return values.transpose(*axes, 1, 0)


def match(modules: list[Module], layers: Sequence[tuple[Layer, dict]], named: Collection[str],
          in_order: bool, runs: Sequence[Sequence[int]] = ()) -> list[Module]:
    """The module of each layer, which has arrays, of shapes by name.

    Layers of `named` take the modules of these paths, behind a prefix if all have the same, such as
    `module.`. With `in_order` the modules may be taken in the order in which they come. Else, and
    where that order shows that they were sorted by name, modules whose names differ in their
    numbers alone keep the order of these, and shapes must tell the rest. Where the layers' own
    order does not fit, `runs` of layers that read each other are taken as wholes, in any order.
    Refused for names of no module, for modules that are missing, left over, of other shapes, or in
    no order that can be told.
    """
    left, found = list(modules), {}
    prefix = _prefix([m.path for m in left], [str(la.name) for la, _ in layers if la.name in named])
    for i, (layer, arrays) in enumerate(layers):
        if layer.name in named:
            own = next(module for module in left if module.path == f"{prefix}{layer.name}")
            found[i] = _checked(own, layer, arrays)
            left.remove(own)
    sort = not (in_order and _keeps_the_order(left))
    rest = [i for i in range(len(layers)) if i not in found]
    fit = len(left) == len(rest) and all(_fits(module, *layers[i])
                                         for module, i in zip(left, rest))
    if not sort and not fit and len(left) == len(rest) and len(runs) > 1:
        unnamed = [[i for i in run if i not in found] for run in runs]
        if turned := _run_by_run(left, layers, [run for run in unnamed if run]):
            return [(found | turned)[i] for i in range(len(layers))]
        at = next(k for k, i in enumerate(rest) if not _fits(left[k], *layers[i]))
        raise Refused(f"module {left[at].shown} does not fit layer {_shown(*layers[rest[at]])}, "
                      "and no other order of the layers fits the modules; name the layers after "
                      f"them: name={left[at].path!r}")
    rows = [sorted(row, key=_natural) for row in _alike(left)] if sort else [left]
    for i, (layer, arrays) in enumerate(layers):
        if i not in found:
            found[i] = _next(rows, layer, arrays)
    if over := [module for row in rows for module in row]:
        raise Refused(f"module {over[0].shown} belongs to no layer: "
                      f"the layers take {len(layers)} modules of {len(modules)}")
    return [found[i] for i in range(len(layers))]


# Attempts to lay runs out, before the error asks for names.
_MOST_TRIALS = 20_000


def _run_by_run(modules: list[Module], layers: Sequence[tuple[Layer, dict]],
                runs: list[list[int]]) -> dict[int, Module]:
    """The modules by layer where runs of layers, each whole, come in some order; else nothing.

    The first order that fits, and of it the one that departs last from the layers' own.
    """
    shapes = [[_shapes(*layers[i]) for i in run] for run in runs]
    placed: list[int] = []
    tried = [0]  # by depth: the next run to try
    at, trials = 0, 0
    while len(placed) < len(runs):
        trials += 1
        if trials > _MOST_TRIALS:
            return {}
        failed = [shapes[k] for k in range(tried[-1]) if k not in placed]
        run = next((k for k in range(tried[-1], len(runs)) if k not in placed
                    and shapes[k] not in failed  # the same again would fail the same
                    and shapes[k] == [m.shapes for m in modules[at : at + len(shapes[k])]]), None)
        if run is not None:
            tried[-1] = run + 1
            tried.append(0)
            placed.append(run)
            at += len(runs[run])
        elif placed:
            tried.pop()
            at -= len(runs[placed.pop()])
        else:
            return {}
    order = [i for k in placed for i in runs[k]]
    return dict(zip(order, modules))


def _prefix(paths: Sequence[str], names: Sequence[str]) -> str:
    """What stands before all these names in the paths of their modules."""
    ends = [path[: len(path) - len(n)] for n in names for path in paths if path.endswith(f".{n}")]
    prefixes = ["", *dict.fromkeys(ends)]
    missing = {p: [name for name in names if p + name not in paths] for p in prefixes}
    best = min(prefixes, key=lambda prefix: len(missing[prefix]))
    if missing[best]:
        known = ", ".join(map(repr, paths))
        raise Refused(f"no module is called {best + missing[best][0]!r}, as a layer is; "
                      f"the modules are {known}: name layers after these, or not at all")
    if best and sum(not left for left in missing.values()) > 1:
        both = " and ".join(repr(p + names[0]) for p, left in missing.items() if not left)
        raise Refused(f"layer {names[0]!r} may be {both}; name it by the whole path")
    return best


def _next(rows: list[list[Module]], layer: Layer, arrays: dict) -> Module:
    """The next module of the one row whose next module fits the layer, taken from it."""
    heads = [row for row in rows if row]
    if not heads:
        raise Refused(f"no module is left for layer {_shown(layer, arrays)}")
    fitting = [row for row in heads if _fits(row[0], layer, arrays)]
    if len(fitting) > 1:
        paths = " and ".join(repr(row[0].path) for row in fitting)
        raise Refused(f"{paths} both fit layer {_shown(layer, arrays)}, and the order of modules "
                      "is not known (the tensors are sorted by name); name the layers after the "
                      f"modules: name={fitting[0][0].path!r}")
    return fitting[0].pop(0) if fitting else _checked(heads[0][0], layer, arrays)


def _fits(module: Module, layer: Layer, arrays: dict) -> bool:
    return module.shapes == _shapes(layer, arrays)


def _shapes(layer: Layer, arrays: dict) -> dict[str, tuple[int, ...]]:
    return {part: shape for part, (_, shape) in wanted_tensors(layer, arrays).items()}


def _checked(module: Module, layer: Layer, arrays: dict) -> Module:
    """The module, if its tensors are the layer's."""
    if not _fits(module, layer, arrays):
        raise Refused(f"module {module.shown} does not fit layer {_shown(layer, arrays)}")
    return module


def _shown(layer: Layer, arrays: dict) -> str:
    shapes = _listed(_shapes(layer, arrays))
    return f"{layer.name!r} ({type(layer).__name__}, which takes {shapes})"


def _keeps_the_order(modules: list[Module]) -> bool:
    """Whether the tensors come as torch keeps them: weight before bias, modules by number."""
    parts = all(list(module.tensors) == [part for part in _PARTS if part in module.tensors]
                for module in modules)
    return parts and all(row == sorted(row, key=_natural) for row in _alike(modules))


def _alike(modules: list[Module]) -> list[list[Module]]:
    """Modules whose paths differ in their numbers alone."""
    rows: dict[str, list[Module]] = {}
    for module in modules:
        rows.setdefault(re.sub(r"\d+", "#", module.path), []).append(module)
    return list(rows.values())


def _natural(module: Module) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", module.path)]
