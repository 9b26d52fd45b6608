"""Why an entry of the archive is left out: pure functions of a table, one for each setting."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

#: Why each row of a table is left out by a setting, "<filter>: <value, limit>"; "" where it is not.
Filter = Callable[[pd.DataFrame, Any], "pd.Series[str]"]


def judge(
    table: pd.DataFrame, filters: Mapping[str, Filter], settings: Mapping[str, Any]
) -> tuple["pd.Series[str]", pd.DataFrame]:
    """Why each row is left out: the word of the first filter that rejects it, "" if none does.

    Parameters
    ----------
    table
        one row an entry.
    filters
        by name, in the order in which they apply.
    settings
        of each filter, by name.

    Returns
    -------
    The reasons, and rows (filter, rejected, left).
    """
    reasons = pd.Series("", index=table.index, dtype=object)
    for name, reasons_of in filters.items():
        reasons = reasons.mask(reasons == "", reasons_of(table, settings[name]))
    return reasons, count(reasons, list(filters))


def count(reasons: "pd.Series[str]", filters: Sequence[str]) -> pd.DataFrame:
    """Rows (filter, rejected, left) from reasons that begin with the names of the filters."""
    rejected = reasons.str.split(":").str[0].value_counts().reindex(filters, fill_value=0)
    left = len(reasons) - rejected.cumsum()
    table = pd.DataFrame({"filter": filters, "rejected": rejected, "left": left})
    return table.reset_index(drop=True)


def told(
    name: str, values: "pd.Series[Any]", allowed: "pd.Series[bool]", limit: str
) -> "pd.Series[str]":
    """The reasons of a filter: ``name: value, limit`` where a row is not allowed, else ""."""
    known = values.notna() & (values != "")
    words = values.map(lambda v: v if isinstance(v, str) else f"{v:g}").astype(object)
    return (f"{name}: " + words.where(known, "unknown") + f", {limit}").mask(known & allowed, "")


def _equal(name: str) -> Filter:
    return lambda table, wanted: told(name, table[name], table[name] == wanted, f"not {wanted}")


def _within(name: str, unit: str) -> Filter:
    """Numbers from the first limit to the second, both included; unknown ones are rejected."""

    def reasons(table: pd.DataFrame, limits: Sequence[float]) -> "pd.Series[str]":
        low, high = limits
        limit = f"not {low:g}-{high:g} {unit}"
        return told(name, table[name], table[name].between(low, high), limit)

    return reasons


def _released(table: pd.DataFrame, limits: Sequence[str | None]) -> "pd.Series[str]":
    """ISO dates, both limits included; None is no limit."""
    low, high = limits
    if low is None and high is None:
        return pd.Series("", index=table.index)
    days = table["released"].fillna("").str[:10]
    limit = f"not from {low or 'any day'} to {high or 'any day'}"
    return told("released", days, days.between(low or "", high or "9999"), limit)


def _required(name: str, has: Callable[[pd.DataFrame], Any]) -> Filter:
    """Nothing is rejected where the setting is false."""
    return lambda table, required: pd.Series(f"{name}: none", index=table.index).mask(
        has(table) | (not required), ""
    )


def _limited(name: str, allows: Callable[[Any, Any], Any], words: str) -> Filter:
    """Rejects values that ``allows`` does not, and unknown ones, which nothing allows."""

    def reasons(table: pd.DataFrame, setting: Any) -> "pd.Series[str]":
        values = pd.to_numeric(table[name])
        return told(name, values, allows(values, setting), f"{words} {setting:g}")

    return reasons


def _nucleic_acid(table: pd.DataFrame, setting: Any) -> "pd.Series[str]":
    """Rejects nothing (keep), what has nucleic acids (exclude), or what has others (only)."""
    values = pd.to_numeric(table["nucleic_acid"])
    allowed = {"keep": values.notna(), "exclude": values == 0, "only": values == 1}
    return told("nucleic_acid", values, allowed[setting], f"the setting is {setting}")


#: Of the catalogue, in the order in which they apply.
FILTERS: Mapping[str, Filter] = {
    "method": _equal("method"),
    "status": _equal("status"),
    "resolution": _within("resolution", "Å"),
    "model": _required("model", lambda table: table["pdb"].fillna("") != ""),
    "box": _within("box", "voxels"),
    "half_maps": _required("half_maps", lambda table: table["half_maps"] == 2),
    "released": _released,
}

#: Of fetched pairs (`cryoready.dataset.quality`).
PAIR_FILTERS: Mapping[str, Filter] = {
    "overlap": _limited("overlap", operator.ge, "less than"),
    "cc_mask": _limited("cc_mask", operator.ge, "less than"),
    "residues": _limited("residues", operator.ge, "less than"),
    "backbone_only": _limited("backbone_only", operator.le, "more than"),
    "unknown": _limited("unknown", operator.le, "more than"),
    "nucleic_acid": _nucleic_acid,
    "copies": _limited("copies", operator.le, "more than"),
}
