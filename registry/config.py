"""The settings of a server, read once at start: file, then environment, then command-line flags.

``config.toml`` at the top of the repository is the reference: every key at its default, with one
comment on what it does. `load` is the only reader of the file and of ``DIGESTRY_…`` variables. It
does not look for a file by itself: a ``config.toml`` that happens to lie in the working directory
must not change a server, so the path is given with ``--config`` or ``DIGESTRY_CONFIG``.

An unknown key is an error that names the nearest known one, and a wrong value is an error that
names the key, where it came from and what is accepted: a setting that silently does not apply is
worse than a server that does not start.

The supervisor imports this module before anything else, so it needs msgspec and the standard
library alone.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

ENVIRONMENT_PREFIX: Final = "DIGESTRY_"
CONFIG_VARIABLE: Final = "DIGESTRY_CONFIG"

ADMIN_TOKEN_FILE: Final = "admin-token"  # noqa: S105 - the name of a file
"""In the data directory: the first administrator's token, for its owner's eyes."""

_NOT_SETTINGS: Final = (
    CONFIG_VARIABLE,
    "DIGESTRY_URL",  # which server commands talk to
    "DIGESTRY_TOKEN",  # what they show it
    "DIGESTRY_TESTS_",  # how the tests are run
    "DIGESTRY_BENCH_",  # how the benchmarks are run
    "DIGESTRY_INTERNAL_",  # what the supervisor tells its workers
)

Count = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[int, Meta(ge=1, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=31_536_000)]
WholeSeconds = Annotated[int, Meta(ge=0, le=315_360_000)]
Share = Annotated[float, Meta(ge=0, le=1)]

_MIB: Final = 1 << 20
_GIB: Final = 1 << 30


class ConfigError(ValueError):
    """A setting that cannot be used; the sentence names it and what would be accepted."""


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    open_to_network: bool = False
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    accel_redirect: str = ""
    cors_origins: tuple[str, ...] = ()
    tls_certificate: str = ""
    tls_key: str = ""
    drain_seconds: Seconds = 30
    hang_seconds: Seconds = 60
    idle_timeout_seconds: PositiveSeconds = 60
    minimum_rate_bytes_per_second: Count = 1024
    minimum_rate_grace_seconds: PositiveSeconds = 30
    read_buffer_bytes: Annotated[int, Meta(ge=65536, le=64 * _MIB)] = _MIB


class AuthConfig(msgspec.Struct, frozen=True, kw_only=True):
    mode: Literal["open", "authenticated"] = "open"
    anonymous_read: bool = False
    self_registration: bool = False
    access_seconds: Annotated[int, Meta(ge=30, le=86_400)] = 900
    session_hours: Annotated[int, Meta(ge=1, le=87_600)] = 336
    password_memory_kib: Annotated[int, Meta(ge=8, le=4 * _MIB)] = 65_536
    password_passes: Annotated[int, Meta(ge=1, le=100)] = 3
    password_lanes: Annotated[int, Meta(ge=1, le=64)] = 4


class OidcConfig(msgspec.Struct, frozen=True, kw_only=True):
    issuer: str = ""
    client_id: str = ""
    client_secret_file: str = ""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    create_users: bool = True
    username_claim: Annotated[str, Meta(min_length=1)] = "preferred_username"
    admin_claim: str = ""
    admin_value: str = ""
    team_claim: str = ""
    team_role: Literal["reader", "writer", "maintainer", "admin"] = "writer"


class RatesConfig(msgspec.Struct, frozen=True, kw_only=True):
    reads_per_minute: Count = 0
    writes_per_minute: Count = 0
    logins_per_minute: Count = 30


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True):
    data: Annotated[str, Meta(min_length=1)] = "./data"
    archive: str = ""
    backend: Literal["local", "memory"] = "local"
    verify_reads: Literal["boot", "strict", "scrub"] = "boot"
    verify_again_days: Annotated[int, Meta(ge=1, le=3650)] = 7
    durability: Literal["full", "relaxed"] = "full"
    reserve_bytes: Count = _GIB
    reserve_share: Share = 0.01


class LimitsConfig(msgspec.Struct, frozen=True, kw_only=True):
    blob_bytes: Count = 0
    json_bytes: Annotated[int, Meta(ge=1024, le=_GIB)] = 16 * _MIB
    uploads_per_principal: Positive = 1000
    staged_bytes_per_principal: Count = 1 << 40
    version_files: Positive = 100_000
    tar_entries: Positive = 100_000
    tar_path_bytes: Annotated[int, Meta(ge=100, le=65536)] = 4096
    tar_header_bytes: Annotated[int, Meta(ge=512, le=16 * _MIB)] = 65536
    missing_digests: Positive = 10_000


class UploadsConfig(msgspec.Struct, frozen=True, kw_only=True):
    expire_seconds: Annotated[int, Meta(ge=1, le=315_360_000)] = 7 * 86400


class CollectionConfig(msgspec.Struct, frozen=True, kw_only=True):
    grace_seconds: WholeSeconds = 86400
    undo_seconds: WholeSeconds = 7 * 86400
    max_share: Share = 0.5


class OutboundConfig(msgspec.Struct, frozen=True, kw_only=True):
    allow_private: tuple[str, ...] = ()


class DraftsConfig(msgspec.Struct, frozen=True, kw_only=True):
    expire_days: Annotated[int, Meta(ge=1, le=36500)] = 30


class HealthConfig(msgspec.Struct, frozen=True, kw_only=True):
    sample_seconds: Annotated[int, Meta(ge=15, le=86400)] = 60
    keep_days: Annotated[int, Meta(ge=1, le=36500)] = 365


class EventsConfig(msgspec.Struct, frozen=True, kw_only=True):
    stream_seconds: Annotated[int, Meta(ge=0, le=86400)] = 3600
    streams: Positive = 100


class AuditConfig(msgspec.Struct, frozen=True, kw_only=True):
    keep_days: Annotated[int, Meta(ge=0, le=36500)] = 0
    address_days: Annotated[int, Meta(ge=0, le=36500)] = 90


class ArchiveConfig(msgspec.Struct, frozen=True, kw_only=True):
    every_minutes: Annotated[float, Meta(ge=0, le=525_600)] = 10
    bytes_per_second: Count = 64 * _MIB


class RetentionConfig(msgspec.Struct, frozen=True, kw_only=True):
    every_hours: Annotated[float, Meta(ge=0, le=87_600)] = 24


class TelemetryConfig(msgspec.Struct, frozen=True, kw_only=True):
    endpoint: str = ""
    service_name: Annotated[str, Meta(min_length=1, max_length=200)] = "digestry"
    sample_ratio: Share = 1.0
    headers_file: str = ""


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting there is; sections are the tables of ``config.toml``."""

    server: ServerConfig = ServerConfig()
    auth: AuthConfig = AuthConfig()
    oidc: OidcConfig = OidcConfig()
    rates: RatesConfig = RatesConfig()
    store: StoreConfig = StoreConfig()
    limits: LimitsConfig = LimitsConfig()
    uploads: UploadsConfig = UploadsConfig()
    collection: CollectionConfig = CollectionConfig()
    drafts: DraftsConfig = DraftsConfig()
    outbound: OutboundConfig = OutboundConfig()
    health: HealthConfig = HealthConfig()
    events: EventsConfig = EventsConfig()
    audit: AuditConfig = AuditConfig()
    retention: RetentionConfig = RetentionConfig()
    archive: ArchiveConfig = ArchiveConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    log: LogConfig = LogConfig()


