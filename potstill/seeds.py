"""Randomness as a function of (seed, purpose, step): nothing random is ever carried from one step to the next."""

import hashlib


def fold(seed: int, *purpose: str | int) -> int:
    """A seed of its own for each purpose: 63 bits that depend on every part, and on nothing else.

    Args:
        seed: The run's seed (or the result of another `fold`).
        purpose: What the randomness is for, from the general to the particular: `fold(seed, "order", epoch)`.

    Returns:
        An integer in [0, 2**63), the same on every machine and in every version of Python.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in (seed, *purpose))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
