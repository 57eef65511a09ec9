"""The small parts of the command line: flags, exits, presence, listening, schema, rates."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path

import pytest

from registry.auth.local_secret import LocalSecret, authorization, is_local_secret
from registry.catalog.migrations import CHAINS
from registry.cli import collection, presence
from registry.cli.checks import rate_of, scrub_question
from registry.cli.exits import CommandError, printable
from registry.cli.flags import ServeFlags, parse
from registry.cli.listening import listen, url_of
from registry.cli.output import size
from registry.cli.schema import SCHEMA_NUMBER, is_current
from store.index.upgrade import composed


def test_flags_written_as_the_help_says_are_understood() -> None:
    found = parse(
        ["--host", "127.0.0.1", "--port=0", "--data", "d d", "--workers", "2"], ServeFlags
    )

    assert found == ServeFlags(host="127.0.0.1", port=0, data="d d", workers=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--port"],
        ["--port", "x"],
        ["--port", "-1"],
        ["--port", "1", "--port", "2"],
        ["--prot", "1"],
        ["serve"],
        ["--host", "--port"],
        ["--port", "99999999999999999999"],
    ],
)
def test_anything_unusual_is_left_to_the_parser_that_can_explain_it(arguments: list[str]) -> None:
    assert parse(arguments, ServeFlags) is None


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert printable("a\x1b[2Jb\r\n\u202ec\U000e0001") == "a\\x1b[2Jb\\x0d\\x0a\\u202ec\\U000e0001"


def test_printable_text_is_shown_as_it_is() -> None:
    assert printable("modèle-日本 1") == "modèle-日本 1"


def test_the_schema_number_is_the_one_of_the_newest_migrations() -> None:
    assert composed(CHAINS) == SCHEMA_NUMBER


def test_a_file_that_is_no_index_is_not_current(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("{}")
    (tmp_path / "index.sqlite3").write_bytes(b"x" * 200)

    assert not is_current(tmp_path)


def test_the_presence_file_is_for_the_owner_alone(tmp_path: Path) -> None:
    told = presence.Presence(1, "http://127.0.0.1:1", presence.new_secret())
    presence.announce(tmp_path, told)

    assert presence.find(tmp_path) == told
    assert stat.S_IMODE((tmp_path / presence.FILE).stat().st_mode) == 0o600
    assert told.secret not in repr(told)


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"pid": "x"})])
def test_a_presence_file_that_is_not_ours_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / presence.FILE).write_text(content)

    assert presence.find(tmp_path) is None


def test_the_local_secret_admits_on_loopback_only() -> None:
    secret = LocalSecret("s3cret")
    offered = authorization("s3cret")

    assert secret.admits(offered, "127.0.0.1")
    assert secret.admits(offered, "::1")
    assert secret.admits(offered, "::ffff:127.0.0.1")
    assert not secret.admits(offered, "192.0.2.1")
    assert not secret.admits(offered, None)
    assert not secret.admits(offered, "somewhere")


@pytest.mark.parametrize(
    "offered", [None, "", "Digestry-Local", "Basic s3cret", "Digestry-Local x"]
)
def test_a_wrong_local_secret_admits_nobody(offered: str | None) -> None:
    assert not LocalSecret("s3cret").admits(offered, "127.0.0.1")


def test_without_a_secret_nobody_is_admitted() -> None:
    assert not LocalSecret(None).admits(authorization(""), "127.0.0.1")
    assert not LocalSecret("").admits(authorization(""), "127.0.0.1")
    assert "s3cret" not in repr(LocalSecret("s3cret"))


def test_only_our_scheme_is_a_local_secret() -> None:
    assert is_local_secret("digestry-local x")
    assert not is_local_secret("Bearer x")
    assert not is_local_secret(None)


def test_a_port_that_is_taken_is_refused_by_name() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(CommandError, match=f"port {port} on 127.0.0.1 is in use"):
            listen("127.0.0.1", port)


@pytest.mark.skipif(not hasattr(socket, "TCP_CONGESTION"), reason="Linux alone has the choice")
def test_a_loopback_listener_sends_without_the_pacing_of_bbr(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What pacing there is comes with a connection from its listener; elsewhere it stays."""
    option = socket.IPPROTO_TCP, socket.TCP_CONGESTION

    def name(one: socket.socket) -> bytes:
        return one.getsockopt(*option, 16).rstrip(b"\0")

    with socket.socket() as fresh:
        usual = name(fresh)
    monkeypatch.setattr("registry.cli.listening.PACED", usual)
    with listen("127.0.0.1", 0) as local, listen("0.0.0.0", 0) as everywhere:
        with socket.create_connection(local.getsockname()):
            local.setblocking(True)
            accepted, _ = local.accept()
        with accepted:
            assert name(accepted) == name(local) == b"reno"
        assert name(everywhere) == usual

    monkeypatch.setattr("registry.cli.listening.PACED", b"another")
    with listen("127.0.0.1", 0) as chosen:
        assert name(chosen) == usual


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(CommandError, match="not an address of this machine"):
        listen("192.0.2.1", 0)


def test_a_host_that_is_none_is_refused() -> None:
    with pytest.raises(CommandError, match="cannot listen on host"):
        listen("a..b", 0)


def test_the_url_is_one_that_a_person_can_use() -> None:
    with listen("0.0.0.0", 0) as everywhere, listen("localhost", 0) as local:
        port = everywhere.getsockname()[1]

        assert url_of(everywhere, "0.0.0.0") == f"http://127.0.0.1:{port}"
        assert url_of(local, "localhost").startswith("http://localhost:")


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 on this machine")
def test_the_url_of_an_ipv6_address_has_brackets() -> None:
    try:
        listener = listen("::1", 0)
    except CommandError:
        pytest.skip("no IPv6 loopback on this machine")
    with listener:
        assert url_of(listener, "::1").startswith("http://[::1]:")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1000", 1000), ("50M", 50 << 20), ("1g", 1 << 30), ("2KiB/s", 2048), ("3MB", 3 << 20)],
)
def test_rates_are_numbers_with_a_power_of_1024(text: str, expected: int) -> None:
    assert rate_of(text) == expected


@pytest.mark.parametrize("text", ["", "0", "fast", "-1", "1.5M", "1P"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="--rate"):
        rate_of(text)


def test_a_bare_hexadecimal_name_means_sha256() -> None:
    assert str(scrub_question(rate=None, digests=["a" * 64]).digests[0]) == "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 40, "1.0 TiB")]
)
def test_sizes_are_shown_in_binary_units(count: int, expected: str) -> None:
    assert size(count) == expected


def choose(**flags: object) -> collection.Action:
    unset: dict[str, object] = {
        "apply": False,
        "plan": None,
        "undo": None,
        "purge": False,
        "everything": False,
        "status": False,
        "confirm": False,
    }
    return collection.choose(**(unset | flags))  # type: ignore[arg-type]  # tests pass any flags


def test_gc_without_flags_only_plans() -> None:
    assert choose().verb == "plan"


@pytest.mark.parametrize(
    "flags",
    [
        {"apply": True, "purge": True},
        {"undo": "x", "status": True},
        {"plan": "x"},
        {"everything": True},
    ],
)
def test_gc_flags_that_contradict_each_other_are_refused(flags: dict[str, object]) -> None:
    with pytest.raises(CommandError):
        choose(**flags)
