"""A program in the making: what the functions that lower operations work on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from nbbn.kernels import KERNELS
from nbbn.kernels.winograd import CELLS
from nbbn.operations import Computation, Shape
from nbbn.program import patches, window_words, winograd
from nbbn.program.fusion import Node
from nbbn.program.layout import panels_of
from nbbn.program.parameters import Parameters, input_pixel
from nbbn.program.program import Buffer, Program, Segment
from nbbn.program.tensors import Tensor, layout_of

# Blocks of rows whose partial sums are merged in order: as many threads as can share images.
# Fewer for large kernels.
BLOCKS, PARTIAL_BYTES = 32, 16 << 20
# Operands that follow from the tensor they belong to: `x` brings `x_stride` and so on.
_OF_A_TENSOR = {
    "stride": "stride", "image": "stride", "pixel": "pixel", "channels": "channels",
    "panel": "panel",
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What a node's forward pass leaves.

    Attributes
    ----------
    y : Tensor
        What comes out.
    x : Tensor
        What the backward pass reads in the place of the input: of layer norm, what was normalised.
    window : Buffer or None
        Of a pool.
    statistics : Buffer or None
        What a norm normalised with.
    others : tuple of Tensor
        What came from other sources than the first.
    """

    y: Tensor
    x: Tensor
    window: Buffer | None = None
    statistics: Buffer | None = None
    others: tuple[Tensor, ...] = ()


