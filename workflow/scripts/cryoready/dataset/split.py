"""In which split each entry is, such that no two splits share a protein or a close homologue.

Whatever is drawn is a hash of the seed and of the entry's own id: what else there is, or is
rejected later, moves no entry from one split to another.
"""

import hashlib
import math
from bisect import bisect
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import accumulate
from typing import TypedDict

from cryoready.core.errors import CryoreadyError
from cryoready.dataset.relatives import Chains, entry_of, homologues

PRECEDENCE = ("test", "val", "train")  # of relatives in two splits, that in the later one goes
AT_LEAST = 50  # entries searched at a time: a search costs seconds before it begins


class HeldOut(TypedDict):
    """An entry that is, and whose relatives are, in no other split.

    ``split`` is val or test; ``pdb`` are its models, with commas between: ids of the PDB, or of the
    user's own entries.
    """

    split: str
    pdb: str | None


def preference(entries: Collection[str], held_out: Mapping[str, HeldOut], seed: int) -> list[str]:
    """The order in which entries are considered: held-out ones first, test before val, then drawn.

    Without regard to resolution, lest training be on the best maps only.
    """
    first = {entry: PRECEDENCE.index(row["split"]) for entry, row in held_out.items()}
    return sorted(entries, key=lambda e: (first.get(e, len(PRECEDENCE)), _draw(f"{seed} {e}"), e))


def split_of(
    entry: str, counts: Mapping[str, int], held_out: Mapping[str, HeldOut], seed: int
) -> str:
    """The split of an entry: its own if it is held out, else drawn in proportion to ``counts``."""
    if entry in held_out:
        return held_out[entry]["split"]
    ends = list(accumulate(counts[split] for split in PRECEDENCE))
    if ends[-1] <= 0:
        raise CryoreadyError(f"counts {dict(counts)}: no pairs are wanted in any split")
    return PRECEDENCE[bisect(ends, _draw(f"{seed} split {entry}") * ends[-1])]


def redundant(
    order: Sequence[str], member: Mapping[str, frozenset[str]], held_out: Mapping[str, HeldOut]
) -> dict[str, str]:
    """Why entries are left out that share a cluster with one before, or with a held-out one.

    A held-out entry goes only for one that is taken before, or in a split of more precedence.

    Parameters
    ----------
    order
        entries in the order of preference (`preference`).
    member
        clusters of each entry, held-out ones included.
    held_out
        as of `cryoready.dataset.select.select`.
    """
    reserved: dict[str, dict[str, str]] = {split: {} for split in PRECEDENCE}
    for entry, row in held_out.items():
        reserved[row["split"]].update(dict.fromkeys(member[entry], f"{entry} (held out)"))
    first: dict[str, str] = {}
    reasons = {}
    for entry in order:
        split = held_out[entry]["split"] if entry in held_out else PRECEDENCE[-1]
        before = PRECEDENCE[: PRECEDENCE.index(split)]
        owner = ChainMap(first, *(reserved[other] for other in before))
        shared = next((cluster for cluster in sorted(member[entry]) if cluster in owner), None)
        if shared is None:
            first.update(dict.fromkeys(member[entry], entry))
        else:
            reasons[entry] = f"redundant: shares cluster {shared} with {owner[shared]}"
    return reasons


def fill(
    splits: Mapping[str, str],
    wanted: Mapping[str, int],
    held_out: Mapping[str, HeldOut],
    relatives_of: Callable[[Sequence[str], Mapping[str, str]], Mapping[str, str]],
) -> tuple[dict[str, int], dict[str, str]]:
    """The rank of each candidate in its split, and why other entries are none.

    Parameters
    ----------
    splits
        of each entry, in the order of preference.
    wanted
        candidates in each split.
    held_out
        as of `cryoready.dataset.select.select`.
    relatives_of
        which of some entries are related to others (with their splits), and how (`related`). Only
        as many are asked for as are needed.
    """
    held = {entry: row["split"] for entry, row in held_out.items()}
    ranks: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for split in PRECEDENCE:
        others = {e: s for e, s in (held | {e: splits[e] for e in ranks}).items() if s != split}
        waiting = [entry for entry, its in splits.items() if its == split]
        fixed = held if split == PRECEDENCE[0] else {}
        passed: list[str] = []
        while waiting and len(passed) < wanted[split]:
            some = max(AT_LEAST, math.ceil(1.5 * (wanted[split] - len(passed))))
            batch, waiting = waiting[:some], waiting[some:]
            found = relatives_of([entry for entry in batch if entry not in fixed], others)
            reasons.update(found)
            passed += [entry for entry in batch if entry not in found]
        ranks |= {entry: k for k, entry in enumerate(passed[: wanted[split]], start=1)}
        reason = f"not needed: the {split} split has its {wanted[split]} candidates"
        reasons |= dict.fromkeys(passed[wanted[split] :] + waiting, reason)
    return ranks, reasons


def related(
    entries: Sequence[str],
    others: Mapping[str, str],
    *,
    models: Mapping[str, Sequence[str]],
    chains: Chains,
    e_value: float | None,
    threads: int,
) -> dict[str, str]:
    """Which entries are homologues of ``others`` (with their splits): the nearest one, in words."""
    if e_value is None or not entries or not others:
        return {}
    own: dict[str, list[str]] = {}
    for entry in entries:
        for pdb in models[entry]:
            own.setdefault(pdb, []).append(entry)
    theirs = {pdb: entry for entry in others for pdb in models[entry]}
    found = homologues(own, theirs, chains, e_value=e_value, threads=threads)
    reasons: dict[str, str] = {}
    for pdb, row in found.sort_values("e_value", kind="stable").iterrows():
        other = theirs[entry_of(row["target"])]
        for entry in own[pdb]:
            reasons.setdefault(
                entry,
                f"homologue: {_chain(row['query'])} and {_chain(row['target'])} of {other} "
                f"({others[other]}), E = {row['e_value']:.0e}",
            )
    return reasons


def _chain(label: str) -> str:
    return f"chain {label.rpartition('_')[2]} of {entry_of(label)}"


def _draw(text: str) -> float:
    """A number from 0 to 1, below 1, that is the same everywhere."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:13], 16) / 16**13
