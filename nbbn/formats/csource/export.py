"""A network as one C99 file that depends on nothing but the C library's mathematics."""

from __future__ import annotations

import math
import re
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from nbbn.formats.csource.functions import sources
from nbbn.formats.csource.steps import literal, lower
from nbbn.formats.files import write_whole
from nbbn.network import Network
from nbbn.version import __version__

# NAME_predict takes its scratch from the stack up to so many bytes; beyond, the caller brings it.
STACK_BYTES = 1 << 18
_PER_LINE = 8

_COMMENT = """\
/* {name}: inference of a network, written by nbbn {version}. C99, no dependency but the C library.

   A row goes in as {inputs} numbers of type {name}_real ({real}), of shape {row}, and comes out as
   {outputs}, of shape {answer}; in C order, channels last. {meaning}

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
        self.lowering, (self.calls, self.buffers) = lower(network)
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
        return _COMMENT.format(
            **vars(self), version=__version__, row=_shape(network.input_shape),
            answer=_shape(network.output_shape),
            meaning=meaning, of_layers="".join(layers),
            bytes=self.scratch * self.network.dtype.itemsize,
            stack=", on the stack in the others" if self.on_stack else other,
        )

    def _macros(self) -> str:
        numbers = {"INPUTS": self.inputs, "OUTPUTS": self.outputs, "SCRATCH": self.scratch}
        if self.classes is not None:
            numbers["CLASSES"] = len(self.classes)
        return "".join(f"#define {self.upper}_{key} {value}\n" for key, value in numbers.items())

    def _signatures(self) -> dict[str, str]:
        name, real = self.name, f"{self.name}_real"
        rows = f"const {real} *x, {{}} *out, size_t rows"
        kinds = {"predict": rows.format(real)}
        if self.classes is not None:
            kinds["classify"] = rows.format("size_t")
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
        return "\n".join([
            f"static void {self.name}_row(const {real} *x, {real} *out, {real} *scratch)", "{",
            f"    {real} {', '.join(buffers)};" if buffers else "    (void)scratch;", "",
            *(f"    {call};" for call in self.calls), "}\n",
        ])

    def _definitions(self) -> str:
        name, upper, parts = self.name, self.upper, []
        bodies = {"predict_with": self._loop(f"{name}_row(x, out + r * {upper}_OUTPUTS, scratch);")}
        if self.classes is not None:
            bodies["classify_with"] = self._loop(self._choice())
        for function, signature in self._signatures().items():
            body = bodies.get(function) or (
                f"    {self.real} scratch[{upper}_SCRATCH];\n\n"
                f"    {name}_{function}_with(x, out, rows, scratch);\n"
            )
            parts.append(f"{signature}\n{{\n{body}}}\n")
        return "\n".join(parts)

    def _loop(self, body: str) -> str:
        head = f"for (size_t r = 0; r < rows; r++, x += {self.upper}_INPUTS)"
        return f"    {head} {{\n        {body}\n    }}\n"

    def _choice(self) -> str:
        lines = [f"{self.real} p[{self.upper}_OUTPUTS];", f"{self.name}_row(x, p, scratch);"]
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
