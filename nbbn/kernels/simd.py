"""SIMD for Numba kernels: the only file that speaks LLVM.

A `Vector` is a register of floats. Kernels load, combine and store vectors by the functions below;
LLVM lowers them to the host's instructions. Sums over lanes and over the depth of a matrix tile run
in one fixed order, so that results do not depend on how work is split.
"""

from __future__ import annotations

import operator
import platform
import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.core.datamodel import models, register_default
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin


def host_features() -> set[str]:
    """Names of the CPU features that Numba compiles for.

    Its cache tells machines apart by the same text, and by nothing else.
    """
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return {f[1:] for f in features.split(",") if f.startswith("+")}


FEATURES = host_features()
# Vector registers: 64 bytes with AVX-512, 32 with AVX, else 16 (SSE2, NEON).
VECTOR_BYTES = 64 if "avx512f" in FEATURES else 32 if "avx" in FEATURES else 16
REGISTERS = 32 if VECTOR_BYTES == 64 or "neon" in FEATURES else 16
# Without FMA hardware `llvm.fma` is a library call a lane; `llvm.fmuladd` lets LLVM split it.
_FUSED = "llvm.fma" if FEATURES & {"fma", "avx512f", "neon"} else "llvm.fmuladd"


def lanes_of(itemsize: int) -> int:
    """Floats of `itemsize` bytes in one vector."""
    return VECTOR_BYTES // itemsize


class Vector(types.Type):
    """Numba type of a SIMD register of `lanes` floats of type `dtype`."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.lanes = lanes_of(dtype.bitwidth // 8)
        super().__init__(name=f"Vector({dtype} x {self.lanes})")

    @property
    def llvm(self):
        """The LLVM vector type."""
        return ir.VectorType(_llvm_float(self.dtype), self.lanes)


@register_default(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, fe_type.llvm)


def _llvm_float(dtype):
    return ir.FloatType() if dtype == types.float32 else ir.DoubleType()


def _splat(value, vector: Vector):
    """A constant vector."""
    return ir.Constant(vector.llvm, [value] * vector.lanes)


def _broadcast(builder, scalar, vector: Vector):
    one = builder.insert_element(ir.Constant(vector.llvm, ir.Undefined), scalar,
                                 ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
    return builder.shuffle_vector(one, ir.Constant(vector.llvm, ir.Undefined), mask)


def _call(builder, name: str, args):
    """Call the LLVM intrinsic `name` overloaded on the type of its arguments."""
    ty = args[0].type
    element, count = (ty.element, f"v{ty.count}") if isinstance(ty, ir.VectorType) else (ty, "")
    suffix = f"{count}f{32 if isinstance(element, ir.FloatType) else 64}"
    fnty = ir.FunctionType(ty, [ty] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, fnty, f"{name}.{suffix}"),
                        args)


def _at(builder, pointer, index, element):
    """Address of item `index` of an array of `element`, whatever the pointer was declared as."""
    return builder.gep(builder.bitcast(pointer, element.as_pointer()), [index])


def _load(builder, pointer, index, vector: Vector):
    address = builder.bitcast(_at(builder, pointer, index, _llvm_float(vector.dtype)),
                              vector.llvm.as_pointer())
    return builder.load(address, align=vector.dtype.bitwidth // 8)


def _store(builder, value, pointer, index, vector: Vector):
    address = builder.bitcast(_at(builder, pointer, index, _llvm_float(vector.dtype)),
                              vector.llvm.as_pointer())
    builder.store(value, address, align=vector.dtype.bitwidth // 8)


def _prefetch(builder, pointer, index, element):
    i32, i8p = ir.IntType(32), ir.IntType(8).as_pointer()
    address = builder.bitcast(_at(builder, pointer, index, element), i8p)
    fnty = ir.FunctionType(ir.VoidType(), [i8p, i32, i32, i32])
    builder.call(cgutils.get_or_insert_function(builder.module, fnty, "llvm.prefetch.p0"),
                 [address, i32(0), i32(3), i32(1)])


# -- pointers


@intrinsic
def pointer(tyctx, address, like):
    """The integer `address` as a pointer to the same dtype as the pointer `like`."""
    if not isinstance(like, types.CPointer):
        return None
    def gen(ctx, builder, sig, args):
        return builder.inttoptr(args[0], ctx.get_value_type(sig.return_type))
    return like(address, like), gen


@intrinsic
def pointer_to(tyctx, address, dtype):
    """The integer `address` as a pointer to `dtype`, a Numba type such as `numba.uint8`."""
    item = dtype.dtype if isinstance(dtype, types.NumberClass) else dtype.instance_type
    result = types.CPointer(item)
    def gen(ctx, builder, sig, args):
        return builder.inttoptr(args[0], ctx.get_value_type(sig.return_type))
    return result(address, dtype), gen


@intrinsic
def address_of(tyctx, pointer):
    """The pointer as an integer."""
    def gen(ctx, builder, sig, args):
        return builder.ptrtoint(args[0], ir.IntType(64))
    return types.int64(pointer), gen


@intrinsic
def shift(tyctx, pointer, count):
    """`pointer + count` items."""
    def gen(ctx, builder, sig, args):
        return _at(builder, args[0], args[1], ctx.get_value_type(sig.args[0].dtype))
    return pointer(pointer, count), gen


def _eight_bytes(llvm, numba_type, doc: str):
    """An intrinsic `f(pointer, index)` that loads 8 bytes, whatever the pointer's own dtype."""
    def typer(tyctx, pointer, index):
        def gen(ctx, builder, sig, args):
            return builder.load(_at(builder, args[0], args[1], llvm), align=8)
        return numba_type(pointer, types.int64), gen
    typer.__doc__ = doc
    return intrinsic(typer)


