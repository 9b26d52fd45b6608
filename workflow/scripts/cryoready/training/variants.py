"""What the runs of an ablation are: variants of one configuration, each with several seeds."""

from collections.abc import Collection, Mapping
from typing import Any

from cryoready.core.errors import CryoreadyError

PREFIX = "ablation-"


def ablation_runs(ablation: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """Variant and seed of every run of the configuration ``ablation``, by the name of the run.

    Raises
    ------
    CryoreadyError
        if ``ablation.only`` names a variant that there is not.
    """
    variants = ablation["only"] or list(ablation["variants"])
    for variant in variants:
        if variant not in ablation["variants"]:
            raise CryoreadyError(
                f"ablation.only: no variant is called {variant!r}; there are: "
                f"{', '.join(ablation['variants'])}"
            )
    return {
        f"{PREFIX}{variant}-{seed}": (variant, seed)
        for variant in variants
        for seed in ablation["seeds"]
    }


def run_config(run: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with which ``run`` is trained.

    Parameters
    ----------
    run
        ``train.run``, or the name of a run of the ablation.
    config
        the whole configuration.

    Returns
    -------
    ``config`` as it is, or with what ``ablation.base`` and then the variant change, the seed, and
    the minutes that every run of the ablation gets. It is still to be checked.

    Raises
    ------
    CryoreadyError
        if there is no such run.
    """
    if run == config["train"]["run"]:
        return dict(config)
    ablation = config["ablation"]
    runs = ablation_runs(ablation)
    if run not in runs:
        known = ", ".join([config["train"]["run"], *runs])
        raise CryoreadyError(
            f"no run is called {run!r}: set train.run, or add a variant or seed to ablation; "
            f"runs are: {known}"
        )
    variant, seed = runs[run]
    own = {"train": {"run": run, "seed": seed, "minutes": ablation["minutes"]}}
    merged = dict(config)
    for changes in (ablation["base"], ablation["variants"][variant] or {}, own):
        merged = _merge(merged, changes, f"ablation variant {variant!r}")
    return merged


def require_structures(structures: Collection[str], real_share: float) -> None:
    """Stop if crops are to be made from ``structures``, but there are none."""
    if real_share < 1 and not structures:
        raise CryoreadyError(
            f"train.real_share is {real_share:g}, but the sheet has no entry with split 'train' "
            "and 'simulated' as its map: give at least one, or set train.real_share to 1"
        )


def _merge(config: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``config`` with the nested ``changes``; what neither knows is left to the schema."""
    merged = dict(config)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and not isinstance(value, Mapping):
            raise CryoreadyError(f"{where}: {key} = {value!r} must be keys and their values")
        merged[key] = _merge(old, value, where) if isinstance(old, Mapping) else value
    return merged
