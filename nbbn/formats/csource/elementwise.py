"""Expressions as C: the value of each activation for a number `v`.

Marks stand for what depends on the type, as in `csource.functions`: `$f` for the suffix of a
function, `$l` for that of a literal. An operand that is needed twice stands there twice.
"""

from __future__ import annotations

import math

from nbbn.activations import ELEMENTWISE, ActivationFunction
from nbbn.expressions import Expression

# Operator -> C. A ternary, since a maximum would lose NaN, and as it computes one branch alone.
OPERATORS = {
    "add": "({0} + {1})", "subtract": "({0} - {1})", "multiply": "({0} * {1})",
    "divide": "({0} / {1})", "negative": "(-{0})", "exp": "exp$f({0})", "expm1": "expm1$f({0})",
    "log1p": "log1p$f({0})", "erf": "erf$f({0})", "tanh": "tanh$f({0})",
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


# Name to source, and the other functions that it needs.
FUNCTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "logistic": (_LOGISTIC.format(type="$real", f="$f"), ()),
    "logistic in double": (_LOGISTIC.format(type="double", f=""), ()),
    **{name: (_source(function), _needed(function)) for name, function in ELEMENTWISE.items()},
}
