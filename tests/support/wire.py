"""HTTP as bytes on a socket, for what no client library would send."""

from __future__ import annotations

import asyncio

import msgspec


class Reply(msgspec.Struct, frozen=True):
    """One answer as it came, and whether the server closed the connection behind it."""

    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool


async def converse(port: int, request: bytes, *, seconds: float = 5.0) -> bytes:
    """Send bytes, then read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(seconds):
            return await reader.read()
    finally:
        writer.close()


async def ask(port: int, request: bytes, *, seconds: float = 5.0) -> Reply:
    """Send bytes and read one answer with a Content-Length, whatever the server does after it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(seconds):
            head = await reader.readuntil(b"\r\n\r\n")
            status, headers = parse_head(head)
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            closed = headers.get("connection") == "close" and await reader.read() == b""
        return Reply(status, headers, body, closed)
    finally:
        writer.close()


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers, names in lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}
