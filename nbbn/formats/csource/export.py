"""A network as one C99 file that depends on nothing but the C library's mathematics."""

from __future__ import annotations

import math
import re
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from nbbn.formats.csource.buffers import INPUT, OUTPUT
from nbbn.formats.csource.functions import sources
from nbbn.formats.csource.steps import literal, lower, named
from nbbn.formats.files import write_whole
from nbbn.formats.ports import ports_of
from nbbn.network import Network
from nbbn.version import __version__

# NAME_predict takes its scratch from the stack up to so many bytes; beyond, the caller brings it.
STACK_BYTES = 1 << 18
_PER_LINE = 8

_ONE_EACH = """\
A row goes in as {inputs} numbers of type {name}_real ({real}), of shape {row}, and comes out as
   {outputs}, of shape {answer}; in C order, channels last. {meaning}"""
_SEVERAL = """\
All numbers are of type {name}_real ({real}), in C order, channels last. Of a row
   goes in:   {given}
   comes out: {answers}
   {meaning}"""
_COMMENT = """\
/* {name}: inference of a network, written by nbbn {version}. C99, no dependency but the C library.

   {how}

{of_layers}
   Compile:   cc -std=c99 -O3 -c {name}.c        and link with -lm; -march=native makes it faster \
on this machine.
   Declare:   #define {upper}_DECLARATIONS_ONLY before #include "{name}.c", in C++ too.

   Nothing is allocated and nothing but constants is static: many threads may call these functions \
at once.
   They take {upper}_SCRATCH numbers ({bytes} bytes) to work in, the caller's in the functions that
   end in _with{stack}. Rows are computed one by one.
*/
"""


def to_c(network: Network, path: str | PathLike[str] | None = None, *, name: str | None = None,
         classes: ArrayLike | None = None, kind: str | None = None) -> str:
    """The C source of a network in inference; `nbbn.folded_model.FoldedModel.to_c` says more.

    `kind` says what the outputs mean, `classes` are the labels of a classifier. LayerError for
    arrays that do not fit the layers, and for an operation that has no C function; ValueError for a
    name that is no C identifier, and a class label that is no C string; FileError where the file
    cannot be written.
    """
    if name is None:
        name = "model" if path is None else name_for(path)
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise ValueError(f"name must be a C identifier that begins with a letter, got {name!r}")
    text = _Source(network.check(), name, classes if kind == "classifier" else None, kind).text()
    if path is not None:
        write_whole(path, text.encode("ascii"))
    return text


def name_for(path: str | PathLike[str]) -> str:
    """The C identifier for a file: its name without the ending, other characters as underscores."""
    name = re.sub(r"\W", "_", Path(path).stem, flags=re.ASCII)
    return name if re.match(r"[A-Za-z]", name) else f"model_{name}"


