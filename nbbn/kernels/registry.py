"""Kernels by name: how a plain function becomes a C function that the executor calls by address.

A kernel is a function whose parameters are, told apart by annotation and name:

- buffers: `x: Read.ALL`, `z: Write.COLUMNS`...; a pointer, and how the threads share it. From this,
  and nothing else, the program knows where a barrier is due.
- the words of the running step (`CONTEXT`): `thread threads rows first step rate shrink mass
  batch_rows`; `context` is a pointer to them.
- `Real` numbers and, without annotation, integers: constants of the program row.

All compiled kernels share the signature `void (row, context)`: a row of the program holds one
8-byte word an argument, the context the step's words and the base address of each segment.
`context` is typed as a pointer to the program's dtype; that is how one source serves float32 and
float64.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import threading
from dataclasses import dataclass

import numba
import numpy as np
from numba import njit, types
from numba.core.ccallback import CFunc

from nbbn.kernels import simd
from nbbn.kernels.cache import kernel_cache

# Without `nnan` and `ninf`: a NaN must stay visible. Without `reassoc`: sums keep their order.
FAST = {"contract", "nsz"}
OPTIONS = {"fastmath": FAST, "error_model": "numpy", "boundscheck": False}

_WORDS = ("thread", "threads", "rows", "first", "step", "rate", "shrink", "mass", "batch_rows")
CONTEXT = {name: at for at, name in enumerate(_WORDS)}
BASES = len(_WORDS)  # first of the segments' base addresses in the context
CONTEXT_WORDS = 32
OPERANDS = 2  # first operand of a row, after the kernel's address and the barrier flag
SEGMENT_SHIFT = 48
OFFSET_MASK = (1 << SEGMENT_SHIFT) - 1


@dataclass(frozen=True)
class Access:
    """How a kernel uses a buffer.

    `split` says which part a thread touches: its `columns`, `rows` or `images` (whole ones, in
    blocks), `steps` (whole depth steps of every panel), or `all`; `alone` is the first thread's. In
    a `grid` of row parts and column parts (the operand `row_parts`; of a kernel's gradient
    `depth_parts`) it is one cell, or all of the columns or rows that the cell is in. `dtype` is
    None for the program's own.
    """

    writes: bool
    split: str
    dtype: str | None = None


class Real:
    """Annotation of a floating-point constant."""


class Read:
    """Annotations of buffers that a kernel reads."""

    ALL, COLUMNS, ROWS, IMAGES = (Access(False, s) for s in ("all", "columns", "rows", "images"))
    GRID_ROWS, GRID_COLUMNS = Access(False, "grid rows"), Access(False, "grid columns")
    ALL_F64 = Access(False, "all", "float64")


class Write:
    """Annotations of buffers that a kernel writes, or reads and writes."""

    ALL, COLUMNS, ROWS, IMAGES = (Access(True, s) for s in ("all", "columns", "rows", "images"))
    STEPS, ALONE, GRID = Access(True, "steps"), Access(True, "alone"), Access(True, "grid")
    GRID_F64 = Access(True, "grid", "float64")
    COLUMNS_F64, ROWS_F64 = Access(True, "columns", "float64"), Access(True, "rows", "float64")
    ALONE_F64, ALONE_I64, ALONE_I32 = (Access(True, "alone", d)
                                       for d in ("float64", "int64", "int32"))


INDICES, INDICES_32 = Access(False, "all", "int64"), Access(False, "all", "int32")
SOURCE = Access(False, "all", "source")


def named_apart(function):
    """The function with a qualified name of its own, where a factory made several of one name.

    Numba names compiled code after the qualified name and a counter of the process: code of two
    functions of one name, cached by two processes, may bear the same symbol, and a third process
    would run one in place of the other.
    """
    marks = []
    for cell in function.__closure__ or ():
        value = getattr(cell.cell_contents, "py_func", cell.cell_contents)
        marks.append(getattr(value, "__qualname__", None) or repr(value))
    if marks:
        mark = hashlib.sha256(" ".join(marks).encode()).hexdigest()[:8]
        function.__qualname__ = f"{function.__qualname__}_{mark}"
    return function


def inline(function):
    """A helper that kernels call; compiled into them."""
    return njit(forceinline=True, **OPTIONS)(named_apart(function))


class Kernel:
    """A kernel's body, its parameters, and the C functions compiled from it so far.

    `numbers` are the names of the `Real` numbers that the function takes as `*numbers`; with
    `inference`, networks in inference are lowered to it.
    """

    def __init__(self, function, numbers=(), *, inference=False):
        self.name, self.inference = function.__name__, inference
        # See `named_apart`: registered names are unique.
        function.__qualname__ = f"{self.name}_body"
        self.body = njit(**OPTIONS)(function)
        self.function = function
        annotations = inspect.get_annotations(function, eval_str=True)
        named = [p for p in inspect.signature(function).parameters if p != "numbers"]
        self.parameters = {p: annotations.get(p, int) for p in named} | dict.fromkeys(numbers, Real)
        self.operands = [p for p in self.parameters if p not in (*CONTEXT, "context")]
        self._compiled: dict[tuple, CFunc] = {}

    def buffers(self) -> dict[str, Access]:
        """The parameters that are buffers."""
        return {p: a for p, a in self.parameters.items() if isinstance(a, Access)}

    def address(self, dtype: np.dtype, source: np.dtype | None = None) -> int:
        """Address of the C function for a dtype and the input's; compiled at the first call."""
        key = (np.dtype(dtype).name, np.dtype(source or dtype).name if self._reads_source else None)
        with _COMPILING:
            if key not in self._compiled:
                self._compiled[key] = self._compile(*key)
            return self._compiled[key].address

    @property
    def _reads_source(self) -> bool:
        return any(a.dtype == "source" for a in self.buffers().values())

    def _compile(self, dtype: str, source: str | None) -> CFunc:
        entry = self._entry(source)
        real = getattr(types, dtype)
        signature = (types.CPointer(types.int64), types.CPointer(real)), types.void
        compiled = CFunc(entry, signature, locals={}, options={"nopython": True, **OPTIONS})
        compiled._cache = kernel_cache(entry)
        compiled.compile()
        return compiled

    def _entry(self, source: str | None):
        """`def NAME(row, ctx)`, which unpacks a row and calls the body."""
        arguments = []
        for parameter, kind in self.parameters.items():
            if parameter == "context":
                arguments.append("ctx")
                continue
            own = parameter in self.operands
            at = OPERANDS + self.operands.index(parameter) if own else CONTEXT[parameter]
            if parameter in ("rate", "shrink", "mass"):
                arguments.append(f"real(ctx, {at})")
            elif parameter in CONTEXT:
                arguments.append(f"word(ctx, {at})")
            elif isinstance(kind, Access):
                base = f"word(ctx, {BASES} + (row[{at}] >> {SEGMENT_SHIFT}))"
                address = f"{base} + (row[{at}] & {OFFSET_MASK})"
                dtype = source if kind.dtype == "source" else kind.dtype
                typed = f"pointer_to({address}, {dtype})" if dtype else f"pointer({address}, ctx)"
                arguments.append(typed)
            elif kind is Real:
                arguments.append(f"real(row, {at})")
            else:
                arguments.append(f"row[{at}]")
        name = self.name if source is None else f"{self.name}_{source}"
        text = f"def {name}(row, ctx):\n    body({', '.join(arguments)})\n"
        names = {"__name__": self.function.__module__, "body": self.body}
        names |= {name: getattr(numba, name) for name in ("int32", "int64", "float64")}
        names.update({n: getattr(simd, n) for n in ("pointer", "pointer_to", "word", "real")})
        if source is not None:
            names[source] = getattr(numba, source)
        exec(compile(text, inspect.getfile(self.function), "exec"), names)
        return names[name]


KERNELS: dict[str, Kernel] = {}
_COMPILING = threading.RLock()


def renew_lock() -> None:
    """For the child of a fork: another thread of the parent may have held the lock."""
    global _COMPILING
    _COMPILING = threading.RLock()


def kernel(function=None, numbers=(), *, inference=False, name=None):
    """Register a kernel under its function's name or `name`, its own; also `@kernel(...)`."""
    if function is None:
        return functools.partial(kernel, numbers=numbers, inference=inference, name=name)
    function.__name__ = name or function.__name__
    if function.__name__ in KERNELS:
        raise ValueError(f"two kernels are named {function.__name__}")
    KERNELS[function.__name__] = Kernel(function, numbers, inference=inference)
    return KERNELS[function.__name__]
