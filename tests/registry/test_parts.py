"""A version in one multipart request."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from registry.config import Config, LimitsConfig
from registry.http.conditional import repr_digest_of
from registry.keys import DRAIN
from store.digest import Digest
from tests.support.builders import Answer, Registry, running_registry

AT = "/api/v1/models/bert/versions"
LARGE = bytes(range(256)) * 2000


def form(*fields: tuple[str, Any, str | None]) -> bytes:
    """What curl would send for these fields: name, content, file name."""
    lines = []
    for name, value, filename in fields:
        content = msgspec.json.encode(value) if isinstance(value, dict) else value
        named = "" if filename is None else f'; filename="{filename}"'
        head = f'--xyz\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
        lines.append(head.encode() + content + b"\r\n")
    return b"".join(lines) + b"--xyz--\r\n"


async def send(registry: Registry, *fields: tuple[str, Any, str | None], **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named["Content-Type"] = "multipart/form-data; boundary=xyz"
    return await registry.send("POST", AT, data=form(*fields), headers=named)


async def nothing_was_made(registry: Registry) -> None:
    await registry.store.ingest.close()
    assert await registry.count("models") == 0
    assert await registry.count("versions") == 0
    assert await registry.count("leases") == 0
    assert await registry.site.staged() == []


async def test_metadata_and_files_make_a_version(registry: Registry) -> None:
    made = await send(
        registry,
        ("metadata", {"label": "1.0.0", "eval_score": 0.5}, None),
        ("file", LARGE, "weights/model.bin"),
        ("file", b"{}", "config.json"),
        ("file", b"", "empty"),
    )

    assert made.status == 201, made.body
    version = made.json["version"]
    assert (version["label"], version["files"], version["eval_score"]) == ("1.0.0", 3, 0.5)
    assert (await registry.get("/models/bert/1.0.0/weights/model.bin")).body == LARGE
    assert (await registry.get("/models/bert/1.0.0/empty")).body == b""


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_metadata_may_stand_anywhere(registry: Registry, position: int) -> None:
    fields: list[tuple[str, Any, str | None]] = [("f", b"1", "a"), ("f", b"2", "b")]
    fields.insert(position, ("metadata", {"label": "v1", "region": "eu"}, None))

    made = await send(registry, *fields)

    assert (made.status, made.json["version"]["region"]) == (201, "eu")


async def test_without_metadata_it_is_the_next_number(registry: Registry) -> None:
    made = await send(registry, ("f", b"1", "a"))
    again = await send(registry, ("f", b"1", "a"))
    other = await send(registry, ("f", b"2", "a"))

    assert (made.status, made.json["version"]["label"]) == (201, None)
    assert (again.status, again.json["version"]["number"]) == (200, 1)
    assert (other.status, other.json["version"]["number"]) == (201, 2)


async def test_a_path_before_a_file_says_where_it_goes(registry: Registry) -> None:
    made = await send(
        registry,
        ("path", b"weights/model.bin", None),
        ("f", b"1", "model.bin"),
        ("f", b"2", "config.json"),
        ("metadata", {"label": "v1"}, None),
    )
    dangling = await send(registry, ("f", b"1", "a"), ("path", b"b", None))

    assert made.status == 201, made.body
    listed = (await registry.get("/models/bert/v1/")).json["files"]
    assert [file["path"] for file in listed] == ["config.json", "weights/model.bin"]
    assert (dangling.status, dangling.json["errors"][0]["field"]) == (400, "path")


async def test_files_lie_over_named_ones_and_over_a_base(registry: Registry) -> None:
    await send(registry, ("metadata", {"label": "v1"}, None), ("f", b"1", "a"), ("f", b"2", "b"))
    await registry.put("/blobs/", b"3")
    named = {
        "label": "v2",
        "base": "v1",
        "files": [{"path": "c", "digest": str(Digest.of(b"3"))}, {"path": "b", "digest": None}],
    }

    made = await send(registry, ("metadata", named, None), ("f", b"11", "a"))

    assert made.status == 201, made.body
    listed = (await registry.get("/models/bert/v2/")).json["files"]
    assert {file["path"]: file["digest"] for file in listed} == {
        "a": str(Digest.of(b"11")),
        "c": str(Digest.of(b"3")),
    }


async def test_a_draft_comes_in_parts_too(registry: Registry) -> None:
    made = await send(
        registry, ("metadata", {"label": "v1", "publish": False}, None), ("f", LARGE, "a")
    )

    assert (made.status, made.json["state"]) == (201, "draft")
    assert (await registry.get("/models/bert/v1/a")).body == LARGE


async def test_a_repeat_is_the_same_version_and_a_different_one_refused(
    registry: Registry,
) -> None:
    metadata = ("metadata", {"label": "v1"}, None)
    await send(registry, metadata, ("f", LARGE, "a"))

    again = await send(registry, metadata, ("f", LARGE, "a"))
    other = await send(registry, metadata, ("f", b"other", "a"))

    assert again.status == 200
    assert (other.status, other.code) == (409, "version_published")


async def test_bad_metadata_is_refused_before_the_files_travel(registry: Registry) -> None:
    for metadata, status in (
        ({"label": "12"}, 400),
        ({"eval_score": 2, "nonsense": 1}, 400),
        ({"label": "latest"}, 409),
    ):
        refused = await send(registry, ("metadata", metadata, None), ("f", b"x" * 200_000, "a"))
        assert refused.status == status, refused.body
    await nothing_was_made(registry)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ([("metadata", b"{", None)], "body_malformed"),
        ([("metadata", {"label": "v1"}, None)], "version_empty"),
        ([("metadata", {}, None), ("metadata", {}, None)], "invalid"),
        ([("f", b"1", "a"), ("f", b"1", "a")], "path_twice"),
        ([("f", b"1", "a"), ("f", b"1", "a/b")], "path_is_a_directory"),
        ([("f", b"1", "../a")], "path_invalid"),
        ([("f", b"1", "a\\\\b")], "path_invalid"),
        ([("label", b"v1", None), ("f", b"1", "a")], "part_unknown"),
        ([("path", b"x" * 5000, None), ("f", b"1", "a")], "invalid"),
        ([("metadata", {"source": {"uri": "s3://a"}}, None), ("f", b"1", "a")], "invalid"),
    ],
)
async def test_what_makes_no_version_is_refused_and_leaves_nothing(
    registry: Registry, fields: list[tuple[str, Any, str | None]], code: str
) -> None:
    refused = await send(registry, *fields)

    assert (refused.status, refused.code) == (400, code), refused.body
    await nothing_was_made(registry)


async def test_a_declared_digest_is_verified(registry: Registry) -> None:
    def body(content: bytes) -> bytes:
        return (
            b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n'
            b"Repr-Digest: "
            + repr_digest_of(Digest.of(b"right")).encode()
            + b"\r\n\r\n"
            + content
            + b"\r\n--b--\r\n"
        )

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    wrong = await registry.send("POST", AT, data=body(b"wrong"), headers=headers)
    right = await registry.send("POST", AT, data=body(b"right"), headers=headers)

    assert (wrong.status, wrong.code) == (422, "digest_mismatch")
    assert right.status == 201


async def test_mixed_parts_have_metadata_by_their_type(registry: Registry) -> None:
    body = (
        b'--b\r\nContent-Type: application/json\r\n\r\n{"label": "v1"}\r\n'
        b'--b\r\nContent-Disposition: attachment; filename="d/a"\r\n\r\n1\r\n--b--\r\n'
    )

    made = await registry.send(
        "POST", AT, data=body, headers={"Content-Type": 'multipart/mixed; boundary="b"'}
    )

    assert made.status == 201, made.body
    assert (await registry.get("/models/bert/v1/d/a")).body == b"1"


async def test_encoded_parts_and_other_types_are_refused(registry: Registry) -> None:
    encoded = (
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\nMQ==\r\n--b--\r\n"
    )

    for content_type, body in (
        ("multipart/form-data; boundary=b", encoded),
        ("multipart/form-data", encoded),
        ("multipart/related; boundary=b", encoded),
        ("text/plain", b"{}"),
    ):
        refused = await registry.send("POST", AT, data=body, headers={"Content-Type": content_type})
        assert refused.status == 415, content_type
    await nothing_was_made(registry)


async def test_a_cut_leaves_nothing(registry: Registry) -> None:
    head = (
        f"POST {AT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    ).encode()
    start = (
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n1\r\n'
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="b"\r\n\r\n'
    ) + b"x" * 200_000
    _, writer = await registry.site.connect()
    writer.write(head + start)
    await writer.drain()
    drain = registry.site.app[DRAIN]
    await registry.site.until(lambda: bool(drain.in_flight))
    writer.close()
    await writer.wait_closed()
    await registry.check()

    await nothing_was_made(registry)
    assert await registry.count("blobs") == 0


async def test_a_body_without_its_end_is_malformed(registry: Registry) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n12345'

    refused = await registry.send(
        "POST", AT, data=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )

    assert (refused.status, refused.code) == (400, "body_malformed")
    await nothing_was_made(registry)


async def test_a_key_makes_a_repeat_answer_the_same(registry: Registry) -> None:
    fields: tuple[tuple[str, Any, str | None], ...] = (
        ("metadata", {"eval_score": 0.5}, None),
        ("f", b"1", "a"),
    )

    first = await send(registry, *fields, Idempotency_Key="k")
    again = await send(registry, *fields, Idempotency_Key="k")
    other = await send(registry, fields[0], ("f", b"2", "a"), Idempotency_Key="k")

    assert (first.status, again.status) == (201, 201)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json == first.json
    assert (other.status, other.code) == (422, "idempotency_key_reused")


async def test_limits_are_named(tmp_path: Any) -> None:
    config = Config(limits=LimitsConfig(blob_bytes=100_000, version_files=3, json_bytes=1024))
    async with running_registry(tmp_path / "data", config=config) as registry:
        large = await send(registry, ("f", LARGE, "a"))
        many = await send(registry, *(("f", b"1", f"f{n}") for n in range(4)))
        said = await send(registry, ("metadata", {"description": "x" * 2000}, None))

        assert (large.status, large.code) == (413, "body_too_large")
        assert (many.status, many.code) == (400, "too_many_files")
        assert (said.status, said.code) == (413, "body_too_large")
        await nothing_was_made(registry)


async def test_many_files_come_in_one_request(registry: Registry) -> None:
    fields = [("f", b"%d" % n, f"d{n % 7}/f{n}") for n in range(600)]

    made = await send(registry, ("metadata", {"label": "v1"}, None), *fields)

    assert (made.status, made.json["version"]["files"]) == (201, 600)
    assert (await registry.get("/models/bert/v1/d3/f3")).body == b"3"


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        (b'{"label": "latest"}', b"label_is_alias"),
        (b'{"label": "draft1"}', b"draft_exists"),
        (b'{"label": "12"}', b"label_invalid"),
    ],
)
async def test_what_cannot_be_is_said_while_the_file_is_still_to_come(
    registry: Registry, metadata: bytes, code: bytes
) -> None:
    await registry.put("/models/bert/draft1/f", b"1")
    start = (
        b'--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n' + metadata + b"\r\n"
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n'
    )
    head = (
        f"POST {AT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    ).encode()

    answered = await registry.site.raw(head + start)

    assert b'"code":"' + code + b'"' in answered
