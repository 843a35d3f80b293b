"""A network, a loss and an optimiser lowered to the program of one training step."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nbbn.kernels.update import DECAY, HYPER_WORDS
from nbbn.layers import BatchNormalization, Layer, LayerError
from nbbn.optimizers import Optimizer
from nbbn.program.layout import lanes, padded, panels_of, stride_of
from nbbn.program.nodes import Node, nodes_of, output_activation
from nbbn.program.parameters import Block, Parameters
from nbbn.program.program import Buffer, Program, Segment

# Loss -> the activation that must end the network; the loss kernel starts from what stands before it.
LOSSES = {"softmax_cross_entropy": "softmax", "sigmoid_cross_entropy": "sigmoid", "squared_error": "linear"}
# An output layer of at most so many vectors is split by rows: its columns would occupy one or two threads.
FEW_PANELS = 4


@dataclass(frozen=True)
class Tensor:
    """A buffer of rows."""

    buffer: Buffer
    stride: int
    width: int


@dataclass
class TrainingProgram:
    """What the trainer runs.

    Attributes
    ----------
    program : Program
    parameters : Parameters
    slots : dict
        Optimiser state: (layer, array name, slot) -> block in the parameter segment.
    squares : list of (Buffer, int)
        Running sums of squares of each kernel's panels (float64), before each step.
    targets : int
        Columns of the target matrix; 0 where labels are used.
    """

    program: Program
    parameters: Parameters
    slots: dict[tuple[int, str, int], Block] = field(default_factory=dict)
    squares: list[tuple[Buffer, int]] = field(default_factory=list)
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
    """
    return _Lowering(layers, shapes, dtype, rows, loss, optimizer, decay, debias).build()


