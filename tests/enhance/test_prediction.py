"""Batches on several devices, with little memory, and with failures."""

import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from cryoready.core.errors import CryoreadyError
from cryoready.enhance.prediction import TURNS, Predictor, predict_in_order

CPU = torch.device("cpu")


class Negative(nn.Module):
    """100 - x, with a delay that differs from call to call, on at most ``most`` tiles."""

    def __init__(self, most=99, error=None, delays=(0.0,)):
        super().__init__()
        self.most, self.error, self.delays = most, error, delays
        self.sizes, self.threads = [], set()

    def forward(self, x):
        self.sizes.append(len(x))
        self.threads.add(threading.get_ident())
        time.sleep(self.delays[len(self.sizes) % len(self.delays)])
        if len(x) > self.most:
            raise self.error or torch.OutOfMemoryError("CUDA out of memory.")
        return 100 - x


def batches(number, size=3):
    rng = np.random.default_rng(0)
    return [(k, rng.random((size, 4, 5, 6), dtype=np.float32)) for k in range(number)]


@pytest.mark.parametrize("devices", [1, 2, 5])
def test_results_come_in_order_from_any_number_of_devices(devices):
    network = Negative(delays=(0.0, 0.02, 0.004))
    predictors = [Predictor(network, CPU, "fp32", batch_size=3) for _ in range(devices)]
    made = list(predict_in_order(batches(12), predictors))
    assert [key for key, _ in made] == list(range(12))
    for (_, tiles), (_, result) in zip(batches(12), made, strict=True):
        np.testing.assert_allclose(result, 100 - 100 * tiles, atol=1e-4)
    assert len(network.threads) == devices


def test_batches_are_cut_when_they_are_needed():
    """Never more than three a device are alive, however many there are."""
    cut = []

    def counted():
        for key, tiles in batches(20):
            cut.append(key)
            yield key, tiles

    for key, _ in predict_in_order(counted(), [Predictor(Negative(), CPU, "fp32")]):
        assert len(cut) <= key + 3


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"
        ),
        MemoryError(),
    ],
)
def test_too_large_batches_are_halved_and_no_tile_is_lost(error):
    lines = []
    network = Negative(most=2, error=error)
    predictor = Predictor(network, CPU, "fp32", batch_size=8, report=lines.append)
    ((_, tiles),) = batches(1, size=7)
    np.testing.assert_allclose(predictor(tiles), 100 - 100 * tiles, atol=1e-4)
    assert network.sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert predictor.batch_size == 1
    assert lines[0] == "cpu has no memory for 7 tiles of 4x5x6 voxels: 3 at a time from here on"


def test_a_tile_that_does_not_fit_is_one_clear_error():
    predictor = Predictor(Negative(most=0), CPU, "fp32", batch_size=4)
    with pytest.raises(CryoreadyError, match=r"no memory for one tile of 4x5x6 voxels in fp32: "):
        list(predict_in_order(batches(9), [predictor]))


def test_an_exception_on_one_device_ends_it_all():
    network = Negative(most=0, error=ValueError("broken"))
    before = threading.active_count()
    with pytest.raises(ValueError, match="broken"):
        list(predict_in_order(batches(50), [Predictor(network, CPU, "fp32") for _ in range(3)]))
    assert len(network.sizes) < 20
    assert threading.active_count() == before


def test_an_exception_between_the_batches_ends_the_workers():
    results = predict_in_order(batches(50), [Predictor(Negative(), CPU, "fp32")])
    before = threading.active_count()
    next(results)
    results.close()
    assert threading.active_count() == before


def test_negative_density_passes_by_the_network():
    tiles = np.random.default_rng(0).uniform(-1, 1, (2, 4, 4, 4)).astype(np.float32)
    made = Predictor(nn.Identity(), CPU, "fp32", TURNS[24], negatives=0.25)(tiles)
    np.testing.assert_allclose(made, 100 * np.where(tiles > 0, tiles, tiles / 4), atol=1e-4)


def test_results_are_clipped():
    tiles = np.ones((1, 4, 4, 4), dtype=np.float32)
    for factor, expected in ((3, 100), (-1, 0)):
        network = nn.Conv3d(1, 1, 1, bias=False)
        nn.init.constant_(network.weight, factor)
        assert np.unique(Predictor(network, CPU, "fp32")(tiles)) == [expected]


@pytest.mark.parametrize(("name", "error"), [("bf16", 2**-8), ("fp32", 2**-22)])
def test_the_network_runs_in_the_precision(name, error):
    """The rounding of a product is that of the type; the result differs where that is coarse."""
    network = nn.Conv3d(1, 1, 1, bias=False)
    nn.init.constant_(network.weight, 1 / 3)
    tiles = np.random.default_rng(0).random((1, 6, 6, 6), dtype=np.float32)
    made = Predictor(network, CPU, name)(tiles)
    deviation = np.abs(made / (tiles * 100 / 3) - 1).max()
    assert deviation < 4 * error
    assert name == "fp32" or deviation > error / 8
