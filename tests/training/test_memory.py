"""What a run that lacks memory is told."""

import pytest
import torch

from cryoready.core.errors import CryoreadyError
from cryoready.training.memory import enough_memory, peak_gb, smaller_batch
from cryoready.training.plan import Plan

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("batch_size", "devices", "expected"),
    [(8, 1, 4), (9, 1, 3), (7, 1, 1), (8, 2, 4), (6, 2, 2), (4, 4, None), (1, 1, None)],
)
def test_a_smaller_batch_divides_the_step_and_the_devices(batch_size, devices, expected):
    assert smaller_batch(Plan(batch_size=batch_size), devices) == expected


@pytest.mark.parametrize(
    ("plan", "advice"),
    [
        (Plan(batch_size=6), "set train.batch_size to 3 and train.accumulate to 2 and run again"),
        (Plan(batch_size=2, accumulate=3), "set train.batch_size to 1 and train.accumulate to 6"),
        (Plan(batch_size=1), "lower train.crop_voxels or network.width"),
    ],
)
@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_out_of_memory_says_what_fits(plan, advice, error):
    told = pytest.raises(CryoreadyError, match=f"out of memory on cpu.*{advice}")
    with told as caught, enough_memory(plan, 1, CPU):
        raise error
    assert "\n" not in str(caught.value)


def test_pytorch_out_of_memory_on_the_cpu_is_recognised():
    told = pytest.raises(CryoreadyError, match="out of memory on cpu")
    with told, enough_memory(Plan(), 1, CPU):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), enough_memory(Plan(), 1, CPU):
        raise RuntimeError("shapes do not fit")


def test_the_peak_counts_what_is_in_use():
    before = peak_gb(CPU)
    held = torch.ones(40_000_000)
    assert peak_gb(CPU) >= before
    assert peak_gb(CPU) > 4e-9 * len(held)