class Lowering:
    """A program, its parameters, and how its tensors are laid out.

    Parameters
    ----------
    computation : Computation
    nodes : list of Node
        Of `computation`, in its order.
    dtype : numpy.dtype
        float32 or float64.
    rows : int
        That a tensor has room for.
    training : bool
        Whether a backward pass follows: then values stay, working memory begins as zeros, and
        threads share rows in blocks.
    parameters : Parameters, optional
        Where the arrays stand; laid out anew by default, `by_rows` if so wished.
    """

    def __init__(self, computation: Computation, nodes: list[Node], dtype: np.dtype, *, rows: int,
                 training: bool, parameters: Parameters | None = None, by_rows: bool = False):
        self.computation, self.nodes = computation, nodes
        self.program, self.rows, self.training = Program(np.dtype(dtype)), rows, training
        self.parameters = parameters or Parameters(self.program, computation.arrays, self.nodes,
                                                   by_rows=by_rows, training=training)
        self.blocks = self._training_blocks() if training else 1
        self.scratch, self.patches = self._scratch(), self._patches()
        # Working buffers of training, by name, that count on what they hold from step to step.
        self.lasting: set[str] = set()
        self._readers = Counter(source for node in nodes for source in node.sources)

    def _training_blocks(self) -> int:
        sizes = [block.layout.items(self.dtype) for block in self.parameters.blocks.values()]
        largest = max(sizes, default=1) * self.dtype.itemsize
        return max(2, min(BLOCKS, PARTIAL_BYTES // max(largest, 1)))

    def _scratch(self) -> Buffer | None:
        """Room for one bordered image a thread, as large as the largest convolution needs."""
        nodes = [node for node in self.nodes if has_window_of_kernel(node)]
        if not nodes:
            return None
        room = 1
        for node in nodes:
            words = self.window(node, input_pixel(node, self.dtype))
            room = max(room, window_words.scratch_items(words))
            if self.training:
                gradient = window_words.input_gradient(words)
                room = max(room, window_words.scratch_items(gradient))
        return self.program.buffer("scratch", self.own_segment, room)

    def _patches(self) -> Buffer | None:
        """Room for the most patches that a convolution holds at once."""
        room = 0
        for node in self.nodes:
            if node.is_convolution:
                words = self.window(node, input_pixel(node, self.dtype))
                held = patches.held(words, self.rows, self.dtype)
                room = max(room, held * patches.patch(words, self.dtype))
                room = max(room, self._room_of_tiles(node, words))
                if self.training:
                    turned = window_words.input_gradient(words)
                    room = max(room, self._patches_of_gradients(words),
                               self._room_of_tiles(node, turned))
        return self.program.buffer("patches", self.own_segment, room) if room else None

    def _room_of_tiles(self, node: Node, words: np.ndarray) -> int:
        if not winograd.is_faster(words, self.dtype, node.pool):
            return 0
        return winograd.room(words, self.rows, self.dtype, training=self.training)

    def _patches_of_gradients(self, words: np.ndarray) -> int:
        held = patches.held_for_gradient(words, self.rows, self.dtype)
        turned = window_words.input_gradient(words)
        held_turned = patches.held(turned, self.rows, self.dtype)
        return max(held * patches.patch(words, self.dtype),
                   held_turned * patches.patch(turned, self.dtype))

    # -- facts

    @property
    def dtype(self) -> np.dtype:
        """What is computed in."""
        return self.program.dtype

    @property
    def own_segment(self) -> Segment:
        """Where each thread has memory of its own; in inference a block of rows is one thread's."""
        return Segment.PRIVATE if self.training else Segment.WORK

    def panels(self, width: int) -> int:
        """Vectors that hold `width` numbers."""
        return panels_of(width, self.dtype)

    def is_read(self, index: int) -> bool:
        """Whether another node reads what a node gives."""
        return self._readers[index] > 0

    def noted(self, node: Node, result: Result) -> Result:
        """A node's result, whose tensor says whether several nodes read it."""
        shared = result.y.shared or self._readers[node.index] > 1
        return replace(result, y=replace(result.y, shared=True)) if shared else result

    def window(self, node: Node, pixel: int) -> np.ndarray:
        """The window of a convolution that reads pixels of `pixel` floats."""
        words = window_words.of_node(node, pixel, self.dtype)
        pointwise = window_words.is_pointwise(words) and not node.pool
        return window_words.as_one_line(words) if pointwise else words

    # -- memory

    def tensor(self, name: str, shape: Shape, segment: Segment = Segment.WORK, *,
               kept: bool = False) -> Tensor:
        """A new tensor of rows of `shape`."""
        stride, pixel = layout_of(shape, self.dtype)
        buffer = self.program.buffer(name, segment, self.rows * stride)
        return Tensor(buffer, stride, tuple(shape), pixel, kept)

    def like(self, name: str, x: Tensor) -> Tensor:
        """A new tensor of the same layout."""
        buffer = self.program.buffer(name, Segment.WORK, self.rows * x.stride)
        return replace(x, buffer=buffer, kept=False, shared=False)

    def block(self, node: Node, name: str) -> Buffer:
        """Where one of a node's arrays stands."""
        return self.parameters.of(node, name).buffer

    def state(self, node: Node) -> Buffer:
        """The per-channel numbers of a norm."""
        return self.parameters.state(node.layer)

    def points(self, node: Node, words: np.ndarray) -> Buffer | None:
        """A node's kernel by points, where its convolution goes by tiles.

        A program that has its parameters from another goes by tiles where that one does.
        """
        if not winograd.is_faster(words, self.dtype, node.pool):
            return None
        if self.training:
            return self.parameters.add_points(node).buffer
        block = self.parameters.points_of(node)
        return block.buffer if block else None

    def constant(self, name: str, values: np.ndarray) -> Buffer:
        """Fixed numbers as an operand."""
        return self.parameters.add_constant(name, values)

    def zeros(self, width: int) -> Buffer:
        """A bias that adds nothing."""
        return self.constant(f"zeros{len(self.program.operations)}", np.zeros(width))

    # -- operations

    def add_points(self, weights: Buffer, pixel: int, units: int, points: Buffer) -> None:
        """A kernel of 3 x 3 cells by points."""
        self.add("winograd_kernel", weights=weights, weight_depth=CELLS * pixel, pixel=pixel,
                 out=points, panels=self.panels(units))

    def add(self, kernel: str, **operands: Tensor | Buffer | float | None) -> None:
        """Append a kernel call.

        A tensor stands for its buffer and for what the kernel wants to know of its layout;
        `blocks`, `scratch` and `patches` need not be given.
        """
        wanted = KERNELS[kernel].operands
        known: dict[str, object] = {"blocks": self.blocks, "scratch": self.scratch,
                                   "patches": self.patches}
        filled = {name: value for name, value in known.items() if name in wanted}
        for name, value in operands.items():
            if not isinstance(value, Tensor):
                filled[name] = value
                continue
            filled[name] = value.buffer
            for suffix, fact in _OF_A_TENSOR.items():
                if f"{name}_{suffix}" in wanted:
                    filled[f"{name}_{suffix}"] = getattr(value, fact)
        self.program.add(kernel, **filled)

    def repack(self, x: Tensor, y: Tensor) -> None:
        """The same numbers in another shape."""
        self.add("repack", x=x, y=y, count=x.width)
        self.clear_padding(y)

    def clear_padding(self, y: Tensor, *, always: bool = False) -> None:
        """Zeros behind the channels, where an operation has left what it found or, `always`, has
        written something else.
        """
        if y.pixel > y.channels and len(y.shape) > 1:
            self.add("clear_padding", x=y.buffer, pixel=y.pixel, channels=y.channels,
                     pixels=y.pixels)


def has_window_of_kernel(node: Node) -> bool:
    """Whether a node slides a kernel over images."""
    return node.has_kernel and len(node.input_shape) > 1