def _annotated_fields(section: type[msgspec.Struct]) -> dict[str, Any]:
    return get_type_hints(section, include_extras=True)


SECTIONS: Final[dict[str, type[msgspec.Struct]]] = get_type_hints(Config)
FIELDS: Final[dict[str, Any]] = {
    f"{section}.{name}": kind
    for section, struct in SECTIONS.items()
    for name, kind in _annotated_fields(struct).items()
}
"""Every key as ``section.field`` with its annotated type."""


def load(
    path: Path | str | None,
    environ: Mapping[str, str],
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """Read the settings; later sources override earlier ones; raises `ConfigError`.

    `path` None takes ``DIGESTRY_CONFIG`` from `environ`, if it is there. `flags` maps
    ``section.field`` to a value; None means that the flag was not given.
    """
    return load_traced(path, environ, flags)[0]


def load_traced(
    path: Path | str | None,
    environ: Mapping[str, str],
    flags: Mapping[str, Any] | None = None,
) -> tuple[Config, dict[str, str]]:
    """The settings, and where each key comes from that is not at its default."""
    chosen: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for key, value, origin in _given(path, environ, flags or {}):
        chosen[key] = _converted(key, value, origin)
        origins[key] = origin
    sections = {
        section: struct(
            **{
                name: chosen[f"{section}.{name}"]
                for name in struct.__struct_fields__
                if f"{section}.{name}" in chosen
            }
        )
        for section, struct in SECTIONS.items()
    }
    config = Config(**sections)  # type: ignore[arg-type]  # each value was built by its own section
    _check_together(config)
    return config, origins


def environment_name(key: str) -> str:
    """``server.port`` -> ``DIGESTRY_SERVER_PORT``."""
    return ENVIRONMENT_PREFIX + key.replace(".", "_").upper()


def is_loopback(host: str) -> bool:
    """Whether a server that listens on `host` is reachable from this machine alone."""
    if host in ("127.0.0.1", "::1", "localhost"):
        return True
    import ipaddress  # only for unusual hosts: start-up time is counted in imports

    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _given(
    path: Path | str | None, environ: Mapping[str, str], flags: Mapping[str, Any]
) -> Iterator[tuple[str, Any, str]]:
    file = path if path is not None else environ.get(CONFIG_VARIABLE) or None
    if file is not None:
        yield from _from_file(Path(file))
    yield from _from_environment(environ)
    for key, value in flags.items():
        if key not in FIELDS:
            raise ConfigError(_unknown(key, list(FIELDS), "flags"))
        if value is not None:
            yield key, value, "command line"


def _from_file(path: Path) -> Iterator[tuple[str, Any, str]]:
    try:
        document = msgspec.toml.decode(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not well-formed TOML: {error}") from error
    for section, table in document.items():
        if section not in SECTIONS:
            raise ConfigError(_unknown(section, [*SECTIONS, *FIELDS], str(path)))
        if not isinstance(table, dict):
            raise ConfigError(f"{section} in {path} must be a table, written [{section}]")
        for name, value in table.items():
            key = f"{section}.{name}"
            if key not in FIELDS:
                raise ConfigError(_unknown(key, list(FIELDS), str(path)))
            yield key, value, str(path)


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    known = {environment_name(key): key for key in FIELDS}
    for name, text in environ.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name.startswith(_NOT_SETTINGS):
            continue
        if name not in known:
            raise ConfigError(_unknown(name, list(known), "the environment"))
        yield known[name], _split_list(known[name], text), name


def _split_list(key: str, text: str) -> Any:
    if get_origin(_bare(FIELDS[key])) is not tuple:
        return text
    return [part.strip() for part in text.split(",") if part.strip()]


def _converted(key: str, value: Any, origin: str) -> Any:
    is_text = isinstance(value, str)
    try:
        return msgspec.convert(value, FIELDS[key], strict=not is_text)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{key} from {origin}: expected {accepted(key)}, found {value!r}"
        ) from error


def accepted(key: str) -> str:
    """What a key takes, in words: ``a whole number from 0 to 65535``."""
    kind = FIELDS[key]
    bare = _bare(kind)
    if get_origin(bare) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(bare))
    if get_origin(bare) is tuple:
        return "a list of texts"
    noun = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[bare]
    metas = [meta for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, Meta)]
    return noun + "".join(_bounds(meta) for meta in metas)


