"""Staging files that nobody needs, and sessions whose staging file is gone.

A file is a stray if no running session names it and nobody is writing it.
A kill leaves such. How old one is says little, since a body may take hours and a pause minutes;
whoever writes a staging file holds its lock, and whoever begins a session has its row committed
before he lets go. So the order is: lock it, and only then ask whether a session names it.
"""

from __future__ import annotations

from functools import partial

from store.blobs import BlobStore
from store.errors import UploadNotFound
from store.index.transactions import Index, Tx
from store.index.uploads import FINISHED, delete_upload, find_upload


async def is_stray(blobs: BlobStore, index: Index, session: str, *, remove: bool) -> bool:
    """Whether nobody needs a staging file, which with `remove` is gone then."""
    writer = await blobs.seize(session)
    if writer is None:
        return False
    try:
        row = await index.look(partial(find_upload, session=session))
        if row is not None and row.state != FINISHED:
            return False
        if remove:
            await writer.discard()
        return True
    finally:
        await writer.close()


async def is_lost(blobs: BlobStore, index: Index, session: str, *, forget: bool) -> bool:
    """Whether a running session has no staging file; with `forget` it is gone then.

    The file goes after the session has ended, so the session is asked last.
    """
    try:
        await (await blobs.reopen(session)).close()
    except UploadNotFound:
        unit = partial(_lost, session=session, forget=forget)
        return await (index.run(unit) if forget else index.look(unit))
    return False


async def _lost(tx: Tx, session: str, forget: bool) -> bool:
    row = await find_upload(tx, session)
    if row is None or row.state == FINISHED:
        return False
    if forget:
        await delete_upload(tx, session)
    return True
