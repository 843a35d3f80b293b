"""A network, a loss and an optimiser lowered to the program of one training step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from nbbn.kernels.update import DECAY, HYPER_WORDS
from nbbn.layers import BatchNormalization, Layer, LayerError
from nbbn.optimizers import Optimizer
from nbbn.program.image_training import ImageTraining
from nbbn.program.images import Images
from nbbn.program.layout import lanes, padded, panels_of, stride_of
from nbbn.program.nodes import Node, nodes_of, output_activation
from nbbn.program.parameters import Block, Parameters
from nbbn.program.program import Buffer, Program, Segment
from nbbn.program.tensors import Tensor, layout_of

# Loss -> the activation that must end the network; the loss kernel starts from what stands before it.
# None: any, since the kernel starts from the outputs.
LOSSES = {
    "softmax_cross_entropy": "softmax", "categorical_cross_entropy": "softmax", "sigmoid_cross_entropy": "sigmoid",
    "binary_cross_entropy": "sigmoid", "squared_error": "linear", "mean_squared_error": None, "mean_absolute_error": None,
    "huber": None, "quantile": None, "poisson": "exponential",
}  # fmt: skip
# Blocks of rows whose partial sums are merged in order: as many threads as can share images. Fewer for large kernels.
BLOCKS, PARTIAL_BYTES = 32, 16 << 20
# An output layer of at most so many vectors is split by rows: its columns would occupy one or two threads.
FEW_PANELS = 4


@dataclass
class TrainingProgram:
    """What the trainer runs.

    Attributes
    ----------
    program : Program
    parameters : Parameters
    nodes : list of Node
    slots : dict
        Optimiser state: (layer, array name, slot) -> block in the parameter segment.
    squares : list of (Buffer, int)
        Running sums of squares of each kernel's panels (float64), before each step.
    penalties : list of (Buffer, int)
        Sums over steps and their rows of each regularised array's penalty, a number a vector (float64), before each step.
    targets : int
        Columns of the target matrix; 0 where labels are used.
    """

    program: Program
    parameters: Parameters
    nodes: list[Node]
    slots: dict[tuple[int, str, int], Block] = field(default_factory=dict)
    squares: list[tuple[Buffer, int]] = field(default_factory=list)
    penalties: list[tuple[Buffer, int]] = field(default_factory=list)
    targets: int = 0


def lower_training(
    layers: tuple[Layer, ...],
    shapes: list[tuple[int, ...]],
    dtype: np.dtype,
    rows: int,
    loss: str,
    optimizer: Optimizer,
    *,
    decay: float = 0.0,
    debias: bool = False,
    seed: int = 0,
    delta: float = 1.0,
    weighted: bool | str = False,
) -> TrainingProgram:
    """Lower one training step on up to `rows` rows.

    Parameters
    ----------
    layers, shapes
        The layers and the row shape before each and after the last.
    dtype : numpy.dtype
        float32 or float64.
    rows : int
        The largest batch.
    loss : str
        A key of `LOSSES`.
    optimizer : Optimizer
    decay : float
        L2 penalty: `decay * kernel / rows` joins a kernel's gradient.
    debias : bool
        Whether the running averages are corrected for their start.
    seed : int
        Of dropout and noise.
    delta : float
        Where the Huber loss turns linear, or the level of the quantile.
    weighted : bool or "mean"
        Whether rows have weights; with "mean" batch norms' statistics are weighted too.
    """
    return _Lowering(layers, shapes, dtype, rows, loss, optimizer, decay, debias, seed, delta, weighted).build()


class _Lowering(ImageTraining):
    def __init__(self, layers, shapes, dtype, rows, loss, optimizer, decay, debias, seed, delta, weighted):
        self.layers, self.rows, self.loss, self.optimizer, self.debias = layers, rows, loss, optimizer, debias
        self.seed, self.delta, self.weighted = seed, delta, weighted
        self.shapes, self.nodes = shapes, nodes_of(layers, shapes, training=True)
        self._check_end()
        if weighted == "mean" and any(node.kind in ("image_norm", "norm_pool") for node in self.nodes):
            raise LayerError("weighted statistics are supported for batch norms of feature vectors only")
        self.program = p = Program(np.dtype(dtype))
        logits = self.nodes[-1].layer if LOSSES[loss] in ("softmax", "sigmoid") else None
        self.result = TrainingProgram(p, Parameters(p, layers, shapes, self.nodes, logits), self.nodes)
        self.images = Images(p, self.result.parameters, layers, self._blocks(), Segment.PRIVATE)
        if any(node.kind in ("conv", "depthwise") for node in self.nodes):
            self.images.reserve_scratch(self.nodes, gradients=True)
        constants = np.zeros(HYPER_WORDS)
        constants[: len(optimizer.constants())] = optimizer.constants()
        self.hyper = self.result.parameters.add_constant("hyper", constants)
        constants = constants.copy()
        constants[DECAY] = decay
        self.hyper_decay = self.result.parameters.add_constant("hyper_decay", constants)
        self.pending: list = []  # updates that wait until every thread has used the old weights
        self.clipped: list = []  # gradients that wait for the norm of all of them, and what follows
        self._windows, self._xhats, self._batches, self._repeats, self._turned = {}, {}, {}, {}, {}
        self._no_bias_gradient = self._without_gradient()
        trained = [i for i, node in enumerate(self.nodes) if self._trained(node)]
        self._first_trained = trained[0] if trained else len(self.nodes)

    def _check_end(self) -> None:
        """Take the output's activation away where the loss starts before it."""
        wanted, ends_with = LOSSES[self.loss], output_activation(self.nodes) if self.nodes else "linear"
        if wanted is not None and ends_with != wanted:
            raise LayerError(f"loss {self.loss} needs a network that ends with {wanted}, this one ends with {ends_with}")
        if wanted not in (None, "linear"):
            self.nodes.pop()
        self.nodes = [replace(n, kind="channel_softmax", activation="") if n.activation == "softmax" else n for n in self.nodes]
        if wanted is None:
            return
        if wanted != "linear" and (not self.nodes or self.nodes[-1].kind != "dense" or self.nodes[-1].relu):
            raise LayerError(f"the layer before the output's {wanted} must be Dense on rows of one axis")

    def _blocks(self) -> int:
        largest = max((self.result.parameters.blocks[k].form.items(self.program.dtype) for k in self.result.parameters.blocks),
                      default=1) * self.program.dtype.itemsize
        return max(2, min(BLOCKS, PARTIAL_BYTES // max(largest, 1)))

    def build(self) -> TrainingProgram:
        inputs, outputs = self._forward()
        d = self._loss(outputs[-1])
        self._turn_kernels(inputs, outputs)
        self._backward(inputs, outputs, d)
        return self.result

    # -- helpers

    def _tensor(self, name: str, shape, segment: Segment = Segment.WORK, *, kept: bool = False) -> Tensor:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        stride, pixel = layout_of(shape, self.program.dtype)
        return Tensor(self.program.buffer(name, segment, self.rows * stride), stride, shape, pixel, kept)

    def _nothing(self, width: int) -> Buffer:
        """A bias of zeros."""
        return self.result.parameters.add_constant(f"zeros{len(self.program.operations)}", np.zeros(width))

    def _without_gradient(self) -> set[int]:
        """Layers whose bias a batch norm takes away again, so that its gradient is 0 but for rounding.

        Adam would make whole steps of that noise, and the running mean would lag behind the bias.
        """
        found = set()
        for node, after in zip(self.nodes, self.nodes[1:]):
            normed = after.kind in ("norm", "image_norm", "norm_pool")
            if normed and node.kind in ("dense", "conv", "depthwise") and not node.relu:
                plain = getattr(self.layers[node.layer], "bias_regularizer", None) is None
                batch = not self.layers[after.layer].uses_running
                if plain and batch and not getattr(self.optimizer, "weight_decay", None):
                    found.add(node.layer)
        return found

    def _trained(self, node: Node) -> tuple[str, ...]:
        """Names of the node's arrays that training changes."""
        names = self._trainable(node)
        return tuple(name for name in names if name != "bias") if node.layer in self._no_bias_gradient else names

    def _trainable(self, node: Node) -> tuple[str, ...]:
        if node.kind in ("dense", "conv", "depthwise", "norm", "image_norm", "norm_pool", "group_norm"):
            return self.layers[node.layer].trainable_names(self.shapes[node.layer])
        return ()

    def _panels(self, width: int) -> int:
        return panels_of(width, self.program.dtype)

    def _block(self, node: Node, name: str) -> Buffer:
        return self.result.parameters.blocks[node.layer, name].buffer

    def _gather(self, name: str, source: Buffer, width: int, *, private: bool = False) -> Tensor:
        """The step's rows of an array of the caller's; `private` gives each thread a copy of its own."""
        x = self._tensor(name, width, Segment.PRIVATE if private else Segment.WORK)
        self.program.add("gather_all_rows" if private else "gather_rows", x=source, order=Buffer("order", Segment.ORDER),
                         out=x.buffer, width=width, out_stride=x.stride)
        return x

    def _gather_input(self) -> Tensor:
        """The step's rows as the first node takes them."""
        first, source = self.nodes[0], Buffer("X", Segment.X)
        if len(first.before) == 1:
            # A norm writes over its input, column by column, and its threads must meet over one copy.
            return self._gather("x", source, first.depth, private=first.kind == "dense")
        stride = stride_of(first.depth, self.program.dtype)
        raw = Tensor(self.program.buffer("x", Segment.WORK, self.rows * stride), stride, first.before, first.before[-1])
        self.program.add("gather_images", x=source, order=Buffer("order", Segment.ORDER), out=raw.buffer, width=first.depth,
                         out_stride=stride, blocks=self.images.blocks)
        if first.kind == "conv":
            return raw
        x = self._tensor("x_padded", first.before)
        self.images.repack(raw, x)
        return x

    # -- forward

    def _forward(self) -> tuple[list[Tensor], list[Tensor]]:
        """Emit the forward pass; return each node's input and output. A norm's input holds xhat afterwards."""
        if not self.nodes:
            raise LayerError("a network without a layer that computes cannot be trained; add a Dense layer")
        x = self._gather_input()
        if self.weighted:
            self.shares = self.program.buffer("shares", Segment.WORK, self.rows)
            self.program.add("gather_shares", weights=Buffer("weights", Segment.WEIGHTS), order=Buffer("order", Segment.ORDER),
                             shares=self.shares)
        if self.loss != "softmax_cross_entropy":
            self.result.targets = self.nodes[-1].width
            self.target = self._gather("target", Buffer("Y", Segment.Y), self.result.targets)
        inputs, outputs = [], []
        for i, node in enumerate(self.nodes):
            y = getattr(self, f"_forward_{node.kind}")(i, node, x)
            x = self._saved_xhat if node.kind == "norm" else x
            inputs.append(x)
            outputs.append(y)
            x = y
        return inputs, outputs

    def _forward_dense(self, i: int, node: Node, x: Tensor) -> Tensor:
        z = self._tensor(f"z{node.layer}", node.width, kept=node.relu)
        panels = self._panels(node.width)
        kernel = "dense_relu_forward" if node.relu else "dense_forward"
        if i == len(self.nodes) - 1 and panels <= FEW_PANELS:
            kernel = "dense_forward_by_rows"
        self.program.add(kernel, x=x.buffer, x_stride=x.stride, depth=node.depth, weights=self._block(node, "kernel"),
                         weight_depth=padded(node.depth, self.program.dtype), bias=self._block(node, "bias"), z=z.buffer,
                         z_stride=z.stride, panels=panels)
        return z

    def _forward_norm(self, i: int, node: Node, x: Tensor) -> Tensor:
        layer: BatchNormalization = self.layers[node.layer]
        y = self._tensor(f"y{node.layer}", node.width)
        # xhat may overwrite the input unless the backward pass of the node before needs its output.
        self._saved_xhat = xhat = self._like(f"xhat{node.layer}", x) if x.kept else x
        momentum, debias = (1.0, 1) if layer.momentum is None else (layer.momentum, int(self.debias))
        weights = {}
        kernel = "norm_relu_forward" if node.relu else "norm_forward"
        if self.weighted == "mean":
            kernel, weights = "norm_weighted_forward", {"shares": self.shares, "relu": int(node.relu)}
        self.program.add(kernel, x=x.buffer, x_stride=x.stride, xhat=xhat.buffer, xhat_stride=xhat.stride, y=y.buffer,
                         y_stride=y.stride, state=self.result.parameters.state(node.layer), panels=self._panels(node.width),
                         epsilon=layer.epsilon, momentum=momentum, debias=debias, **weights)
        return y

    def _forward_activation(self, i: int, node: Node, x: Tensor) -> Tensor:
        if x.kept:
            y = self._like(f"a{node.layer}", x)
            self.images.activate(node.activation, node.numbers, x, y)
            return replace(y, kept=True)
        self.program.add(f"{node.activation}_forward", x=x.buffer, x_stride=x.stride, panels=self._panels(node.width))
        return replace(x, kept=True)

    # -- loss

    def _loss(self, z: Tensor) -> Tensor:
        """Emit the loss; return the gradient by `z`, over `z` itself where the loss starts from logits."""
        losses, hits = Buffer("losses", Segment.LOSSES), Buffer("hits", Segment.HITS)
        order = Buffer("order", Segment.ORDER)
        d = self._emit_loss(z, losses, hits, order)
        if self.weighted:
            if len(d.shape) > 1:
                raise LayerError("weighted rows need outputs of one axis; end with a Flatten")
            self.program.add("weigh_rows", dz=d.buffer, dz_stride=d.stride, panels=self._panels(d.width), shares=self.shares,
                             losses=losses)
        return d

    def _emit_loss(self, z: Tensor, losses: Buffer, hits: Buffer, order: Buffer) -> Tensor:
        if LOSSES[self.loss] is None:
            return self._regression_loss(z, losses)
        common = {"z": z.buffer, "z_stride": z.stride, "panels": self._panels(z.width), "losses": losses}
        if self.loss == "softmax_cross_entropy":
            self.program.add(self.loss, labels=Buffer("Y", Segment.Y), order=order, hits=hits, **common)
            return z
        common |= {"targets": self.target.buffer, "t_stride": self.target.stride}
        if self.loss != "categorical_cross_entropy":
            common["units"] = z.width
        if self.loss not in ("squared_error", "poisson"):
            common["hits"] = hits
        self.program.add(self.loss, **common)
        return z

    def _regression_loss(self, y: Tensor, losses: Buffer) -> Tensor:
        """The mean over all numbers of a row; a row of several axes is flattened for it."""
        flat = y
        if len(y.shape) > 1:
            flat = self._tensor("outputs", y.width)
            self.images.repack(y, flat)
        d = self._tensor("doutputs", y.width)
        self.program.add(self.loss, y=flat.buffer, y_stride=flat.stride, units=y.width, targets=self.target.buffer,
                         t_stride=self.target.stride, delta=self.delta, dy=d.buffer, dy_stride=d.stride, losses=losses)
        if len(y.shape) == 1:
            return d
        shaped = self._like("dshaped", y)
        self.images.repack(d, shaped)
        return shaped

    # -- backward

    def _backward(self, inputs: list[Tensor], outputs: list[Tensor], d: Tensor) -> None:
        """Emit the backward pass, the updates each one phase late: by then all threads have used the old weights."""
        for i in range(len(self.nodes) - 1, self._first_trained - 1, -1):
            d = getattr(self, f"_backward_{self.nodes[i].kind}")(i, self.nodes[i], inputs[i], outputs[i], d)
        self._emit_pending(0)
        self._emit_clipped()

    def _emit_pending(self, keep: int) -> None:
        while len(self.pending) > keep:
            self.pending.pop(0)()

    def _backward_dense(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        if node.relu:
            self._mask("relu", node, y, d)
        self._emit_pending(1)
        dx = d
        if i > self._first_trained:
            dx = self._like(f"d{node.layer}", x)
            transposed = self.result.parameters.add_transposed(node.layer)
            nothing = self._nothing(padded(node.depth, self.program.dtype))
            self.program.add("dense_forward", x=d.buffer, x_stride=d.stride, depth=node.width,
                             weights=transposed.buffer, weight_depth=padded(node.width, self.program.dtype), bias=nothing,
                             z=dx.buffer, z_stride=dx.stride, panels=self._panels(node.depth))
        self.pending.append(lambda: self._update_dense(node, x, d))
        return dx

    def _backward_norm(self, i: int, node: Node, xhat: Tensor, y: Tensor, d: Tensor) -> Tensor:
        panels = self._panels(node.width)
        state = self.result.parameters.state(node.layer)
        grad = self.program.buffer(f"dstate{node.layer}", Segment.WORK, 2 * panels * lanes(self.program.dtype))
        weights = {}
        kernel = "norm_relu_backward" if node.relu else "norm_backward"
        if self.weighted == "mean":
            kernel, weights = "norm_weighted_backward", {"shares": self.shares, "relu": int(node.relu)}
        self.program.add(kernel, dy=d.buffer, dy_stride=d.stride, xhat=xhat.buffer, xhat_stride=xhat.stride, state=state,
                         dstate=grad, panels=panels, **weights)
        for name in self._trained(node):
            row = self._block(node, name)
            self._train(node, name, Buffer(grad.name, grad.segment, grad.offset + row.offset - state.offset), panels)
        return d

    def _backward_activation(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        if x.buffer is not y.buffer:
            self.images.activation_slope(node.activation, node.numbers, x, d)
            return d
        self._mask(node.activation, node, y, d)
        return d

    def _mask(self, activation: str, node: Node, y: Tensor, d: Tensor) -> None:
        self.program.add(f"{activation}_backward", dy=d.buffer, dy_stride=d.stride, y=y.buffer, y_stride=y.stride,
                         panels=self._panels(node.width))

    # -- updates

    def _slots(self, node: Node, name: str) -> Buffer:
        """Optimiser state of one array: its slots follow each other."""
        dtype, form = self.program.dtype, self.result.parameters.blocks[node.layer, name].form
        items = form.items(dtype)
        buffer = self.program.buffer(f"slots_{name}{node.layer}", Segment.PARAMS, items * self.optimizer.slots)
        for s in range(self.optimizer.slots):
            self.result.slots[node.layer, name, s] = Block(buffer.at(s * items, dtype.itemsize), form)
        return buffer

    def _clips(self) -> bool:
        return any(getattr(self.optimizer, name, None) for name in ("clipnorm", "clipvalue", "global_clipnorm"))

    def _penalty(self, node: Node, name: str):
        """The regulariser of one array, if it has one."""
        return self.layers[node.layer].regularizers(self.shapes[node.layer]).get(name)

    def _update_dense(self, node: Node, x: Tensor, dz: Tensor) -> None:
        panels = self._panels(node.width)
        weights, trained = self._block(node, "kernel"), self._trained(node)
        squares = self.program.buffer(f"squares{node.layer}", Segment.WORK, panels, itemsize=8)
        fused = not self._clips() and self._penalty(node, "kernel") is None
        common = {"x": x.buffer, "x_stride": x.stride, "depth": node.depth, "dz": dz.buffer, "dz_stride": dz.stride,
                  "weights": weights, "squares": squares, "panels": panels}
        if "kernel" in trained and fused:
            self._shrink(weights, self._vectors(node, "kernel"))
            self.program.add(f"dense_update_{self.optimizer.kernel}", slots=self._slots(node, "kernel"), hyper=self.hyper_decay,
                             **common)
            self.result.squares.append((squares, panels))
        elif "kernel" in trained:
            form = self.result.parameters.blocks[node.layer, "kernel"].form
            grad = self.program.buffer(f"dkernel{node.layer}", Segment.WORK, form.items(self.program.dtype))
            self.program.add("dense_update_gradient", slots=grad, hyper=self.hyper_decay, **common)
            self.result.squares.append((squares, panels))
            self._train(node, "kernel", grad, self._vectors(node, "kernel"))
        if "bias" in trained:
            grad = self.program.buffer(f"dbias{node.layer}", Segment.WORK, panels * lanes(self.program.dtype))
            self.program.add("column_sum", x=dz.buffer, x_stride=dz.stride, out=grad, panels=panels)
            self._train(node, "bias", grad, panels)
        if not self.clipped:
            self._transpose(node)

    def _transpose(self, node: Node) -> None:
        """Bring the transpose of a dense kernel up to date."""
        if node.kind == "dense" and node.layer in self.result.parameters.transposed and "kernel" in self._trained(node):
            self.program.add("transpose_weights", weights=self._block(node, "kernel"),
                             weight_depth=padded(node.depth, self.program.dtype),
                             out=self.result.parameters.transposed[node.layer].buffer,
                             out_depth=padded(node.width, self.program.dtype), panels=self._panels(node.width))

    def _vectors(self, node: Node, name: str) -> int:
        return self.result.parameters.blocks[node.layer, name].form.items(self.program.dtype) // lanes(self.program.dtype)

    def _train(self, node: Node, name: str, grad: Buffer, vectors: int) -> None:
        """One step on an array whose gradient is in memory."""
        if penalty := self._penalty(node, name):
            sums = self.program.buffer(f"penalty_{name}{node.layer}", Segment.WORK, vectors, itemsize=8)
            self.result.penalties.append((sums, vectors))
            self.program.add("add_penalty", grad=grad, param=self._block(node, name), l1=penalty.l1, l2=penalty.l2,
                             penalties=sums, panels=vectors)
        if self._clips():
            self.clipped.append((node, name, grad, vectors))
        else:
            self._step(node, name, grad, vectors)

    def _step(self, node: Node, name: str, grad: Buffer, vectors: int) -> None:
        self._shrink(self._block(node, name), vectors)
        self.program.add(f"update_{self.optimizer.kernel}", param=self._block(node, name), grad=grad,
                         slots=self._slots(node, name), hyper=self.hyper, panels=vectors)

    def _shrink(self, param: Buffer, vectors: int) -> None:
        if getattr(self.optimizer, "weight_decay", None):
            self.program.add("shrink_columns", param=param, panels=vectors)

    def _emit_clipped(self) -> None:
        """Bound the gradients, then take the steps that waited for it."""
        optimizer = self.optimizer
        norm = self.program.buffer("norm", Segment.WORK, 1, itemsize=8)
        for k, (_, _, grad, vectors) in enumerate(self.clipped):
            if optimizer.clipvalue:
                self.program.add("clip_by_value", grad=grad, bound=optimizer.clipvalue, panels=vectors)
            else:
                self.program.add("add_to_norm", grad=grad, norm=norm, restart=int(k == 0 or bool(optimizer.clipnorm)),
                                 panels=vectors)
            if optimizer.clipnorm:
                self.program.add("clip_by_norm", grad=grad, norm=norm, bound=optimizer.clipnorm, panels=vectors)
        for node, name, grad, vectors in self.clipped:
            if optimizer.global_clipnorm:
                self.program.add("clip_by_norm", grad=grad, norm=norm, bound=optimizer.global_clipnorm, panels=vectors)
            self._step(node, name, grad, vectors)
            if name == "kernel":
                self._transpose(node)