def _bounds(meta: Meta) -> str:
    words = []
    if meta.ge is not None:
        words.append(f" from {meta.ge}")
    if meta.gt is not None:
        words.append(f" above {meta.gt}")
    if meta.le is not None:
        words.append(f" to {meta.le}" if meta.ge is not None else f" up to {meta.le}")
    if meta.min_length:
        words.append(" that is not empty")
    return "".join(words)


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _unknown(name: str, known: list[str], origin: str) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"{name} in {origin} is not a setting; the nearest one is {nearest[0]}"


def _check_together(config: Config) -> None:
    server = config.server
    is_open = config.auth.mode == "open"
    if is_open and not server.open_to_network and not is_loopback(server.host):
        raise ConfigError(
            f"server.host {server.host!r} is reachable from other machines and this server asks "
            "nobody who they are; set auth.mode = 'authenticated', or server.open_to_network = "
            "true as well if that is meant"
        )
    if is_open and config.auth.anonymous_read:
        raise ConfigError("auth.anonymous_read says nothing while auth.mode is 'open'")
    if is_open and config.auth.self_registration:
        raise ConfigError("auth.self_registration says nothing while auth.mode is 'open'")
    if not is_open and config.store.backend == "memory":
        raise ConfigError(
            "auth.mode 'authenticated' needs a data directory to keep the first administrator's "
            "token in; store.backend must be 'local'"
        )
    if config.store.backend == "memory" and server.workers != 1:
        raise ConfigError("store.backend 'memory' is one process; server.workers must be 1")
    if bool(server.tls_certificate) != bool(server.tls_key):
        raise ConfigError("server.tls_certificate and server.tls_key need each other")
    _check_oidc(config.oidc)
    for proxy in server.trusted_proxies:
        _check_network("server.trusted_proxies", proxy)
    endpoint = config.telemetry.endpoint
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise ConfigError(
            f"telemetry.endpoint: {endpoint!r} is no collector; write one like http://127.0.0.1:4318"
        )
    if server.accel_redirect:
        _check_accel_redirect(server)
    for network in config.outbound.allow_private:
        _check_network("outbound.allow_private", network)
    for origin in server.cors_origins:
        scheme, separator, host = origin.partition("://")
        if scheme not in ("http", "https") or not separator or not host or set(host) & set("/*?#@"):
            raise ConfigError(
                f"server.cors_origins: {origin!r} is not an origin; write https://host or "
                "https://host:port, one entry each and nothing after it"
            )


