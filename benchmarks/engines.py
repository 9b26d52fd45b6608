"""Other engines for a tile of 48³ on one core, beside PyTorch's and the fused layers.

    pip install openvino==2026.4.1 && python benchmarks/engines.py [compiled]

Seconds (CPU, the least of some runs) and the largest difference from float32, of v1 and of a
network of the published size with random weights; four tiles at a time by PyTorch, one by
OpenVINO, which is what each likes best. "prepare": the first call or conversion and compilation,
once for each shape of tile.
"""

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from inference import WEIGHTS, best, show
from plain_scunet import PlainSCUNet

from cryoready.enhance.devices import keep_large_blocks
from cryoready.network.checkpoint import load_network
from cryoready.network.fused import fused
from cryoready.network.scunet import Architecture, SCUNet

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


def by_pytorch(network, tiles):
    """Rows of the eager and the fused network, and of the compiled one if asked for."""
    exact = network(tiles)
    ways = {"PyTorch": network, "fused": fused(network)}
    if "compiled" in sys.argv:
        ways["torch.compile"] = torch.compile(network, dynamic=False)
    for precision in PRECISIONS:
        for name, ready in ways.items():
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                start = time.process_time()
                result = ready(tiles)
                prepare = time.process_time() - start
                seconds = best(lambda ready=ready: ready(tiles), 3) / len(tiles)
            yield row(name, precision, prepare, seconds, result.float(), exact)


def by_openvino(plain, tile, exact):
    """Rows of the plain network, converted."""
    import openvino as ov

    for precision, hint in PRECISIONS.items():
        start = time.process_time()
        model = ov.convert_model(plain, example_input=tile, input=[ov.PartialShape(tile.shape)])
        options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        request = ov.Core().compile_model(model, "CPU", options).create_infer_request()
        result = torch.from_numpy(request.infer({0: tile.numpy()})[0].copy())
        prepare = time.process_time() - start
        seconds = best(lambda request=request: request.infer({0: tile.numpy()}), 3)
        yield row("OpenVINO", precision, prepare, seconds, result, exact)


def row(engine, precision, prepare, seconds, result, exact):
    difference = (result - exact).abs().max().item() / np.ptp(exact.numpy())
    return {
        "engine": engine,
        "precision": precision,
        "prepare s": round(prepare, 1),
        "s a tile": round(seconds, 3),
        "difference / range": f"{difference:.0e}",
    }


@torch.inference_mode()
def main():
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    keep_large_blocks()
    torch.manual_seed(0)
    tiles = torch.rand(4, 1, 48, 48, 48) * 100
    networks = {"v1": load_network(WEIGHTS)[0], "published size": SCUNet(Architecture()).eval()}
    for name, network in networks.items():
        plain = PlainSCUNet(network.architecture).eval()
        plain.load_state_dict(network.state_dict())
        rows = [*by_pytorch(network, tiles)]
        rows += by_openvino(plain, tiles[:1], network(tiles[:1]))
        show(f"Engines, {name}, one core", rows)


if __name__ == "__main__":
    main()
