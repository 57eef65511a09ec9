"""Signed URLs: one request, made by whoever has the URL, as if by whoever signed it.

A signature is the last parameter of a query, ``signature``: a claim and its HMAC-SHA256, both in
base64url, joined by a dot. The claim says who signed and when it ends, and for uploads which size
and digest the bytes must have; the HMAC is over the claim, the method and the target, so that none
of them can be changed. Each purpose has a sub-key of its own: a signature for downloading is none
for uploading, whatever its claim says.

A URL opens what its signer may open *when it is used*: it ends with the signer's rights, too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from registry.auth.keys import RootKey
from registry.domain.permissions import Permission
from store.clock import SECOND

Purpose: TypeAlias = Literal["download", "upload"]

PARAMETER: Final = "signature"

PURPOSES: Final[Mapping[str, Purpose]] = {"GET": "download", "HEAD": "download", "PUT": "upload"}
"""What a method is for; other methods cannot be signed."""

WORDS: Final[Mapping[Purpose, frozenset[Permission]]] = {
    "download": frozenset(("content.read", "model.read")),
    "upload": frozenset(("content.read", "content.write", "model.read")),
}
"""All that a signature lets its bearer do."""

MOST_CHARACTERS: Final = 1024


class SignatureRefused(Exception):
    """The signature is none of ours, was made for something else, or is over; `reason` says."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Claim(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What somebody signed; the time is in whole seconds since the epoch."""

    principal: str
    expires_at: int
    size_bytes: int | None = None
    digest: str | None = None


def sign(root: RootKey, purpose: Purpose, target: str, claim: Claim) -> str:
    """The signature of a target, which is its path and query as they will be asked for."""
    said = _encoded(msgspec.json.encode(claim))
    return f"{said}.{_encoded(_mac(root, purpose, target, said))}"


def check(root: RootKey, purpose: Purpose, target: str, signature: str, now: int) -> Claim:
    """What was signed; raises `SignatureRefused`. `now` is in microseconds."""
    said, separator, mac = signature.partition(".")
    if not separator or len(signature) > MOST_CHARACTERS:
        raise SignatureRefused("is no signature of this server")
    if not hmac.compare_digest(_decoded(mac), _mac(root, purpose, target, said)):
        raise SignatureRefused("is not for this request")
    claim = msgspec.json.decode(_decoded(said), type=Claim)
    if claim.expires_at * SECOND <= now:
        raise SignatureRefused("has expired")
    return claim


def split(target: str) -> tuple[str, str | None]:
    """A target as it was asked for: without its signature, and that, None if there is none.

    Only the last parameter is one, so that what is signed and what follows cannot be confused.
    """
    path, _, query = target.partition("?")
    *others, last = query.split("&")
    name, equals, signature = last.partition("=")
    if name != PARAMETER or not equals:
        return target, None
    return (f"{path}?{'&'.join(others)}" if others else path), signature


def uncovered(target: str) -> list[str]:
    """The names of the parameters that follow a signature, which covers none of them."""
    names = [one.partition("=")[0] for one in target.partition("?")[2].split("&")]
    return names[names.index(PARAMETER) + 1 :] if PARAMETER in names else []


def _mac(root: RootKey, purpose: Purpose, target: str, said: str) -> bytes:
    key = root.sub_key(f"signed url {purpose}")
    return hmac.digest(key, f"{target}\n{said}".encode("utf-8", "replace"), hashlib.sha256)


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise SignatureRefused("is no signature of this server") from error
