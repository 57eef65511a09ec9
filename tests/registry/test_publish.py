"""One line of curl makes a version: put, publish, get, and everything that must be refused."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from registry.domain.trees import TreeFile, tree_digest
from registry.http.conditional import repr_digest_of
from store.digest import Digest
from tests.support.builders import Registry

CONTENT = b"weights" * 1000
OTHER = b"other bytes"
DIGEST = Digest.of(CONTENT)


async def pieces(*found: bytes) -> AsyncIterator[bytes]:
    for piece in found:
        yield piece


async def test_one_line_publishes_and_the_file_comes_back(registry: Registry) -> None:
    put = await registry.put("/models/bert/1.0.0/model.safetensors?publish=true", CONTENT)

    assert put.status == 201
    assert put.json["digest"] == str(DIGEST)
    assert put.json["state"] == "published"
    assert put.json["version"]["number"] == 1
    assert put.json["version"]["label"] == "1.0.0"
    assert put.json["publish_url"] is None
    assert put.headers["Location"] == put.json["url"]
    assert put.headers["Repr-Digest"] == repr_digest_of(DIGEST)
    got = await registry.get("/models/bert/1.0.0/model.safetensors")
    assert (got.status, got.body) == (200, CONTENT)
    assert got.headers["ETag"] == f'"{DIGEST}"'


async def test_a_body_without_a_length_is_taken_too(registry: Registry) -> None:
    put = await registry.put(
        "/models/bert/1/f?publish=true".replace("/1/", "/v1/"), pieces(b"a", b"b")
    )

    assert put.json["digest"] == str(Digest.of(b"ab"))
    assert (await registry.get("/models/bert/v1/f")).body == b"ab"


async def test_an_empty_file_is_a_file(registry: Registry) -> None:
    put = await registry.put("/models/bert/v1/__init__.py?publish=true", b"")

    assert put.status == 201
    assert (await registry.get("/models/bert/v1/__init__.py")).body == b""


async def test_every_way_to_name_a_version_leads_to_it(registry: Registry) -> None:
    version = await registry.publish("bert", "1.0.0", {"f": CONTENT})

    for reference in (
        "1",
        "1.0.0",
        "latest",
        "main",
        "@latest",
        "@main",
        version["tree"],
        version["revision"],
        version["id"],
    ):
        got = await registry.get(f"/models/bert/{reference}/f")
        assert (got.status, got.body) == (200, CONTENT), reference


async def test_a_model_is_found_by_its_id_and_under_default(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": CONTENT})
    [[model_id]] = await registry.rows("SELECT id FROM models")

    for name in ("bert", "default~bert", "default%2Fbert", model_id, "BERT"):
        assert (await registry.get(f"/models/{name}/v1/f")).status == 200, name


async def test_tilde_and_escaped_slash_are_one_name(registry: Registry) -> None:
    await registry.publish("nlp~bert", "v1", {"f": CONTENT})

    assert (await registry.get("/models/nlp%2Fbert/v1/f")).body == CONTENT
    assert (await registry.get("/models/nlp%2fbert/v1/f")).body == CONTENT
    assert (await registry.get("/models/nlp%7Ebert/v1/f")).body == CONTENT
    assert [list(row) for row in await registry.rows("SELECT name FROM models")] == [["nlp/bert"]]


async def test_published_bytes_are_welcome_again_and_others_are_not(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": CONTENT})

    again = await registry.put("/models/bert/v1/f?publish=true", CONTENT)
    other = await registry.put("/models/bert/v1/f", OTHER)
    another_path = await registry.put("/models/bert/v1/g", OTHER)

    assert (again.status, again.json["state"]) == (200, "published")
    assert (other.status, other.code) == (409, "version_published")
    assert (another_path.status, another_path.code) == (409, "version_published")
    assert (await registry.get("/models/bert/v1/f")).body == CONTENT
    assert await registry.rows("SELECT count(*) FROM versions") == [(1,)]


async def test_other_bytes_on_a_published_path_leave_nothing(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": CONTENT})

    await registry.put("/models/bert/v1/f", OTHER)

    assert await registry.rows("SELECT count(*) FROM blobs") == [(1,)]


async def test_a_digest_that_differs_is_named_and_nothing_stays(registry: Registry) -> None:
    put = await registry.put(
        "/models/bert/v1/f", CONTENT, Repr_Digest=repr_digest_of(Digest.of(OTHER))
    )

    assert (put.status, put.code) == (422, "digest_mismatch")
    assert put.json["actual"] == str(DIGEST)
    assert await registry.rows("SELECT count(*) FROM models") == [(0,)]
    assert await registry.rows("SELECT count(*) FROM folders") == [(0,)]
    assert await registry.rows("SELECT count(*) FROM blobs") == [(0,)]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/models/bert/v1/..", "path_invalid"),
        ("/models/bert/v1/a/../b", "path_invalid"),
        ("/models/bert/v1/%2e%2e/b", "path_invalid"),
        ("/models/bert/v1/a/%2E%2e", "path_invalid"),
        ("/models/bert/v1/..%2fb", "path_invalid"),
        ("/models/bert/v1/.", "path_invalid"),
        ("/models/bert/v1//etc/passwd", "path_invalid"),
        ("/models/bert/v1/%2Fetc/passwd", "path_invalid"),
        ("/models/bert/v1/a//b", "path_invalid"),
        ("/models/bert/v1/a/", "path_invalid"),
        ("/models/bert/v1/", "path_invalid"),
        ("/models/bert/v1/a%00b", "path_invalid"),
        ("/models/bert/v1/a%0Ab", "path_invalid"),
        ("/models/bert/v1/a%7Fb", "path_invalid"),
        ("/models/bert/v1/a%C2%85b", "path_invalid"),
        ("/models/bert/v1/a%E2%80%A8b", "path_invalid"),
        ("/models/bert/v1/a%5Cb", "path_invalid"),
        ("/models/bert/v1/.git/config", "path_invalid"),
        ("/models/bert/v1/a/.GIT", "path_invalid"),
        ("/models/bert/v1/" + "x" * 256, "path_invalid"),
        ("/models/bert/v1/" + "/".join(["x" * 200] * 6), "path_invalid"),
        ("/models/bert/v1/a%FF", "path_encoding_invalid"),
        ("/models/bert/v1/a%zz", "path_encoding_invalid"),
        ("/models/bert/v1/100%", "path_encoding_invalid"),
        ("/models/bert/v1", "path_invalid"),
        ("/models/bert%00/v1/f", "model_name_invalid"),
        ("/models/be%40rt/v1/f", "model_name_invalid"),
        ("/models/be:rt/v1/f", "model_name_invalid"),
        ("/models/" + "x" * 97 + "/v1/f", "model_name_invalid"),
        ("/models/api/v1/f", "model_name_invalid"),
        ("/models/default/v1/f", "model_name_invalid"),
        ("/models/mdl_x/v1/f", "model_name_invalid"),
        ("/models/a~~b/v1/f", "model_name_invalid"),
        ("/models/..~b/v1/f", "model_name_invalid"),
        ("/models/bert/-v1/f", "version_reference_invalid"),
        ("/models/bert/v%201/f", "version_reference_invalid"),
        ("/models/bert/v1.tar/f", "version_reference_invalid"),
        ("/models/bert/" + "v" * 129 + "/f", "version_reference_invalid"),
        ("/models/bert/sha256:abc/f", "version_reference_invalid"),
        ("/models/bert/v1/f?publish=maybe", "invalid"),
        ("/models/bert/v1/f?pubish=true", "invalid"),
        ("/models/bert/v1/f?publish=true&expect_files=0", "invalid"),
        ("/models/bert/v1/f?digest=sha256:abc", "invalid_digest"),
    ],
)
async def test_bad_names_are_refused_by_every_verb_and_leave_nothing(
    registry: Registry, path: str, code: str
) -> None:
    put = await registry.put(path, CONTENT)

    assert (put.status, put.code) == (400, code)
    assert await registry.rows("SELECT count(*) FROM models") == [(0,)]
    assert await registry.rows("SELECT count(*) FROM blobs") == [(0,)]


async def test_other_normal_forms_are_one_path(registry: Registry) -> None:
    await registry.put("/models/caf%C3%A9/v1/gru%CC%88n?publish=true", CONTENT)

    assert (await registry.get("/models/cafe%CC%81/v1/gr%C3%BCn")).body == CONTENT
    listed = await registry.get("/models/caf%C3%A9/v1/")
    assert [file["path"] for file in listed.json["files"]] == ["gr\u00fcn"]


async def test_paths_keep_their_case_and_are_flagged(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"README.md": b"a", "readme.md": b"b"})

    listed = (await registry.get("/models/bert/v1/")).json

    assert listed["differing_in_case"] == [["README.md", "readme.md"]]
    assert (await registry.get("/models/bert/v1/README.md")).body == b"a"
    assert (await registry.get("/models/bert/v1/readme.md")).body == b"b"


@pytest.mark.parametrize("name", ["Bert", "BERT", "default~BerT"])
async def test_a_name_that_differs_in_case_only_is_taken(registry: Registry, name: str) -> None:
    await registry.publish("bert", "v1", {"f": CONTENT})

    put = await registry.put(f"/models/{name}/v2/f", CONTENT)

    assert (put.status, put.code, put.json["existing"]) == (409, "model_name_taken", "bert")


async def test_case_folding_is_that_of_unicode(registry: Registry) -> None:
    await registry.publish("stra%C3%9Fe", "v1", {"f": CONTENT})

    put = await registry.put("/models/STRASSE/v1/f", CONTENT)

    assert (put.status, put.json["existing"]) == (409, "stra\u00dfe")


async def test_a_label_that_differs_in_case_only_is_taken(registry: Registry) -> None:
    await registry.publish("bert", "v1-Final", {"f": CONTENT})

    put = await registry.put("/models/bert/V1-FINAL/f", CONTENT)

    assert (put.status, put.code, put.json["existing"]) == (409, "label_taken", "v1-Final")


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("1", "label_required"),
        ("7", "label_required"),
        ("@latest", "label_required"),
        ("@nothing", "label_required"),
        ("sha256:" + "0" * 64, "label_required"),
        ("a" * 40, "label_required"),
        ("latest", "label_is_alias"),
        ("main", "label_is_alias"),
        ("MAIN", "label_is_alias"),
        ("champion", "label_is_alias"),
    ],
)
async def test_a_put_takes_a_label_only(registry: Registry, reference: str, code: str) -> None:
    await registry.publish("bert", "v1", {"f": CONTENT})
    await registry.send("PUT", "/api/v1/models/bert/aliases/champion", json={"version": "v1"})

    put = await registry.put(f"/models/bert/{reference}/f", OTHER)

    assert (put.status, put.code) == (409, code)


async def test_latest_is_reserved_before_the_first_version(registry: Registry) -> None:
    assert (await registry.put("/models/fresh/latest/f", CONTENT)).code == "label_is_alias"
    assert await registry.rows("SELECT count(*) FROM models") == [(0,)]


async def test_a_file_cannot_be_a_directory(registry: Registry) -> None:
    await registry.put("/models/bert/v1/a/b", CONTENT)

    above = await registry.put("/models/bert/v1/a", CONTENT)
    below = await registry.put("/models/bert/v1/a/b/c", CONTENT)
    beside = await registry.put("/models/bert/v1/a-b", CONTENT)

    assert (above.status, above.code) == (409, "path_is_a_directory")
    assert (below.status, below.code) == (409, "path_is_a_directory")
    assert beside.status == 201


async def test_a_declared_digest_is_acknowledged_before_the_body(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": CONTENT})
    travelled = []

    async def body() -> AsyncIterator[bytes]:
        travelled.append(True)
        yield CONTENT

    put = await registry.send(
        "PUT",
        f"/models/bert/v2/f?publish=true&digest={DIGEST}",
        data=body(),
        headers={"Repr-Digest": repr_digest_of(DIGEST)},
        expect100=True,
    )

    assert (put.status, put.json["version"]["number"]) == (201, 2)
    assert put.headers["Connection"] == "close"
    assert travelled == []


async def test_a_digest_that_nobody_owns_must_be_sent(registry: Registry) -> None:
    travelled = []

    async def body() -> AsyncIterator[bytes]:
        travelled.append(True)
        yield CONTENT

    put = await registry.send(
        "PUT", f"/models/bert/v2/f?digest={DIGEST}", data=body(), expect100=True
    )

    assert (put.status, travelled) == (201, [True])


async def test_digests_that_disagree_are_refused(registry: Registry) -> None:
    put = await registry.put(
        f"/models/bert/v2/f?digest={DIGEST}", CONTENT, Repr_Digest=repr_digest_of(Digest.of(OTHER))
    )

    assert (put.status, put.code) == (400, "digest_conflict")


async def test_a_part_is_not_taken_for_the_whole(registry: Registry) -> None:
    put = await registry.put("/models/bert/v1/f", b"abc", Content_Range="bytes 0-2/10")

    assert (put.status, put.json["errors"][0]["field"]) == (400, "Content-Range")


async def test_a_compressed_body_is_refused(registry: Registry) -> None:
    put = await registry.put("/models/bert/v1/f", b"abc", Content_Encoding="gzip")

    assert (put.status, put.code) == (415, "unsupported_encoding")


async def test_published_urls_are_immutable_and_alias_urls_are_asked_again(
    registry: Registry,
) -> None:
    version = await registry.publish("bert", "1.0.0", {"f.html": CONTENT})

    for reference in ("1", "1.0.0", version["tree"], version["revision"], version["id"]):
        got = await registry.get(f"/models/bert/{reference}/f.html")
        assert "immutable" in got.headers["Cache-Control"], reference
        assert got.headers["Vary"] == "Authorization, Cookie"
        assert got.headers["Content-Type"] == "text/html; charset=utf-8"
        assert got.headers["Content-Disposition"] == 'attachment; filename="f.html"'
        assert got.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert got.headers["X-Content-Type-Options"] == "nosniff"
    for reference in ("latest", "@main"):
        got = await registry.get(f"/models/bert/{reference}/f.html")
        assert got.headers["Cache-Control"] == "private, no-cache"


async def test_ranges_and_conditions_hold_on_files(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": CONTENT})

    part = await registry.get("/models/bert/v1/f", Range="bytes=7-13")
    same = await registry.get("/models/bert/v1/f", If_None_Match=f'"{DIGEST}"')
    beyond = await registry.get("/models/bert/v1/f", Range="bytes=99999-")
    head = await registry.send("HEAD", "/models/bert/v1/f")

    assert (part.status, part.body) == (206, b"weights")
    assert same.status == 304
    assert beyond.status == 416
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(CONTENT)))


async def test_sums_feed_sha256sum_and_a_file_of_that_name_wins(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"b": b"1", "a/c": b"2", "a%20b": b"3"})
    await registry.publish("bert", "v2", {"SHA256SUMS": b"mine", "x": b"4"})

    sums = await registry.get("/models/bert/v1/SHA256SUMS")
    head = await registry.send("HEAD", "/models/bert/v1/SHA256SUMS")
    again = await registry.get("/models/bert/v1/SHA256SUMS", If_None_Match=sums.headers["ETag"])

    expected = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {path}\n"
        for path, content in (("a b", b"3"), ("a/c", b"2"), ("b", b"1"))
    )
    assert sums.body.decode() == expected
    assert head.headers["Content-Length"] == str(len(expected))
    assert again.status == 304
    assert (await registry.get("/models/bert/v2/SHA256SUMS")).body == b"mine"


async def test_lists_come_as_json_or_plain_and_in_pages(registry: Registry) -> None:
    await registry.publish("bert", "v1", {f"f{i}": b"%d" % i for i in range(5)})

    whole = (await registry.get("/models/bert/v1/")).json
    first = (await registry.get("/models/bert/v1/?limit=3")).json
    second = (await registry.get(f"/models/bert/v1/?limit=3&after={first['next']}")).json
    plain = await registry.get("/models/bert/v1/", Accept="text/plain")

    assert [file["path"] for file in whole["files"]] == ["f0", "f1", "f2", "f3", "f4"]
    assert (whole["count"], whole["size"], whole["next"]) == (5, 5, None)
    assert first["files"] + second["files"] == whole["files"]
    assert second["next"] is None
    assert plain.body == b"f0\nf1\nf2\nf3\nf4\n"
    assert plain.headers["Content-Type"].startswith("text/plain")


async def test_the_tree_of_an_answer_is_the_canonical_one(registry: Registry) -> None:
    files = {"b": b"1", "a/c": b"22", "Z": b""}
    version = await registry.publish("bert", "v1", files)

    expected = tree_digest(TreeFile(p, Digest.of(c), len(c)) for p, c in files.items())

    assert version["tree"] == str(expected)
    assert (version["files"], version["size"]) == (3, 3)


async def test_a_lone_file_is_streamed_and_more_lead_to_the_archive(registry: Registry) -> None:
    await registry.publish("one", "v1", {"model.bin": CONTENT})
    await registry.publish("two", "v1", {"a": b"1", "b": b"2"})

    lone = await registry.get("/models/one/v1")
    more = await registry.get("/models/two/@latest")

    assert (lone.status, lone.body) == (200, CONTENT)
    assert lone.headers["Content-Disposition"] == 'attachment; filename="model.bin"'
    assert (more.status, more.headers["Location"]) == (302, "/models/two/@latest.tar")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/models/nobody/v1/f", "model_not_found"),
        ("/models/bert/v9/f", "version_not_found"),
        ("/models/bert/9/f", "version_not_found"),
        ("/models/bert/@v1/f", "version_not_found"),
        ("/models/bert/sha256:" + "0" * 64 + "/f", "version_not_found"),
        ("/models/bert/" + "a" * 40 + "/f", "version_not_found"),
        ("/models/bert/v1/nothing", "file_not_found"),
        ("/models/bert/v9", "version_not_found"),
        ("/models/bert/v9.tar", "version_not_found"),
        ("/models/bert/v9/", "version_not_found"),
        ("/models/bert/v9/SHA256SUMS", "version_not_found"),
    ],
)
async def test_what_is_not_there_is_404(registry: Registry, path: str, code: str) -> None:
    await registry.publish("bert", "v1", {"f": CONTENT})

    got = await registry.get(path)

    assert (got.status, got.code) == (404, code)


async def test_versions_of_one_model_share_blobs_and_count_them(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"a": CONTENT, "b": CONTENT, "c": OTHER})
    await registry.publish("bert", "v2", {"a": CONTENT})
    await registry.publish("bert", "v3", {"z": CONTENT})

    assert await registry.rows("SELECT count(*) FROM blobs") == [(2,)]
    assert sorted(await registry.rows("SELECT kind, count FROM refs")) == [("tree", 1), ("tree", 4)]


async def test_equal_versions_share_a_tree_and_get_their_own_numbers(registry: Registry) -> None:
    first = await registry.publish("bert", "v1", {"a": CONTENT})
    second = await registry.publish("bert", "v2", {"a": CONTENT})

    assert first["tree"] == second["tree"]
    assert (first["number"], second["number"]) == (1, 2)
    assert first["revision"] != second["revision"]
    assert await registry.rows("SELECT count(*) FROM trees") == [(1,)]
    by_tree = await registry.get(f"/api/v1/models/bert/versions/{first['tree']}")
    assert by_tree.json["number"] == 2


async def test_publishing_releases_the_pins_that_uploads_made(registry: Registry) -> None:
    await registry.put(f"/blobs/{DIGEST}", CONTENT)
    await registry.send("POST", "/api/v1/pins", json={"digest": str(Digest.of(CONTENT))})
    before = sorted(await registry.rows("SELECT kind FROM refs"))

    await registry.publish("bert", "v1", {"f": CONTENT})

    assert before == [("kept",), ("pin",)]
    assert sorted(await registry.rows("SELECT kind FROM refs")) == [("kept",), ("tree",)]


async def test_many_at_once_get_each_number_once(registry: Registry) -> None:
    answers = await asyncio.gather(
        *(registry.put(f"/models/bert/v{i}/f?publish=true", b"%d" % i) for i in range(20))
    )

    assert [answer.status for answer in answers] == [201] * 20
    numbers = {answer.json["version"]["number"] for answer in answers}
    assert numbers == set(range(1, 21))


async def test_the_same_line_twenty_times_makes_one_version(registry: Registry) -> None:
    answers = await asyncio.gather(
        *(registry.put("/models/bert/v1/f?publish=true", CONTENT) for _ in range(20)),
    )
    retried = [
        await registry.put("/models/bert/v1/f?publish=true", CONTENT)
        for answer in answers
        if answer.status == 409
    ]

    assert {answer.status for answer in answers} <= {200, 201, 409}
    assert {answer.code for answer in answers if answer.status == 409} <= {"uploads_running"}
    assert all(answer.status == 200 for answer in retried)
    assert await registry.rows("SELECT count(*) FROM versions") == [(1,)]
