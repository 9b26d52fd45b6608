"""What inference asks of processor and memory."""

import ctypes
import math
import resource

import numpy as np
import pytest
import torch

from cryoready.core.errors import CryoreadyError
from cryoready.enhance.devices import (
    allowed_bytes,
    choose_device,
    choose_devices,
    choose_precision,
    expected_memory,
    in_words,
    keep_large_blocks,
    peak_memory,
    tile_budget,
)

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("units", "expected"),
    [({"avx512_f": True}, "fp32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16")],
)
def test_a_cpu_computes_in_bf16_if_it_has_units_for_it(monkeypatch, units, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    assert choose_precision("auto", CPU) == expected
    assert choose_precision("fp32", CPU) == "fp32"


def test_fp16_is_refused_on_the_cpu():
    with pytest.raises(CryoreadyError, match=r"precision fp16 is for GPUs: use auto, bf16 or fp32"):
        choose_precision("fp16", CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named():
    with pytest.raises(CryoreadyError, match="PyTorch finds no GPU here; use auto or cpu"):
        choose_device("cuda")
    assert choose_devices("auto") == [CPU]


def test_maps_count_against_the_tiles_on_the_host_only():
    """Of 10 GB, 4 of maps leave 3 for a batch; a GPU holds no maps."""
    host, gpu = (expected_memory(d, 4e9, 3e9, 5e9) for d in (CPU, GPU))
    assert host == {"host": pytest.approx(7.6)}
    assert gpu == {"host": pytest.approx(8.0), "GPU": pytest.approx(3.0)}
    assert in_words(gpu) == "8.0 GB (host), 3.0 GB (GPU)"
    assert tile_budget([CPU], 10**15) == 0


def test_the_peak_grows_with_what_is_held():
    before = peak_memory([CPU])["host"]
    held = np.ones(int(before * 1e9 / 4) + 2 * 10**7, dtype=np.float32)
    assert peak_memory([CPU])["host"] > max(before, held.nbytes / 1e9)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="not glibc")
def test_a_large_block_is_used_again_without_the_kernel():
    """No new page is mapped when 64 MB are freed and taken again."""
    keep_large_blocks()
    faults = []
    for _ in range(3):
        np.ones(2**24, dtype=np.float32)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    assert faults[2] - faults[1] < 100


@pytest.mark.parametrize(
    ("group", "files", "allowed"),
    [
        ("0::/job_7/step_0", {"job_7/memory.max": "4294967296"}, 2**32),  # Slurm: of the job
        ("0::/", {"memory.max": "max"}, math.inf),  # a container without a limit
        ("0::/elsewhere", {"memory.max": "1000"}, 1000),  # what a container does not see
        ("4:memory:/job\n3:cpu:/", {"memory/job/memory.limit_in_bytes": "2000"}, 2000),
        ("0::/a", {"a/memory.max": "9000", "memory.max": "8000"}, 8000),  # the smallest holds
        (None, {}, math.inf),  # no Linux
    ],
)
def test_a_job_knows_how_much_memory_it_may_have(tmp_path, group, files, allowed):
    """As the kernel's documentation lays the files out (cgroup-v2.rst, cgroup-v1/memory.rst)."""
    if group:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(f"{group}\n")
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert allowed_bytes(tmp_path) == allowed
