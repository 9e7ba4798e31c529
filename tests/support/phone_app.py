"""A phone: Chromium at phone size with a profile that stays, and a server that can be taken away."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import signal
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
SIZE = {"width": 390, "height": 844}


class Server:
    """Serves a folder on a loopback port of its own, as any static server does; by https with a context."""

    def __init__(self, folder: Path, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[str] = []
        self._handler = functools.partial(_handler(self.asked), directory=str(folder))
        self._tls = tls
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}/"

    def start(self) -> None:
        """Serve, on the port of before if there was one."""
        self._server = _HTTPServer(("127.0.0.1", self.port), self._handler)
        if self._tls:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop serving, also on connections that a browser opened ahead of its next request."""
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()


class _HTTPServer(http.server.ThreadingHTTPServer):
    def __init__(self, *arguments: Any) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(*arguments)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _handler(asked: list[str]) -> type[http.server.SimpleHTTPRequestHandler]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            asked.append(self.path)

    return Handler


class Phone:
    """One phone; ``close`` and ``open`` again are a restart of its browser."""

    def __init__(self, engine: Any, profile: Path, *arguments: str, **options: Any) -> None:
        self._engine, self._profile = engine, profile
        self._arguments, self._options = arguments, options
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.open()

    def open(self) -> None:
        self.context = self._engine.chromium.launch_persistent_context(
            str(self._profile),
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", *self._arguments],
            viewport=SIZE,
            locale="en",
            **self._options,
        )
        self.context.set_default_timeout(30_000)
        self.page = self.context.pages[0]
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def close(self) -> None:
        self.context.close()

    def kill(self) -> None:
        """End the browser at once, as a flat battery does: the processes that have its profile."""
        mark = f"--user-data-dir={self._profile}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "cmdline").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)
        with contextlib.suppress(Exception):
            self.context.close()

    def visit(self, url: str, state: str = "ready") -> None:
        self.page.goto(url)
        self.wait(state)

    def wait(self, state: str) -> None:
        self.page.wait_for_selector(f"html[data-state={state}]")

    def kept_offline(self) -> None:
        self.page.wait_for_selector("html[data-offline=ready]")

    def give(self, path: Path) -> None:
        """Open a file, and wait for what is said of it."""
        self.page.evaluate("document.documentElement.dataset.state = 'asked'")
        with self.page.expect_file_chooser() as chooser:
            self.page.click("#open")
        chooser.value.set_files(str(path))
        self.wait("result")

    def texts(self, selector: str) -> list[str]:
        return list(self.page.locator(selector).all_inner_texts())

    def has_room(self, url: str, room: int) -> None:
        """From now on the browser has ``room`` bytes for what a server's app keeps."""
        self._room = self.context.new_cdp_session(self.page)  # it holds as long as this session
        self._room.send("Storage.overrideQuotaForOrigin", {"origin": url.rstrip("/"), "quotaSize": room})

    def kept(self, store: str) -> list[Any]:
        """What is in one of the app's stores: ``results`` or ``outbox``, oldest first."""
        return list(self.page.evaluate(_READ, store))


_READ = """(name) => new Promise((resolve) => {
  indexedDB.open('scanwright').onsuccess = ({ target: { result: database } }) => {
    database.transaction(name).objectStore(name).getAll().onsuccess = ({ target }) => {
      database.close();
      resolve(target.result.map(({ picture, cam, ...rest }) => rest));
    };
  };
})"""
