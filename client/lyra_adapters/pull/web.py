"""HTTP calls to engines and hooks, with the standard library alone."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from lyra_adapters.channel import is_loopback


class WebError(Exception):
    """A call that failed. `status` is 0 where no answer came."""

    def __init__(self, message: str, status: int = 0, text: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.text = text


class Web:
    """One HTTP server.

    Args:
        url: Its address; a path in it stands before each call's, a user and password in it are sent as such.
        key: Bearer token; empty: none.
        timeout: Seconds for a call.

    Raises:
        ValueError: The URL is not one of HTTP.
    """

    def __init__(self, url: str, *, key: str = "", timeout: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address like http://127.0.0.1:8000")
        # IPv6 addresses stand in brackets.
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        host = name if parts.port is None else f"{name}:{parts.port}"
        self._url = urlunsplit(parts._replace(netloc=host, fragment=""))
        self._authorization = f"Bearer {key}" if key else ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
        self._timeout = timeout
        # What may be shown: a URL can hold a password or a token.
        self.shown = urlunsplit((parts.scheme, host, parts.path, "", ""))
        # A proxy from the environment has no business between a process and its own machine.
        proxies = [urllib.request.ProxyHandler({})] if is_loopback(f"{name}:1") else []
        self._opener = urllib.request.build_opener(_NoRedirects, *proxies)

    def call(self, path: str = "", body: Any = None) -> Any:
        """GETs, or POSTs JSON; returns the answer's JSON, or its text.

        Raises:
            WebError: No answer, or one that is not of the 200s.
        """
        url = self._url.rstrip("/") + path if path else self._url
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._authorization:
            headers["Authorization"] = self._authorization
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - only HTTP, see above
        shown = self.shown.rstrip("/") + path
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                text = answer.read(4 * 1024 * 1024).decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(64 * 1024).decode("utf-8", "replace")
            raise WebError(f"{shown} answered {error.code}: {_words(text)}", error.code, text) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise WebError(f"{shown} can't be reached: {reason}") from None
        try:
            return json.loads(text)
        except ValueError:
            return text


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects are errors: a POST would become a GET."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _words(text: str) -> str:
    """The message in an error's body, on one line."""
    try:
        found = json.loads(text)
        inner = found.get("error", found)
        text = inner.get("message", text) if isinstance(inner, dict) else str(inner)
    except (ValueError, AttributeError):
        pass
    return " ".join(str(text).split())[:300] or "(no text)"
