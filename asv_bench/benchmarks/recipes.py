"""The gallery's networks: functions of its pages, of which nothing else runs."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Any

import numpy as np

import nbbn

GALLERY = Path(__file__).resolve().parents[2] / "examples" / "gallery"
_DECLARES = (ast.FunctionDef, ast.Assign)


@functools.cache
def recipe(page: str) -> dict[str, Any]:
    """What a page's functions, and the constants before them, are called."""
    path = GALLERY / f"{page}.py"
    body = ast.parse(path.read_text(encoding="utf-8")).body
    last = max(i for i, node in enumerate(body) if isinstance(node, ast.FunctionDef))
    declared = [node for node in body[: last + 1] if isinstance(node, _DECLARES)]
    names: dict[str, Any] = {"nbbn": nbbn, "np": np, "layers": nbbn.layers}
    exec(compile(ast.Module(declared, []), str(path), "exec"), names)
    return names


def resnet18(shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10, width: int = 64,
             ) -> nbbn.Model:
    """He et al.'s (2016) network of 18 layers."""
    return recipe("plot_20_resnet")["resnet18"](shape, classes, width)


def mobilenet_v2(shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10,
                 **sizes: Any) -> nbbn.Model:
    """Sandler et al.'s (2018) network."""
    return recipe("plot_21_mobilenet")["mobilenet_v2"](shape, classes, **sizes)


def settled(model: nbbn.Model, seed: int = 0) -> nbbn.Model:
    """The model with batch norms as they are after some training."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, nbbn.layers.BatchNormalization):
            gamma, beta, mean, var = (rng.uniform(0.5, 1.5, a.shape) for a in layer.get_weights())
            layer.set_weights([gamma, (beta - 1) / 4, (mean - 1) / 4, var])
    return model
