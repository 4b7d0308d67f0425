"""Apple chips and the memory bandwidth that Apple publishes for them.

GB/s as Apple's announcement or technical specification of the first Mac with the chip states it (names of the sources
below; apple.com/newsroom and support.apple.com/specs). Where a chip comes with two memory widths, both are listed.
Published peaks: good decoding code reaches about 80 % of them.
"""

from __future__ import annotations

from typing import NamedTuple


class Chip(NamedTuple):
    """A chip, its published bandwidth in GB/s, and who says so."""

    name: str
    bandwidth: float
    source: str


CHIPS = (
    Chip("M1", 68.25, "LPDDR4X-4266 x 128 bit; Apple's M2 announcement (2022-06-06): M2's 100 GB/s is 50 % more"),
    Chip("M1 Pro", 200, "Newsroom 2021-10-18, M1 Pro and M1 Max"),
    Chip("M1 Max", 400, "Newsroom 2021-10-18, M1 Pro and M1 Max"),
    Chip("M1 Ultra", 800, "Newsroom 2022-03-08, M1 Ultra"),
    Chip("M2", 100, "Newsroom 2022-06-06, M2"),
    Chip("M2 Pro", 200, "Newsroom 2023-01-17, M2 Pro and M2 Max"),
    Chip("M2 Max", 400, "Newsroom 2023-01-17, M2 Pro and M2 Max"),
    Chip("M2 Ultra", 800, "Newsroom 2023-06-05, M2 Ultra"),
    Chip("M3", 100, "Tech specs, MacBook Air (M3, 2024)"),
    Chip("M3 Pro", 150, "Tech specs, MacBook Pro (14-inch, Nov 2023)"),
    Chip("M3 Max (30-core GPU)", 300, "Tech specs, MacBook Pro (14-inch, Nov 2023)"),
    Chip("M3 Max (40-core GPU)", 400, "Tech specs, MacBook Pro (14-inch, Nov 2023)"),
    Chip("M3 Ultra", 819, "Tech specs, Mac Studio (2025)"),
    Chip("M4", 120, "Newsroom 2024-10-28, iMac with M4; tech specs"),
    Chip("M4 Pro", 273, "Newsroom 2024-10-30, M4 Pro and M4 Max"),
    Chip("M4 Max (32-core GPU)", 410, "Tech specs, MacBook Pro (14-inch, 2024)"),
    Chip("M4 Max (40-core GPU)", 546, "Newsroom 2024-10-30, M4 Pro and M4 Max"),
    Chip("M5", 153, "Newsroom 2025-10-15, M5"),
    Chip("M5 Pro", 307, "Newsroom 2026-03-03, MacBook Pro with M5 Pro and M5 Max"),
    Chip("M5 Max (40-core GPU)", 614, "Newsroom 2026-03-03, MacBook Pro with M5 Pro and M5 Max"),
)
