"""Weights made ready to be given away: half as large, and proven to make the same map."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cryoready.core.errors import CryoreadyError
from cryoready.density.normalise import NETWORK_SCALE
from cryoready.network.checkpoint import Card, load_network, save_weights
from cryoready.network.scunet import SCUNet, mixed_with_input
from cryoready.training.memory import count_parameters

HALF_BYTES = 2  # of a number


@dataclass(frozen=True)
class Released:
    """What was written.

    Parameters
    ----------
    card
        of the half-precision weights.
    parameters
        of the network.
    megabytes
        10⁶ bytes of the weights file.
    deviation
        largest difference that the lower precision makes in the crops, of 0-100.
    """

    card: Card
    parameters: int
    megabytes: float
    deviation: float


def made_from(card: Card, what: str) -> set[str]:
    """Ids of the ``entries`` or ``structures`` behind weights, as far as their card names them."""
    named = card.training.get(what)
    return {*named} if isinstance(named, Mapping) else set()


def check_sheet(card: Card, ids: Collection[str], sheet: str) -> None:
    """Stop if weights were made from entries that are not among the ``ids`` of ``sheet``."""
    missing = sorted((made_from(card, "entries") | made_from(card, "structures")) - {*ids})
    if missing:
        raise CryoreadyError(
            f"{sheet}: lacks {len(missing)} of the entries behind the weights {card.name}, "
            f"{missing[0]} for one; give the sheet of the training: --config entries=…"
        )


def release(
    weights: Path,
    to: Path,
    crops: Tensor,
    *,
    input_share: float,
    negatives: float | None,
    most_megabytes: float,
    tolerance: float,
) -> Released:
    """Write ``weights`` in half precision, with their card.

    Parameters
    ----------
    weights
        those of a run.
    to
        ``*.safetensors``.
    crops
        (n, 1, z, y, x) maps to be tried on, 0-1.
    input_share
        0-1: of the input in the output; the rest is what the weights make of it.
    negatives
        share of the input's negative density that is added (`enhance.inference.enhance`); None: as
        the weights have it.
    most_megabytes
        limit of the file, 10⁶ bytes.
    tolerance
        limit of the difference that half precision may make in any voxel, of 0-100.

    Raises
    ------
    CryoreadyError
        if the file would be too large, or the maps would differ; nothing is kept then.
    """
    network, card = load_network(weights)
    if input_share:
        network = mixed_with_input(network, share=input_share).eval()
    negatives = card.negatives if negatives is None else negatives
    card = replace(card, architecture=network.architecture, negatives=negatives)
    card.training["release"] = {"input_share": input_share, "negatives": negatives}
    megabytes = HALF_BYTES * sum(v.numel() for v in network.state_dict().values()) / 1e6
    if megabytes > most_megabytes:
        raise CryoreadyError(
            f"{weights}: {megabytes:.1f} MB in half precision, above the limit of "
            f"{most_megabytes:g} MB; train a smaller network (network.width) or raise "
            "release.most_megabytes"
        )
    rounded = halved(network)
    with torch.inference_mode():
        difference = (network(crops * NETWORK_SCALE) - rounded(crops * NETWORK_SCALE)).abs()
    deviation = float(difference.max())
    if not deviation <= tolerance:
        raise CryoreadyError(
            f"{weights}: half precision changes a crop by {deviation:.3g} of 100, above the limit "
            f"of {tolerance:g}; raise release.tolerance if that is acceptable, or release weights "
            "of another epoch"
        )
    card = save_weights(to, network, card, half=True)
    size = to.stat().st_size / 1e6
    return Released(card, count_parameters(network), size, deviation)


def halved(network: SCUNet) -> SCUNet:
    """A copy with the weights that a half-precision file gives back."""
    copy = SCUNet(network.architecture)
    copy.load_state_dict({name: v.half().float() for name, v in network.state_dict().items()})
    return copy.eval()
