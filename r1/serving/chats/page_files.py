"""The page's own files: anyone may have them, nothing in them is secret; the API behind is."""

from __future__ import annotations

from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE_FOLDER = Path(__file__).resolve().parent.parent / "page"

# Scripts, requests, fonts of our own origin only; nothing in an answer loads or runs anything.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_NOT_BUILT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>r1</title>
<h1>The page is not built</h1>
<p>Build it with <code>make page</code> (it needs Node.js) and load this address again.</p>
<p>The API works without it: <code>/v1/chat/completions</code>, <code>/v1/models</code>.</p>
</html>
"""


class PageFiles:
    """Serves `/` and the files of the page; everything else goes on to the application."""

    def __init__(self, app: ASGIApp, folder: Path = PAGE_FOLDER) -> None:
        self._app = app
        self._folder = folder
        files = StaticFiles(directory=folder, html=True, check_dir=False)
        self._files = GZipMiddleware(files, minimum_size=1024)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        is_built = (self._folder / "index.html").is_file()
        if path == "/" and not is_built:
            await HTMLResponse(_NOT_BUILT)(scope, receive, _with_headers(send, path))
        elif path == "/" or self._is_file(path):
            await self._serve(scope, receive, _with_headers(send, path))
        else:
            await self._app(scope, receive, send)

    def _is_file(self, path: str) -> bool:
        parts = path.split("/")[1:]
        if "\0" in path or any(part in ("", ".", "..") for part in parts):
            return False
        try:
            return self._folder.joinpath(*parts).is_file()
        except OSError:  # a name that is too long for a file
            return False

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._files(scope, receive, send)
        except HTTPException as error:  # the file has gone between: the page is built anew
            response = HTMLResponse(error.detail, error.status_code)
            await response(scope, receive, send)


def _with_headers(send: Send, path: str) -> Send:
    # Names of assets hold a hash of what they are; the page itself is asked for anew.
    is_asset = path.startswith("/assets/")
    caching = "public, max-age=31536000, immutable" if is_asset else "no-cache"

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            headers["cache-control"] = caching if message["status"] < 400 else "no-store"
        await send(message)

    return send_with_headers
