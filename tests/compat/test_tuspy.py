"""The real tuspy client against the real server: cuts, lost answers and kills included."""

from __future__ import annotations

import hashlib
import io
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed

from tests.support.servers import Server, running_server, wait_until

CONFIG = "[store]\nreserve_bytes = 0\nreserve_share = 0.0\n"
CONTENT = secrets.token_bytes(5 * (1 << 20) + 7)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("tuspy") / "data", config=CONFIG) as server:
        yield server


@pytest.fixture
def model() -> Iterator[io.BytesIO]:
    """A file of its own for each test; a stream, since tuspy leaves open what it opens."""
    with io.BytesIO(secrets.token_bytes(32) + CONTENT) as stream:
        yield stream


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def client_of(server: Server, port: int | None = None) -> TusClient:
    return TusClient(f"http://127.0.0.1:{port or server.port}/uploads")


def assert_stored(server: Server, content: bytes) -> None:
    status, body = server.get(f"/blobs/{digest_of(content)}")
    assert status == 200
    assert body == content


def assert_absent(server: Server, content: bytes) -> None:
    assert server.get(f"/blobs/{digest_of(content)}")[0] == 404


@pytest.mark.parametrize("chunk_size", [1 << 20, 999_983, 1 << 40], ids=["1 MiB", "odd", "whole"])
@pytest.mark.parametrize("checksum", [False, True], ids=["bare", "checksum"])
def test_a_file_is_uploaded(
    server: Server, model: io.BytesIO, chunk_size: int, checksum: bool
) -> None:
    content = model.getvalue()
    uploader = client_of(server).uploader(
        file_stream=model,
        chunk_size=chunk_size,
        upload_checksum=checksum,
        metadata={"filename": "model.safetensors", "digest": digest_of(content)},
    )

    uploader.upload()

    assert uploader.offset == len(content)
    assert_stored(server, content)


def test_an_empty_file_is_uploaded(server: Server) -> None:
    uploader = client_of(server).uploader(file_stream=io.BytesIO(b""))

    uploader.upload()

    assert_stored(server, b"")


def test_an_upload_goes_on_where_another_client_stopped(server: Server, model: io.BytesIO) -> None:
    content = model.getvalue()
    first = client_of(server).uploader(file_stream=model, chunk_size=1 << 20)
    first.upload(stop_at=2 << 20)
    assert_absent(server, content)

    second = client_of(server).uploader(file_stream=model, url=first.url, chunk_size=1 << 20)
    assert second.offset == 2 << 20
    second.upload()

    assert_stored(server, content)


def test_asking_again_after_the_end_finds_the_end(server: Server, model: io.BytesIO) -> None:
    uploader = client_of(server).uploader(file_stream=model)
    uploader.upload()

    again = client_of(server).uploader(file_stream=model, url=uploader.url)
    again.upload()

    assert again.offset == len(model.getvalue())


def test_a_wrong_digest_is_refused(server: Server, model: io.BytesIO) -> None:
    content = model.getvalue()
    uploader = client_of(server).uploader(
        file_stream=model, metadata={"digest": digest_of(b"other")}
    )

    with pytest.raises(TusUploadFailed) as refused:
        uploader.upload()

    assert refused.value.status_code == 422
    assert_absent(server, content)
    with pytest.raises(TusCommunicationError):
        client_of(server).uploader(file_stream=model, url=uploader.url)


def test_bad_metadata_is_refused(server: Server, model: io.BytesIO) -> None:
    uploader = client_of(server).uploader(file_stream=model, metadata={"digest": "sha256:typo"})

    with pytest.raises(TusCommunicationError) as refused:
        uploader.upload()

    assert refused.value.status_code == 400
    assert b'"code":"invalid"' in refused.value.response_content


