"""The C functions that a network's source is put together from.

`$real` is float or double, `$f` and `$l` the suffixes of its functions and literals. Activations
are printed from their expressions, for a number `v`; an operand that is needed twice stands there
twice.

All numbers of a row stand in C order, channels last. What happens in place takes `y` alone. `NULL`
stands for an absent bias, gamma or beta. Innermost loops run over neighbours in memory, so that
compilers turn them into vector instructions.
"""

from __future__ import annotations

import math
import re

from nbbn.activations import ELEMENTWISE, ActivationFunction
from nbbn.expressions import Expression

# Apart by empty lines, each under the first name of its own. Statistics are in double, as in nbbn's
# own kernel: a set may hold a whole image.
_WRITTEN = """
struct nn_window {
    int height, width, channels;          /* of the image that is read */
    int out_height, out_width, filters;   /* of the image that is written */
    int kernel_height, kernel_width;
    int stride_height, stride_width;
    int dilation_height, dilation_width;
    int top, left;                        /* zeros above and to the left; what a transposed
                                             convolution cuts off there */
};

static void nn_copy(const $real *x, $real *y, int n)
{
    for (int i = 0; i < n; i++)
        y[i] = x[i];
}

static void nn_dense(const $real *x, $real *y, int pixels, int depth, int units,
                     const $real *w, const $real *b)
{
    for (int p = 0; p < pixels; p++, x += depth, y += units) {
        for (int u = 0; u < units; u++)
            y[u] = b ? b[u] : 0;
        for (int d = 0; d < depth; d++) {
            const $real v = x[d], *row = w + d * units;
            for (int u = 0; u < units; u++)
                y[u] += v * row[u];
        }
    }
}

static void nn_transposed(const $real *x, $real *y, const struct nn_window *s,
                          const $real *w, const $real *b)
{
    for (int p = 0; p < s->out_height * s->out_width; p++)
        for (int f = 0; f < s->filters; f++)
            y[p * s->filters + f] = b ? b[f] : 0;
    for (int i = 0; i < s->height; i++) {
        for (int j = 0; j < s->width; j++, x += s->channels) {
            for (int k = 0; k < s->kernel_height; k++) {
                const int h = i * s->stride_height + k * s->dilation_height - s->top;
                if (h < 0 || h >= s->out_height)
                    continue;
                for (int m = 0; m < s->kernel_width; m++) {
                    const int v = j * s->stride_width + m * s->dilation_width - s->left;
                    if (v < 0 || v >= s->out_width)
                        continue;
                    const $real *row = w + (k * s->kernel_width + m) * s->filters * s->channels;
                    $real *to = y + (h * s->out_width + v) * s->filters;
                    for (int f = 0; f < s->filters; f++, row += s->channels) {
                        $real sum = 0;
                        for (int c = 0; c < s->channels; c++)
                            sum += x[c] * row[c];
                        to[f] += sum;
                    }
                }
            }
        }
    }
}

static void nn_pad(const $real *x, $real *y, const struct nn_window *s)
{
    for (int i = 0; i < s->out_height * s->out_width * s->channels; i++)
        y[i] = 0;
    for (int i = s->top; i < s->top + s->height; i++)
        for (int j = s->left; j < s->left + s->width; j++, x += s->channels)
            if (i >= 0 && i < s->out_height && j >= 0 && j < s->out_width)
                for (int c = 0; c < s->channels; c++)
                    y[(i * s->out_width + j) * s->channels + c] = x[c];
}

static void nn_permute(const $real *x, $real *y, const int *shape, const int *steps)
{
    for (int a = 0; a < shape[0]; a++)
        for (int b = 0; b < shape[1]; b++)
            for (int c = 0; c < shape[2]; c++)
                y[a * steps[0] + b * steps[1] + c * steps[2]] = *x++;
}

static void nn_repeat(const $real *x, $real *y, const int shape[3], const int times[3])
{
    for (int i = 0; i < shape[0] * times[0]; i++)
        for (int j = 0; j < shape[1] * times[1]; j++) {
            const $real *row = x + (i / times[0] * shape[1] + j / times[1]) * shape[2];
            for (int k = 0; k < shape[2]; k++)
                for (int t = 0; t < times[2]; t++)
                    *y++ = row[k];
        }
}

static void nn_copy_runs(const $real *x, $real *y, int runs, int length, int step)
{
    for (int r = 0; r < runs; r++)
        for (int k = 0; k < length; k++)
            y[r * step + k] = *x++;
}

static void nn_batch_norm($real *y, int pixels, int channels, const $real *mean,
                          const $real *gain, const $real *beta)
{
    for (int p = 0; p < pixels; p++, y += channels)
        for (int c = 0; c < channels; c++)
            y[c] = (y[c] - mean[c]) * gain[c] + beta[c];
}

static void nn_group_norm($real *y, int sets, int groups, int pixels, int width, double epsilon,
                          const $real *gamma, const $real *beta)
{
    const int channels = groups * width;
    for (int s = 0; s < sets; s++, y += pixels * channels) {
        for (int g = 0; g < groups; g++) {
            double mean = 0, var = 0;
            for (int p = 0; p < pixels; p++)
                for (int c = g * width; c < (g + 1) * width; c++)
                    mean += y[p * channels + c];
            mean /= (double)pixels * width;
            for (int p = 0; p < pixels; p++)
                for (int c = g * width; c < (g + 1) * width; c++)
                    var += (y[p * channels + c] - mean) * (y[p * channels + c] - mean);
            const double scale = 1 / sqrt(var / ((double)pixels * width) + epsilon);
            for (int p = 0; p < pixels; p++)
                for (int c = g * width; c < (g + 1) * width; c++) {
                    const double h = (y[p * channels + c] - mean) * scale;
                    const double scaled = h * (gamma ? gamma[c] : 1);
                    y[p * channels + c] = ($real)(scaled + (beta ? beta[c] : 0));
                }
        }
    }
}

static void nn_softmax($real *y, int pixels, int n)
{
    for (int p = 0; p < pixels; p++, y += n) {
        $real top = y[0], sum = 0;
        for (int i = 1; i < n; i++)
            if (y[i] > top)
                top = y[i];
        for (int i = 0; i < n; i++) {
            y[i] = exp$f(y[i] - top);
            sum += y[i];
        }
        for (int i = 0; i < n; i++)
            y[i] /= sum;
    }
}

static void nn_prelu($real *y, const int shape[3], const int steps[3], const $real *alpha)
{
    for (int a = 0; a < shape[0]; a++)
        for (int b = 0; b < shape[1]; b++)
            for (int c = 0; c < shape[2]; c++, y++)
                if (!(*y > 0))
                    *y *= alpha[a * steps[0] + b * steps[1] + c * steps[2]];
}

static void nn_embed(const $real *x, $real *y, int n, int count, int width, const $real *table)
{
    for (int i = 0; i < n; i++, y += width) {
        const int asked = (int)x[i];
        const $real *row = table + (asked < 0 ? 0 : asked < count ? asked : count - 1) * width;
        for (int k = 0; k < width; k++)
            y[k] = row[k];
    }
}

static $real nn_dot_factor($real square)
{
    const $real root = sqrt$f(square);
    return 1 / (root > 1e-7$l ? root : 1e-7$l);
}

static void nn_dot(const $real *x, const $real *z, $real *y, int a, int b, int n, int cosine)
{
    for (int i = 0; i < a; i++, x += n)
        for (int j = 0; j < b; j++, y++) {
            const $real *w = z + j * n;
            $real sum = 0, left = 0, right = 0;
            for (int k = 0; k < n; k++) {
                sum += x[k] * w[k];
                left += x[k] * x[k];
                right += w[k] * w[k];
            }
            *y = cosine ? sum * nn_dot_factor(left) * nn_dot_factor(right) : sum;
        }
}

static void nn_log_softmax($real *y, int pixels, int n)
{
    for (int p = 0; p < pixels; p++, y += n) {
        $real top = y[0], sum = 0;
        for (int i = 1; i < n; i++)
            if (y[i] > top)
                top = y[i];
        for (int i = 0; i < n; i++)
            sum += exp$f(y[i] - top);
        sum = log$f(sum);
        for (int i = 0; i < n; i++)
            y[i] = y[i] - top - sum;
    }
}
"""

