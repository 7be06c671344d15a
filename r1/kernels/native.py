"""The C kernels: compiled by the system's compiler on first use, cached, and loaded.

A few hundred lines of C take a second to compile for the very CPU that they run on, so
no binary is shipped. Without a compiler, or when what it made does not work, there are no
kernels: one line is logged and callers compute with torch. Threads are those of torch's
own OpenMP runtime, whose symbols are global in the process: linking a second runtime
would give two thread pools that fight for the cores.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

_SOURCES = Path(__file__).parent
_FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-trapping-math")
_COMPILE_TIMEOUT_SECONDS = 300  # takes 4 where nothing else runs
_PROBE_TIMEOUT_SECONDS = 30
# What a killed build leaves; no build takes as long.
_LEFTOVER_AGE_SECONDS = 3600
# Runs in a process of its own: an instruction that the CPU lacks must not end ours.
_PROBE = """
import ctypes, sys
ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)
sys.exit(ctypes.CDLL(sys.argv[2]).r1_self_test() != 42)
"""
_SUFFIXES = {torch.bfloat16: "bf16", torch.float32: "f32"}
_C_TYPES = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "f": ctypes.c_float}
# The functions of kernels.c, each for bf16 and f32: p a pointer, i an int64, f a float.
_SIGNATURES = {
    "r1_attend": "pppppp" + "i" + "p" + "iiiii" + "f" + "i",
    "r1_experts": "ppppp",
    "r1_experts_backward": "pp",
    "r1_gate": "ppp" + "iii",
    "r1_gate_backward": "ppppp" + "ii",
    "r1_layers": "pppppppppppppp" + "ff",
    "r1_linear": "pp" + "ii" + "ppp" + "iii" + "ppp" + "iiii",
    "r1_logit_gradients": "pppp" + "ii" + "f" + "i",
    "r1_rms_norm": "ppp" + "ii" + "f" + "i",
    "r1_rms_norm_backward": "ppppp" + "ii" + "f" + "ii",
    "r1_rotate": "pp" + "ii" + "pp" + "iiii",
    "r1_sample": "pppp" + "ii" + "pppppp" + "i" + "p" + "i",
    "r1_segments_backward": "ppppp" + "ii",
    "r1_segments_forward": "ppp" + "i" + "p" + "i",
    "r1_target_logprobs": "ppppp" + "ii" + "f" + "i",
    "r1_write_cache": "ppp" + "ii" + "p" + "iiii",
}


class KernelBuildError(Exception):
    """Why there are no kernels; one line."""


@functools.cache
def load_kernels() -> ctypes.CDLL | None:
    """The compiled kernels, or None where they cannot be had (logged once) or R1_KERNELS=off."""
    if os.environ.get("R1_KERNELS") == "off":
        return None
    try:
        return build_kernels(kernel_cache_dir())
    # RuntimeError: there is no home directory.
    except (KernelBuildError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        reason = str(error).partition("\n")[0]
        logging.getLogger(__name__).warning("no C kernels, torch computes instead: %s", reason)
        return None


def kernel_functions(dtype: torch.dtype, *names: str) -> list[Callable[..., None]] | None:
    """Functions of kernels.c, without their `r1_`, for one dtype.

    None for others than bf16 and fp32, and where there are no kernels.
    """
    library, suffix = load_kernels(), _SUFFIXES.get(dtype)
    if library is None or suffix is None:
        return None
    return [getattr(library, f"r1_{name}_{suffix}") for name in names]


def kernel_cache_dir() -> Path:
    """Where compiled kernels are kept: $R1_HOME/kernels, or ~/.cache/r1/kernels."""
    home = os.environ.get("R1_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".cache" / "r1") / "kernels"


def build_kernels(cache_dir: Path) -> ctypes.CDLL:
    """Compile the kernels unless `cache_dir` has them; raises KernelBuildError or OSError."""
    compiler = _find_compiler()
    path = cache_dir / f"{_build_key(compiler)}.so"
    if path.exists():
        try:
            return _load(path)
        except OSError:
            logging.getLogger(__name__).info("%s does not load: compiling it again", path)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(cache_dir)
        folder = tempfile.TemporaryDirectory(dir=cache_dir, prefix="build-")
    except OSError:  # read-only: compiled for this process alone
        folder = tempfile.TemporaryDirectory(prefix="r1-kernels-")
        path = Path(folder.name) / "loaded.so"
    with folder:
        library = _compile(compiler, Path(folder.name))
        _probe(library)
        # Whole or absent, and whoever builds at the same time renames the same thing.
        os.replace(library, path)
        return _load(path)


def _remove_leftovers(cache_dir: Path) -> None:
    for folder in cache_dir.glob("build-*"):
        if time.time() - folder.stat().st_mtime > _LEFTOVER_AGE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _find_compiler() -> str:
    for name in filter(None, (os.environ.get("CC"), "cc", "gcc", "clang")):
        if path := shutil.which(name):
            return path
    raise KernelBuildError("no C compiler found (cc, gcc or clang; CC names another)")


def _build_key(compiler: str) -> str:
    """Changes with the sources, the flags, the compiler and the CPU."""
    real = os.stat(os.path.realpath(compiler))
    parts = [*_FLAGS, compiler, str(real.st_size), str(real.st_mtime_ns), _cpu_name()]
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=12)
    for source in sorted(_SOURCES.glob("*.[ch]")):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    # A container may hide features of the same model.
    names = ("model name", "flags", "Features", "CPU part")
    return "\n".join(line for line in lines if line.startswith(names))


def _compile(compiler: str, folder: Path) -> Path:
    errors = ""
    for tuning in ("-march=native", "-mcpu=native"):
        # Two at a time: it is what the first start waits for.
        flags = (compiler, *_FLAGS, tuning, "-c", _SOURCES / "kernels.c")
        commands = [
            (*flags, f"-DDTYPE_BITS={bits}", "-o", folder / f"k{bits}.o") for bits in (16, 32)
        ]
        with ThreadPoolExecutor() as pool:
            results = list(pool.map(lambda command: _run(*command), commands))
        failed = [result for result in results if result.returncode != 0]
        if not failed:
            break
        errors = errors or _first_error(failed[0])
    else:
        raise KernelBuildError(f"{compiler} failed: {errors}")
    # Without -fopenmp: the runtime's symbols are torch's.
    undefined = ("-Wl,-undefined,dynamic_lookup",) if sys.platform == "darwin" else ()
    result = _run(
        compiler,
        "-shared",
        *undefined,
        folder / "k16.o",
        folder / "k32.o",
        "-o",
        folder / "k.so",
        "-lm",
    )
    if result.returncode != 0:
        raise KernelBuildError(f"{compiler} failed to link: {_first_error(result)}")
    return folder / "k.so"


def _run(
    *command: object, timeout: float = _COMPILE_TIMEOUT_SECONDS
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )


def _first_error(result: subprocess.CompletedProcess[str]) -> str:
    lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
    return next((line for line in lines if "error" in line), lines[0])[:200]


def _probe(library: Path) -> None:
    # What torch itself loads first, to have the OpenMP runtime in reach of everyone.
    suffix = "dylib" if sys.platform == "darwin" else "so"
    runtime = Path(torch.__file__).parent / "lib" / f"libtorch_global_deps.{suffix}"
    command = (sys.executable, "-I", "-S", "-c", _PROBE, runtime, library)
    result = _run(*command, timeout=_PROBE_TIMEOUT_SECONDS)
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines()
        reason = lines[-1][:200] if lines else f"exit code {result.returncode}"
        raise KernelBuildError(f"the compiled kernels do not run here ({reason})")


def _load(path: Path) -> ctypes.CDLL:
    torch.get_num_threads()  # loads torch's OpenMP runtime, which the library's symbols need
    library = ctypes.CDLL(str(path))
    for name, arguments in _SIGNATURES.items():
        for suffix in _SUFFIXES.values():
            try:
                function = getattr(library, f"{name}_{suffix}")
            except AttributeError:
                raise OSError(f"{path} lacks {name}_{suffix}") from None
            function.argtypes = [_C_TYPES[letter] for letter in arguments]
            function.restype = None
    return library
