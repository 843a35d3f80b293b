"""Where compiled kernels are kept between processes.

One folder per state of the kernel sources: Numba's own cache watches a function's file alone, and a
kernel depends on others (`simd.py`, `tile.py`), so the folder's name carries a hash of them all. A
file that cannot be read is compiled anew; a folder that cannot be written is read alone, and one
that cannot be read means no cache, and one log line.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import sys
import tempfile
from pathlib import Path

from numba.core import caching

log = logging.getLogger("nbbn")


def _hash_sources() -> str:
    """A hash of every kernel source."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


# Taken when the sources are imported: a process that began before an edit must not fill the folder
# of what came after it.
SOURCES = _hash_sources()


def cache_root() -> Path:
    """The folder of all states of the sources, in `$NUMBA_CACHE_DIR` or the user's cache folder."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen) / "nbbn"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    else:
        home = os.environ.get("HOME")
        base = os.environ.get("XDG_CACHE_HOME") or (home and os.path.join(home, ".cache"))
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(base) / "nbbn" if base else Path(tempfile.gettempdir()) / f"nbbn-{user}"


@functools.cache
def cache_folder() -> Path | None:
    """This state's folder, made if need be; None where nothing can be kept, read or trusted.

    One that can only be read is used as it is: of an image, or of another user who filled it.
    """
    folder, chosen = cache_root() / SOURCES, bool(os.environ.get("NUMBA_CACHE_DIR"))
    try:
        # The user's own folder is for nobody else; a chosen one for whom the umask lets in.
        folder.mkdir(parents=True, exist_ok=True, mode=0o777 if chosen else 0o700)
        status = folder.stat()
        os.listdir(folder)
    except OSError as e:
        log.warning("no kernel cache: %s cannot be read or made (%s); kernels are compiled in "
                    "every process", folder, e.strerror)
        return None
    others = status.st_mode & 0o022 or not chosen
    if hasattr(os, "getuid") and status.st_uid not in (os.getuid(), 0) and others:
        log.warning("no kernel cache: %s belongs to another user", folder)
        return None
    if not keeps():
        log.info("the kernel cache %s can only be read", folder)
    return folder


@functools.cache
def keeps() -> bool:
    """Whether kernels compiled now are kept."""
    try:
        tempfile.TemporaryFile(dir=cache_root() / SOURCES).close()
    except OSError:
        return False
    return True


class _Locator(caching._CacheLocator):
    def __init__(self, folder):
        self._folder = str(folder)

    def get_cache_path(self):
        return self._folder

    def get_source_stamp(self):
        return SOURCES

    def get_disambiguator(self):
        return "kernel"

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(cache_folder())


class _Impl(caching.CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class KernelCache(caching.FunctionCache):
    """Numba's function cache in our folder; a damaged entry counts as absent."""

    _impl_class = _Impl

    def _index_key(self, sig, codegen):
        """The key; its own index from here on: two savers at once would mix up a shared one."""
        key = super()._index_key(sig, codegen)
        name = f"{self._impl.filename_base}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}"
        self._cache_file = caching.IndexDataCacheFile(self._cache_path, name, SOURCES)
        return key

    def load_overload(self, sig, target_context):
        try:
            found = super().load_overload(sig, target_context)
            if found is None:
                _say_that_it_takes_time()
            return found
        except Exception as e:  # a truncated pickle can raise nearly anything
            log.warning("a damaged entry of the kernel cache is compiled anew (%s: %s)",
                        type(e).__name__, e)
            self._forget()
            return None

    def save_overload(self, sig, data):
        if not keeps():
            return
        try:
            super().save_overload(sig, data)
        except OSError as e:
            log.warning("a kernel could not be cached (%s)", e)
        except Exception:  # a damaged index: start it anew, the entry is saved next time
            self._forget()

    def _forget(self):
        try:
            self.flush()
        except OSError:
            pass


@functools.cache
def _say_that_it_takes_time() -> None:
    """Once a process, to who watches: the first calls on a machine take seconds."""
    text = "compiling kernels, some 5 s for predictions and 15 s for training"
    text += ": once on this machine" if keeps() else ""
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"nbbn: {text}", file=sys.stderr)
    else:
        log.info(text)


def kernel_cache(py_func):
    """The cache for a function; one that keeps nothing where there is no folder."""
    return KernelCache(py_func) if cache_folder() is not None else caching.NullCache()
