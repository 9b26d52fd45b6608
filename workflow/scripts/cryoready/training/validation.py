"""How good a network in training is: the scores of the maps that it makes of the `val` entries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from cryoready.core.volume import Volume
from cryoready.enhance.inference import enhance
from cryoready.enhance.plan import Settings
from cryoready.files.maps import read_map
from cryoready.files.models import read_model
from cryoready.metrics.qscore import SIGMA
from cryoready.metrics.score import MASK_RADIUS_RATIO, Model, PlacedModel, Row, place, score

SHOWN = (
    "fsc_inside_resolution",
    "d_fsc_model_05_masked",
    "d_fsc_model_0143_masked",
    *("cc_mask", "cc_box", "cc_peaks"),
    "q_mean",
)
GAINS = ("fsc_inside_resolution", "cc_mask", "q_mean")  # what decides; all lie in -1 … 1
HARM = 2.0  # a loss counts so many times a gain: no map is to become worse


@dataclass(frozen=True, eq=False)
class Judged:
    """A map to validate on: itself, its model, and the scores that it has as deposited."""

    id: str
    volume: Volume
    placed: PlacedModel
    deposited: Row

    @classmethod
    def of(cls, entry_id: str, volume: Volume, placed: PlacedModel) -> "Judged":
        """Score ``volume`` as it is."""
        return cls(entry_id, volume, placed, scores_of(volume, placed))

    @classmethod
    def read(
        cls,
        entry_id: str,
        files: Mapping[str, str],
        *,
        resolution: float,
        voxel_size: float | None = None,
    ) -> "Judged":
        """From the files of an entry.

        Parameters
        ----------
        entry_id
            its name in the tables.
        files
            ``map`` and ``model``.
        resolution
            Å, as reported.
        voxel_size
            Å, instead of that of the header.
        """
        volume = read_map(files["map"], voxel_size=voxel_size)
        model = Model.of(read_model(files["model"]))
        radius = MASK_RADIUS_RATIO * resolution
        placed = place(model, volume.grid, resolution=resolution, mask_radius=radius)
        return cls.of(entry_id, volume, placed)


def scores_of(volume: Volume, placed: PlacedModel) -> Row:
    """The scores in `SHOWN`."""
    row = score(volume, placed, sigma=SIGMA, local_radius=5.0).row
    return {key: row[key] for key in SHOWN}


def gain(before: Row, after: Row) -> float:
    """Sum of the gains in `GAINS`, losses counted `HARM` times.

    A score that the map had and can no longer be taken has become 0; one that it had not is left
    out.
    """
    total = 0.0
    for key in GAINS:
        old, new = before[key], after[key] or 0.0
        if old is not None:
            total += (new - old) * (1.0 if new >= old else HARM)
    return total


class Validator:
    """Enhances maps with a network and says by how much they gained on average.

    Parameters
    ----------
    entries
        the maps; none of them, nor a homologue, may be trained on.
    device, precision
        of the inference, as in training.
    negatives
        share of the input's negative density that is added to the output.
    """

    def __init__(
        self,
        entries: Sequence[Judged],
        *,
        device: torch.device,
        precision: str,
        negatives: float = 0.0,
    ) -> None:
        self.entries, self.negatives = entries, negatives
        self.device, self.precision = device, precision

    def deposited(self) -> list[dict[str, str | float | None]]:
        """A row for each map as deposited."""
        return [{"id": entry.id, **entry.deposited} for entry in self.entries]

    def __call__(self, network: nn.Module) -> tuple[float, list[dict[str, str | float | None]]]:
        """The mean `gain`, and a row for each map with its scores after ``network``."""
        rows, gains = [], []
        for entry in self.entries:
            enhanced = enhance(
                entry.volume,
                network,
                settings=Settings(precision=self.precision),
                devices=[self.device],
                negatives=self.negatives,
            )
            row = scores_of(enhanced.volume, entry.placed)
            gains.append(gain(entry.deposited, row))
            rows.append({"id": entry.id, **row})
        return sum(gains) / len(gains), rows
