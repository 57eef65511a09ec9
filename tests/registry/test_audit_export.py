"""The exported audit log: everything once, with what it takes to check its seals without us."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import datetime
from typing import Any

import msgspec
import pytest

from registry.api.audit_export import export_lines
from registry.catalog.audit import AuditEntry, Entry, record
from registry.catalog.seals import Seal, canonical, canonical_entry
from registry.domain.principals import LOCAL
from registry.services import audit_export
from registry.services.seals import LABEL, Seals
from store.clock import SECOND
from store.index.transactions import Tx
from store.opening import Store
from tests.support.builders import Registry


@pytest.fixture
async def seals(store: Store) -> Seals:
    """Three seals over nine entries, and one entry that none covers."""
    seals = Seals(store)
    for group in ("abc", "def", "ghi"):
        await write(store, group)
        await seals.seal()
    await write(store, "j")
    return seals


async def write(store: Store, names: str) -> None:
    async def unit(tx: Tx) -> None:
        for name in names:
            said = {"né": f"{name}\n", "x": 1.50}
            await record(tx, LOCAL, Entry(action="create", kind="model", id=name, after=said))

    await store.index.run(unit)


async def lines(store: Store, since: int = 0) -> list[bytes]:
    pieces = [piece async for piece in export_lines(store, since)]
    return b"".join(pieces).splitlines()


def ids(found: list[bytes]) -> list[int]:
    return [line["id"] for line in map(json.loads, found) if "id" in line]


def heads(found: list[bytes]) -> list[int]:
    return [line["seal"] for line in map(json.loads, found) if "head" in line]


async def test_all_that_is_sealed_is_exported_in_order(store: Store, seals: Seals) -> None:
    found = await lines(store)

    assert (ids(found), heads(found)) == (list(range(1, 10)), [1, 2, 3])
    assert [json.loads(line)["seal"] for line in found] == [1] * 4 + [2] * 4 + [3] * 4


@pytest.mark.parametrize("since", range(11))
async def test_an_export_goes_on_behind_the_one_before(
    store: Store, seals: Seals, since: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_export, "PAGE_SEALS", 1)
    monkeypatch.setattr(audit_export, "PAGE_ENTRIES", 2)

    assert ids(await lines(store, since)) == list(range(since + 1, 10))


def micros(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * SECOND + moment.microsecond


class Line(msgspec.Struct):
    id: int
    time: str
    actor: str
    actor_name: str
    action: str
    kind: str
    entity: str
    name: str
    model: str | None
    before: msgspec.Raw
    after: msgspec.Raw
    reason: str
    request_id: str


def entry_of(line: bytes) -> AuditEntry:
    found = msgspec.json.decode(line, type=Line)

    def text(raw: msgspec.Raw) -> str | None:
        return None if bytes(raw) == b"null" else bytes(raw).decode()

    return AuditEntry(
        found.id,
        micros(found.time),
        found.actor,
        found.actor_name,
        found.request_id,
        found.action,
        found.kind,
        found.entity,
        found.name,
        found.model,
        text(found.before),
        text(found.after),
        found.reason,
    )


def seal_of(line: Any) -> Seal:
    return Seal(
        number=line["seal"],
        first=line["first"],
        last=line["last"],
        entries=line["entries"],
        previous=bytes.fromhex(line["previous"]),
        seal=bytes.fromhex(line["head"].partition(".")[2]),
        created_at=micros(line["time"]),
    )


async def test_seals_can_be_computed_from_the_lines_alone(store: Store, seals: Seals) -> None:
    key = (await seals.root_key()).sub_key(LABEL)
    entries: list[AuditEntry] = []
    checked = 0
    for line in await lines(store):
        if b'"head"' not in line:
            entries.append(entry_of(line))
            continue
        seal = seal_of(json.loads(line))
        whole = canonical(seal) + b"".join(map(canonical_entry, entries))
        assert hmac.digest(key, whole, hashlib.sha256) == seal.seal
        entries.clear()
        checked += 1

    assert checked == 3


async def test_the_export_comes_over_http(registry: Registry) -> None:
    seals = Seals(registry.store)
    await write(registry.store, "abc")
    await seals.seal()

    answer = await registry.get("/api/v1/audit/export?since=1")

    assert answer.headers["Content-Type"] == "application/jsonl"
    assert ids(answer.body.splitlines()) == [2, 3]
    assert (await registry.get("/api/v1/audit/export?since=-1")).status == 400
