"""The resolution at each atom, for a target that is as sharp as the map is there."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

FINEST, COARSEST = 1.5, 8.0  # Å, limits of what is returned


def resolution_from_qscore(
    qscore: ArrayLike, expected_q: Callable[[float], float | None]
) -> NDArray[np.float64]:
    """R (Å), `FINEST` … `COARSEST`, of maps that have the Q of each atom on average.

    Parameters
    ----------
    qscore
        (n,), of the atoms in the map.
    expected_q
        the mean Q of maps of a resolution (Å), falling (`metrics.qscore.expected_q`).
    """
    resolution = np.linspace(COARSEST, FINEST, 131)
    expected = np.array([expected_q(float(r)) for r in resolution], dtype=np.float64)
    return np.interp(np.asarray(qscore, dtype=np.float64), expected, resolution)


def resolution_from_b_factor(b_factor: ArrayLike, resolution: float) -> NDArray[np.float64]:
    """R (Å), `FINEST` … `COARSEST`, of each atom in a map of ``resolution``.

    The signal's power falls as exp(-B s²/2) (Rosenthal & Henderson 2003,
    doi 10.1016/j.jmb.2003.07.013), so it sinks into white noise at s ∝ 1/√B: R = R_map √(B/B_map),
    where B_map is the median.

    Parameters
    ----------
    b_factor
        (n,) Å², refined against the map.
    resolution
        Å, of the map.
    """
    b = np.maximum(np.asarray(b_factor, dtype=np.float64), 1.0)  # unrefined B are often 0
    return np.clip(resolution * np.sqrt(b / np.median(b)), FINEST, COARSEST)
