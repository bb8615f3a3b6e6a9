"""The functions of kernels.c and attention.c on tensors, where they can be had: on the CPU, with a C compiler.

In float32, in float64, and in bfloat16 for activations, whose arithmetic is float32's.

They are compiled when first asked for, which takes a second, and kept in the user's cache under a name that says of what source,
by which compiler and for which processor, so that a cache shared by machines is safe. Without a compiler, or with
`ZEPHYR_KERNELS=0`, there are none, and everything is computed by torch: the same to rounding, slower.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import itertools
import os
import platform
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from zephyr.models.registry import cache_dir

HERE = Path(__file__).parent
SOURCES = (HERE / "kernels.c", HERE / "attention.c")
HEADERS = (HERE / "real.h",)
X86 = platform.machine().lower() in ("x86_64", "amd64")
WIDE = ("-mprefer-vector-width=512",) if X86 else ()  # elsewhere no compiler knows it
FLAGS = ("-O3", "-march=native", *WIDE, "-fopenmp-simd", "-ffp-contract=fast", "-fPIC", "-shared")
FLAGS_OF = {torch.float32: (), torch.float64: ("-DDOUBLE",), torch.bfloat16: ("-DHALF",)}
ALONE = 1 << 14  # numbers below which a second thread costs more than it gives


def usable(*tensors: Tensor) -> bool:
    """Are there kernels for these tensors, all on the CPU and of one number format, float32 or float64?"""
    return tensors[0].dtype != torch.bfloat16 and _usable(*tensors)


def usable_in_half(*tensors: Tensor) -> bool:
    """Are there kernels for these tensors as activations, all on the CPU and in bfloat16?"""
    return tensors[0].dtype == torch.bfloat16 and _usable(*tensors)


def _usable(*tensors: Tensor) -> bool:
    dtype = tensors[0].dtype
    same = all(t.device.type == "cpu" and t.dtype == dtype and type(t) in (Tensor, torch.nn.Parameter) for t in tensors)
    return same and dtype in FLAGS_OF and os.environ.get("ZEPHYR_KERNELS") != "0" and library(dtype) is not None


def has(name: str, dtype: torch.dtype) -> bool:
    """Is there this function? The attention in bfloat16 is only where the processor multiplies bfloat16."""
    return hasattr(library(dtype), name)


def where_computed(device: torch.device) -> str:
    """What the last bits of a result depend on beside what is computed: device, threads, versions, and whether these kernels are used."""
    if device.type != "cpu":
        return f"{torch.cuda.get_device_name(device)} torch {torch.__version__}"
    used = [str(dtype) for dtype in FLAGS_OF if _usable(torch.empty(0, dtype=dtype))]
    used += ["attention"] if str(torch.bfloat16) in used and has("attention_forward", torch.bfloat16) else []
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()} torch {torch.__version__} {used}"


def call(name: str, rows: int, dtype: torch.dtype, *arguments: Tensor | int | float) -> None:
    """One of the functions, over all rows of contiguous tensors, by as many threads as torch has, its own where that can be."""
    function = _function(name, dtype)
    assert all(a.is_contiguous() for a in arguments if isinstance(a, Tensor)), f"{name}: a tensor is not contiguous"
    converted = [_converted(a) for a in arguments]
    largest = max(a.numel() for a in arguments if isinstance(a, Tensor))
    threads = max(1, min(torch.get_num_threads(), largest // ALONE, rows))

    def work(begin: int, end: int, threads: int = 1) -> None:
        function(ctypes.c_int64(begin), ctypes.c_int64(end), ctypes.c_int64(threads), *converted)

    if threads == 1 or _parallel(dtype):
        work(0, rows, threads)
    else:
        _deal(work, rows, threads)


def _converted(value: Tensor | int | float) -> ctypes.c_void_p | ctypes.c_int64 | ctypes.c_double:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_int64(value) if isinstance(value, int) else ctypes.c_double(value)


def _deal(work: Callable[[int, int], object], rows: int, threads: int) -> None:
    """Rows dealt out in equal stretches; the calling thread takes the first."""
    bounds = [rows * i // threads for i in range(threads + 1)]
    others = [_pool(os.getpid()).submit(work, *pair) for pair in itertools.pairwise(bounds[1:])]
    work(bounds[0], bounds[1])
    for other in others:
        other.result()


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Of this process: threads do not survive a fork."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="zephyr-kernels")


@functools.cache
def _function(name: str, dtype: torch.dtype) -> Callable[..., None]:
    found = library(dtype)
    assert found is not None
    function: Callable[..., None] = getattr(found, name)
    function.restype = None  # type: ignore[attr-defined]
    return function


@functools.cache
def _parallel(dtype: torch.dtype) -> bool:
    """Do the functions deal out rows themselves?"""
    return bool(ctypes.c_int.in_dll(library(dtype), "parallel"))  # type: ignore[arg-type]  # there is one, or nobody asks


@functools.cache
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled functions for a number format; None where they cannot be had."""
    for openmp in (True, False):
        try:
            path, command = _planned(dtype, openmp=openmp)
            if path.exists():
                with contextlib.suppress(OSError):
                    return ctypes.CDLL(str(path))
            _compile(command, path)  # also over a file that was damaged
            return ctypes.CDLL(str(path))
        except (OSError, subprocess.SubprocessError, RuntimeError, ValueError):  # no compiler, no home, a version that is no text
            continue
    return None


def _planned(dtype: torch.dtype, *, openmp: bool = True) -> tuple[Path, list[str]]:
    """Where the compiled functions lie, and what makes them; with `openmp` in torch's threads, where its library of them is GNU's."""
    compiler, flags = shlex.split(os.environ.get("CC") or "cc"), (*FLAGS, *FLAGS_OF[dtype])
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    runtime = _threads_of_torch() if openmp and "clang" not in version else None
    # of the runtime that torch has loaded: another one's threads would wait for processors on which torch's are still spinning
    link = [f"-Wl,--as-needed,{runtime}", "-fopenmp"] if runtime else []
    texts = [path.read_text(encoding="utf-8") for path in (*SOURCES, *HEADERS)]
    identity = "\n".join([*texts, *compiler, *flags, *link, version, platform.machine(), _processor()])
    digest = hashlib.sha256(identity.encode()).hexdigest()
    return cache_dir() / "kernels" / f"{digest[:32]}.so", [*compiler, *flags, *map(str, SOURCES), *link]


def _threads_of_torch() -> Path | None:
    """GNU's OpenMP runtime, as torch has loaded it."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    loaded = {Path(line.split(maxsplit=5)[5]) for line in lines if "libgomp" in line}
    ours = Path(torch.__file__).parent
    return next((path for path in sorted(loaded) if ours in path.parents or ours.parent / "torch.libs" in path.parents), None)


def _compile(command: list[str], path: Path) -> None:
    """Aside, then in one rename: others may compile it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        subprocess.run([*command, "-o", str(made), "-lm"], capture_output=True, check=True, timeout=120)
        made.replace(path)


def _processor() -> str:
    """What the processor can do, which `-march=native` makes use of."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.processor()} of {platform.node()}"  # all of one make call themselves alike
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