# At each place of a window: `$start`, `$cell` for each of its cells in the image, and `$end`. Where
# it reaches over the border there is nothing: no zeros, no cells that count.
_OVER_WINDOWS = """
static void nn_$name(const $real *x, $real *y, const struct nn_window *s$more)
{
    for (int i = 0; i < s->out_height; i++) {
        for (int j = 0; j < s->out_width; j++, y += s->filters) {
$start
            for (int k = 0; k < s->kernel_height; k++) {
                const int h = i * s->stride_height + k * s->dilation_height - s->top;
                if (h < 0 || h >= s->height)
                    continue;
                for (int m = 0; m < s->kernel_width; m++) {
                    const int v = j * s->stride_width + m * s->dilation_width - s->left;
                    if (v < 0 || v >= s->width)
                        continue;
                    const $real *in = x + (h * s->width + v) * s->channels;
$cell
                }
            }$end
        }
    }
}
"""


def _over_windows(name: str, more: str, start: str, cell: str, end: str = "") -> str:
    source = _OVER_WINDOWS
    for mark, text in {"name": name, "more": more, "start": start, "cell": cell}.items():
        source = source.replace(f"${mark}", text.strip("\n"))
    return source.replace("$end", end.rstrip("\n"))


_BIAS = """
            for (int f = 0; f < s->filters; f++)
                y[f] = b ? b[f] : 0;
"""
_WEIGHTS = ",\n                         const $real *w, const $real *b"
_GROUPS = "            const int deep = s->channels / groups, wide = s->filters / groups;"
_TIMES = "            const int times = s->filters / s->channels;"
_CONV_CELL = """
                    const $real *cell = w + (k * s->kernel_width + m) * deep * s->filters;
                    for (int g = 0; g < groups; g++)
                        for (int c = 0; c < deep; c++) {
                            const $real value = in[g * deep + c];
                            const $real *row = cell + c * s->filters + g * wide;
                            $real *to = y + g * wide;
                            for (int f = 0; f < wide; f++)
                                to[f] += value * row[f];
                        }
"""
_DEPTHWISE_CELL = """
                    const $real *cell = w + (k * s->kernel_width + m) * s->filters;
                    for (int c = 0; c < s->channels; c++)
                        for (int t = 0; t < times; t++)
                            y[c * times + t] += in[c] * cell[c * times + t];
"""
_POOL_CELL = """
                    for (int c = 0; c < s->channels; c++)
                        y[c] = cells == 0 ? in[c] : %s;
                    cells++;
"""
_DIVIDED = """
            for (int c = 0; c < s->channels; c++)
                y[c] /= ($real)cells;
"""
_NO_CELLS = "            int cells = 0;"
_CONV = _over_windows("conv", f", int groups{_WEIGHTS}", _GROUPS + _BIAS, _CONV_CELL)
_DEPTHWISE = _over_windows("depthwise", _WEIGHTS, _TIMES + _BIAS, _DEPTHWISE_CELL)
_LARGER = _POOL_CELL % "in[c] > y[c] ? in[c] : y[c]"
_MAX_POOL = _over_windows("max_pool", "", _NO_CELLS, _LARGER)
_MEAN_POOL = _over_windows("mean_pool", "", _NO_CELLS, _POOL_CELL % "y[c] + in[c]", _DIVIDED)

