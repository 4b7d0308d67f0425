"""Metal to C++: what macros and a header cannot express.

The result compiles against the headers in `metal_stdlib/`, with every construct on the line it had.
"""

from __future__ import annotations

from ..tokens import join, tokenize
from .attributes import drop_attributes
from .literals import float_literals
from .macros import rewrite_macros
from .members import drop_member_specializations, single_swizzles
from .overloads import drop_duplicates
from .qualifiers import drop_spaces, fold
from .threadgroup import threadgroup_variables
from .unions import copyable_unions


def rewrite(source: str) -> str:
    """Return C++ for Metal `source`, with the same number of lines."""
    tokens = rewrite_macros(float_literals(tokenize(source)))
    tokens = fold(drop_attributes(tokens))
    tokens = threadgroup_variables(single_swizzles(tokens))
    return join(copyable_unions(drop_duplicates(drop_member_specializations(drop_spaces(tokens)))))
