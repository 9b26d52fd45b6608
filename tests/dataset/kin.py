"""Sequences of known kinship, for tests."""

import random
import shutil

import pytest

AMINO_ACIDS, BASES = "ACDEFGHIKLMNPQRSTVWY", "ACGU"
OPPOSITE = str.maketrans("ACGU", "TGCA")

needs_mmseqs = pytest.mark.skipif(
    shutil.which("mmseqs") is None, reason="needs mmseqs (make system-packages)"
)


def mutated(sequence, share, letters, seed=0):
    """A copy in which a share of the letters is another one."""
    rng = random.Random(seed)
    copy = list(sequence)
    for k in rng.sample(range(len(copy)), round(share * len(copy))):
        copy[k] = rng.choice(letters.replace(copy[k], ""))
    return "".join(copy)


def shuffled(sequence, seed=0):
    """A stranger of the same composition."""
    return "".join(random.Random(seed).sample(sequence, len(sequence)))


def drawn(letters, length, seed=0):
    """Letters at random."""
    return "".join(random.Random(seed).choices(letters, k=length))
