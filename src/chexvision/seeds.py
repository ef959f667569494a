"""Seeds that depend only on the position in a run, not on earlier random numbers."""

from __future__ import annotations

_MASK = (1 << 64) - 1


def mix_seed(*numbers: int) -> int:
    """Mix several numbers into one 63-bit seed; neighbouring numbers give unrelated seeds.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (splitmix64).
    """
    state = 0
    for number in numbers:
        state = (state + 0x9E3779B97F4A7C15 * (number + 1)) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1
