"""The command line: which commands there are, and what becomes of their errors.

Exit status: 0 done, 1 the work failed (a check did not hold), 2 unusable arguments or input, 130
after Ctrl-C, 143 after SIGTERM.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import importlib
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any, NoReturn, TextIO

from nbbn.commands.errors import UnusableInput, WorkFailed
from nbbn.fold import FoldCheckFailed, FoldRefused
from nbbn.formats.files import FileError
from nbbn.version import __version__

# What each does. Its module in `nbbn.commands` has add_arguments(parser) and run(args), and is
# imported when it is chosen.
COMMANDS = {
    "demo": "train with and without batch norm, fold, compare",
    "train": "train on a table and save the model",
    "predict": "predict for the rows of a file",
    "fold": "fold the batch norms of a model file into its weights",
    "verify": "compare the outputs of two model files",
    "inspect": "show the layers, parameters and batch norms of a model file",
    "compare": (
        "compare networks with and without batch norm, scikit-learn's and simple models on a table"
    ),
    "show": "try a claim about batch norm: numbers, a verdict, a picture",
    "warmup": "compile the kernels beforehand",
    "cache": "show or clear the folder of compiled kernels",
}

# An OSError of these is the machine's, not the user's argument.
_MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE}


# What a light install may lack: the package of a module.
_PACKAGES = {"rich": "rich", "sklearn": "scikit-learn", "scipy": "scikit-learn", "numba": "numba",
             "joblib": "scikit-learn", "llvmlite": "numba"}


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM.

    Not a KeyboardInterrupt: a fit takes that for the wish to stop training and go on.
    """


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Here rather than later, as the command's parser knows its own arguments."""
        found, unknown = super().parse_known_args(args, namespace)
        if wrong := next((word for word in unknown if word.startswith("--")), None):
            given = wrong.partition("=")[0]
            hint = _near(given, self._option_string_actions) or "leave it out"
            self.error(f"there is no option {given}; {hint}")
        return found, unknown


def _near(word: str, known: Iterable[str]) -> str:
    """A question that names the nearest of the known words; empty where none is near."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {near[0]}?" if near else ""


_EXAMPLES = """
examples:
  {program} train table.csv model.safetensors       the last column is predicted
  {program} predict model.safetensors new.csv out.csv
  {program} inspect model.safetensors
  {program} fold model.safetensors model.onnx
  {program} COMMAND --help                          what a command takes, with examples
"""


def program_name() -> str:
    """What the user types to get here."""
    if "NBBN_COMMAND" in os.environ:  # scripts/run.py, whose environment the user has not activated
        return os.environ["NBBN_COMMAND"]
    return "python -m nbbn" if os.path.basename(sys.argv[0]) == "__main__.py" else "nbbn"


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands, with the arguments of the chosen one.

    Parameters
    ----------
    chosen : str, optional
        A key of `COMMANDS`; its function is `args.run`. None: no command has arguments.
    """
    program = program_name()
    parser = _Parser(prog=program, description="Batch-normalised networks on the CPU.",
                     epilog=_EXAMPLES.format(program=program),
                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"nbbn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name, what in COMMANDS.items():
        command = commands.add_parser(name, help=what)
        if name == chosen:
            _add_command(command, importlib.import_module(f"nbbn.commands.{name}"), parser.prog)
    return parser


def _add_command(parser: argparse.ArgumentParser, module: ModuleType, program: str) -> None:
    """Give a command's parser its arguments."""
    parser.description = module.__doc__
    if examples := getattr(module, "EXAMPLES", ()):
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = "\n".join(["examples:", *(f"  {program} {text}" for text in examples)])
    parser.add_argument("--debug", action="store_true",
                        help="show the traceback of an error ($NBBN_DEBUG does too)")
    module.add_arguments(parser)
    parser.set_defaults(run=module.run, name=parser.prog, program=program)


def status_of(error: BaseException) -> int:
    """The exit status that an error means."""
    if isinstance(error, (KeyboardInterrupt, Interrupted)):
        return 128 + (_interrupts or [signal.SIGINT])[0]
    if isinstance(error, (WorkFailed, FoldRefused, FoldCheckFailed)):
        return 1
    system = error.__cause__ if isinstance(error, FileError) else error
    if isinstance(system, OSError):
        return 1 if system.errno in _MACHINE_ERRORS else 2
    return 2 if isinstance(error, (UnusableInput, ValueError, TypeError, ImportError)) else 1


def message_of(error: BaseException) -> str:
    """What to tell the user about an error, in one line."""
    if isinstance(error, (KeyboardInterrupt, Interrupted)):
        return "interrupted"
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ModuleNotFoundError) and error.name in _PACKAGES:
        return f"this needs the package {_PACKAGES[error.name]}, which is not installed; "\
               f"install it: python -m pip install {_PACKAGES[error.name]}"
    known = (UnusableInput, WorkFailed, ValueError, TypeError, ImportError, OSError)
    if isinstance(error, known):
        return text
    return f"unexpected {type(error).__name__}: {text} (--debug shows where)"