class _Source:
    """The file's parts."""

    def __init__(self, network: Network, name: str, classes: ArrayLike | None, kind: str | None):
        self.network, self.name, self.upper, self.kind = network, name, name.upper(), kind
        self.classes = None if classes is None else np.asarray(classes)
        self.label_type, self.labels = ("", []) if self.classes is None else _labels(self.classes)
        self.real = "float" if network.dtype == np.float32 else "double"
        self.inputs, self.outputs = map(math.prod, (network.input_shape, network.output_shape))
        ports = ports_of(network, beside=self.classes is not None)
        self.given, self.answers = named(ports.inputs, INPUT), named(ports.outputs, OUTPUT)
        self.apart = len(self.given) > 1 or len(self.answers) > 1
        self.lowering, (self.calls, self.buffers) = lower(network, ports)
        self.scratch = max(sum(self.buffers.values()), 1)
        # `classify` needs room for the outputs besides.
        room = self.scratch + (self.outputs if self.classes is not None else 0)
        self.on_stack = room * network.dtype.itemsize <= STACK_BYTES

    def text(self) -> str:
        """The whole file."""
        upper, lowering = self.upper, self.lowering
        parts = [
            self._comment(),
            f"#ifndef {upper}_DECLARED\n#define {upper}_DECLARED\n\n#include <stddef.h>\n",
            self._macros(), self._declarations(),
            f"#endif\n\n#ifndef {upper}_DECLARATIONS_ONLY\n\n#include <math.h>\n",
            self._table(),
            *(self._array(*constant) for constant in lowering.constants.items()),
            sources(lowering.functions, self.real == "float").lstrip("\n"),
            *(f"static const struct nn_window {name} = {{{', '.join(map(str, numbers))}}};"
              for numbers, name in lowering.windows.items()),
            self._row(), self._definitions(), "#endif\n",
        ]
        return "\n".join(part for part in parts if part)

    # -- the head

    def _comment(self) -> str:
        name, network = self.name, self.network
        layers = (
            f"   {i:3}  {type(layer).__name__:24} {' + '.join(map(_shape, before)):>16} -> "
            f"{_shape(after)}\n"
            for i, (layer, (before, after)) in enumerate(zip(network.layers, network.layer_shapes))
        )
        meaning = ""
        if self.classes is not None:
            of = "each class" if self.outputs > 1 else f"{name}_labels[1]"
            meaning = f"Outputs are the probability of {of}."
        elif self.kind == "multilabel":
            meaning = "Outputs are probabilities; label k holds where output k is above 0.5."
        other = "; on the stack that would be too much"
        given, answers = ((f"{size} numbers {port}, of shape {_shape(of.shape)}"
                           for port, of in ports for size in [math.prod(of.shape)])
                          for ports in (self.given, self.answers))
        how = (_SEVERAL if self.apart else _ONE_EACH).format(
            name=name, real=self.real, inputs=self.inputs, outputs=self.outputs, meaning=meaning,
            row=_shape(network.input_shape), answer=_shape(network.output_shape),
            given="; ".join(given), answers="; ".join(answers),
        )
        return _COMMENT.format(
            **vars(self), version=__version__, how=how.rstrip() if self.apart else how,
            of_layers="".join(layers),
            bytes=self.scratch * self.network.dtype.itemsize,
            stack=", on the stack in the others" if self.on_stack else other,
        )

    def _macros(self) -> str:
        inputs, outputs = self._sizes()
        numbers = {key: size for sizes in (inputs, outputs) for _, key, size in sizes}
        numbers["SCRATCH"] = self.scratch
        if self.classes is not None:
            numbers["CLASSES"] = len(self.classes)
        return "".join(f"#define {self.upper}_{key} {value}\n" for key, value in numbers.items())

    def _sizes(self) -> tuple[list[tuple[str, str, int]], list[tuple[str, str, int]]]:
        """Of each input, and each output, its argument, the macro of its size, and the size."""
        inputs, outputs = ([(name, what if len(ports) == 1 else name.upper(), math.prod(port.shape))
                            for name, port in ports]
                           for ports, what in ((self.given, "INPUTS"), (self.answers, "OUTPUTS")))
        return inputs, outputs

    def _signatures(self) -> dict[str, str]:
        name, real = self.name, f"{self.name}_real"
        given = ", ".join(f"const {real} *{port}" for port, _ in self.given)
        answers = ", ".join(f"{real} *{port}" for port, _ in self.answers)
        kinds = {"predict": f"{given}, {answers}, size_t rows"}
        if self.classes is not None:
            kinds["classify"] = f"{given}, size_t *out, size_t rows"
        signatures = {}
        for function, parameters in kinds.items():
            if self.on_stack:
                signatures[function] = f"void {name}_{function}({parameters})"
            parameters += f", {real} *scratch"
            signatures[f"{function}_with"] = f"void {name}_{function}_with({parameters})"
        return signatures

    def _declarations(self) -> str:
        labels = f"{self.name}_labels"
        what = {
            "predict": "Outputs of `rows` rows, one after the other.",
            "classify": f"For each row the index of its class: {labels}[out[i]] is the label.",
        }
        lines = [f"/* What rows, outputs and scratch are made of. */\n"
                 f"typedef {self.real} {self.name}_real;\n",
                 "#ifdef __cplusplus", 'extern "C" {', "#endif"]
        if self.classes is not None:
            lines.append(f"extern const {self.label_type}{labels}[{self.upper}_CLASSES];")
        for function, signature in self._signatures().items():
            comment = what[function.removesuffix("_with")]
            if function.endswith("_with"):
                comment += f" `scratch` holds {self.upper}_SCRATCH numbers, of any contents."
            lines += [f"/* {comment} */", f"{signature};"]
        return "\n".join([*lines, "#ifdef __cplusplus", "}", "#endif\n"])

    # -- constants

    def _table(self) -> str:
        if self.classes is None:
            return ""
        head = f"const {self.label_type}{self.name}_labels[{self.upper}_CLASSES]"
        return f"{head} = {{\n    {_lines(self.labels)}\n}};\n"

    def _array(self, name: str, values: np.ndarray) -> str:
        body = _lines([literal(value) for value in values.reshape(-1)])
        head = f"static const {self.real} {name}[{values.size}]"
        return f"/* {_shape(values.shape)} */\n{head} = {{\n    {body}\n}};\n"

    # -- functions

    def _row(self) -> str:
        real, at, buffers = self.real, 0, []
        for name, size in self.buffers.items():
            buffers.append(f"*{name} = scratch + {at}")
            at += size
        arguments = ", ".join([*(f"const {real} *{name}" for name, _ in self.given),
                               *(f"{real} *{name}" for name, _ in self.answers),
                               f"{real} *scratch"])
        return "\n".join([
            f"static void {self.name}_row({arguments})", "{",
            f"    {real} {', '.join(buffers)};" if buffers else "    (void)scratch;",
            *(f"    (void){name};" for name, port in self.given if port.step is None), "",
            *(f"    {call};" for call in self.calls), "}\n",
        ])

    def _definitions(self) -> str:
        name, upper, parts = self.name, self.upper, []
        inputs, outputs = self._sizes()
        places = [f"{port} + r * {upper}_{key}" for port, key, _ in outputs]
        given, answers = (", ".join(port for port, *_ in sizes) for sizes in (inputs, outputs))
        row = f"{name}_row({given}, {', '.join(places)}, scratch);"
        bodies = {"predict_with": self._loop(row)}
        if self.classes is not None:
            bodies["classify_with"] = self._loop(self._choice(given))
        for function, signature in self._signatures().items():
            out = answers if function == "predict" else OUTPUT
            body = bodies.get(function) or (
                f"    {self.real} scratch[{upper}_SCRATCH];\n\n"
                f"    {name}_{function}_with({given}, {out}, rows, scratch);\n"
            )
            parts.append(f"{signature}\n{{\n{body}}}\n")
        return "\n".join(parts)

    def _loop(self, body: str) -> str:
        moves = "".join(f", {port} += {self.upper}_{key}" for port, key, _ in self._sizes()[0])
        head = f"for (size_t r = 0; r < rows; r++{moves})"
        return f"    {head} {{\n        {body}\n    }}\n"

    def _choice(self, given: str) -> str:
        lines = [f"{self.real} p[{self.upper}_OUTPUTS];", f"{self.name}_row({given}, p, scratch);"]
        if self.outputs == 1:
            lines.append(f"out[r] = p[0] > {literal(self.network.dtype.type(0.5))};")
        else:
            lines += [
                "size_t best = 0;", f"for (size_t i = 1; i < {self.upper}_OUTPUTS; i++)",
                "    if (p[i] > p[best])", "        best = i;", "out[r] = best;",
            ]
        return "\n        ".join(lines)


def _lines(words: list[str]) -> str:
    lines = (words[i : i + _PER_LINE] for i in range(0, len(words), _PER_LINE))
    return ",\n    ".join(map(", ".join, lines))


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _labels(classes: np.ndarray) -> tuple[str, list[str]]:
    """The C type of class labels, and each as a constant: whole numbers, floats, text in UTF-8."""
    values = classes.tolist()
    if classes.dtype.kind == "f":
        return "double ", [literal(np.float64(value)) for value in values]
    # The smallest long long has no literal.
    if all(isinstance(value, int) and -(2**63) < value < 2**63 for value in values):
        return "long long ", [f"{int(value)}LL" for value in values]
    return "char *const ", [_quoted(str(value)) for value in values]


def _quoted(text: str) -> str:
    if "\0" in text:
        raise ValueError(f"a class label with a NUL character is no C string, got {text!r}; "
                         "rename it")
    # In octal: what is not plain ASCII, and the question mark, which could be part of a trigraph.
    plain = (chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}"
             for b in text.encode())
    return f'"{"".join(plain)}"'