word = _eight_bytes(ir.IntType(64), types.int64, "The int64 at `pointer[index]`.")
real = _eight_bytes(ir.DoubleType(), types.float64,
                    "The float64 at `pointer[index]`, in 8-byte steps.")


@intrinsic
def lanes(tyctx, pointer):
    """Lanes of a vector of the pointer's dtype, a compile-time constant."""
    count = lanes_of(pointer.dtype.bitwidth // 8)
    def gen(ctx, builder, sig, args):
        return ir.Constant(ir.IntType(64), count)
    return types.int64(pointer), gen


@intrinsic
def scalar(tyctx, pointer, value):
    """`value` cast to the pointer's dtype."""
    def gen(ctx, builder, sig, args):
        return ctx.cast(builder, args[1], sig.args[1], sig.return_type)
    return pointer.dtype(pointer, value), gen


@intrinsic(prefer_literal=True)
def stack(tyctx, like, vectors):
    """Room for `vectors` (a literal) vectors of the pointer's dtype on the stack."""
    if not isinstance(vectors, types.Literal):
        return None
    vector, count = Vector(like.dtype), vectors.literal_value
    def gen(ctx, builder, sig, args):
        room = cgutils.alloca_once(builder, ir.ArrayType(vector.llvm, count))
        room.align = VECTOR_BYTES
        return builder.bitcast(room, ctx.get_value_type(sig.return_type))
    return like(like, vectors), gen


# -- vectors


@intrinsic
def load(tyctx, pointer, index):
    """The vector at `pointer[index:]`; no alignment needed."""
    vector = Vector(pointer.dtype)
    def gen(ctx, builder, sig, args):
        return _load(builder, args[0], args[1], vector)
    return vector(pointer, types.int64), gen


@intrinsic
def store(tyctx, pointer, index, value):
    """`pointer[index:] = value`."""
    def gen(ctx, builder, sig, args):
        _store(builder, args[2], args[0], args[1], sig.args[2])
        return ctx.get_dummy_value()
    return types.void(pointer, types.int64, value), gen


@intrinsic
def stream(tyctx, pointer, index, value):
    """`pointer[index:] = value` past the caches; the address must be aligned to the vector."""
    def gen(ctx, builder, sig, args):
        vector = sig.args[2]
        address = _at(builder, args[0], args[1], _llvm_float(vector.dtype))
        address = builder.bitcast(address, vector.llvm.as_pointer())
        made = builder.store(args[2], address, align=VECTOR_BYTES)
        made.set_metadata("nontemporal",
                          builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
        return ctx.get_dummy_value()
    return types.void(pointer, types.int64, value), gen


@intrinsic
def prefetch(tyctx, pointer, index):
    """Ask for the cache line of `pointer[index]`; the address need not be valid."""
    def gen(ctx, builder, sig, args):
        _prefetch(builder, *args, ctx.get_value_type(sig.args[0].dtype))
        return ctx.get_dummy_value()
    return types.void(pointer, types.int64), gen


@intrinsic
def splat(tyctx, pointer, value):
    """A vector of the pointer's dtype with every lane `value`."""
    vector = Vector(pointer.dtype)
    def gen(ctx, builder, sig, args):
        return _broadcast(builder, ctx.cast(builder, args[1], sig.args[1], vector.dtype), vector)
    return vector(pointer, value), gen


@intrinsic
def fma(tyctx, a, b, c):
    """`a * b + c`, rounded once where the host has FMA."""
    def gen(ctx, builder, sig, args):
        return _call(builder, _FUSED, args)
    return a(a, b, c), gen


def _unary(name: str, doc: str):
    """An intrinsic `f(vector) -> vector` over the LLVM intrinsic `name`."""
    def typer(tyctx, a):
        def gen(ctx, builder, sig, args):
            return _call(builder, name, args)
        return a(a), gen
    typer.__doc__ = doc
    return intrinsic(typer)


sqrt = _unary("llvm.sqrt", "The square root of each lane.")
floor = _unary("llvm.floor", "The largest whole number not above each lane.")
absolute = _unary("llvm.fabs", "The absolute value of each lane.")


def _choice(sign: str, doc: str):
    """An intrinsic `f(a, b)`: `b` where `a sign b`, else `a`, of which a NaN stays."""
    def typer(tyctx, a, b):
        def gen(ctx, builder, sig, args):
            return builder.select(builder.fcmp_ordered(sign, *args), args[1], args[0])
        return a(a, b), gen
    typer.__doc__ = doc
    return intrinsic(typer)


maximum = _choice("<", "The larger of each lane's two; a NaN in `a` stays.")
minimum = _choice(">", "The smaller of each lane's two; a NaN in `a` stays.")


@intrinsic
def where_positive(tyctx, a, yes, no):
    """`yes where a > 0 else no`."""
    def gen(ctx, builder, sig, args):
        zero = _splat(0.0, sig.args[0])
        return builder.select(builder.fcmp_ordered(">", args[0], zero), args[1], args[2])
    return yes(a, yes, no), gen


@intrinsic
def where_above(tyctx, a, floor, yes, no):
    """`yes where a > floor else no`; `yes` where either is NaN."""
    def gen(ctx, builder, sig, args):
        return builder.select(builder.fcmp_unordered(">", *args[:2]), args[2], args[3])
    return yes(a, floor, yes, no), gen


@intrinsic
def power_of_two(tyctx, a):
    """`2 ** a` of whole numbers within the exponent range of the dtype."""
    def gen(ctx, builder, sig, args):
        single = sig.args[0].dtype == types.float32
        bits, bias, mantissa = (32, 127, 23) if single else (64, 1023, 52)
        whole = ir.VectorType(ir.IntType(bits), sig.args[0].lanes)
        exponent = builder.add(builder.fptosi(args[0], whole),
                               ir.Constant(whole, [bias] * whole.count))
        return builder.bitcast(builder.shl(exponent, ir.Constant(whole, [mantissa] * whole.count)),
                               args[0].type)
    return a(a), gen


@intrinsic
def total(tyctx, a):
    """The sum of the lanes, by halves: a fixed order."""
    def gen(ctx, builder, sig, args):
        value, count = args[0], sig.args[0].lanes
        while count > 1:
            count //= 2
            i32 = ir.IntType(32)
            low = ir.Constant(ir.VectorType(i32, count), list(range(count)))
            high = ir.Constant(ir.VectorType(i32, count), list(range(count, 2 * count)))
            value = builder.fadd(builder.shuffle_vector(value, value, low),
                                 builder.shuffle_vector(value, value, high))
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))
    return a.dtype(a), gen


