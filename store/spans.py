"""Tell somebody where time goes, if somebody wants to know.

Whoever wants to (a tracer, say) assigns an `Around` to what it is interested in; it is entered
before a piece of work with its name, and left after it. Nobody does by default, and that costs the
look at an attribute.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

Around: TypeAlias = Callable[[str, object], AbstractContextManager[object]]
"""Takes the name of the work and what is worked on: a unit, a size, nothing."""