# Operator -> C. A ternary, since a maximum would lose NaN, and as it computes one branch alone.
OPERATORS = {
    "add": "({0} + {1})", "subtract": "({0} - {1})", "multiply": "({0} * {1})",
    "divide": "({0} / {1})", "negative": "(-{0})", "exp": "exp$f({0})", "expm1": "expm1$f({0})",
    "log1p": "log1p$f({0})", "erf": "erf$f({0})",
    "sqrt": "sqrt$f({0})", "tanh": "tanh$f({0})",
    "sigmoid": "nn_logistic$f({0})", "absolute": "fabs$f({0})", "relu": "({0} < 0 ? 0 : {0})",
    "minimum": "({0} > {1} ? {1} : {0})", "scaled": "({0} != 0 ? {0} * {1} : 0)",
    "where_at_most": "({0} <= {1} ? {2} : {3})",
}

_FUNCTION = """
static void nn_{name}($real *y, int n{parameters})
{{
    for (int i = 0; i < n; i++) {{
        const {type} v = y[i];
        y[i] = {value};
    }}
}}
"""
_LOGISTIC = """
static {type} nn_logistic{f}({type} v)
{{
    const {type} e = exp{f}(v < 0 ? v : -v);
    return v < 0 ? e / (1 + e) : 1 / (1 + e);
}}
"""


