"""TLS: the server's own certificate, renewed while it serves, and trusted by local commands.

Behind a proxy that ends TLS none of this is needed. Without one, ``server.tls_certificate`` and
``server.tls_key`` name PEM files: the certificate with its chain, the leaf first. A renewed pair is
taken for new connections within a minute; one that does not load is refused, loudly, and the old
one stays. TLS below 1.2 is not spoken.

A certificate is for the name that clients use, which is rarely 127.0.0.1. A local command reads in
``server.json`` which file the server's certificate is in, and trusts that very certificate,
whatever name it is for: whoever may read the secret beside it may as well be told whom to show it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path
from typing import Final

import structlog

LOOK_SECONDS: Final = 60.0

logger = structlog.get_logger()


class Certificate:
    """The context of a server's connections; `follow` keeps it up to date."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises `OSError` whose sentence names the files, if they cannot be used."""
        self._certificate = certificate
        self._key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._seen = self._look()
        self._load(self.context)

    def renew(self) -> bool:
        """Take the files again if they changed; say whether they are in use now. Blocking."""
        try:
            seen = self._look()
            if seen == self._seen:
                return False
            # A pair half written must not spoil the context that is in use.
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
        except OSError as error:
            logger.error("the certificate was not renewed", reason=str(error))
            return False
        self._seen = seen
        logger.info("the certificate was renewed", file=str(self._certificate))
        return True

    async def follow(self) -> None:
        """Renew until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self.renew)

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        found = (os.stat(path) for path in (self._certificate, self._key))
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            # An encrypted key would ask for its password on a terminal that is not there.
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (OSError, ValueError) as error:
            raise OSError(
                f"server.tls_certificate {self._certificate} and server.tls_key {self._key} "
                f"cannot be used: {error}"
            ) from error


def local_context(certificate: Path) -> ssl.SSLContext:
    """What a local command trusts: the server whose certificate is in that file, and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(certificate)
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; write it without a password, readable by nobody else")
