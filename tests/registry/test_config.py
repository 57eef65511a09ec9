from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from registry.config import (
    FIELDS,
    Config,
    ConfigError,
    accepted,
    environment_name,
    is_loopback,
    load,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.toml"


def refusal(
    path: Path | None = None, environ: dict[str, str] | None = None, **flags: object
) -> str:
    given = {name.replace("__", "."): value for name, value in flags.items()}
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {}, given)
    return str(caught.value)


def test_nothing_given_is_every_default() -> None:
    assert load(None, {}, {}) == Config()


def test_the_reference_file_is_every_default() -> None:
    assert load(ROOT / "config.toml", {}, {}) == Config()


def test_a_file_in_the_working_directory_is_not_read_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text("[server]\nport = 1\n")
    monkeypatch.chdir(tmp_path)

    assert load(None, {}, {}).server.port == 8080


def test_the_environment_can_name_the_file(file: Path) -> None:
    file.write_text("[server]\nport = 99\n")

    assert load(None, {"DIGESTRY_CONFIG": str(file)}, {}).server.port == 99


def test_environment_overrides_file_and_flags_override_both(file: Path) -> None:
    file.write_text('[server]\nport = 1\nworkers = 2\nhost = "127.0.0.2"\n')
    environ = {"DIGESTRY_SERVER_PORT": "3", "DIGESTRY_SERVER_WORKERS": "4"}

    config = load(file, environ, {"server.port": 5, "server.host": None})

    assert (config.server.port, config.server.workers, config.server.host) == (5, 4, "127.0.0.2")


def test_environment_values_take_the_type_of_their_field() -> None:
    environ = {
        "DIGESTRY_SERVER_OPEN_TO_NETWORK": "true",
        "DIGESTRY_STORE_RESERVE_SHARE": "0.25",
        "DIGESTRY_SERVER_ALLOWED_HOSTS": "one.example, two.example",
        "DIGESTRY_LOG_LEVEL": "debug",
    }

    config = load(None, environ, {})

    assert config.server.open_to_network is True
    assert config.store.reserve_share == 0.25
    assert config.server.allowed_hosts == ("one.example", "two.example")
    assert config.log.level == "debug"


def test_variables_of_tests_and_other_programs_are_left_alone() -> None:
    environ = {"DIGESTRY_TESTS_COMPLETE": "1", "DIGESTRY_INTERNAL_SLOT": "1", "PATH": "/bin"}

    assert load(None, environ, {}) == Config()


@pytest.mark.parametrize(
    ("text", "named", "nearest"),
    [
        ("[sever]\nport = 1\n", "sever", "server"),
        ("[server]\nprot = 1\n", "server.prot", "server.port"),
        ("[limits]\nblob_byte = 1\n", "limits.blob_byte", "limits.blob_bytes"),
    ],
)
def test_unknown_keys_name_the_nearest_known_one(
    file: Path, text: str, named: str, nearest: str
) -> None:
    file.write_text(text)

    sentence = refusal(file)

    assert sentence.startswith(f"{named} in {file} is not a setting")
    assert sentence.endswith(f"the nearest one is {nearest}")


def test_unknown_variables_name_the_nearest_known_one() -> None:
    sentence = refusal(environ={"DIGESTRY_SEVER_PORT": "1"})

    assert sentence.endswith("the nearest one is DIGESTRY_SERVER_PORT")


def test_unknown_flags_are_errors() -> None:
    assert "server.prot" in refusal(server__prot=1)


@pytest.mark.parametrize(
    ("key", "value", "accepts"),
    [
        ("server.port", "70000", "a whole number from 0 to 65535"),
        ("server.port", "http", "a whole number from 0 to 65535"),
        ("server.idle_timeout_seconds", "0", "a number above 0 up to 31536000"),
        ("store.reserve_share", "1.5", "a number from 0 to 1"),
        ("store.backend", "s3", "one of 'local', 'memory'"),
        ("store.data", "", "a text that is not empty"),
        ("server.open_to_network", "perhaps", "true or false"),
    ],
)
def test_wrong_values_name_key_source_and_what_is_accepted(
    key: str, value: str, accepts: str
) -> None:
    variable = environment_name(key)

    assert refusal(environ={variable: value}) == (
        f"{key} from {variable}: expected {accepts}, found {value!r}"
    )


def test_a_text_where_a_number_belongs_is_wrong_in_a_list_too(file: Path) -> None:
    file.write_text("[server]\nallowed_hosts = [1]\n")

    assert "server.allowed_hosts" in refusal(file)


def test_every_key_says_what_it_accepts() -> None:
    assert all(accepted(key) for key in FIELDS)


def test_a_missing_file_is_named(file: Path) -> None:
    assert refusal(file).startswith(f"cannot read {file}")


@pytest.mark.parametrize("content", [b"[server", b"\xff\xfe", b"server = 1"])
def test_a_broken_file_is_named(file: Path, content: bytes) -> None:
    file.write_bytes(content)

    assert str(file) in refusal(file)


def test_listening_elsewhere_needs_a_second_setting() -> None:
    sentence = refusal(server__host="0.0.0.0")

    assert "server.open_to_network" in sentence
    assert load(None, {}, {"server.host": "0.0.0.0", "server.open_to_network": True})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.1", False),
        ("example.org", False),
    ],
)
def test_loopback_is_recognised(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_memory_has_one_worker() -> None:
    assert "server.workers" in refusal(store__backend="memory", server__workers=2)


@pytest.mark.parametrize("proxy", ["nginx", "10.0.0.0/40", ""])
def test_proxies_are_addresses_or_networks(proxy: str) -> None:
    assert "server.trusted_proxies" in refusal(server__trusted_proxies=[proxy])


@pytest.mark.parametrize(
    "origin", ["*", "example.org", "https://", "https://a.example/path", "https://*.example"]
)
def test_cors_origins_are_single_origins(origin: str) -> None:
    assert "server.cors_origins" in refusal(server__cors_origins=[origin])


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Config().server.port = 1  # type: ignore[misc]  # that it is refused is the point


def test_importing_the_settings_loads_no_framework() -> None:
    """The supervisor's start-up budget is counted in imports."""
    program = (
        "import sys, registry.config; print([name for name in ('aiohttp', 'sqlalchemy', 'asyncio', "
        "'prometheus_client', 'structlog') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("place", "word"),
    [("blobs", "no place"), ("/blobs", "no place"), ("/", "no place"), ("/_blobs/", "trusted")],
)
def test_blobs_are_left_to_a_proxy_only_by_a_place_and_a_name(place: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        load(None, {"DIGESTRY_SERVER_ACCEL_REDIRECT": place})

    given = {"DIGESTRY_SERVER_ACCEL_REDIRECT": "/_blobs/"}
    trusted = {**given, "DIGESTRY_SERVER_TRUSTED_PROXIES": "127.0.0.1"}
    assert load(None, trusted).server.accel_redirect == "/_blobs/"


@pytest.mark.parametrize("key", ["auth.anonymous_read", "auth.self_registration"])
def test_what_means_nothing_in_open_mode_is_refused_there(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} says nothing while auth.mode is 'open'"):
        load(None, {}, {key: True})

    assert load(None, {}, {key: True, "auth.mode": "authenticated"}).auth.mode == "authenticated"
