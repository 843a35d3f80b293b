"""A network lowered to the program of one block of rows.

All of it in one thread, rows to answers.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any

import numpy as np

from nbbn import operations as op
from nbbn.kernels import KERNELS
from nbbn.kernels.registry import Write
from nbbn.kernels.team import BY_LINES
from nbbn.operations import Computation, Operation
from nbbn.program.forward import SHARED, Forward, copied
from nbbn.program.fusion import Node, fuse
from nbbn.program.lowering import Lowering, Result
from nbbn.program.parameters import Parameters
from nbbn.program.program import Buffer, Program, Segment
from nbbn.program.sparse import reads_stored_elements, sparse_input
from nbbn.program.tensors import Tensor

# Rows of a block: its activations stay in a core's own caches, its weights are read once a block.
BLOCK_ROWS = 64
# Numbers of the largest activation of a block of images: it stays in the L2.
BLOCK_NUMBERS = 1 << 17
# Images of a block of a network whose weights stay in no cache, and how many numbers these are.
HEAVY_BLOCK, HEAVY_WEIGHTS = 16, 1 << 20


def batch_norm(low: Lowering, node: Node, x: Tensor) -> Result:
    """Normalise with the running statistics, in place."""
    if x.shared:
        x = copied(low, f"x{node.index}", x)
    low.add("norm_inference", x=x.buffer, pixel=x.pixel, pixels=x.pixels, state=low.state(node),
            relu=int(node.relu), panels=low.panels(x.channels), epsilon=node.operation.epsilon)
    return Result(x, x)


def nothing(low: Lowering, node: Node, x: Tensor) -> Result:
    """What disturbs training leaves inference alone."""
    return Result(x, x)


FORWARD: dict[type[Operation], Forward] = SHARED | {op.BatchNorm: batch_norm, op.Disturb: nothing}


class InferenceProgram:
    """The program of a block, with parameters of its own or those of a training program.

    Parameters
    ----------
    computation : Computation
    dtype : numpy.dtype
        float32 or float64.
    parameters : Parameters, optional
        Where the arrays stand; laid out anew by default.
    sparse : bool
        Whether rows come as stored elements, which the first layer, a dense one, reads; its kernel
        stands row by row where it is laid out anew.
    """

    def __init__(self, computation: Computation, dtype: np.dtype,
                 parameters: Parameters | None = None, *, sparse: bool = False):
        nodes = fuse(computation, training=False)
        self._computation = computation
        self.features = math.prod(computation.input_shape)
        self.outputs = math.prod(computation.output_shape)
        self.work_per_element = nodes[0].width if sparse else 0
        self.work_per_row = (sum(node.work for node in nodes[1:]) if sparse else
                             sum(node.work for node in nodes) + 16 * self.features)
        # Rows that are multiplied several at a time.
        self.in_tiles = all(len(node.input_shape) == 1 for node in nodes)
        self.may_be_sparse = bool(nodes) and self.in_tiles and reads_stored_elements(nodes)
        self.block = BLOCK_ROWS if self.in_tiles else _block_of_images(computation, nodes)
        low = Lowering(computation, nodes, dtype, rows=self.block, training=False,
                       parameters=parameters, by_rows=sparse)
        self.program, self.parameters = low.program, low.parameters
        values = {-1: sparse_input(low) if sparse else self._input(low)}
        for node in nodes:
            result = FORWARD[type(node.operation)](low, node, *(values[k] for k in node.sources))
            values[node.index] = low.noted(node, result).y
        self._output(low, values[len(nodes) - 1])
        self.program.share_memory(Segment.WORK)

    def of_stored_elements(self) -> InferenceProgram | None:
        """The same on rows of stored elements, with the same parameters, if the network can."""
        if not self.may_be_sparse:
            return None
        return InferenceProgram(self._computation, self.program.dtype, self.parameters, sparse=True)

    @functools.cached_property
    def writes_apart(self) -> bool:
        """Whether threads that share rows write anything for themselves alone."""
        return any(access == Write.ALL for call in self.program.operations
                   for access in KERNELS[call.kernel].buffers().values())

    def together(self) -> Program:
        """The same on a block whose rows all threads share, operation by operation.

        They share the lines of images and the columns of dense layers. What a thread writes for
        itself alone stands where it stood, in memory of its own.
        """
        operations = []
        for call in self.program.operations:
            own: dict[str, Any] = {}
            for name, access in KERNELS[call.kernel].buffers().items():
                if access == Write.ALL:
                    own[name] = replace(call.operands[name], segment=Segment.PRIVATE)
            if "blocks" in call.operands:
                own["blocks"] = BY_LINES
            operations.append(replace(call, operands=call.operands | own))
        return Program(self.program.dtype, operations, self.program.sizes, in_step=True)

    def _input(self, low: Lowering) -> Tensor:
        """The caller's rows: dense layers and convolutions read them where they are."""
        nodes = low.nodes
        shape = nodes[0].input_shape if nodes else (self.features,)
        raw = Tensor(Buffer("X", Segment.X), self.features, shape, shape[-1])
        if nodes and nodes[0].reads_rows_as_they_are:
            return raw
        if nodes and isinstance(nodes[0].operation, op.Part):
            shape = (self.features,)
        x = low.tensor("x", shape)
        if len(shape) == 1:
            low.add("copy_rows", x=raw, width=self.features, out=x)
        else:
            low.repack(raw, x)
        return x

    def _output(self, low: Lowering, x: Tensor) -> None:
        shape = (self.outputs,)
        out = Tensor(Buffer("out", Segment.OUT), self.outputs, shape, self.outputs)
        if len(x.shape) == 1:
            low.add("copy_rows", x=x, width=self.outputs, out=out)
        else:
            low.repack(x, out)


def _block_of_images(computation: Computation, nodes: list[Node]) -> int:
    """As many as stay in a core's cache, or else as have as many numbers as the weights.

    Large weights come from beyond the cache for each block.
    """
    largest = max((node.width for node in nodes), default=1)
    weights = sum(math.prod(array.shape) for arrays in computation.arrays
                  for array in arrays.values())
    heavy = min(HEAVY_BLOCK, weights // largest) if weights > HEAVY_WEIGHTS else 1
    return max(1, heavy, min(BLOCK_ROWS, BLOCK_NUMBERS // largest))
