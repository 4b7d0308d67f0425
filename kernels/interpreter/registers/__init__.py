"""The shape of a kernel's compiled code: registers, spills, stack, loads, loops (measure.py says what it is worth)."""

from .assembly import Code, Loop
from .measure import NotMeasured, Shape, measure, unavailable

__all__ = ["Code", "Loop", "NotMeasured", "Shape", "measure", "unavailable"]
