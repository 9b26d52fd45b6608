"""The only saver and loader of weights: safetensors with a JSON card, and EMReady's state dicts.

Nothing read here can execute code. What cannot be used is refused in one line.
"""

import hashlib
import io
import json
import math
import pickle
import struct
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as pack_safetensors
from torch import Tensor

from cryoready.core.errors import CryoreadyError
from cryoready.core.whole_files import written_whole
from cryoready.density.normalise import CONVENTION
from cryoready.network.scunet import Architecture, SCUNet

PUBLISHED_GRIDS = (1.0, 0.5)
"""Voxel sizes, in Å, of the two published networks (doi 10.1038/s41467-023-39031-1)."""

# keys under which training programs keep the state dict in a checkpoint
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "params")

# what torch.load raises for files that are cut off, damaged or no checkpoints at all
_UNREADABLE = (
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)


@dataclass(frozen=True)
class Card:
    """What weights need to be used rightly, stored beside them as JSON.

    Parameters
    ----------
    name, version
        of the weights.
    architecture
        sizes of the network.
    intensity
        convention of the values the network takes and gives.
    grid
        voxel size the network was trained on, Å.
    negatives
        share of the input's negative density that is added to the output: the network sees none.
    training
        how the weights came about: data, loss, steps, versions; anything JSON can hold.
    sha256
        of the weights file; `save_weights` fills it in.
    """

    name: str
    version: str
    architecture: Architecture
    grid: float
    intensity: str = CONVENTION
    negatives: float = 0.0
    training: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""


def card_path(weights: Path) -> Path:
    """``card.json`` beside a ``weights.safetensors``, else ``x.json`` beside ``x.safetensors``."""
    return weights.with_name("card.json" if weights.stem == "weights" else f"{weights.stem}.json")


def save_weights(path: Path, network: SCUNet, card: Card, *, half: bool = False) -> Card:
    """Write the weights and their card, each whole or not at all.

    Parameters
    ----------
    path
        ``*.safetensors``; the card goes to `card_path`.
    network, card
        the weights and what to know about them, of one architecture.
    half
        store float16 instead of float32: half the size, 3 digits.

    Returns
    -------
    The card as written, with the checksum.

    Raises
    ------
    ValueError
        when the card describes another architecture than the network has.
    CryoreadyError
        when a weight is not finite in the stored type: a diverged training is not kept.
    """
    path = Path(path)
    if card.architecture != network.architecture:
        raise ValueError(f"card says {card.architecture}, network is {network.architecture}")
    dtype = torch.float16 if half else torch.float32
    state = {
        name: tensor.detach().to("cpu", dtype).contiguous()
        for name, tensor in network.state_dict().items()
    }
    _refuse_infinite(path, state)
    content = pack_safetensors(state)
    card = replace(card, sha256=hashlib.sha256(content).hexdigest())
    description = json.dumps(asdict(card), indent=2, allow_nan=False) + "\n"
    # both are complete before either is renamed; if only one is, the checksum tells
    with written_whole(card_path(path)) as card_part, written_whole(path) as part:
        card_part.write_text(description, encoding="utf-8")
        part.write_bytes(content)
    return card


def load_network(path: Path, *, grid: float | None = None) -> tuple[SCUNet, Card]:
    """A network ready for inference, and its card.

    Parameters
    ----------
    path
        ``.safetensors`` with its card, or one of EMReady's published state dicts without
        (``.pth``, ``.pt``, ``.safetensors``; "module." before the names, or a dict around the
        state dict, do no harm).
    grid
        voxel size in Å the caller works on: needed without a card, checked against it otherwise.

    Returns
    -------
    The network, float32, eval mode, on the CPU; the card, made up for a published state dict.

    Raises
    ------
    CryoreadyError
        file missing, damaged or not weights; card missing, damaged or of other weights; another
        network's tensors; a grid that the weights were not made for.
    """
    path = Path(path)
    content = _read(path)
    beside = card_path(path)
    card = _read_card(beside) if beside.is_file() else None
    digest = hashlib.sha256(content).hexdigest()
    if card and card.sha256 != digest:
        raise CryoreadyError(
            f"{path}: checksum {digest[:12]}… is not the {card.sha256[:12]}… of its card "
            f"{beside}; download or copy both files again"
        )
    state = _state_dict(path, content)
    if card is None:
        card = _published_card(path, state, grid, digest)
    elif grid is not None and not math.isclose(grid, card.grid, rel_tol=1e-6):
        raise CryoreadyError(
            f"{path}: made for a grid of {card.grid:g} Å, but {grid:g} Å was asked for; "
            f"leave weights_grid out or choose other weights"
        )
    _refuse_other_network(path, state, card.architecture)
    _refuse_infinite(path, state)
    network = SCUNet(card.architecture)
    network.load_state_dict(state)
    return network.eval(), card


