"""Names of the cookies that a browser keeps of a login, and of the header that proves its page."""

from __future__ import annotations

from typing import Final

from multidict import istr

TICKET: Final = "digestry_session"
CSRF: Final = "digestry_csrf"
CSRF_HEADER: Final = istr("X-CSRF-Token")