class _Lowering:
    def __init__(self, layers, shapes, dtype, rows, loss, optimizer, decay, debias):
        self.layers, self.rows, self.loss, self.optimizer, self.debias = layers, rows, loss, optimizer, debias
        self.nodes = nodes_of(layers, shapes)
        ends_with = output_activation(self.nodes)
        if ends_with != LOSSES[loss]:
            raise LayerError(f"loss {loss} needs a network that ends with {LOSSES[loss]}, this one ends with {ends_with}")
        if ends_with != "linear":
            self.nodes.pop()
        if self.nodes[-1].kind != "dense" or self.nodes[-1].relu:
            raise LayerError("the last layer before the output's activation must be Dense")
        for node in self.nodes:
            if node.activation == "softmax":
                raise LayerError(f"layer {node.layer}: softmax is supported at the end of a trained network only")
        self.program = p = Program(np.dtype(dtype))
        logits = self.nodes[-1].layer if ends_with != "linear" else None
        self.result = TrainingProgram(p, Parameters(p, layers, shapes, logits))
        constants = np.zeros(HYPER_WORDS)
        constants[: len(optimizer.constants())] = optimizer.constants()
        self.hyper = self.result.parameters.add_constant("hyper", constants)
        constants = constants.copy()
        constants[DECAY] = decay
        self.hyper_decay = self.result.parameters.add_constant("hyper_decay", constants)
        self.pending: list = []  # updates that wait until every thread has used the old weights

    def build(self) -> TrainingProgram:
        inputs, outputs = self._forward()
        self._loss(outputs[-1])
        self._backward(inputs, outputs)
        return self.result

    # -- helpers

    def _tensor(self, name: str, width: int, segment: Segment = Segment.WORK) -> Tensor:
        stride = stride_of(width, self.program.dtype)
        return Tensor(self.program.buffer(name, segment, self.rows * stride), stride, width)

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

    # -- forward

    def _forward(self) -> tuple[list[Tensor], list[Tensor]]:
        """Emit the forward pass; return each node's input and output. A norm's input holds xhat afterwards."""
        width = self.nodes[0].depth
        # A norm writes over its input, column by column, and its threads must meet over one copy.
        x = self._gather("x", Buffer("X", Segment.X), width, private=self.nodes[0].kind == "dense")
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
        z = self._tensor(f"z{node.layer}", node.width)
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
        before = self.nodes[i - 1] if i else None
        keep = before is not None and (before.kind == "activation" or before.relu)
        self._saved_xhat = xhat = self._tensor(f"xhat{node.layer}", node.width) if keep else x
        self.program.add("norm_relu_forward" if node.relu else "norm_forward", x=x.buffer, x_stride=x.stride,
                         xhat=xhat.buffer, xhat_stride=xhat.stride, y=y.buffer, y_stride=y.stride,
                         state=self.result.parameters.state(node.layer), panels=self._panels(node.width),
                         epsilon=layer.epsilon, momentum=layer.momentum, debias=int(self.debias))
        return y

    def _forward_activation(self, i: int, node: Node, x: Tensor) -> Tensor:
        self.program.add(f"{node.activation}_forward", x=x.buffer, x_stride=x.stride, panels=self._panels(node.width))
        return x

    # -- loss

    def _loss(self, z: Tensor) -> None:
        losses, hits = Buffer("losses", Segment.LOSSES), Buffer("hits", Segment.HITS)
        order = Buffer("order", Segment.ORDER)
        common = {"z": z.buffer, "z_stride": z.stride, "panels": self._panels(z.width), "losses": losses}
        if self.loss == "softmax_cross_entropy":
            self.program.add(self.loss, labels=Buffer("Y", Segment.Y), order=order, hits=hits, **common)
            return
        common |= {"units": z.width, "targets": self.target.buffer, "t_stride": self.target.stride}
        if self.loss == "sigmoid_cross_entropy":
            common["hits"] = hits
        self.program.add(self.loss, **common)

    # -- backward

    def _backward(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Emit the backward pass, the updates each one phase late: by then all threads have used the old weights."""
        d = outputs[-1]  # the loss kernel left the gradient there
        for i in range(len(self.nodes) - 1, -1, -1):
            d = getattr(self, f"_backward_{self.nodes[i].kind}")(i, self.nodes[i], inputs[i], outputs[i], d)
        self._emit_pending(0)

    def _emit_pending(self, keep: int) -> None:
        while len(self.pending) > keep:
            self.pending.pop(0)()

    def _backward_dense(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        if node.relu:
            self._mask("relu", node, y, d)
        self._emit_pending(1)
        dx = d
        if i > 0:
            dx = self._tensor(f"d{node.layer}", node.depth)
            transposed = self.result.parameters.add_transposed(node.layer)
            nothing = self.result.parameters.add_constant(f"zeros{node.layer}", np.zeros(padded(node.depth, self.program.dtype)))
            self.program.add("dense_forward", x=d.buffer, x_stride=d.stride, depth=node.width,
                             weights=transposed.buffer, weight_depth=padded(node.width, self.program.dtype), bias=nothing,
                             z=dx.buffer, z_stride=dx.stride, panels=self._panels(node.depth))
        self.pending.append(lambda: self._update_dense(node, x, d))
        return dx

    def _backward_norm(self, i: int, node: Node, xhat: Tensor, y: Tensor, d: Tensor) -> Tensor:
        layer: BatchNormalization = self.layers[node.layer]
        panels = self._panels(node.width)
        state = self.result.parameters.state(node.layer)
        grad = self.program.buffer(f"dstate{node.layer}", Segment.WORK, 2 * panels * lanes(self.program.dtype))
        self.program.add("norm_relu_backward" if node.relu else "norm_backward", dy=d.buffer, dy_stride=d.stride,
                         xhat=xhat.buffer, xhat_stride=xhat.stride, state=state, dstate=grad, panels=panels)
        for name, there in (("gamma", layer.scale), ("beta", layer.center)):
            if there:
                row = self._block(node, name)
                self._update_vector(node, name, row, Buffer(grad.name, grad.segment, grad.offset + row.offset - state.offset))
        return d

    def _backward_activation(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        self._mask(node.activation, node, y, d)
        return d

    def _mask(self, activation: str, node: Node, y: Tensor, d: Tensor) -> None:
        self.program.add(f"{activation}_backward", dy=d.buffer, dy_stride=d.stride, y=y.buffer, y_stride=y.stride,
                         panels=self._panels(node.width))

    # -- updates

    def _slots(self, node: Node, name: str, depth: int, width: int) -> Buffer:
        """Optimiser state of one array: its slots follow each other."""
        dtype = self.program.dtype
        items = padded(depth, dtype) * padded(width, dtype) if depth else padded(width, dtype)
        buffer = self.program.buffer(f"slots_{name}{node.layer}", Segment.PARAMS, items * self.optimizer.slots)
        for s in range(self.optimizer.slots):
            self.result.slots[node.layer, name, s] = Block(buffer.at(s * items, dtype.itemsize), depth, width)
        return buffer

    def _update_dense(self, node: Node, x: Tensor, dz: Tensor) -> None:
        panels = self._panels(node.width)
        weights = self._block(node, "kernel")
        squares = self.program.buffer(f"squares{node.layer}", Segment.WORK, panels, itemsize=8)
        self.result.squares.append((squares, panels))
        self.program.add(f"dense_update_{self.optimizer.kernel}", x=x.buffer, x_stride=x.stride, depth=node.depth,
                         dz=dz.buffer, dz_stride=dz.stride, weights=weights,
                         slots=self._slots(node, "kernel", node.depth, node.width), hyper=self.hyper_decay, squares=squares,
                         panels=panels)
        if node.layer in self.result.parameters.transposed:
            self.program.add("transpose_weights", weights=weights, weight_depth=padded(node.depth, self.program.dtype),
                             out=self.result.parameters.transposed[node.layer].buffer,
                             out_depth=padded(node.width, self.program.dtype), panels=panels)
        if self.layers[node.layer].use_bias:
            grad = self.program.buffer(f"dbias{node.layer}", Segment.WORK, panels * lanes(self.program.dtype))
            self.program.add("column_sum", x=dz.buffer, x_stride=dz.stride, out=grad, panels=panels)
            self._update_vector(node, "bias", self._block(node, "bias"), grad)

    def _update_vector(self, node: Node, name: str, param: Buffer, grad: Buffer) -> None:
        self.program.add(f"update_{self.optimizer.kernel}", param=param, grad=grad,
                         slots=self._slots(node, name, 0, node.width), hyper=self.hyper, panels=self._panels(node.width))