def _check_accel_redirect(server: ServerConfig) -> None:
    place = server.accel_redirect
    if not re.fullmatch(r"/([A-Za-z0-9._-]+/)+", place):
        raise ConfigError(
            f"server.accel_redirect: {place!r} is no place of a proxy; write one like /_blobs/, "
            "with a slash at both ends"
        )
    if not server.trusted_proxies:
        raise ConfigError(
            "server.accel_redirect needs server.trusted_proxies: only a proxy that is named may "
            "send blobs by itself"
        )


def _check_oidc(oidc: OidcConfig) -> None:
    scheme, _, host = oidc.issuer.partition("://")
    name = host.partition("/")[0].rpartition(":")[0] or host.partition("/")[0]
    if not oidc.issuer:
        return
    if scheme != "https" and not (scheme == "http" and is_loopback(name)):
        raise ConfigError(
            f"oidc.issuer: {oidc.issuer!r} does not begin with https://; http:// is for a provider "
            "on this machine"
        )
    if not oidc.client_id:
        raise ConfigError("oidc.issuer needs oidc.client_id, what the provider calls this server")
    if "openid" not in oidc.scopes:
        raise ConfigError("oidc.scopes must name 'openid', or the provider says nothing of people")
    if bool(oidc.admin_claim) != bool(oidc.admin_value):
        raise ConfigError("oidc.admin_claim and oidc.admin_value are set together or not at all")


def _check_network(key: str, network: str) -> None:
    import ipaddress  # only where networks are named: start-up time is counted in imports

    try:
        ipaddress.ip_network(network)
    except ValueError as error:
        raise ConfigError(
            f"{key}: {network!r} is not an address or a network like 10.0.0.0/8"
        ) from error
