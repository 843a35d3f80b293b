#!/usr/bin/env python
"""Count the batch norms that nbbn and other tools leave in networks with branches.

    fold_counts.py             print the table, and write it where its markers stand in the guide
    fold_counts.py --dry-run   print it, write nothing
    fold_counts.py resnet_v1 densenet    these architectures, printed alone

Each architecture is written with PyTorch and exported by both of its exporters, without what these
fold themselves, and as a model of nbbn, written with `fold=False`. What is counted are nodes
BatchNormalization and products with a constant for each channel that stand for one. Numbers of the
folded graphs are compared with those of the graph on ONNX Runtime without optimisations.

Needs torch, onnxscript, onnx, onnxruntime, onnxsim and onnxslim; what is not there is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from architectures import ARCHITECTURES, draw_weights

import nbbn
from nbbn.interop.onnx_fold import fold_onnx

GUIDE = Path(__file__).resolve().parents[1] / "docs/guide/folding.md"
BEGIN, END = "<!-- batch norms left: scripts/fold_counts.py -->", "<!-- end of batch norms left -->"
NAMES = ("resnet_v1", "resnet_v2", "densenet", "inception", "mobilenet_v2", "mobilenet_v3",
         "efficientnet", "unet", "residual_mlp", "wide_and_deep", "siamese", "two_outputs")
LEVELS = onnxruntime.GraphOptimizationLevel


# -- tools


def by_nbbn(model: Any) -> Any:
    return fold_onnx(model)[0]


def by_runtime(level: Any) -> Callable[[Any], Any]:
    def fold(model: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "optimised.onnx"
            options = quiet_options(level)
            options.optimized_model_filepath = str(path)
            onnxruntime.InferenceSession(model.SerializeToString(), options,
                                         providers=["CPUExecutionProvider"])
            return onnx.load(path)

    return fold


def by_onnxsim(model: Any) -> Any:
    import onnxsim

    return onnxsim.simplify(model)[0]


def by_onnxslim(model: Any) -> Any:
    import onnxslim

    return onnxslim.slim(type(model).FromString(model.SerializeToString()))


TOOLS: dict[str, Callable[[Any], Any]] = {
    "nbbn": by_nbbn, "ONNX Runtime, extended": by_runtime(LEVELS.ORT_ENABLE_EXTENDED),
    "ONNX Runtime, all": by_runtime(LEVELS.ORT_ENABLE_ALL), "onnxsim": by_onnxsim,
    "onnxslim": by_onnxslim,
}


def quiet_options(level: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    return options


def norms_left(model: Any) -> int:
    """Nodes that normalise, and what else multiplies each channel by a constant of its own.

    That is a product, or a convolution of one pixel of each channel, to which ONNX Runtime turns a
    batch norm.
    """
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    constants |= {node.output[0]: tuple(node.attribute[0].t.dims) for node in model.graph.node
                  if node.op_type == "Constant"}
    left = 0
    for node in model.graph.node:
        shapes = [constants[name] for name in node.input if name in constants]
        scales = node.op_type in ("Mul", "Div") and any(
            max(shape, default=1) > 1 and np.prod(shape) == max(shape) for shape in shapes)
        if node.op_type == "Conv":
            channels, *window = shapes[0]
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            scales = set(window) == {1} and groups == channels
        left += node.op_type == "BatchNormalization" or scales
    return left


def outputs(model: Any, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), quiet_options(LEVELS.ORT_DISABLE_ALL),
        providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def difference(model: Any, folded: Any) -> float:
    """The largest of an output, as a fraction of the largest number of that output."""
    rng, feed = np.random.default_rng(0), {}
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in constants:
            shape = [d.dim_value or 4 for d in value.type.tensor_type.shape.dim]
            feed[value.name] = rng.normal(size=shape).astype(np.float32)
    pairs = zip(outputs(model, feed), outputs(folded, feed), strict=True)
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)


# -- the architectures with PyTorch


def torch_networks() -> dict[str, Callable[[], tuple[Any, tuple[int, ...] | list]]]:
    """Makers of networks and of shapes of their inputs."""
    import torch
    from torch import nn

    class Sum(nn.Module):
        """What several paths give, added; without an activation of its own."""

        def __init__(self, *paths):
            super().__init__()
            self.paths = nn.ModuleList(paths)

        def forward(self, x):
            results = [path(x) for path in self.paths]
            return sum(results[1:], results[0])

    class Beside(Sum):
        """What several paths give, one behind the other."""

        def forward(self, x):
            return torch.cat([path(x) for path in self.paths], 1)

    class Product(Sum):
        def forward(self, x):
            return self.paths[0](x) * self.paths[1](x)

    def conv(i, o, k=3, s=1, g=1, bias=False):
        return nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=bias)

    def conv_norm(i, o, k=3, s=1, g=1, act=nn.ReLU):
        return nn.Sequential(conv(i, o, k, s, g), nn.BatchNorm2d(o), act())

    def norm_conv(i, o, k=3, s=1):
        return nn.Sequential(nn.BatchNorm2d(i), nn.ReLU(), conv(i, o, k, s))

    def head(i, o=5):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, o))

    def residual(i, o, s):
        same = nn.Identity() if (i, s) == (o, 1) else conv_norm(i, o, 1, s, act=nn.Identity)
        path = nn.Sequential(conv_norm(i, o, 3, s), conv_norm(o, o, act=nn.Identity))
        return nn.Sequential(Sum(path, same), nn.ReLU())

    def residual_v2(i, o, s):
        same = nn.Identity() if (i, s) == (o, 1) else conv(i, o, 1, s)
        return Sum(nn.Sequential(norm_conv(i, o, 3, s), norm_conv(o, o)), same)

    def dense_layer(i, growth):
        return Beside(nn.Identity(), nn.Sequential(norm_conv(i, 4 * growth, 1),
                                                   norm_conv(4 * growth, growth)))

    def inception_block(i):
        return Beside(
            conv_norm(i, 4, 1), nn.Sequential(conv_norm(i, 3, 1), conv_norm(3, 6)),
            nn.Sequential(conv_norm(i, 2, 1), conv_norm(2, 3), conv_norm(3, 3)),
            nn.Sequential(nn.AvgPool2d(3, 1, 1), conv_norm(i, 3, 1)),
        )

    def squeeze(n, inner, outer):
        return Product(nn.Identity(), nn.Sequential(
            nn.AdaptiveAvgPool2d(1), conv(n, 2, 1, bias=True), inner(), conv(2, n, 1, bias=True),
            outer()))

    def inverted(i, inside, o, s, act, gate=None):
        path = [conv_norm(i, inside, 1, act=act), conv_norm(inside, inside, 3, s, inside, act)]
        path += [squeeze(inside, *gate)] if gate else []
        whole = nn.Sequential(*path, conv_norm(inside, o, 1, act=nn.Identity))
        return Sum(whole, nn.Identity()) if (i, s) == (o, 1) else whole

    def mobile(act, gate=None):
        return nn.Sequential(
            conv_norm(3, 8, 3, 2, act=act), inverted(8, 16, 8, 1, act, gate),
            inverted(8, 16, 12, 2, act, gate), inverted(12, 24, 12, 1, act, gate),
            conv_norm(12, 16, 1, act=act), head(16))

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.top = nn.Sequential(conv_norm(3, 4), conv_norm(4, 4))
            self.deep = nn.Sequential(nn.MaxPool2d(2), conv_norm(4, 8), conv_norm(8, 8))
            self.up = nn.Sequential(nn.ConvTranspose2d(8, 4, 2, 2), nn.BatchNorm2d(4), nn.ReLU())
            self.end = nn.Sequential(conv_norm(8, 4), nn.Conv2d(4, 1, 1))

        def forward(self, x):
            top = self.top(x)
            return self.end(torch.cat([top, self.up(self.deep(top))], 1))

    def mlp_block(n):
        path = nn.Sequential(nn.BatchNorm1d(n), nn.Linear(n, 2 * n), nn.ReLU(),
                             nn.Linear(2 * n, n))
        return Sum(nn.Identity(), path)

    class WideAndDeep(nn.Module):
        def __init__(self):
            super().__init__()
            self.deep = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(),
                                      nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU())
            self.end = nn.Linear(9, 1)

        def forward(self, wide, deep):
            return self.end(torch.cat([wide, self.deep(deep)], 1))

    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.tower = nn.Sequential(conv_norm(1, 4), conv_norm(4, 6, 3, 2), head(6, 4),
                                       nn.BatchNorm1d(4))
            self.end = nn.Linear(4, 1)

        def forward(self, first, second):
            return self.end(torch.abs(self.tower(first) - self.tower(second)))

    class TwoOutputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Sequential(conv_norm(3, 6), conv_norm(6, 8, 3, 2),
                                       nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.kind = nn.Linear(8, 3)
            self.number = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 4), nn.BatchNorm1d(4),
                                        nn.ReLU(), nn.Linear(4, 1))

        def forward(self, x):
            x = self.trunk(x)
            return self.kind(x), self.number(x)

    def chain(*parts):
        return lambda: nn.Sequential(*(part() for part in parts))

    image = [(3, 16, 16)]
    return {
        "resnet_v1": (chain(lambda: conv_norm(3, 8, 7, 2), lambda: nn.MaxPool2d(3, 2, 1),
                            lambda: residual(8, 8, 1), lambda: residual(8, 12, 2),
                            lambda: residual(12, 12, 1), lambda: head(12)), image),
        "resnet_v2": (chain(lambda: conv(3, 8), lambda: residual_v2(8, 8, 1),
                            lambda: residual_v2(8, 12, 2), lambda: nn.BatchNorm2d(12), nn.ReLU,
                            lambda: head(12)), image),
        "densenet": (chain(lambda: conv_norm(3, 8), lambda: dense_layer(8, 4),
                           lambda: dense_layer(12, 4), lambda: norm_conv(16, 8, 1),
                           lambda: nn.AvgPool2d(2), lambda: dense_layer(8, 4),
                           lambda: nn.BatchNorm2d(12), nn.ReLU, lambda: head(12)), image),
        "inception": (chain(lambda: conv_norm(3, 8), lambda: inception_block(8),
                            lambda: inception_block(16), lambda: head(16)), image),
        "mobilenet_v2": (lambda: mobile(nn.ReLU6), image),
        "mobilenet_v3": (lambda: mobile(nn.Hardswish, (nn.ReLU, nn.Hardsigmoid)), image),
        "efficientnet": (lambda: mobile(nn.SiLU, (nn.SiLU, nn.Sigmoid)), image),
        "unet": (UNet, image),
        "residual_mlp": (chain(lambda: nn.Linear(7, 8), lambda: mlp_block(8), lambda: mlp_block(8),
                               lambda: nn.BatchNorm1d(8), nn.ReLU, lambda: nn.Linear(8, 2)),
                         [(7,)]),
        "wide_and_deep": (WideAndDeep, [(5,), (6,)]),
        "siamese": (Siamese, [(1, 8, 8), (1, 8, 8)]),
        "two_outputs": (TwoOutputs, image),
    }  # fmt: skip


def from_torch(name: str, dynamo: bool) -> Any:
    """The ONNX model of an architecture, with its batch norms, as an exporter writes it."""
    import torch

    torch.manual_seed(0)
    make, shapes = torch_networks()[name]
    network = make()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            for array, low, high in ((module.running_mean, -0.5, 0.5), (module.weight, 0.5, 1.5),
                                     (module.running_var, 0.5, 1.5), (module.bias, -0.5, 0.5)):
                torch.nn.init.uniform_(array, low, high)
    network.eval()
    rows, file = tuple(torch.randn(2, *shape) for shape in shapes), io.BytesIO()
    if dynamo:
        torch.onnx.export(network, rows, dynamo=True, optimize=False, verbose=False).save(file)
    else:
        torch.onnx.export(network, rows, file, dynamo=False, do_constant_folding=False,
                          training=torch.onnx.TrainingMode.PRESERVE)
    return onnx.load_from_string(file.getvalue())


def from_nbbn(name: str) -> Any:
    model = ARCHITECTURES[name].make(nbbn)
    draw_weights(model)
    return nbbn.interop.to_onnx(model, fold=False)


SOURCES: dict[str, Callable[[str], Any]] = {
    "PyTorch, `torch.export`": lambda name: from_torch(name, True),
    "PyTorch, TorchScript": lambda name: from_torch(name, False), "nbbn": from_nbbn,
}


# -- the table


def silent(call: Callable, *args: Any) -> Any:
    """The result of a call that writes nothing."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return call(*args)


