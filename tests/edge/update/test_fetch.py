"""Downloads from a real web server: taken up where they broke off, within bounds, and charged for."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from own_certificate import OwnCertificate
from releases import Releases

from edge.update.client import Trust
from edge.update.fetch import secured
from edge.update.release import Device, RefusedError, choose

DEVICE = Device(site="clinic", device="cart-1", target="raspberry-pi-5")


class Server:
    """Gives out ``files``; the connection ends after ``break_after`` bytes of a target."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.break_after: int | None = None
        self.parts = True
        self.sent = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = outer.files.get(self.path.lstrip("/"))
                if data is None:
                    self.send_error(404)
                    return
                begin = 0
                if outer.parts and (asked := self.headers["Range"]):
                    begin = int(asked.removeprefix("bytes=").rstrip("-"))
                self.send_response(206 if begin else 200)
                self.send_header("Content-Length", str(len(data) - begin))
                self.end_headers()
                body = data[begin:]
                if "targets/" in self.path and outer.break_after is not None:
                    body = body[: outer.break_after]
                outer.sent += len(body)
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if context else 'http'}://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


@pytest.fixture
def releases(tmp_path, tiny_bundle):
    (tmp_path / "hq").mkdir()
    made = Releases(tmp_path / "hq", tiny_bundle)
    made.bundle("1.0.0")
    return made


def take(trust: Trust, place: str) -> bytes:
    repository = trust.repository(place)
    path = trust.folder / "taken"
    repository.download(choose(repository.releases(), DEVICE, "tiny", None), path)
    return path.read_bytes()


def code(trust: Trust, place: str) -> str:
    with pytest.raises(RefusedError) as refusal:
        take(trust, place)
    return refusal.value.code


def test_a_download_that_broke_off_goes_on_where_it_was(tmp_path, server, releases):
    server.files = releases.files()
    trust = Trust(tmp_path / "cart", releases.root)
    whole = (releases.folder / "tiny-1.0.0.swb").read_bytes()
    server.break_after = len(whole) // 3
    assert code(trust, server.url) == "unreachable"
    assert code(trust, server.url) == "unreachable"
    server.sent, server.break_after = 0, None
    assert take(trust, server.url) == whole
    targets = server.sent - sum(len(d) for n, d in server.files.items() if n == "metadata/timestamp.json")
    assert targets == len(whole) - 2 * (len(whole) // 3)
    assert not list((tmp_path / "cart/partial").iterdir())


def test_a_server_that_gives_no_parts_begins_anew(tmp_path, server, releases):
    server.files, server.parts = releases.files(), False
    trust = Trust(tmp_path / "cart", releases.root)
    server.break_after = 500
    assert code(trust, server.url) == "unreachable"
    server.break_after = None
    assert take(trust, server.url) == (releases.folder / "tiny-1.0.0.swb").read_bytes()


def test_a_part_that_went_bad_is_thrown_away(tmp_path, server, releases):
    server.files = releases.files()
    trust = Trust(tmp_path / "cart", releases.root)
    server.break_after = 500
    assert code(trust, server.url) == "unreachable"
    (part,) = (tmp_path / "cart/partial").iterdir()
    part.write_bytes(b"x" * 500)
    server.break_after = None
    assert code(trust, server.url) == "altered"
    assert take(trust, server.url) == (releases.folder / "tiny-1.0.0.swb").read_bytes()


def test_a_server_with_more_than_was_signed_is_cut_off(tmp_path, server, releases):
    server.files = releases.files()
    (name,) = (name for name in server.files if name.startswith("targets/"))
    server.files[name] += b"x" * (1 << 20)
    assert code(Trust(tmp_path / "cart", releases.root), server.url) == "too_large"


def test_https_believes_the_given_authority_alone(tmp_path, releases):
    certificate = OwnCertificate(tmp_path)
    server = Server(certificate.context())
    try:
        server.files = releases.files()
        trusted = secured(certificate.path, None, None)
        assert take(Trust(tmp_path / "cart", releases.root, tls=trusted), server.url)
        assert code(Trust(tmp_path / "other", releases.root), server.url) == "unreachable"
    finally:
        server.close()


def test_what_a_metered_link_does_not_allow_is_not_fetched(tmp_path, server, releases):
    server.files = releases.files()
    left = 150_000

    def charge(count: int) -> None:
        nonlocal left
        if left < count:
            raise RefusedError("metered", "spent")
        left -= count

    trust = Trust(tmp_path / "cart", releases.root, charge=charge)
    assert code(trust, server.url) == "metered"
    left = 10_000_000
    assert take(trust, server.url)


def test_nobody_there_is_said_so(tmp_path, server, releases):
    server.files = releases.files()
    server.close()
    trust = Trust(tmp_path / "cart", releases.root)
    assert code(trust, server.url) == "unreachable"
    assert code(trust, str(tmp_path / "no-stick")) == "unreachable"


def test_a_folder_with_something_else_than_files_is_not_read(tmp_path, releases):
    path = releases.repository / "metadata/timestamp.json"
    path.unlink()
    os.mkfifo(path)
    assert code(Trust(tmp_path / "cart", releases.root), str(releases.repository)) == "unreachable"
