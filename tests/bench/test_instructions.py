"""Instructions of a request: what rose is told. That nothing did is a step of its own in CI."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench import instructions
from bench.instructions import PATHS, RECORDED, Instructions, replay, risen

WAS = Instructions("valgrind", {"python": "3.11.7"}, {"GET": 10_000})


def with_(count: int, **facts: object) -> Instructions:
    return msgspec.structs.replace(WAS, paths={"GET": count}, **facts)


def test_three_per_cent_more_is_noise_and_more_than_that_is_told() -> None:
    assert risen(WAS, with_(10_300)) == []
    assert risen(WAS, with_(10_301)) == ["GET: 10301 instructions instead of 10000"]


def test_counts_by_something_else_or_under_other_versions_are_not_judged() -> None:
    assert risen(WAS, with_(99_999, counted_by="hardware")) == []
    assert risen(WAS, with_(99_999, versions={"python": "3.12.1"})) == []


@pytest.mark.parametrize(("second", "code"), [(100, 0), (200, 1)])
def test_what_has_risen_once_is_counted_once_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, second: int, code: int
) -> None:
    recorded = tmp_path / "recorded.json"
    recorded.write_bytes(msgspec.json.encode(with_(100)))
    runs = iter([with_(200), with_(second)])
    monkeypatch.setattr(instructions, "RECORDED", recorded)
    monkeypatch.setattr(instructions, "measure", lambda: next(runs))

    assert instructions.main([]) == code
    assert next(runs, None) is None


def test_every_path_is_recorded() -> None:
    was = msgspec.json.decode(RECORDED.read_bytes(), type=Instructions)
    assert was.paths.keys() == PATHS.keys()


@pytest.mark.parametrize("path", list(PATHS))
async def test_each_path_is_answered_as_often_as_it_is_asked(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write = list[int](), instructions._Sink.write

    def noting(sink: instructions._Sink, data: bytes) -> None:
        written.append(len(data))
        write(sink, data)

    monkeypatch.setattr(instructions._Sink, "write", noting)
    await replay(path, 5)
    assert sum(written) > 25 * 4096
    assert len(set(written[-5:])) == 1
