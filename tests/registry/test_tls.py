"""HTTPS by the server itself: transfers, local commands, renewal, and pairs that do not fit."""

from __future__ import annotations

import datetime
import hashlib
import http.client
import os
import ssl
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from registry.cli.tls import Certificate, local_context
from tests.support.servers import Server, run_digestry

NAME = "models.example.org"


def write_pair(folder: Path, *, password: bytes | None = None) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        hidden = serialization.BestAvailableEncryption(password)
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    )
    return paths


class SecureServer(Server):
    """The same server, asked by HTTPS by somebody who trusts its certificate."""

    trusted: Path

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 10,
    ) -> tuple[int, bytes]:
        context = ssl.create_default_context(cafile=str(self.trusted))
        context.check_hostname = False
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=timeout_seconds, context=context
        )
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def test_bytes_go_in_and_out_and_local_commands_find_the_server(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path)
    config = f"""
[server]
tls_certificate = "{certificate}"
tls_key = "{key}"
[store]
reserve_bytes = 0
reserve_share = 0.0
"""
    server = SecureServer(tmp_path / "data", config=config)
    server.trusted = certificate
    content = os.urandom(3 << 20)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    try:
        server.start()
        facts = server.facts()
        assert facts is not None
        assert facts["url"].startswith("https://")
        assert server.request("PUT", f"/blobs/{digest}", content)[0] == 201
        assert server.get(f"/blobs/{digest}") == (200, content)
        part = server.request("GET", f"/blobs/{digest}", headers={"Range": "bytes=5-2000000"})
        assert part == (206, content[5:2000001])

        counted = run_digestry("stats", "--data", str(tmp_path / "data"), "--json")
        assert counted.returncode == 0, counted.stderr
        healthy = run_digestry("doctor", "--data", str(tmp_path / "data"), by_exec=True)
        assert "is ready" in healthy.stdout, healthy.stdout + healthy.stderr

        with pytest.raises((http.client.HTTPException, OSError)):
            Server.request(server, "GET", "/healthz")  # without TLS
        assert server.stop() == 0
    finally:
        server.close()


def test_a_pair_that_does_not_fit_is_a_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    certificate, _ = write_pair(tmp_path)
    _, other_key = write_pair(tmp_path / "other")

    with pytest.raises(OSError, match=r"certificate\.pem .*key\.pem.*cannot be used"):
        Certificate(certificate, other_key)
    with pytest.raises(OSError, match="nothing"):
        Certificate(tmp_path / "nothing", other_key)


def test_an_encrypted_key_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path, password=b"secret")

    with pytest.raises(OSError, match="the key is encrypted"):
        Certificate(certificate, key)


def test_a_renewed_pair_is_taken_and_a_broken_one_is_not(tmp_path: Path) -> None:
    served = Certificate(*write_pair(tmp_path))
    assert not served.renew()

    first = answered(served)
    (tmp_path / "key.pem").write_text("half of a")
    assert not served.renew()
    assert answered(served) == first

    write_pair(tmp_path)
    assert served.renew()
    assert answered(served) != first
    assert not served.renew()


def test_a_local_command_trusts_one_certificate_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    mine, other = write_pair(tmp_path), write_pair(tmp_path / "other")

    assert handshake(Certificate(*mine).context, local_context(mine[0]))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(Certificate(*other).context, local_context(mine[0]))


def test_old_tls_is_not_spoken(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path)
    assert Certificate(certificate, key).context.minimum_version is ssl.TLSVersion.TLSv1_2


def answered(served: Certificate) -> bytes:
    """The certificate that a client is shown now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return handshake(served.context, context)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    """Both sides' handshake in memory; the certificate that the client saw."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    ours = client.wrap_bio(to_client, to_server, server_hostname="whatever")
    deadline = time.monotonic() + 10
    done = set[int]()
    while len(done) < 2 and time.monotonic() < deadline:
        for side in (ours, theirs):
            try:
                side.do_handshake()
                done.add(id(side))
            except ssl.SSLWantReadError:
                continue
    found = ours.getpeercert(binary_form=True)
    assert found is not None
    return found
