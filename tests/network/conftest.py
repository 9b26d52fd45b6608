"""The golden cases of the published network; tests/data/golden/ holds their numbers.

Weights and inputs follow a rule, so only outputs are stored: sorted tensor names, tensor k (from 0)
of n elements, i = 1…n in C order: w = sin(a·i + b·(k+1)), then by the last part of the name as
`rule_weights` says. The outputs are the original implementation's (EMReady, eval mode, float64,
stored as float32).
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parents[1] / "data" / "golden"

Shapes = dict[str, list[int]]


def read_shapes(name: str) -> Shapes:
    return json.loads((GOLDEN / f"{name}_state_dict_shapes.json").read_text())


def rule_weights(shapes: Shapes, rule: np.ndarray) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(_rule_tensor(name, shapes[name], k, rule).astype(np.float32))
        for k, name in enumerate(sorted(shapes), start=1)
    }


def _rule_tensor(name: str, shape: list[int], k: int, rule: np.ndarray) -> np.ndarray:
    a, b = rule
    w = np.sin(a * np.arange(1, math.prod(shape) + 1, dtype=np.float64) + b * k).reshape(shape)
    *_, layer, last = ("", *name.split("."))
    transposed = name.startswith("m_up") and shape[2:] == [2, 2, 2]
    fan_in = shape[0] if transposed else math.prod(shape[1:])
    by_name = {
        "eps": np.full(shape, 1e-6),
        "gamma": 1 + 0.1 * w,
        "beta": 0.1 * w,
        "tau": 0.1 * w - 0.5,
        "bias": 0.05 * w,
        "relative_position_params": 0.5 * w,
        "weight": 1 + 0.1 * w if layer in ("ln1", "ln2") else w * np.sqrt(2 / fan_in),
    }
    return by_name[last]


def rule_input(rule: np.ndarray) -> torch.Tensor:
    n, c = int(rule[0]), rule[1]
    z, y, x = np.meshgrid(*[np.arange(n, dtype=np.float64)] * 3, indexing="ij")
    wave = 50 * np.sin(c * x + 0.3) * np.sin(1.3 * c * y + 0.1) * np.sin(0.7 * c * z + 0.7)
    ripple = 10 * np.sin(2.1 * x + 1.7 * y + 1.3 * z)
    return torch.from_numpy(np.clip(50 + wave + ripple, 0, 100).astype(np.float32))[None, None]


@pytest.fixture(autouse=True, scope="module")
def single_thread() -> Iterator[None]:
    """On busy cores the threads of such small products mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def published_shapes() -> Shapes:
    return read_shapes("emready")


@pytest.fixture(scope="session")
def block_shapes() -> Shapes:
    return read_shapes("block")


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """weight_rule, input_rule, output (48, 48, 48), and the blocks W and SW, (64, 12, 12, 12)."""
    with (
        np.load(GOLDEN / "golden_public.npz") as whole,
        np.load(GOLDEN / "golden_blocks.npz") as blocks,
    ):
        return {**whole, **blocks}


@pytest.fixture(scope="session")
def published_weights(
    published_shapes: Shapes, golden: dict[str, np.ndarray]
) -> dict[str, torch.Tensor]:
    return rule_weights(published_shapes, golden["weight_rule"])


@pytest.fixture(scope="session")
def block_weights(block_shapes: Shapes, golden: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return rule_weights(block_shapes, golden["weight_rule"])


@pytest.fixture(scope="session")
def golden_input(golden: dict[str, np.ndarray]) -> torch.Tensor:
    return rule_input(golden["input_rule"])


@pytest.fixture(scope="session")
def golden_block_input() -> torch.Tensor:
    i = np.arange(1, 64 * 12**3 + 1)
    return torch.from_numpy(np.sin(0.37 * i + 0.5).astype(np.float32)).reshape(1, 64, 12, 12, 12)
