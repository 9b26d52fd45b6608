"""The network applied to tiles: batches on one device or several, results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from cryoready.core.errors import CryoreadyError
from cryoready.core.rotations import PROPER_ROTATIONS, Rotation
from cryoready.core.volume import FloatArray
from cryoready.density.normalise import NETWORK_SCALE
from cryoready.enhance.devices import ran_out_of_memory
from cryoready.network.fused import fused
from cryoready.network.scunet import SCUNet

HALF_TURNS = tuple(rotation for rotation in PROPER_ROTATIONS if rotation.axes == (0, 1, 2))
TURNS: dict[int, tuple[Rotation, ...]] = {0: HALF_TURNS[:1], 4: HALF_TURNS, 24: PROPER_ROTATIONS}
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
AHEAD = 2  # batches a device that are cut before their turn or wait to be blended

Key = TypeVar("Key")


def network_on(network: nn.Module, device: torch.device, *, compiled: bool = False) -> nn.Module:
    """A copy of ``network`` ready for inference on ``device``.

    On a CPU with fused layers; ``compiled``: by `torch.compile` instead, when it is first called.
    """
    if compiled:
        ready = torch.compile(deepcopy(network).eval().to(device), dynamic=False)
        return cast(nn.Module, ready)
    if device.type == "cpu" and isinstance(network, SCUNet):
        return fused(network)
    return plain_on(network, device)


def plain_on(network: nn.Module, device: torch.device) -> nn.Module:
    """A copy of ``network`` on ``device``, with none of its arithmetic replaced."""
    if device.type == "cpu" and isinstance(network, SCUNet):
        return fused(network, loops=False)
    return deepcopy(network).eval().to(device)


@dataclass
class Predictor:
    """A network on a device.

    Parameters
    ----------
    network
        takes and returns (n, 1, z, y, x), 0-100; it lies on ``device``.
    precision
        "fp32", "bf16" or "fp16".
    turns
        of every tile, over which is averaged.
    negatives
        share of the negative density of a tile that is added to the result.
    batch_size
        tiles at a time; halved when the memory does not suffice.
    stream
        of the GPU: two predictors share it, one copies while the other computes.
    report
        receives a line when that happens.
    """

    network: nn.Module
    device: torch.device
    precision: str
    turns: tuple[Rotation, ...] = TURNS[0]
    negatives: float = 0.0
    batch_size: int = 1
    stream: torch.cuda.Stream | None = None
    report: Callable[[str], None] = lambda line: None

    def in_streams(self, count: int) -> list["Predictor"]:
        """Itself on a CPU; on a GPU ``count`` predictors with one network, each in its stream."""
        if self.device.type == "cpu":
            return [self]
        return [replace(self, stream=torch.cuda.Stream(self.device)) for _ in range(count)]

    def __call__(self, tiles: FloatArray) -> FloatArray:
        """(n, z, y, x) from -1 to 1 -> the same shape, enhanced, up to 100.

        Raises
        ------
        CryoreadyError
            if the memory does not suffice for one tile.
        """
        results = np.empty_like(tiles)
        done = 0
        while done < len(tiles):
            here = slice(done, done + self.batch_size)
            result = self._attempt(tiles[here])
            if result is None:
                self._take_fewer(min(self.batch_size, len(tiles) - done), tiles.shape[1:])
            else:
                results[here] = result
                done += len(result)
        return results

    def _attempt(self, tiles: FloatArray) -> FloatArray | None:
        """The result, None if there is no memory for it."""
        try:
            return self._predict(tiles)
        except (RuntimeError, MemoryError) as error:
            if ran_out_of_memory(error):
                return None
            raise

    def _take_fewer(self, tried: int, shape: Sequence[int]) -> None:
        """Halve the batch, after the failed one has left no trace."""
        edges = "x".join(map(str, shape))
        if tried == 1:
            gpu = self.device.type == "cuda"
            raise CryoreadyError(
                f"{self.device} has no memory for one tile of {edges} voxels in {self.precision}: "
                f"close other programs{', or set inference.device to cpu' * gpu}"
            )
        self.batch_size = tried // 2
        self.report(
            f"{self.device} has no memory for {tried} tiles of {edges} voxels: "
            f"{self.batch_size} at a time from here on"
        )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _predict(self, tiles: FloatArray) -> FloatArray:
        positive = np.maximum(tiles, 0)
        total = np.minimum(tiles, 0) * np.float32(self.negatives * NETWORK_SCALE)
        for turn in self.turns:
            turned = np.ascontiguousarray(turn.apply(positive))
            result = turn.undo(self._run(torch.from_numpy(turned)[:, None])[:, 0].numpy())
            total += result / np.float32(len(self.turns))
        return total

    def _run(self, x: Tensor) -> Tensor:
        """(n, 1, z, y, x) on the host, 0-1 -> 0-100; copies to and from a GPU are page-locked."""
        gpu = self.device.type == "cuda"
        lower = TYPES.get(self.precision)
        arithmetic = torch.autocast(self.device.type, lower) if lower else nullcontext()
        stream = torch.cuda.stream(self.stream) if self.stream else nullcontext()
        x = x.pin_memory() if gpu else x
        with torch.inference_mode(), arithmetic, stream:
            seen = x.to(self.device, non_blocking=True) * NETWORK_SCALE
            y = self.network(seen).float().clamp(0, NETWORK_SCALE)
            result = torch.empty(y.shape, pin_memory=gpu)
            result.copy_(y, non_blocking=True)
            if gpu:
                torch.cuda.current_stream(self.device).synchronize()
        return result


def predict_in_order(
    batches: Iterable[tuple[Key, FloatArray]], predictors: Sequence[Predictor]
) -> Iterator[tuple[Key, FloatArray]]:
    """The results of ``batches`` in their order, whichever predictor is free taking the next.

    While the predictors work the next batches are cut and the last results are used, both here in
    the calling thread. What a predictor raises is raised here.
    """
    idle: SimpleQueue[Predictor] = SimpleQueue()
    for predictor in predictors:
        idle.put(predictor)

    def work(tiles: FloatArray) -> FloatArray:
        predictor = idle.get()
        try:
            return predictor(tiles)
        finally:
            idle.put(predictor)

    pending: deque[tuple[Key, Future[FloatArray]]] = deque()
    with ThreadPoolExecutor(len(predictors), "enhance") as pool:
        try:
            for key, tiles in batches:
                pending.append((key, pool.submit(work, tiles)))
                if len(pending) > AHEAD * len(predictors):
                    key, result = pending.popleft()
                    yield key, result.result()
            while pending:
                key, result = pending.popleft()
                yield key, result.result()
        finally:
            pool.shutdown(cancel_futures=True)
