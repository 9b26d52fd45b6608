"""The numbers of an evaluation: how each is written, and which way is better."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Score:
    """A number of the evaluation: how to write it and which way is better.

    Parameters
    ----------
    key
        in the JSON of the evaluation.
    label
        in tables.
    unit
        "Å" or "".
    digits
        after the point.
    better
        "lower", "higher" or "" (neither).
    noise
        a smaller difference is none: what two programs differ by on the same maps.
    """

    key: str
    label: str
    unit: str
    digits: int
    better: str
    noise: float

    def within(self, value: float | None, resolution: float | None) -> float | None:
        """What counts of a value: agreement beyond the data (Å) counts as none beyond them."""
        if value is None or resolution is None or self.unit != "Å" or self.better != "lower":
            return value
        return max(value, resolution)

    def judge(
        self, before: float | None, after: float | None, resolution: float | None = None
    ) -> str:
        """better, worse or unchanged within the data; nothing if that cannot be said."""
        before, after = self.within(before, resolution), self.within(after, resolution)
        if before is None or after is None or not self.better:
            return ""
        coarse = self.unit == "Å" and before > 8  # Å: there the noise is half a percent
        gain = before - after if self.better == "lower" else after - before
        if abs(gain) <= (0.005 * before if coarse else self.noise):
            return "unchanged"
        return "better" if gain > 0 else "worse"

    def write(self, value: float | None) -> str:
        """The number with its digits, – for none."""
        return write_number(value, self.digits)

    def change(self, before: float | None, after: float | None) -> str:
        """What was gained or lost, with its sign."""
        if before is None or after is None:
            return "–"
        return write_number(after - before, self.digits, sign=True)


SCORES = (
    Score("d_fsc_model_05_masked", "FSC map–model 0.5, masked", "Å", 2, "lower", 0.02),
    Score("d_fsc_model_0143_masked", "FSC map–model 0.143, masked", "Å", 2, "", 0.02),
    Score("d_fsc_model_05_unmasked", "FSC map–model 0.5, unmasked", "Å", 2, "lower", 0.02),
    Score("d_fsc_model_0143_unmasked", "FSC map–model 0.143, unmasked", "Å", 2, "", 0.02),
    Score("fsc_0143_ratio", "FSC 0.143, masked / reported resolution", "", 2, "", 0.01),
    Score("fsc_inside_resolution", "mean FSC within the data", "", 3, "higher", 0.005),
    Score("d99_unmasked", "d99, unmasked", "Å", 2, "", 0.01),
    Score("cc_mask", "CC mask", "", 3, "higher", 0.005),
    Score("cc_volume", "CC volume", "", 3, "higher", 0.005),
    Score("cc_peaks", "CC peaks", "", 3, "higher", 0.005),
    Score("cc_box", "CC box", "", 3, "higher", 0.005),
    Score("q_mean", "Q, all atoms", "", 3, "higher", 0.005),
    Score("q_mean_protein", "Q, protein", "", 3, "higher", 0.005),
)
BY_KEY = {score.key: score for score in SCORES}
KEY_SCORES = {
    "d_fsc_model_05_masked": "Map–model FSC 0.5",
    "fsc_inside_resolution": "FSC within the data",
    "cc_mask": "CC mask",
    "q_mean": "Q-score",
}
REFERENCE_SCORES = (
    *SCORES,
    Score("d_fsc_reference_map_05", "FSC with the reference map, 0.5", "Å", 2, "lower", 0.02),
    Score("d_fsc_reference_map_0143", "FSC with the reference map, 0.143", "Å", 2, "", 0.02),
    Score("cc_reference_map", "CC with the reference map", "", 3, "higher", 0.005),
)
DRAWN_SCORES = ("d_fsc_model_05_masked", "cc_mask", "q_mean")


def write_number(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """A number for readers: a true minus, – for none."""
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")
