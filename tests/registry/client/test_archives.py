"""A model fetched as one file, and made of one: continued, refused, and never half there."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from yarl import URL

from registry.client.archives import fetch_archive, send_archive, send_stream, stream_archive
from registry.client.connection import Connection
from registry.client.errors import Damaged, Refused, SourceRefused, TargetRefused
from tests.registry.client.conftest import Connect, Watched, linked
from tests.support.builders import Registry
from tests.support.exporting import export

LARGE = bytes(range(256)) * 12_000


@pytest.fixture
async def filled(registry: Registry) -> Registry:
    await registry.publish("nlp~bert", "1.0.0", {"model.bin": LARGE, "config.json": b"{}"})
    await registry.publish("nlp~bert", "2.0.0", {"config.json": b"[]"})
    return registry


async def test_an_export_is_a_whole_file_or_none(
    filled: Registry, connect: Connect, tmp_path: Path, watched: Watched
) -> None:
    target = tmp_path / "bert.tar"
    async with connect(filled.url) as connection:
        exported = await fetch_archive(connection, "nlp~bert", [], target, watched)
        with pytest.raises(TargetRefused):
            await fetch_archive(connection, "nlp~bert", [], target, watched)
        with pytest.raises(Refused):
            await fetch_archive(connection, "nlp~nobody", [], tmp_path / "no.tar", watched)
        one = await fetch_archive(connection, "nlp~bert", ["2.0.0"], tmp_path / "2.tar", watched)

    assert target.read_bytes() == await export(filled, "nlp~bert")
    assert exported.size == target.stat().st_size > one.size
    assert watched.ended_full("exporting")
    assert sorted(path.name for path in tmp_path.glob("*.tar*")) == ["2.tar", "bert.tar"]


async def test_a_broken_export_goes_on_where_it_stopped(
    filled: Registry, connect: Connect, watched: Watched
) -> None:
    sink = io.BytesIO()
    async with linked(port_of(filled)) as link:
        link.down = [1_000_000, 1_000_000, None]
        async with connect(link.url) as connection:
            await stream_archive(connection, "nlp~bert", [], sink, watched)

    assert sink.getvalue() == await export(filled, "nlp~bert")


async def test_an_import_from_a_file_or_a_pipe(
    filled: Registry, connect: Connect, tmp_path: Path, watched: Watched
) -> None:
    content = await export(filled, "nlp~bert")
    source = tmp_path / "bert.tar"
    source.write_bytes(content)
    async with connect(filled.url) as connection:
        made = await send_archive(connection, source, "copy/one", watched)
        piped = await send_stream(connection, io.BytesIO(content), "copy/two", watched)
        with pytest.raises(Refused) as taken:
            await send_archive(connection, source, "copy/one", watched)
        with pytest.raises(SourceRefused):
            await send_archive(connection, tmp_path / "none.tar", None, watched)

    assert (made.model.name, made.versions, made.burnt) == ("copy/one", 2, 0)
    assert piped.model.name == "copy/two"
    assert taken.value.code == "model_name_taken"


async def test_a_model_that_changed_meanwhile_is_not_mixed(
    filled: Registry, watched: Watched
) -> None:
    async def change(_: float) -> None:
        await filled.publish("nlp~bert", "3.0.0", {"x": b"1"})

    async with linked(port_of(filled)) as link:
        link.down = [1_000_000, None]
        async with Connection(link.url, sleep=change) as connection:
            with pytest.raises(Damaged, match="changed while it was exported"):
                await stream_archive(connection, "nlp~bert", [], io.BytesIO(), watched)


def port_of(registry: Registry) -> int:
    port = URL(registry.url).port
    assert port is not None
    return port
