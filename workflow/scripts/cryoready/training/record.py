"""What a training run left behind, read as tables, and how far its maps improved."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cryoready.core.errors import CryoreadyError

HISTORY = (
    *("epoch", "train_loss", "validation_loss", "score"),
    *("learning_rate", "samples", "seconds"),
)
SCORES = ("fsc_inside_resolution", "d_fsc_model_05_masked", "cc_mask", "cc_box", "q_mean")
RATIOS = ("d_fsc_model_05_masked",)  # resolutions are compared by their ratio, scores by difference


@dataclass(frozen=True, eq=False)
class Record:
    """A run: its name, its card, and its tables.

    Parameters
    ----------
    name
        of the folder.
    history
        one row an epoch, the columns of `HISTORY`; ``score`` is NaN where it was not taken.
    validation
        ``epoch``, ``id`` and the scores of each validated map, epoch 0 as deposited; without rows
        where none was validated.
    card
        of the weights.
    """

    name: str
    history: pd.DataFrame
    validation: pd.DataFrame
    card: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """The files of ``folder``; `CryoreadyError` if they are not those of a run that ended."""
        try:
            history = pd.read_csv(folder / "history.tsv", sep="\t")
            card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
            validation = _validation(folder / "validation.tsv")
            missing = {"epoch", "validation_loss"} - {*history} | {"epoch", "id"} - {*validation}
            if missing or history["validation_loss"].isna().all():
                raise ValueError(f"no {', '.join(sorted(missing)) or 'validation loss'} in it")
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CryoreadyError(
                f"{folder}: not what a training leaves ({reason}); move the folder away or train "
                "again"
            ) from error
        validation = validation.reindex(columns=["epoch", "id", *SCORES])
        return cls(folder.name, history.reindex(columns=list(HISTORY)), validation, card)

    @property
    def best(self) -> int:
        """The epoch whose weights were kept: the highest score, else the lowest loss."""
        scored = self.history["score"].notna().any()
        row = self.history["score"].idxmax() if scored else self.history["validation_loss"].idxmin()
        return int(self.history.loc[row, "epoch"])

    @property
    def comparison(self) -> pd.DataFrame:
        """A row for each map validated at the best epoch: id, ``<score>_deposited|_enhanced``."""
        table = self.validation.set_index("id")
        before, after = (
            table[table["epoch"] == epoch].reindex(columns=list(SCORES)).astype(float)
            for epoch in (0, self.best)
        )
        joined = before.join(after, lsuffix="_deposited", rsuffix="_enhanced", how="inner")
        return joined.reset_index()

    @property
    def summary(self) -> dict[str, float]:
        """The run in numbers: how long it was trained, and how good the best epoch is."""
        best = self.history[self.history["epoch"] == self.best].iloc[0]
        crops, seconds = self.history["samples"].sum(), self.history["seconds"].sum()
        return {
            "epochs": len(self.history),
            "best_epoch": self.best,
            "crops": crops,
            "minutes": seconds / 60,
            "crops_per_second": crops / seconds,
            "validation_loss": best["validation_loss"],
            "score": best["score"],
            **gains(self.comparison),
        }


def _validation(path: Path) -> pd.DataFrame:
    """The scores, without rows where none were taken."""
    if not path.is_file() or not path.read_text(encoding="utf-8").strip():
        return pd.DataFrame(columns=["epoch", "id", *SCORES])
    return pd.read_csv(path, sep="\t", dtype={"id": str})


def gains(comparison: pd.DataFrame) -> dict[str, float]:
    """What became of the maps on average, NaN where nothing is known.

    Parameters
    ----------
    comparison
        `Record.comparison`.

    Returns
    -------
    ``<score>_gain``, the mean difference; of resolutions ``<score>_ratio``, the ratio of the means,
    below 1 where the maps became better.
    """
    found = {}
    for key in SCORES:
        pair = comparison[[f"{key}_deposited", f"{key}_enhanced"]].dropna()
        before, after = pair.mean()
        if key in RATIOS:
            found[f"{key}_ratio"] = float(after / before)
        else:
            found[f"{key}_gain"] = float(after - before)
    return found
