"""What goes around an enhancement: the mask before it, maps and a card of provenance after it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryoready import __version__
from cryoready.core.errors import CryoreadyError
from cryoready.core.volume import FloatArray, Volume
from cryoready.core.whole_files import file_sha256, written_whole
from cryoready.dataset.metadata import Metadata
from cryoready.density.contour import default_contour, matching_contour
from cryoready.density.masks import mask_from_atoms, mask_from_contour, soften
from cryoready.density.resample import resample
from cryoready.enhance.devices import in_words, peak_memory
from cryoready.enhance.inference import Enhancement
from cryoready.files.maps import read_layout, read_map, write_map
from cryoready.files.models import read_model
from cryoready.network.checkpoint import Card

USUAL_RANGE = (3.0, 6.0)  # Å, of the maps in the paper


def mask_of(
    volume: Volume, files: Mapping[str, str], entry: Mapping[str, Any], settings: Mapping[str, Any]
) -> FloatArray | None:
    """The mask that an entry asks for, (nz, ny, nx) 0-1 on the grid of ``volume``; None: no mask.

    Parameters
    ----------
    volume
        the map.
    files
        paths by role: ``mask`` (a map), ``mask_model`` or ``model``.
    entry
        columns of the sheet: ``mask_contour`` is a level of ``mask``, or of the map itself;
        ``mask_radius`` (Å) reaches around ``mask_model``, or around the entry's own model.
    settings
        configuration ``mask``: ``edge`` (Å), ``invert``, ``write``.

    Raises
    ------
    CryoreadyError
        if contour or radius lack or select nothing, or there is no mask to write.
    """
    contour, radius = entry["mask_contour"], entry["mask_radius"]
    if contour is not None:
        level = resample(read_map(files["mask"]), volume.grid) if "mask" in files else volume
        inside = mask_from_contour(level, contour)
    elif radius is not None:
        model = files.get("mask_model") or files.get("model")
        if model is None:
            raise CryoreadyError("the sheet gives a mask_radius, but no mask_model and no model")
        inside = mask_from_atoms(read_model(model).coords, volume.grid, radius)
    elif "mask" in files or "mask_model" in files:
        raise CryoreadyError(
            "in the sheet a mask needs its mask_contour, a mask_model its mask_radius (Å)"
        )
    elif settings["write"]:
        raise CryoreadyError(
            "mask.write is set, but the entry has no mask: give mask_contour, mask and "
            "mask_contour, or mask_model and mask_radius in the sheet"
        )
    else:
        return None
    return soften(~inside if settings["invert"] else inside, volume.voxel_size, settings["edge"])


def write_maps(
    result: Enhancement,
    volume: Volume,
    mask: FloatArray | None,
    weights: Card,
    files: Mapping[str, str],
    to: Mapping[str, str],
    output_grid: str,
) -> None:
    """Write the enhanced map (``to["map"]``) and, if it has a place there, the mask.

    With ``output_grid`` "input" the map gets the layout of the input file; with "network" it stays
    on the grid of the network, in the standard layout.
    """
    layout = read_layout(files["map"])
    label = f"cryoready {__version__}: modified by a network, weights {weights.name}"
    if output_grid == "network":
        write_map(to["map"], result.network_volume, label=label)
    else:
        write_map(to["map"], result.volume, layout=layout, label=label)
    if mask is not None and "mask" in to:
        write_map(to["mask"], Volume.on(volume.grid, mask), layout=layout, label="cryoready mask")


def write_card(
    result: Enhancement,
    volume: Volume,
    mask: FloatArray | None,
    weights: Card,
    metadata: Metadata,
    files: Mapping[str, str],
    settings: Mapping[str, Any],
    path: Path,
) -> str:
    """Write what was done with which inputs as JSON; returns the line that sums it up.

    The contour comes from the sheet, else from the archive, else mean + 3 σ of the input; the
    contour of the enhanced map encloses the same volume of what the network saw.
    """
    entry = settings["entry"]
    seen = volume.data if mask is None else volume.data * mask
    levels = {
        "sheet": entry["contour"],
        "archive": metadata.contour,
        "mean + 3 sigma": default_contour(volume.data),
    }
    origin, contour = next((key, level) for key, level in levels.items() if level is not None)
    matching = matching_contour(seen, contour, result.volume.data)
    resolution = metadata.resolution
    peak = {**result.peak, **peak_memory([])}  # of the host by now, the maps written
    layout, grid = result.layout, result.network_volume.grid
    tiling = layout.tiling
    card = {
        "version": __version__,
        "resolution": resolution,
        "weights": {"name": weights.name, "sha256": settings["weights_sha256"]},
        "contour": {"input": contour, "enhanced": matching, "from": origin},
        "values": f"{min(0.0, float(result.volume.data.min())):.3g}-100, network units",
        "intensity_scale": result.intensity_scale,
        "output_grid": settings["output_grid"],
        "inference": {
            **settings["inference"],
            "precision": result.precision,
            "batch_size": result.batch_size,
        },
        "tiles": {
            **{"seen": len(layout.corners), "skipped as empty": layout.skipped},
            **{"shape": tiling.shape, "stride": tiling.stride, "blending": tiling.blending},
            "skipped share of the map": round(layout.skipped_share(grid.shape), 3),
        },
        "mask": None if mask is None else settings["mask"],
        "entry": entry,
        "seconds": round(result.seconds, 1),
        "peak memory, GB": {
            "expected": {place: round(size, 2) for place, size in result.expected.items()},
            "measured": {place: round(size, 2) for place, size in peak.items()},
        },
        "sources": {role: file_sha256(file) for role, file in sorted(files.items())},
        "note": "A network modified this map. By EMDB's policy it is an additional map: "
        "not for refinement or claims of resolution.",
    }
    with written_whole(path) as part:
        part.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    low, high = USUAL_RANGE
    advice = (
        f"; the method is meant for {low:g}-{high:g} Å, this map has {resolution:g} Å: take care"
        if resolution is not None and not low <= resolution <= high
        else ""
    )
    return (
        f"done in {result.seconds:.0f} s with at most {in_words(peak)}; the input's "
        f"contour {contour:.4g} ({origin}) encloses the same volume as "
        f"{matching:.3g} in the enhanced map{advice}"
    )
