"""What can be wrong with a request, in the product's own terms and without a word of HTTP.

::

    RegistryError(code)
      Invalid(field, reason)                something in the request is not what it must be
        BodyMalformed(reason)               the body cannot be read as what it claims to be
        SecretInConfig(problems)            secrets would be kept where everybody reads
      NotFound(kind, name)                  missing, or hidden from whoever asks
        RouteNotFound(path)
      Gone(kind, name)                      it was here and will not come back
      Conflict(kind, name, reason)          the request is fine, what it found is not
        ContentMissing(digests)             named blobs that the caller cannot use
        KeyInFlight(key)                    the same request is being carried out
      KeyReused(key)                        an idempotency key was used for something else
      PreconditionFailed(field)             the thing changed since the caller looked
      PolicyViolation(policy, reason)       a rule set by somebody forbids it
      Denied(action, name)
        ForeignOrigin(reason)               a web page of another origin asked
        UnnamedProxy(header)                forwarded by a proxy that is not configured
      WrongHost(host)                       addressed to a host that is not ours
      Unauthenticated()
        LoginFailed()                       this name and password let nobody in
      Throttled(retry_after_seconds)
      LimitReached(limit, allowed)          too many of something at once
      QuotaExceeded(quota, namespace, allowed)  it would not fit into an empty namespace
        QuotaReached(quota, namespace, allowed)   it does not fit now
      BodyTooLarge(limit_bytes)
      LengthRequired()
      UnsupportedMedia(expected, received)
      UnsupportedEncoding(received)
      ExpectationFailed(received)
      MethodNotAllowed(method, allowed)
      Stalled(reason)                       the client sent too slowly
      ClientGone()                          the client left; there is nobody to answer
      Draining()                            this process is on its way out

Errors carry fields; ``str()`` makes one plain sentence of them.
`RegistryError.code` is the stable word that clients may test for; a kind that covers several cases
takes it as an argument. `RegistryError.details` are further facts for machines, JSON-encodable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar


class RegistryError(Exception):
    """Root of everything the registry raises on purpose."""

    code: str = "error"
    title: ClassVar[str] = "Error"

    def __init__(
        self,
        sentence: str,
        *,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        if code is not None:
            self.code = code
        self.details: Mapping[str, Any] = details or {}
        super().__init__(sentence)


class Invalid(RegistryError):
    """``problems`` lists every bad field when there are several; the first gives the sentence.

    A problem is field, reason and, where it can be said, what would be accepted.
    """

    code = "invalid"
    title = "The request is not valid"

    def __init__(
        self,
        field: str,
        reason: str,
        *,
        code: str | None = None,
        problems: Sequence[tuple[str, ...]] = (),
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.field = field
        self.reason = reason
        self.problems: Sequence[tuple[str, ...]] = problems or ((field, reason),)
        super().__init__(f"{field}: {reason}", code=code, details=details)


class BodyMalformed(Invalid):
    code = "body_malformed"
    title = "The body cannot be read"

    def __init__(self, reason: str) -> None:
        super().__init__("body", reason)


class SecretInConfig(Invalid):
    """A value stands where a secret would; every such place is a problem."""

    code = "secret_in_config"
    title = "Secrets are not kept in configuration"

    def __init__(self, problems: Sequence[tuple[str, ...]]) -> None:
        field, reason = problems[0][:2]
        super().__init__(
            field, f"{reason}; write a reference to the secret instead", problems=problems
        )


class NotFound(RegistryError):
    code = "not_found"
    title = "Not found"

    def __init__(self, kind: str, name: str, *, code: str | None = None) -> None:
        self.kind = kind
        self.name = name
        super().__init__(f"no {kind} {name}", code=code)


class RouteNotFound(NotFound):
    code = "route_not_found"
    title = "There is nothing at this address"

    def __init__(self, path: str) -> None:
        super().__init__("route", path)


class Gone(RegistryError):
    code = "gone"
    title = "Gone"

    def __init__(self, kind: str, name: str, *, code: str | None = None) -> None:
        self.kind = kind
        self.name = name
        super().__init__(f"{kind} {name} is gone", code=code)


class Conflict(RegistryError):
    code = "conflict"
    title = "The request conflicts with what is there"

    def __init__(
        self,
        kind: str,
        name: str,
        reason: str,
        *,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.reason = reason
        super().__init__(f"{kind} {name}: {reason}", code=code, details=details)


class ContentMissing(Conflict):
    """Some named blobs are not here, or not the caller's to use: the two look alike."""

    code = "content_missing"
    title = "Some of the content is missing"

    def __init__(self, kind: str, name: str, digests: Iterable[object]) -> None:
        self.digests = [str(digest) for digest in digests]
        super().__init__(
            kind,
            name,
            f"{len(self.digests)} of the named blobs are missing; upload them first",
            details={"missing": self.digests},
        )


class KeyInFlight(Conflict):
    code = "idempotency_in_flight"
    title = "The first request with this key is still in hand"

    def __init__(self, key: str) -> None:
        super().__init__("request", key, "is still being carried out")


class KeyReused(RegistryError):
    code = "idempotency_key_reused"
    title = "The key was used for another request"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"Idempotency-Key {key}: was used with another query or body")


class PreconditionFailed(RegistryError):
    code = "precondition_failed"
    title = "A precondition does not hold"

    def __init__(self, field: str, *, details: Mapping[str, Any] | None = None) -> None:
        self.field = field
        super().__init__(f"the condition in {field} does not hold", details=details)