def printed(expression: Expression) -> str:
    """An expression in C, in parentheses where it is more than a word or a call."""
    if expression.operator == "x":
        return "v"
    if expression.operator == "number":
        return _number(expression.operands[0])
    if expression.operator == "parameter":
        return expression.operands[0]
    return OPERATORS[expression.operator].format(*map(printed, expression.operands))


def _number(value: float) -> str:
    text = f"{value!r}$l" if math.isfinite(value) else "INFINITY" if value > 0 else "-INFINITY"
    return f"({text})" if text.startswith("-") else text


def _source(function: ActivationFunction) -> str:
    """`nn_NAME(y, n, parameters...)`, in place."""
    kind, value = "$real", printed(function.expression)
    if function.in_double:
        kind, value = "double", f"($real){value.replace('$f', '').replace('$l', '')}"
    parameters = "".join(f", {kind} {name}" for name in function.parameters)
    return _FUNCTION.format(name=function.name, parameters=parameters, type=kind, value=value)


def _needed(function: ActivationFunction) -> tuple[str, ...]:
    if "nn_logistic" not in printed(function.expression):
        return ()
    return ("logistic in double",) if function.in_double else ("logistic",)


# In the order of the file, in which each stands before its use.
_ORDER = (
    "window", "copy", "dense", "conv", "depthwise", "transposed", "max_pool", "mean_pool", "pad",
    "permute", "batch_norm", "group_norm", "softmax", "prelu", "embed", "dot_factor", "dot",
    "log_softmax", "repeat", "copy_runs",
)
# A row of two others, number by number; an axis whose step is 0 goes along with all of the other's.
_COMBINE = """
static void nn_combine_{name}(const $real *x, const $real *z, $real *y, const int *shape,
                              const int *x_steps, const int *z_steps)
{{
    for (int a = 0; a < shape[0]; a++)
        for (int b = 0; b < shape[1]; b++)
            for (int c = 0; c < shape[2]; c++) {{
                const $real v = x[a * x_steps[0] + b * x_steps[1] + c * x_steps[2]];
                const $real w = z[a * z_steps[0] + b * z_steps[1] + c * z_steps[2]];
                *y++ = {value};
            }}
}}
"""
# As NumPy: a NaN stays one.
COMBINED = {
    "add": "v + w", "subtract": "v - w", "multiply": "v * w",
    "maximum": "v >= w || v != v ? v : w", "minimum": "v <= w || v != v ? v : w",
}
_PLAIN = {re.findall(r"nn_(\w+)", text)[0]: f"\n{text}\n"
          for text in _WRITTEN.strip("\n").split("\n\n")}
_PLAIN |= {"conv": _CONV, "depthwise": _DEPTHWISE, "max_pool": _MAX_POOL, "mean_pool": _MEAN_POOL}
# Name to source, and the other functions that it needs.
FUNCTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{name: (_PLAIN[name], ("window",) * ("nn_window *" in _PLAIN[name])) for name in _ORDER},
    "dot": (_PLAIN["dot"], ("dot_factor",)),
    "logistic": (_LOGISTIC.format(type="$real", f="$f"), ()),
    "logistic in double": (_LOGISTIC.format(type="double", f=""), ()),
    **{name: (_source(function), _needed(function)) for name, function in ELEMENTWISE.items()},
    **{f"combine_{name}": (_COMBINE.format(name=name, value=value), ())
       for name, value in COMBINED.items()},
}


def sources(used: set[str], single: bool) -> str:
    """The functions named, and those that they need, each before its use."""
    needed = used | {other for name in used for other in FUNCTIONS[name][1]}
    suffix = "f" if single else ""
    marks = {"$real": "float" if single else "double", "$f": suffix, "$l": suffix}
    texts = []
    for name, (text, _) in FUNCTIONS.items():
        if name in needed:
            for mark, word in marks.items():
                text = text.replace(mark, word)
            texts.append(text)
    # What is in double for all is the same twice in double.
    return "".join(dict.fromkeys(texts))
