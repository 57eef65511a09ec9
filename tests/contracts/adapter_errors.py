"""Every error class, through every adapter: a row of its own and the adapter's envelope.

A subclass gives the adapter and says how its envelope looks::

    class TestNativeErrors(AdapterErrorContract):
        adapter = ADAPTER

        def assert_envelope(self, answer, error): ...
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from registry import errors as ours
from registry.http.adapters import Adapter
from registry.keys import REQUEST_ID
from store import errors as stored
from store.digest import Digest, InvalidDigest

ONE = Digest.of(b"one")
TWO = Digest.of(b"two")

EXAMPLES: list[Exception] = [
    InvalidDigest("sha256:x"),
    stored.BlobNotFound(ONE),
    stored.DigestMismatch(ONE, TWO),
    stored.SizeMismatch(3, 2),
    stored.RangeNotSatisfiable(ONE, 3),
    stored.StorageFull(9),
    stored.StorageReadOnly("open"),
    stored.TooManyOpenFiles("open"),
    stored.Corrupt(ONE),
    stored.IndexConflict("unique"),
    stored.Unavailable("commit"),
    stored.ArchiveUnavailable("its disk is not mounted"),
    stored.StoreRefused("a reason"),
    stored.CollectionRefused("a reason"),
    stored.UploadNotFound("upl_1"),
    stored.UploadExpired("upl_1"),
    stored.UploadFinished("upl_1"),
    stored.UploadLocked("upl_1"),
    stored.UploadTaken("upl_1"),
    stored.UploadTooLarge("upl_1", 3),
    stored.OffsetConflict("upl_1", 3, 2),
    stored.ChecksumMismatch("upl_1", "sha1"),
    ours.Invalid("name", "is empty"),
    ours.BodyMalformed("not JSON"),
    ours.SecretInConfig([("config.token", "stands under the name of a secret")]),
    ours.NotFound("model", "bert"),
    ours.RouteNotFound("/nowhere"),
    ours.Gone("version", "3"),
    ours.Conflict("label", "1.0.0", "is taken"),
    ours.ContentMissing("version", "1.0.0", [ONE]),
    ours.KeyInFlight("a-key"),
    ours.KeyReused("a-key"),
    ours.PreconditionFailed("If-Match"),
    ours.PolicyViolation("retention", "is held"),
    ours.Denied("ops", "/metrics"),
    ours.ForeignOrigin("a page of elsewhere"),
    ours.UnnamedProxy("X-Forwarded-For"),
    ours.WrongHost("evil.example"),
    ours.Unauthenticated(),
    ours.LoginFailed(),
    ours.Throttled(3),
    ours.LimitReached("limits.uploads_per_principal", 1000),
    ours.QuotaExceeded("bytes", "nlp", 1000),
    ours.QuotaReached("versions", "nlp", 10),
    ours.BodyTooLarge(3),
    ours.LengthRequired(),
    ours.UnsupportedMedia("application/json", "text/plain"),
    ours.UnsupportedEncoding("gzip"),
    ours.ExpectationFailed("200-maybe"),
    ours.MethodNotAllowed("PUT", {"GET"}),
    ours.Stalled("nothing moved for 60 s"),
    ours.ClientGone(),
    ours.Draining(),
]
"""One of each kind that can reach an adapter."""


def concrete_kinds() -> set[type[BaseException]]:
    """Every error class of the store and the registry that can be raised as it is."""
    roots = (stored.StoreError, ours.RegistryError)
    abstract = {*roots, stored.UploadError}
    found: set[type[BaseException]] = {InvalidDigest}
    waiting: list[type[BaseException]] = list(roots)
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind not in abstract and kind.__module__ in (stored.__name__, ours.__name__):
            found.add(kind)
    return found


class AdapterErrorContract:
    """What every adapter owes its clients."""

    adapter: ClassVar[Adapter]

    def assert_envelope(self, answer: web.Response, error: Exception | None) -> None:
        """Fail unless `answer` has the adapter's shape; `error` None is an unknown error."""
        raise NotImplementedError

    def render(self, error: BaseException) -> web.Response:
        request = make_mocked_request("GET", "/")
        request[REQUEST_ID] = "req-1234"
        return self.adapter.render(request, error, self.adapter.rule_for(error))

    def test_every_kind_has_an_example(self) -> None:
        assert {type(error) for error in EXAMPLES} == concrete_kinds()

    @pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
    def test_every_kind_has_a_row(self, error: Exception) -> None:
        """A catch-all is not an answer: each kind is filed under its own class or a near one."""
        rule = self.adapter.rule_for(error)

        assert rule is not None
        assert rule.status >= 400

    @pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
    def test_every_answer_has_the_envelope(self, error: Exception) -> None:
        answer = self.render(error)
        rule = self.adapter.rule_for(error)

        assert rule is not None
        assert answer.status == rule.status
        self.assert_envelope(answer, error)

    def test_an_unknown_error_says_nothing_of_itself(self) -> None:
        answer = self.render(ZeroDivisionError("the secret is 42"))
        content: Any = answer.body

        assert answer.status == 500
        assert b"secret" not in content
        assert b"ZeroDivision" not in content
        self.assert_envelope(answer, None)