class PolicyViolation(RegistryError):
    code = "policy_violation"
    title = "A policy forbids this"

    def __init__(
        self,
        policy: str,
        reason: str,
        *,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.policy = policy
        self.reason = reason
        super().__init__(
            f"{policy}: {reason}", code=code, details={"policy": policy, **(details or {})}
        )


class Denied(RegistryError):
    code = "denied"
    title = "Not allowed"

    def __init__(
        self, action: str, name: str, *, sentence: str | None = None, code: str | None = None
    ) -> None:
        self.action = action
        self.name = name
        super().__init__(sentence or f"this needs {action} on {name}", code=code)


class ForeignOrigin(Denied):
    code = "foreign_origin"
    title = "Another web site may not do this"

    def __init__(self, reason: str) -> None:
        super().__init__("request", "this server", sentence=reason)


class UnnamedProxy(Denied):
    code = "unnamed_proxy"
    title = "The proxy is not configured"

    def __init__(self, header: str) -> None:
        self.header = header
        super().__init__(
            "request",
            "this server",
            sentence=f"the header {header} comes from a proxy that server.trusted_proxies does not "
            "name, and this server does not ask who calls",
        )


class WrongHost(RegistryError):
    code = "wrong_host"
    title = "This server does not answer to that host name"

    def __init__(self, host: str) -> None:
        self.host = host
        super().__init__(f"host {host[:200]!r} is not ours; name it in server.allowed_hosts")


class Unauthenticated(RegistryError):
    code = "unauthenticated"
    title = "Who are you?"

    def __init__(
        self, sentence: str = "this needs a login or a token", *, code: str | None = None
    ) -> None:
        super().__init__(sentence, code=code)


class LoginFailed(Unauthenticated):
    """Says nothing of why: whether there is such a user is nobody's business."""

    code = "login_failed"
    title = "That did not work"

    def __init__(
        self,
        sentence: str = "the name or the password is not right",
        *,
        code: str | None = None,
        account: str = "",
        name: str = "",
    ) -> None:
        self.account = account
        """Whom it was for, for the audit log alone: an id, or a hash of a name that is nobody's."""
        self.name = name
        super().__init__(sentence, code=code)


class Throttled(RegistryError):
    code = "throttled"
    title = "Too many requests"

    def __init__(self, retry_after_seconds: int, *, account: str = "", name: str = "") -> None:
        self.retry_after_seconds = retry_after_seconds
        self.account = account
        """Of a login: whom it was for, as `LoginFailed` says it."""
        self.name = name
        super().__init__(f"too many requests; try again in {retry_after_seconds} s")


class LimitReached(RegistryError):
    """``limit`` is the configuration key, so that the reader knows what to change."""

    code = "limit_reached"
    title = "A limit is reached"

    def __init__(self, limit: str, allowed: int, *, code: str | None = None) -> None:
        self.limit = limit
        self.allowed = allowed
        super().__init__(
            f"{limit} allows {allowed}", code=code, details={"limit": limit, "allowed": allowed}
        )


class QuotaExceeded(RegistryError):
    """``quota`` is bytes, versions or pins; how much of it is used is told elsewhere, to few."""

    code = "quota_exceeded"
    title = "The quota is smaller than this"
    reason: ClassVar[str] = "this could never fit"

    def __init__(self, quota: str, namespace: str, allowed: int) -> None:
        super().__init__(
            f"the quota of {namespace} on {quota} is {allowed}: {self.reason}",
            details={"quota": quota, "namespace": namespace, "allowed": allowed},
        )


class QuotaReached(QuotaExceeded):
    """Somebody must purge something first, so trying again at once is useless."""

    code = "quota_reached"
    title = "The quota is used up"
    reason = "this does not fit until something is purged"
    retry_after_seconds: ClassVar[int] = 300


class BodyTooLarge(RegistryError):
    code = "body_too_large"
    title = "The body is too large"

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(
            f"the body is larger than {limit_bytes} bytes", details={"limit_bytes": limit_bytes}
        )


class LengthRequired(RegistryError):
    code = "length_required"
    title = "Content-Length is required"

    def __init__(self) -> None:
        super().__init__("send the size of the body as Content-Length")


class UnsupportedMedia(RegistryError):
    code = "unsupported_media_type"
    title = "The media type is not accepted here"

    def __init__(self, expected: str, received: str) -> None:
        self.expected = expected
        self.received = received
        super().__init__(f"expected Content-Type {expected}, received {received[:100] or 'none'!r}")


class UnsupportedEncoding(RegistryError):
    code = "unsupported_encoding"
    title = "The content encoding is not accepted here"

    def __init__(self, received: str) -> None:
        self.received = received
        super().__init__(
            f"Content-Encoding {received[:100]!r} is not accepted; send the bytes as they are"
        )


class ExpectationFailed(RegistryError):
    code = "expectation_failed"
    title = "The expectation cannot be met"

    def __init__(self, received: str) -> None:
        self.received = received
        super().__init__(f"Expect: {received[:100]!r} is not known; only 100-continue is")


class MethodNotAllowed(RegistryError):
    code = "method_not_allowed"
    title = "This address does not take that method"

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        self.method = method
        self.allowed = tuple(sorted(allowed))
        super().__init__(f"{method[:32]} is not one of {', '.join(self.allowed)}")


class Stalled(RegistryError):
    code = "stalled"
    title = "The body arrived too slowly"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class ClientGone(RegistryError):
    code = "client_gone"
    title = "The client closed the connection"

    def __init__(self) -> None:
        super().__init__("the client closed the connection")


class Draining(RegistryError):
    code = "draining"
    title = "The server is shutting down"

    def __init__(self) -> None:
        super().__init__("this server is shutting down; try again")
