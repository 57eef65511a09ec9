"""Pages of lists: what is asked for, the cursor that leads on, and how a page is answered.

A **cursor** says after which entry the next page begins: the entry's place in the order (its keys
and its id) and a hash of the question. It is opaque to clients and holds nothing that they did not
see. Under another question it is refused (400 ``invalid_cursor``) rather than misread: a place in
the order of names is none in the order of making.

Going on by place instead of by count keeps each page as cheap as the first, and entries that come
or go meanwhile neither repeat nor hide others.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as BadBase64
from collections.abc import Sequence
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from registry.domain.lists import MOST_COUNTED
from registry.errors import Invalid
from registry.http.answers import json_answer
from registry.keys import ADDRESSES

T = TypeVar("T")

MOST_LISTED: Final = 1000
CURSOR_CHARACTERS: Final = 2048
MOST_NUMBER: Final = (1 << 63) - 1

_ABOUT_THE_PAGE: Final = frozenset(("limit", "after", "total"))
_HASH_BYTES: Final = 8


class PageQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every list takes; a list with filters extends it."""

    limit: Annotated[int, Meta(ge=1, le=MOST_LISTED)] = 100
    after: Annotated[str, Meta(max_length=CURSOR_CHARACTERS)] | None = None


class CountedQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a list takes that can be counted."""

    total: bool = False


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A page of a list; ``next`` goes into ``after`` for the page that follows."""

    items: list[T]
    next: str | None
    total: int | UnsetType = UNSET
    total_is_exact: bool | UnsetType = UNSET


class Total(msgspec.Struct, frozen=True):
    """How many entries there are, or at least are."""

    count: int
    is_exact: bool


def total_of(count: int | None, most: int = MOST_COUNTED) -> Total | None:
    """The total of a list that was counted up to one above `most`; None where it was not."""
    return None if count is None else Total(min(count, most), count <= most)


def cursor(query: PageQuery, *key: Any, scope: str = "") -> str:
    """The cursor behind the entry with this `key` in the list that `query` asks for.

    `scope` says which list, where the query alone does not: the model whose tags are listed.
    """
    content = msgspec.msgpack.encode((_hash(query, scope), key))
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def place_after(query: PageQuery, kind: type[T], *, scope: str = "") -> T | None:
    """The key in the cursor of `query`, as `kind` (a tuple); None for the first page.

    Raises `Invalid`, code ``invalid_cursor``.
    """
    if query.after is None:
        return None
    text = query.after.encode()
    try:
        content = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
        asked, raw = msgspec.msgpack.decode(content, type=tuple[bytes, msgspec.Raw])
        if asked != _hash(query, scope):
            raise _refused("belongs to a list with other filters or another order")
        place = msgspec.msgpack.decode(raw, type=kind)
        # Made by hand: no index holds such a number, and no driver takes it.
        if any(
            isinstance(key, int) and abs(key) > MOST_NUMBER for key in msgspec.to_builtins(place)
        ):
            raise _refused("is none that this server gave out")
        return place
    except (BadBase64, ValueError, msgspec.MsgspecError) as error:
        raise _refused("is none that this server gave out") from error


def page_answer(
    request: web.Request,
    items: Sequence[Any],
    next: str | None,
    total: Total | None = None,
) -> web.Response:
    """A page as JSON, with a ``Link`` to the next one."""
    page: Page[Any] = Page(
        items=list(items),
        next=next,
        total=UNSET if total is None else total.count,
        total_is_exact=UNSET if total is None else total.is_exact,
    )
    return json_answer(page, headers=link_headers(request, next))


def link_headers(request: web.Request, next: str | None) -> dict[str, str]:
    """``Link`` to the page behind the cursor `next`; nothing where there is none."""
    if next is None:
        return {}
    base = request.app[ADDRESSES].base_url(request)
    url = request.rel_url.update_query(after=next)
    return {"Link": f'<{base}{url.raw_path_qs}>; rel="next"'}


def _refused(reason: str) -> Invalid:
    return Invalid("after", reason, code="invalid_cursor")


def _hash(query: PageQuery, scope: str) -> bytes:
    asked = {
        name: getattr(query, name)
        for name in query.__struct_fields__
        if name not in _ABOUT_THE_PAGE
    }
    encoded = msgspec.json.encode((type(query).__name__, scope, asked), order="deterministic")
    return hashlib.sha256(encoded).digest()[:_HASH_BYTES]