class _Arithmetic(AbstractTemplate):
    def generic(self, args, kws):
        if len(args) == 2 and args[0] == args[1] and isinstance(args[0], Vector):
            return signature(args[0], *args)


def _operator(op, instruction: str):
    infer_global(op)(type(f"Vector_{op.__name__}", (_Arithmetic,), {"key": op}))
    @lower_builtin(op, Vector, Vector)
    def lower(ctx, builder, sig, args):
        return getattr(builder, instruction)(*args)


for _op, _name in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"),
                   (operator.truediv, "fdiv")):
    _operator(_op, _name)


@intrinsic
def transpose(tyctx, source, source_step, target, target_step):
    """`target = source.T` of as many vectors as one has lanes, so many floats apart."""
    vector = Vector(source.dtype)
    def gen(ctx, builder, sig, args):
        source, source_step, target, target_step = args
        count, i32 = vector.lanes, ir.IntType(32)
        at = lambda step, k: builder.mul(step, ir.Constant(step.type, k))  # noqa: E731
        rows = [_load(builder, source, at(source_step, k), vector) for k in range(count)]
        apart = 1
        while apart < count:  # exchange blocks of `apart` lanes between rows as far apart
            low = [k if not k & apart else count + k - apart for k in range(count)]
            high = [k + apart if not k & apart else count + k for k in range(count)]
            low, high = (ir.Constant(ir.VectorType(i32, count), lanes) for lanes in (low, high))
            for k in range(count):
                if not k & apart:
                    pair = rows[k], rows[k + apart]
                    rows[k] = builder.shuffle_vector(*pair, low)
                    rows[k + apart] = builder.shuffle_vector(*pair, high)
            apart *= 2
        for k, row in enumerate(rows):
            _store(builder, row, target, at(target_step, k), vector)
        return ctx.get_dummy_value()
    return types.void(source, types.int64, target, types.int64), gen


