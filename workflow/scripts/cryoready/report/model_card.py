"""What people should know of released weights, as a README."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cryoready.dataset.sheet import Entry
from cryoready.report.page import flat, render
from cryoready.report.scores import BY_KEY
from cryoready.training.record import SCORES, Record
from cryoready.training.release import Released, made_from


def write_model_card(
    path: Path,
    released: Released,
    run: Record,
    *,
    sheet: Mapping[str, Entry],
    crops: Sequence[str],
) -> None:
    """What the weights are, what made them, how good they are, what for, and what not for.

    Parameters
    ----------
    path
        of the Markdown file.
    released
        the weights.
    run
        that made them.
    sheet
        of the training.
    crops
        entries on whose crops the half precision was tried.
    """
    training = released.card.training
    structures = made_from(released.card, "structures")
    real = made_from(released.card, "entries") - {*training.get("validation", [])}
    trained = [entry for entry in sheet.values() if entry.id in real | structures]
    mixed = training.get("release", {})
    known = [entry.resolution for entry in trained if entry.resolution is not None]
    render(
        path,
        "model_card.md",
        card=released.card,
        released=released,
        run=run,
        sizes=_in_words(released),
        maps=len(real),
        structures=len(structures),
        initial_weights=training.get("initial_weights"),
        mixed=mixed if any(mixed.values()) else None,
        resolutions=(min(known), max(known)) if known else None,
        settings=flat(training.get("train", {})),
        validation=[entry.id for entry in sheet.values() if entry.split == "val"],
        table=run.comparison.to_dict("records"),
        scores=[BY_KEY[key] for key in SCORES],
        crops=crops,
    )


def _in_words(released: Released) -> str:
    a = released.card.architecture
    return (
        f"Width {a.width}, {a.blocks} blocks a stage, attention windows of {a.window}³ voxels, "
        f"norm {a.norm}, branches {a.branches}, {'with' if a.skip else 'without'} a skip from the "
        "input to the output"
    )
