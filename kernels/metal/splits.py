"""The number of parts that the keys of a decode step's prefix attention are split into, each for a threadgroup.

With a threadgroup for each head and prefix row, MusicGen-large has 32: fewer than an M4 Max (up to 40 cores) or an
Ultra (48 to 80) has cores, and each works through its keys step by step. Parts shorten that, and cost a launch that
joins them.

The default is arithmetic; no GPU was at hand. At a head dim of 64 each half of 8 simdgroups takes 32 keys at a step,
one half of the caches, the other of the prefix. Guessed: 0.7 µs for a step, and 2.4 to 3 µs for a launch that depends
on another (published of M3 Ultra and M4 Max). Two parts of 384 keys save 6 steps, 4.2 µs; of 256 keys, 2.8 µs.
"""

from __future__ import annotations

from .choices import Choices

KEYS_PER_SPLIT = 1024
"""On any GPU a threadgroup with more than twice as many keys, of its rows and the prefix, is split."""
ENOUGH_THREADGROUPS = 256
"""Threadgroups beyond which more do not help any GPU."""
MIN_KEYS_TO_SPLIT = 384
"""Keys of all caches of a threadgroup, or of the prefix, from which parts for idle cores are worth another launch."""


def splits(choices: Choices, slots: int, rows: int, frames: int, threadgroups: int) -> int:
    """Return the number of parts for `rows` caches of so many slots and a prefix of so many frames.

    `threadgroups` are those of the launch without a split. `choices.attention_splits` says how many parts; 0 leaves it
    to the number of keys, and to `choices.cores` where threadgroups are fewer.
    """
    if choices.attention_splits:
        return choices.attention_splits
    keys, parts = slots * rows + frames, 1
    if keys > 2 * KEYS_PER_SPLIT:
        parts = -(-keys // KEYS_PER_SPLIT)
    # Over a window, half of the slots hold keys on average.
    if threadgroups < choices.cores and max(slots * rows // 2, frames) >= MIN_KEYS_TO_SPLIT:
        parts = max(parts, -(-choices.cores // threadgroups))
    return max(1, min(parts, ENOUGH_THREADGROUPS // threadgroups))
