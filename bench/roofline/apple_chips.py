"""Apple chips and the memory bandwidth that Apple publishes for them.

GB/s as Apple's announcement or technical specification of the first Mac with the chip states it, rounded as Apple
rounds. apple.com was not within reach when this table was checked (2026): `checked` names the copy of Apple's text or
the report of it that was read instead, and says "arithmetic" where Apple gives no figure. Where a chip comes with two
memory widths, both are listed (the smaller M5 Max is left out: no source for its figure was read). Published peaks:
good decoding code reaches about 80 % of them.
"""

from __future__ import annotations

from typing import NamedTuple


class Chip(NamedTuple):
    """A chip, its published bandwidth in GB/s, where Apple says so, and where that was read."""

    name: str
    bandwidth: float
    source: str
    checked: str


CHIPS = (
    Chip("M1", 68.25, "LPDDR4X at 4266 MT/s x 128 bit", "arithmetic; Apple (M2, 2022-06-06): M2's 100 is 50 % more"),
    Chip("M1 Pro", 200, "Newsroom 2021-10-18, M1 Pro and M1 Max", "the release's text"),
    Chip("M1 Max", 400, "Newsroom 2021-10-18, M1 Pro and M1 Max", "the release's text"),
    Chip("M1 Ultra", 800, "Newsroom 2022-03-08, M1 Ultra", "Lifewire 2022-03"),
    Chip("M2", 100, "Newsroom 2022-06-06, M2", "a copy of the release; MacRumors 2022-06-06"),
    Chip("M2 Pro", 200, "Newsroom 2023-01-17, M2 Pro and M2 Max", "Business Today and MacRumors, 2023-01-18"),
    Chip("M2 Max", 400, "Newsroom 2023-01-17, M2 Pro and M2 Max", "MacRumors 2023-01-18"),
    Chip("M2 Ultra", 800, "Newsroom 2023-06-05, M2 Ultra", "TechSpot and Ars Technica, 2023-06-05"),
    Chip("M3", 100, "Tech specs, MacBook Pro (14-inch, Nov 2023)", "Ars Technica's table, 2024 (102.4 unrounded)"),
    Chip("M3 Pro", 150, "Tech specs, MacBook Pro (14-inch, Nov 2023)", "MacRumors 2023-10-31"),
    Chip("M3 Max (30-core GPU)", 300, "Tech specs, MacBook Pro (14-inch, Nov 2023)", "MacRumors 2023-10-31"),
    Chip("M3 Max (40-core GPU)", 400, "Tech specs, MacBook Pro (14-inch, Nov 2023)", "MacRumors 2023-10-31"),
    Chip("M3 Ultra", 819, "Tech specs, Mac Studio (2025)", "Ars Technica's table, 2025-03-05 (819.2)"),
    Chip("M4", 120, "Tech specs, MacBook Pro (14-inch, 2024)", "Ars Technica's table, 2024"),
    Chip("M4 Pro", 273, "Newsroom 2024-10-30, M4 Pro and M4 Max", "TechCrunch 2024-10-30; Ars Technica's table"),
    Chip("M4 Max (32-core GPU)", 410, "Tech specs, MacBook Pro (14-inch, 2024)", "Ars Technica's table, 2024"),
    Chip("M4 Max (40-core GPU)", 546, "Newsroom 2024-10-30, M4 Pro and M4 Max", "TechCrunch 2024-10-30"),
    Chip("M5", 153, "Newsroom 2025-10-15, M5", "TechRadar, 2025"),
    Chip("M5 Pro", 307, "Newsroom 2026-03-03, M5 Pro and M5 Max", "MacRumors 2026-03-03"),
    Chip("M5 Max (40-core GPU)", 614, "Newsroom 2026-03-03, M5 Pro and M5 Max", "MacRumors 2026-03-03"),
)
