"""ID tokens of a provider of identities: verified as OpenID Connect Core demands, section 3.1.3.7.

Only signatures by a public key count, with an algorithm of `ALGORITHMS` that fits the key: a token
that asks to be verified by a shared secret, or not at all, is refused before a key is looked at.
Issuer, audience, authorised party, times and nonce *must* be those that were asked for.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Final

ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "EdDSA",
)
LEEWAY_SECONDS: Final = 60
MOST_CHARACTERS: Final = 65_536

_DEMANDED: Final = ("iss", "aud", "exp", "iat", "sub")
_OF_FAMILY: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class IdTokenRefused(Exception):
    """It does not say what it would have to, or not credibly; the sentence repeats none of it."""


class KeyUnknown(IdTokenRefused):
    """It was signed with a key that is not among these; the provider may have made a new one."""


def verify(
    text: str,
    keys: Sequence[Mapping[str, Any]],
    *,
    issuer: str,
    client_id: str,
    nonce: str,
    now_seconds: float,
) -> Mapping[str, Any]:
    """The claims of an ID token, given the provider's keys as JWKs; raises `IdTokenRefused`."""
    import jwt

    if len(text) > MOST_CHARACTERS:
        raise IdTokenRefused("it is too long")
    try:
        header = jwt.get_unverified_header(text)
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise IdTokenRefused("it is not signed by a public key that we take")
        key = jwt.PyJWK(dict(_key(keys, header.get("kid"), algorithm)), algorithm)
        claims: dict[str, Any] = jwt.decode(
            text,
            key.key,
            algorithms=[algorithm],
            audience=client_id,
            issuer=issuer,
            # The times are compared below, with the clock of the store.
            options={
                "require": list(_DEMANDED),
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except jwt.PyJWTError as error:
        raise IdTokenRefused(f"it is not valid: {type(error).__name__}") from None
    _check(claims, client_id, nonce, now_seconds)
    return claims


def _key(keys: Sequence[Mapping[str, Any]], kid: Any, algorithm: str) -> Mapping[str, Any]:
    """The one key that may have signed it: by its id, or without one the only one of its kind."""
    usable = [
        key
        for key in keys
        if key.get("kty") == _OF_FAMILY[algorithm[:2]]
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
    ]
    found = usable if kid is None else [key for key in usable if key.get("kid") == kid]
    if len(found) != 1:
        raise KeyUnknown("its key is not among the provider's")
    return found[0]


def _check(claims: Mapping[str, Any], client_id: str, nonce: str, now_seconds: float) -> None:
    if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
        raise IdTokenRefused("it names nobody")
    audiences = claims["aud"]
    party = claims.get("azp")
    if party is None and isinstance(audiences, list) and len(audiences) > 1:
        raise IdTokenRefused("it is for several and authorises none")
    if party is not None and party != client_id:
        raise IdTokenRefused("it authorises another")
    times = [claims["exp"], claims["iat"], claims.get("nbf", claims["iat"])]
    if not all(isinstance(one, int | float) for one in times):
        raise IdTokenRefused("its times are none")
    ends, made, begins = times
    if ends + LEEWAY_SECONDS <= now_seconds:
        raise IdTokenRefused("it is over")
    if max(made, begins) - LEEWAY_SECONDS > now_seconds:
        raise IdTokenRefused("it comes from the future")
    said = claims.get("nonce")
    if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
        raise IdTokenRefused("it answers another request")