class CuttingProxy:
    """Passes connections on, but cuts those whose turn it is; everything before the cut arrives.

    `cuts` gives for each connection in turn how many bytes of the request may pass (None: all).
    With `drops_answer` the request passes whole and the answer is lost.
    """

    def __init__(self, port: int, cuts: list[int | None], *, drops_answer: bool = False) -> None:
        self._to = port
        self._cuts = cuts
        self._drops_answer = drops_answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._workers: list[threading.Thread] = []

    def __enter__(self) -> CuttingProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._thread, *self._workers):
            thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            cut = self._cuts.pop(0) if self._cuts else None
            thread = threading.Thread(target=self._pass_on, args=(client, cut))
            self._workers.append(thread)
            thread.start()

    def _pass_on(self, client: socket.socket, cut: int | None) -> None:
        server = socket.create_connection(("127.0.0.1", self._to))
        loses_answer = cut is not None and self._drops_answer
        back = threading.Thread(target=_copy, args=(server, client, 0 if loses_answer else None))
        back.start()
        _copy(client, server, None if loses_answer else cut)
        if not loses_answer and cut is not None:
            client.close()
        back.join(10)
        client.close()
        server.close()


def _copy(source: socket.socket, target: socket.socket, limit: int | None) -> None:
    """Copy until the end or `limit`, then end both directions."""
    try:
        while piece := source.recv(65_536):
            if limit is not None:
                piece = piece[:limit]
                limit -= len(piece)
            target.sendall(piece)
            if limit == 0:
                break
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR if limit == 0 else socket.SHUT_WR)
        except OSError:
            continue


@pytest.mark.parametrize("cut", [500, 100_000, 1 << 20, (1 << 20) + 1, 4_000_000])
def test_a_cut_connection_is_continued(server: Server, model: io.BytesIO, cut: int) -> None:
    content = model.getvalue()
    with CuttingProxy(server.port, [None, cut]) as proxy:
        uploader = client_of(server, proxy.port).uploader(
            file_stream=model, retries=5, retry_delay=0
        )

        uploader.upload()

    assert uploader.offset == len(content)
    assert_stored(server, content)


def test_what_arrived_before_a_cut_is_not_sent_again(server: Server, model: io.BytesIO) -> None:
    content = model.getvalue()
    with CuttingProxy(server.port, [None, 3_000_000]) as proxy:
        uploader = client_of(server, proxy.port).uploader(file_stream=model)
        with pytest.raises(TusUploadFailed):
            uploader.upload()
    assert uploader.url is not None
    url = uploader.url.replace(f":{proxy.port}/", f":{server.port}/")
    # The worker may still be busy with what it received when the connection broke; to ask it for
    # the offset would let it go on for half a second only.
    wait_until(lambda: server.staged_bytes(url) > 2_900_000, "what was received")

    resumed = client_of(server).uploader(file_stream=model, url=url)
    assert resumed.offset > 2_900_000
    resumed.upload()

    assert_stored(server, content)


def test_a_lost_last_answer_is_found_again(server: Server, model: io.BytesIO) -> None:
    content = model.getvalue()
    with CuttingProxy(server.port, [None, 0], drops_answer=True) as proxy:
        uploader = client_of(server, proxy.port).uploader(
            file_stream=model, retries=9, retry_delay=0
        )

        uploader.upload()

    assert uploader.offset == len(content)
    assert_stored(server, content)


def test_a_killed_server_loses_nothing_it_acknowledged(tmp_path: Path, model: io.BytesIO) -> None:
    content = model.getvalue()
    with running_server(tmp_path / "data", config=CONFIG) as server:
        uploader = client_of(server).uploader(file_stream=model, chunk_size=1 << 20)
        uploader.upload(stop_at=3 << 20)
        server.kill_everything()
        with pytest.raises(TusUploadFailed):
            uploader.upload()
        server.start()

        resumed = client_of(server).uploader(
            file_stream=model, url=uploader.url, chunk_size=1 << 20
        )
        assert resumed.offset == 3 << 20
        resumed.upload()

        assert_stored(server, content)
        server.kill_everything()
        server.start()
        assert_stored(server, content)
