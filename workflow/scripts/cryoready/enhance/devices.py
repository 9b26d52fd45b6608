"""What inference runs on: devices, their precision and their memory."""

import ctypes
import math
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import nn

from cryoready.core.cost import SNAKEMAKES_MB
from cryoready.core.errors import CryoreadyError
from cryoready.network.fused import has_fused_transformers

GB = 1e9
# Peak of a forward pass per voxel of a batch at base width 32, by PyTorch's and by fused layers.
TILE_BYTES = {"fp32": 2000, "bf16": 1050, "fp16": 1050}
FUSED_BYTES = {"fp32": 1000, "bf16": 600}
# Interpreter and libraries; on a host with a GPU also its driver.
BASE_BYTES = {"cpu": 600_000_000, "cuda": 3_000_000_000}
MOST_TILE_BYTES = 2_500_000_000  # of a tile or a batch: larger ones gain nothing
MOST_BATCH_VOXELS = {"cpu": 4 * 48**3, "cuda": 32 * 48**3}  # likewise

NO_MEMORY = ("can't allocate memory", "could not create a memory", "ALLOC_FAILED")

Memory = Mapping[str, float]
"""GB by place: "host", and "GPU" if there is one (the fullest)."""


def make_current(device: torch.device) -> None:
    """Let what asks for a GPU without saying which get this one."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def choose_device(name: str) -> torch.device:
    """The device called ``name``; "auto" is a GPU if there is one.

    Raises
    ------
    CryoreadyError
        if a GPU is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise CryoreadyError("device cuda: PyTorch finds no GPU here; use auto or cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def choose_devices(name: str) -> list[torch.device]:
    """As `choose_device`, but all GPUs instead of one."""
    device = choose_device(name)
    if device.type == "cpu":
        return [device]
    return [torch.device("cuda", k) for k in range(torch.cuda.device_count())]


def choose_precision(name: str, device: torch.device) -> str:
    """The precision called ``name``; "auto" is the fastest that ``device`` has units for.

    Raises
    ------
    CryoreadyError
        for fp16 on a CPU.
    """
    if device.type == "cpu" and name == "fp16":
        raise CryoreadyError("precision fp16 is for GPUs: use auto, bf16 or fp32 on the CPU")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    units = torch.cpu.get_capabilities()
    return "bf16" if any(units.get(key) for key in ("avx512_bf16", "amx_bf16", "bf16")) else "fp32"


def free_bytes(device: torch.device) -> int:
    """Memory that can still be used on ``device``; of the host, no more than this job may have."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    left = allowed_bytes() - 1e6 * SNAKEMAKES_MB - psutil.Process().memory_info().rss
    return int(max(0, min(psutil.virtual_memory().available, left)))


def allowed_bytes(root: Path = Path("/")) -> float:
    """What the control groups of Linux let this process have: a cluster's job, or a container.

    Infinite without a limit. ``root`` is where ``/proc`` and ``/sys`` are.
    """
    limits = [math.inf]
    for line in _lines(root / "proc/self/cgroup"):
        _, kind, path = line.split(":", 2)
        if kind not in ("", "memory"):  # of version 2 and of version 1
            continue
        name = "memory.limit_in_bytes" if kind else "memory.max"
        top = root / "sys/fs/cgroup" / kind
        for folder in ((top / path.lstrip("/")), *(top / path.lstrip("/")).parents):
            limits += [float(text) for text in _lines(folder / name) if text != "max"]
            if folder == top:
                break
    return min(limits)


def _lines(file: Path) -> list[str]:
    return file.read_text().split() if file.is_file() else []


def voxel_bytes(network: nn.Module, width: int, precision: str) -> float:
    """Memory that ``network`` takes for each voxel of a batch."""
    each = FUSED_BYTES if has_fused_transformers(network) else TILE_BYTES
    return each[precision] * width / 32


def tile_budget(devices: Sequence[torch.device], arrays: int) -> int:
    """Bytes for a batch on each of ``devices``: half of what ``arrays`` bytes of maps leave."""
    free = min(free_bytes(d) - (arrays if d.type == "cpu" else 0) for d in devices)
    return int(np.clip(free // 2, 0, MOST_TILE_BYTES))


def expected_memory(
    device: torch.device, blending: float, batch: float, returning: float
) -> Memory:
    """Peak of an enhancement.

    Parameters
    ----------
    device
        one of those used.
    blending, returning
        bytes of full-size arrays while tiles are blended, and while the result goes back to the
        grid of the input.
    batch
        bytes that the network takes for a batch.
    """
    gpu = device.type == "cuda"
    arrays = max(blending + (0 if gpu else batch), returning)
    host = {"host": (BASE_BYTES[device.type] + arrays) / GB}
    return host | ({"GPU": batch / GB} if gpu else {})


def forget_peak(devices: Sequence[torch.device]) -> None:
    """Begin to measure anew where that can be done: on GPUs."""
    for device in devices:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)


def peak_memory(devices: Sequence[torch.device]) -> Memory:
    """Most memory in use: of the process ever, of the fullest GPU since `forget_peak`."""
    host = _host_peak() / GB
    gpus = [torch.cuda.max_memory_allocated(d) / GB for d in devices if d.type == "cuda"]
    return {"host": host} | ({"GPU": max(gpus)} if gpus else {})


def _host_peak() -> int:
    """Bytes. Linux counts the parent's memory in ``ru_maxrss``, but not in the status file."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmHWM" in lines:
            return int(lines["VmHWM"].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def in_words(memory: Memory) -> str:
    """As in "1.2 GB (host), 3.0 GB (GPU)"."""
    return ", ".join(f"{size:.1f} GB ({place})" for place, size in memory.items())


def room(expected: Memory) -> str:
    """What to say where ``expected`` exceeds the free memory of the host."""
    free = free_bytes(torch.device("cpu")) / GB
    return f" (only {free:.1f} GB are free: close other programs)" * (expected["host"] > free)


def ran_out_of_memory(error: Exception) -> bool:
    """Whether ``error`` says that memory did not suffice."""
    told = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return told or any(words in str(error) for words in NO_MEMORY)


def keep_large_blocks() -> None:
    """Have the C library keep freed blocks for the next layer of the network.

    glibc returns blocks above 32 MB to the kernel at once and gets them back page by page, filled
    with zeros: up to half of the time of a forward pass. Threads must share one arena, since those
    of their own hold no large blocks. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        return
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # names and numbers of malloc.h
    # larger blocks are maps: those do go back; before 2.36 more than 32 MB is refused
    _ = mallopt(mmap_threshold, 1 << 29) or mallopt(mmap_threshold, 1 << 25)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(arena_max, 1)