def save_training_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write what a training needs to go on: tensors and plain Python values only.

    The file is read back before it gets its name, so a value that `load_training_state` would
    refuse fails here.
    """
    path = Path(path)
    with written_whole(path) as part:
        torch.save(dict(state), part)
        _unpickle(path, part.read_bytes())


def load_training_state(path: Path) -> dict[str, Any]:
    """What `save_training_state` wrote, on the CPU.

    Raises
    ------
    CryoreadyError
        file missing, cut off, or not a training state.
    """
    path = Path(path)
    state = _unpickle(path, _read(path))
    if not isinstance(state, dict):
        raise CryoreadyError(f"{path}: holds a {type(state).__name__}, not a training state")
    return state


def _read(path: Path) -> bytes:
    """The file, unless it is plainly something else."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CryoreadyError(
            f"{path}: cannot be read ({error.strerror}); check the path of the weights"
        ) from error
    start = content[:64].lstrip()
    if not content:
        raise CryoreadyError(f"{path}: is empty; download or copy it again")
    if start.startswith(b"<"):
        raise CryoreadyError(f"{path}: is a web page, not weights; download the file itself")
    if start.startswith(b"version https://git-lfs"):
        raise CryoreadyError(f"{path}: is a Git LFS pointer, not weights; run 'git lfs pull'")
    return content


def _unpickle(path: Path, content: bytes) -> Any:
    """A torch checkpoint, tensors and plain values only."""
    try:
        with warnings.catch_warnings(action="ignore"):  # torch remarks on files it then refuses
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CryoreadyError(
            f"{path}: holds more than tensors and plain values, or is damaged; code in a "
            f"checkpoint is never run: convert it to safetensors, or download it again"
        ) from error
    except _UNREADABLE as error:
        raise CryoreadyError(
            f"{path}: damaged or cut off at {len(content)} bytes, or not a torch "
            f"checkpoint; download or copy it again"
        ) from error


def _state_dict(path: Path, content: bytes) -> dict[str, Tensor]:
    """The named tensors of a weights file, without wrappers around them."""
    if path.suffix == ".safetensors":
        try:
            found: Any = parse_safetensors(content)
        except (SafetensorError, ValueError, KeyError) as error:
            raise CryoreadyError(
                f"{path}: damaged or cut off at {len(content)} bytes, or not safetensors; "
                f"download or copy it again"
            ) from error
    elif path.suffix in (".pth", ".pt"):
        found = _unpickle(path, content)
    else:
        raise CryoreadyError(
            f"{path}: unknown kind of weights '{path.suffix}'; give .safetensors, .pth or .pt"
        )
    if isinstance(found, dict) and not _is_state_dict(found):
        found = next((found[key] for key in _WRAPPERS if key in found), None)
    if not (found and isinstance(found, dict) and _is_state_dict(found)):
        raise CryoreadyError(f"{path}: holds no state dict; give the weights of a network")
    return {name.removeprefix("module."): tensor for name, tensor in found.items()}


def _is_state_dict(found: dict[Any, Any]) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items())


def _read_card(path: Path) -> Card:
    """The card, every field of the right type."""
    try:
        found = json.loads(_read(path))
        card = Card(**{**found, "architecture": Architecture(**found["architecture"])})
        kinds: dict[str, Any] = {
            "grid": (int, float),
            "negatives": (int, float),
            "training": dict,
            "architecture": Architecture,
        }
        for entry in fields(Card):
            if not isinstance(getattr(card, entry.name), kinds.get(entry.name, str)):
                raise TypeError(f"{entry.name} has the wrong type")
        if not (math.isfinite(card.grid) and card.grid > 0):
            raise ValueError(f"grid must be positive, got {card.grid:g} Å")
    except (ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise CryoreadyError(
            f"{path}: is not the card of weights ({reason}); download or copy it again"
        ) from error
    return card


def _published_card(
    path: Path, state: Mapping[str, Tensor], grid: float | None, digest: str
) -> Card:
    """The card EMReady's published weights would have: the paper's architecture and intensities."""
    architecture = Architecture()
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if path.suffix == ".safetensors" and found != _shapes(architecture):
        raise CryoreadyError(
            f"{path}: its card {card_path(path)} is missing; put it beside the weights"
        )
    if grid not in PUBLISHED_GRIDS:
        known = " or ".join(f"{value:g}" for value in PUBLISHED_GRIDS)
        said = "nothing says" if grid is None else f"weights_grid cannot be {grid:g} Å:"
        raise CryoreadyError(
            f"{path}: bare weights without a card: {said} which grid they are for; "
            f"set weights_grid to {known} (Å)"
        )
    return Card(path.stem, "published", architecture, grid, sha256=digest)


def _shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a network."""
    # not on the meta device: initialising there imports the compiler, 1.5 s
    return {name: tuple(value.shape) for name, value in SCUNet(architecture).state_dict().items()}


def _refuse_other_network(
    path: Path, state: Mapping[str, Tensor], architecture: Architecture
) -> None:
    """Stop at the first tensor, in the order of the names, that does not fit."""
    expected = _shapes(architecture)
    for name in sorted(expected.keys() | state.keys()):
        wanted = expected.get(name, "no such tensor")
        found = tuple(state[name].shape) if name in state else "no such tensor"
        if found != wanted:
            raise CryoreadyError(
                f"{path}: weights of another network: {name} is {found} in the file, {wanted} "
                f"in the network of width {architecture.width}; choose other weights"
            )


def _refuse_infinite(path: Path, state: Mapping[str, Tensor]) -> None:
    """NaN or infinite weights turn every map into nothing."""
    for name, tensor in state.items():
        if not (tensor.is_floating_point() and torch.isfinite(tensor.float()).all()):
            raise CryoreadyError(
                f"{path}: {name} holds values that are not finite numbers; "
                f"the training diverged or the file is damaged"
            )
