"""A plain client of the monitor's page: cookies, forms and nothing else."""

from __future__ import annotations

import re
import ssl
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from urllib.parse import urlencode, urlsplit

__all__ = ["PASSWORD", "Answer", "PageClient"]

PASSWORD = "correct horse battery"


class Answer:
    """Status, headers and text of an answer."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status, self.headers = response.status, response.headers
        self.body = response.read()
        self.text = self.body.decode("utf-8", "replace")
        self.location = response.getheader("location") or ""


class PageClient:
    """``trust``: a certificate authority, for HTTPS."""

    def __init__(self, url: str, trust: str | None = None) -> None:
        self.parts, self.trust = urlsplit(url), trust
        self.origin = f"{self.parts.scheme}://{self.parts.netloc}"
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> Answer:
        host = self.parts.netloc
        if self.parts.scheme == "https":
            context = ssl.create_default_context(cafile=self.trust)
            connection: HTTPConnection = HTTPSConnection(host, timeout=30, context=context)
        else:
            connection = HTTPConnection(host, timeout=30)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded", **headers}
        connection.request(method, path, body.encode() or None, sent)
        response = connection.getresponse()
        for line in response.headers.get_all("set-cookie") or []:
            name, _, value = line.split(";")[0].partition("=")
            self.cookies[name] = value
        answer = Answer(response)
        connection.close()
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, **fields: str) -> Answer:
        return self.ask("POST", path, urlencode(fields), Origin=self.origin)

    def login(self, name: str, password: str = PASSWORD) -> Answer:
        return self.post("/login", name=name, password=password)

    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("/").text)
        assert found
        return found[1]
