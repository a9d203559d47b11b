"""Randomness as a function of what it belongs to: one hash, equal in every process and Python version."""

import hashlib


def stable_hash(*parts: object) -> int:
    """A 32-bit unsigned integer that depends on the parts alone, equal in every process and Python version."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")