# -- matrix tile


# Steps of a tile ahead of which its weights are asked for: where they come from beyond the L2 the
# processor by itself asks for no more than the rest of a page.
_AHEAD = 64


def _emit_tile(builder, vector: Vector, height: int, width: int, operands, floor=None, *,
               ahead: int = 0) -> None:
    """The loops of one register tile; the builder stands behind them afterwards."""
    i64 = ir.IntType(64)
    pa, row, step, run, n_runs, n, pb, b_pan, b_st, b_next, start, pc, out, out_pan = operands
    scale = lambda stride, k: builder.mul(stride, ir.Constant(i64, k))  # noqa: E731
    element = _llvm_float(vector.dtype)
    places = [
        builder.add(scale(out, i), scale(out_pan, p)) for i in range(height) for p in range(width)
    ]
    if start is not None:
        starts = [ir.Constant(i64, p * vector.lanes) for p in range(width)]
        first = [_load(builder, start, at, vector) for at in starts] * height
    else:
        first = [_load(builder, pc, at, vector) for at in places]
    rows_at = [scale(row, r) for r in range(height)]
    panels_at = [scale(b_pan, p) for p in range(width)]
    before, outer = builder.basic_block, builder.append_basic_block("run")
    inner = builder.append_basic_block("step")
    latch, done = builder.append_basic_block("next_run"), builder.append_basic_block("done")
    builder.branch(outer)

    builder.position_at_end(outer)
    r = builder.phi(i64)
    a0, b0 = builder.phi(pa.type), builder.phi(pb.type)
    acc0 = [builder.phi(vector.llvm) for _ in range(height * width)]
    builder.branch(inner)

    builder.position_at_end(inner)
    k = builder.phi(i64)
    a1, b1 = builder.phi(pa.type), builder.phi(pb.type)
    acc1 = [builder.phi(vector.llvm) for _ in range(height * width)]
    bs = [_load(builder, b1, at, vector) for at in panels_at]
    for at in panels_at if ahead else ():
        later = builder.add(at, ir.Constant(i64, ahead * vector.lanes))
        _prefetch(builder, b1, later, element)
    acc2 = []
    for i in range(height):
        value = builder.load(_at(builder, a1, rows_at[i], element),
                             align=vector.dtype.bitwidth // 8)
        value = _broadcast(builder, value, vector)
        acc2 += [_call(builder, _FUSED, [value, bs[p], acc1[i * width + p]]) for p in range(width)]
    k2 = builder.add(k, ir.Constant(i64, 1))
    a2, b2 = _at(builder, a1, step, element), _at(builder, b1, b_st, element)
    builder.cbranch(builder.icmp_signed("<", k2, n), inner, latch)

    builder.position_at_end(latch)
    r2 = builder.add(r, ir.Constant(i64, 1))
    a3, b3 = _at(builder, a0, run, element), _at(builder, b0, b_next, element)
    builder.cbranch(builder.icmp_signed("<", r2, n_runs), outer, done)

    for phi, begin, again in [
        (r, ir.Constant(i64, 0), r2), (a0, pa, a3), (b0, pb, b3),
        *((acc0[i], first[i], acc2[i]) for i in range(height * width)),
    ]:
        phi.add_incoming(begin, before)
        phi.add_incoming(again, latch)
    for phi, begin, again in [
        (k, ir.Constant(i64, 0), k2), (a1, a0, a2), (b1, b0, b2),
        *((acc1[i], acc0[i], acc2[i]) for i in range(height * width)),
    ]:
        phi.add_incoming(begin, outer)
        phi.add_incoming(again, inner)

    builder.position_at_end(done)
    for i, value in enumerate(acc2):
        if floor is not None:
            value = builder.select(builder.fcmp_ordered("<", value, floor), floor, value)
        _store(builder, value, pc, places[i], vector)


def _operands(args, bias) -> list:
    """The tile's operands, None for the bias that there is not."""
    operands = list(args)
    if isinstance(bias, types.NoneType | types.Omitted):
        operands[10] = None
    return operands


def _tile_types(a, b, bias, c) -> tuple:
    """Numba types of a tile's operands from `a` on."""
    strides = (types.int64,) * 5
    return a, *strides, b, *strides[:3], bias, c, *strides[:2]


@intrinsic(prefer_literal=True)
def multiply_tile(tyctx, rows, panels, a, a_row, a_step, a_run, runs, depth, b, b_panel, b_step,
                  b_run, bias, c, c_row, c_panel, floor):
    """`c = max(a @ b + bias, floor)`: a register tile of `rows` x `panels` vectors.

    `a` is read as `runs` runs of `depth` scalars, `a_step` apart, the runs `a_run` apart (a dense
    layer has one run, a convolution one a kernel row); its rows are `a_row` apart. `b` holds one
    vector a step, `b_step` apart, its runs `b_run` and its panels `b_panel` apart. `c` has rows
    `c_row` and panels `c_panel` apart. `rows` and `panels` are literals; `bias` is a pointer to
    `panels` vectors, or None: then the product is added to `c`. `floor` is a vector, or None.
    """
    if not all(isinstance(t, types.Literal) for t in (rows, panels)):
        return None
    vector = Vector(a.dtype)
    def gen(ctx, builder, sig, args):
        least = args[-1] if isinstance(floor, Vector) else None
        _emit_tile(builder, vector, rows.literal_value, panels.literal_value,
                   _operands(args[2:-1], bias), least)
        return ctx.get_dummy_value()
    return types.void(rows, panels, *_tile_types(a, b, bias, c), floor), gen


@intrinsic(prefer_literal=True)
def multiply_strip(tyctx, heights, panels, height, a, a_row, a_step, a_run, runs, depth, b, b_panel,
                   b_step, b_run, bias, c, c_row, c_panel):
    """`multiply_tile` of a height of run time, one of the bits set in the literal `heights`."""
    if not all(isinstance(t, types.Literal) for t in (heights, panels)):
        return None
    vector = Vector(a.dtype)
    bits = heights.literal_value
    choices = [h for h in range(bits.bit_length()) if bits >> h & 1]
    def gen(ctx, builder, sig, args):
        operands = _operands(args[3:], bias)
        end = builder.append_basic_block("end")
        switch = builder.switch(args[2], end)
        for choice in choices:
            block = builder.append_basic_block(f"height_{choice}")
            switch.add_case(ir.Constant(ir.IntType(64), choice), block)
            builder.position_at_end(block)
            _emit_tile(builder, vector, choice, panels.literal_value, operands, ahead=_AHEAD)
            builder.branch(end)
        builder.position_at_end(end)
        return ctx.get_dummy_value()
    return types.void(heights, panels, types.int64, *_tile_types(a, b, bias, c)), gen


# -- threads


@intrinsic
def call_kernel(tyctx, address, row, context):
    """Call the C function `void (row, context)` at `address`."""
    def gen(ctx, builder, sig, args):
        fnty = ir.FunctionType(ir.VoidType(), [args[1].type, args[2].type])
        builder.call(builder.inttoptr(args[0], fnty.as_pointer()), args[1:])
        return ctx.get_dummy_value()
    return types.void(types.int64, row, context), gen


@intrinsic
def call_seven(tyctx, function, a, b, c, d, e, f, g):
    """Call `int (seven words)` at the address `function`.

    Arguments that are `int` in C may be handed over as whole words on x86-64 and aarch64, where
    the callee reads their lower half.
    """
    word = ir.IntType(64)
    def gen(ctx, builder, sig, args):
        kind = ir.FunctionType(ir.IntType(32), [word] * 7).as_pointer()
        found = builder.call(builder.inttoptr(args[0], kind), args[1:])
        return builder.sext(found, word)
    return types.int64(*[types.int64] * 8), gen


@intrinsic
def atomic_add(tyctx, address, value):
    """Add to the int64 at the address; return what was there before."""
    def gen(ctx, builder, sig, args):
        target = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", target, args[1], "acq_rel")
    return types.int64(types.int64, types.int64), gen


@intrinsic
def atomic_load(tyctx, address):
    """The int64 at the address, acquired."""
    def gen(ctx, builder, sig, args):
        target = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(target, "acquire", 8)
    return types.int64(types.int64), gen


@intrinsic
def atomic_store(tyctx, address, value):
    """Set the int64 at the address, released."""
    def gen(ctx, builder, sig, args):
        target = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        builder.store_atomic(args[1], target, "release", 8)
        return ctx.get_dummy_value()
    return types.void(types.int64, types.int64), gen


@intrinsic
def pause(tyctx):
    """Tell the core that this thread spins."""
    def gen(ctx, builder, sig, args):
        machine = platform.machine().lower()
        hint = ir.IntType(32)
        if machine in ("x86_64", "amd64"):
            name, parameters, arguments = "llvm.x86.sse2.pause", [], []
        elif machine in ("arm64", "aarch64"):
            name, parameters, arguments = "llvm.aarch64.hint", [hint], [hint(1)]
        else:
            return ctx.get_dummy_value()
        fn = cgutils.get_or_insert_function(builder.module,
                                            ir.FunctionType(ir.VoidType(), parameters), name)
        builder.call(fn, arguments)
        return ctx.get_dummy_value()
    return types.void(), gen


@intrinsic
def yield_core(tyctx):
    """Let another thread of the system run on this core."""
    name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
    def gen(ctx, builder, sig, args):
        fn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []),
                                            name)
        builder.call(fn, [])
        return ctx.get_dummy_value()
    return types.void(), gen
