"""The largest values, as a sort would give them."""

import numpy as np
import pytest

from cryoready.density import largest as module
from cryoready.density.largest import largest


@pytest.mark.parametrize("order", ["random", "ascending", "descending", "equal"])
@pytest.mark.parametrize("count", [1, 7, 250, 999, 1000, 2000])
def test_as_by_sorting(monkeypatch, order, count):
    monkeypatch.setattr(module, "CHUNK", 64)
    values = np.random.default_rng(0).normal(size=(10, 10, 10)).astype(np.float32)
    if order == "equal":
        values = np.round(values)
    elif order != "random":
        values = np.sort(values.ravel())[:: 1 if order == "ascending" else -1].reshape(values.shape)
    expected = np.sort(values.ravel())[::-1][:count]
    np.testing.assert_array_equal(np.sort(largest(values, count))[::-1], expected)
