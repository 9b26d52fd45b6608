"""F of a model, summed atom by atom: slow, and right by its definition."""

import gemmi
import numpy as np


def direct_summation(atoms, s, origin):
    """F(s) = Σ occupancy · f(s) · T(s) · exp(-2πi s·x) at ``s`` (n, 3) zyx, 1/Å; (n,) complex.

    f: five Gaussians of International Tables C, 4.3.2.2, as gemmi tabulates them.
    """
    s2 = (s**2).sum(axis=1)
    total = np.zeros(len(s), dtype=complex)
    for k in range(len(atoms)):
        table = gemmi.Element(str(atoms.element[k])).c4322
        f = sum(a * np.exp(-b * s2 / 4) for a, b in zip(table.a, table.b, strict=True))
        u = atoms.u_aniso[k]
        if u.any():
            displaced = np.exp(-2 * np.pi**2 * np.einsum("ni,ij,nj->n", s, u, s))
        else:
            displaced = np.exp(-atoms.b_iso[k] * s2 / 4)
        phase = np.exp(-2j * np.pi * s @ (atoms.coords[k] - origin))
        total += atoms.occupancy[k] * f * displaced * phase
    return total


def frequencies(grid, positions):
    """(n, 3) zyx, 1/Å, of flat positions in the `rfftn` of a map on ``grid``."""
    nz, ny, nx = grid.shape
    z, y, x = np.unravel_index(positions, (nz, ny, nx // 2 + 1))
    axes = np.fft.fftfreq(nz), np.fft.fftfreq(ny), np.fft.rfftfreq(nx)
    return np.stack([axes[0][z], axes[1][y], axes[2][x]], axis=1) / grid.voxel_size
