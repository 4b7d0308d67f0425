"""Who may call: Host, Origin and token are checked before anything else is read, and every answer is confined.

A web page of another origin can make a browser send requests here. Its origin tells it; a name of its own that was made
to point here (DNS rebinding) is told by the Host header.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import Kind
from .answers import error, fault

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
HEAD_BYTES = 32 << 10
"""Bytes of a request's headers: the server itself bounds only what comes in more than one piece."""
LOCAL = ("localhost", "127.0.0.1", "[::1]")


class Guard:
    """Middleware that lets through what comes from here, or has the token."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = LOCAL, token: str | None = None) -> None:
        """Guard `app`. hosts: names that requests may be sent to; with a token, addresses are taken too."""
        self.app, self.token = app, token
        self.hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        begun = False

        async def confined(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if (problem := self.problem(scope)) is not None:
            status, message, kind = problem
            await error(status, message, kind)(scope, receive, confined)
            return
        try:
            await self.app(scope, receive, confined)
        except Exception as e:
            answer = await fault(Request(scope), e)
            if begun:
                raise  # the connection is cut off, so that the client knows
            await answer(scope, receive, confined)

    def problem(self, scope: Scope) -> tuple[int, str, Kind] | None:
        """Return status, message and kind of what is wrong with a request's head; None: nothing."""
        headers = Headers(scope=scope)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD_BYTES:
            return 431, "the request's headers are too large", "invalid_request_error"
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._known(hosts[0]):
            return 403, "the Host header is not this studio's; use the address that it prints", "forbidden"
        if not _same(headers, hosts[0], page=_is_page(scope)):
            return 403, "the request comes from another site's page", "forbidden"
        if self.token is not None and not _is_open(scope) and not self._authorized(headers, scope):
            return 401, "the token is missing or wrong; use the address that the studio prints", "forbidden"
        return None

    def _known(self, host: str) -> bool:
        name = host_name(host)
        if name is None:
            return False
        return name in self.hosts or (self.token is not None and _is_address(name))

    def _authorized(self, headers: Headers, scope: Scope) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.matches(given.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(cookie_name(scope))
        except CookieError:
            return False
        return cookie is not None and self.matches(cookie.value)

    def matches(self, given: str) -> bool:
        """Tell whether a token is the right one, in a time that does not show how much of it is."""
        if self.token is None:
            return True
        digests = [hashlib.sha256(text.encode(errors="replace")).digest() for text in (given, self.token)]
        return hmac.compare_digest(*digests)


def cookie_name(scope: Scope) -> str:
    """Return the name of the cookie that holds the token: browsers give a host's cookies to all of its ports."""
    _, port = scope.get("server") or ("", None)
    return f"studio_token_{port or 0}"


def host_name(host: str) -> str | None:
    """Return the name in a Host header, in lower case, without the port; None where it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.netloc != host or parts.path or parts.username is not None or not parts.hostname:
        return None
    name = parts.hostname.rstrip(".")
    return f"[{name}]" if ":" in name else name


def own_names() -> set[str]:
    """Return the names under which other machines know this one."""
    name = socket.gethostname().lower()
    return {name, name.partition(".")[0], f"{name.partition('.')[0]}.local"}


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address to listen at is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _same(headers: Headers, host: str, *, page: bool) -> bool:
    """Tell whether a request comes from no page, or from this studio's own."""
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
        return False
    site = headers.get("sec-fetch-site", "none")
    # Someone may follow a link to the page; nothing else is for others.
    return site in ("none", "same-origin") or (page and headers.get("sec-fetch-mode") == "navigate")


def _is_page(scope: Scope) -> bool:
    return scope["path"] == "/" and scope["method"] in ("GET", "HEAD")


def _is_open(scope: Scope) -> bool:
    """Tell whether a path needs no token: the page, which asks for the token, and where it is handed in."""
    path = scope["path"]
    return _is_page(scope) or path.startswith("/page/") or path in ("/session", "/favicon.ico")