def _one_line_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int,
                      file: TextIO | None = None, line: str | None = None) -> None:
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


# What ends a command, with what it had begun to write taken away.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_interrupts: list[int] = []


@contextmanager
def _signals_end_the_command() -> Iterator[None]:
    def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
        _interrupts.append(signum)
        raise Interrupted

    _interrupts.clear()
    try:
        before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    except ValueError:  # not the main thread, which alone gets signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _chosen(words: list[str]) -> str | None:
    """The command among the arguments."""
    return next((word for word in words if not word.startswith("-")), None)


def _complete() -> None:
    """Where a shell asks for completions: give them and end (needs the extra `completion`)."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        import argcomplete
    except ModuleNotFoundError:  # the shell shows what is written, amid the line that is typed
        raise SystemExit(1) from None

    words = os.environ.get("COMP_LINE", "").split()[1:]
    command = _chosen(words)
    argcomplete.autocomplete(build_parser(command if command in COMMANDS else None))


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    argv : list of str, optional
        The arguments; those of the process by default.
    """
    _complete()
    argv = sys.argv[1:] if argv is None else argv
    chosen = _chosen(argv)
    if not argv:
        build_parser().print_help()
        print(f"{program_name()}: name a command: {program_name()} COMMAND", file=sys.stderr)
        return 2
    if chosen is not None and chosen not in COMMANDS:
        hint = _near(chosen, COMMANDS) or f"choose one of {', '.join(COMMANDS)}"
        print(f"{program_name()}: there is no command {chosen!a}; {hint}", file=sys.stderr)
        return 2
    try:
        args = build_parser(chosen).parse_args(argv)
    except ModuleNotFoundError as error:  # of a command that takes more than a light install has
        if os.environ.get("NBBN_DEBUG"):
            traceback.print_exc()
        print(f"{program_name()} {chosen}: {message_of(error)}", file=sys.stderr)
        return 2
    with warnings.catch_warnings(), _signals_end_the_command():
        warnings.showwarning = _one_line_warning
        # Rows of files reach models as arrays.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        try:
            status = args.run(args) or 0
            sys.stdout.flush()
            # A callback from C code drops an exception raised in it: the signal alone is left.
            return 128 + _interrupts[0] if _interrupts else status
        except BrokenPipeError:
            # The reader of our output left, as `| head` does. What is still buffered goes nowhere,
            # so that Python's own flush at exit does not complain; 141 is a shell's for SIGPIPE.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except (Exception, KeyboardInterrupt, Interrupted) as error:
            if args.debug or os.environ.get("NBBN_DEBUG"):
                traceback.print_exc()
            else:
                print(f"{args.name}: {message_of(error)}", file=sys.stderr)
            return status_of(error)