def rows_of(names: list[str]) -> Iterator[tuple[str, ...]]:
    """Per architecture and source: batch norms, those left by each tool, nbbn's difference."""
    for name in names:
        for source, make in SOURCES.items():
            if source == "nbbn" and name not in ARCHITECTURES:
                continue
            model = silent(make, name)
            counts, apart = [str(norms_left(model))], "-"
            for tool, fold in TOOLS.items():
                try:
                    folded = silent(fold, model)
                except Exception as error:  # each tool has its own
                    print(f"{name}, {source}, {tool}: {error}", file=sys.stderr)
                    counts.append("-")
                    continue
                counts.append(str(norms_left(folded)))
                if tool == "nbbn":
                    apart = f"{difference(model, folded):.1g}"
            yield name, source, *counts, apart


def table(rows: list[tuple[str, ...]]) -> str:
    heads = ("architecture", "written by", "in the graph", *TOOLS, "difference")
    lines = [heads, ("---", "---", *["--:"] * (len(heads) - 2)), *rows]
    packages = ("torch", "onnx", "onnxruntime", "onnxsim", "onnxslim")
    found = ", ".join(f"{package} {version(package)}" for package in packages)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\nWith {found}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="architectures; all by default")
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    given = parser.parse_args()
    text = table(list(rows_of(given.names or list(NAMES))))
    print(text)
    if not given.names and not given.dry_run:
        page = GUIDE.read_text()
        marked = re.escape(BEGIN) + ".*?" + re.escape(END)
        GUIDE.write_text(re.sub(marked, lambda _: f"{BEGIN}\n\n{text}\n\n{END}", page, flags=re.S))


if __name__ == "__main__":
    main()
