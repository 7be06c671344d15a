"""Pages from servers that cannot be trusted: where they lead, and what they send."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest

from r1.serving.files.documents import DocumentLimits
from r1.serving.search.page_fetcher import FetchLimits, PageFetcher, read_bounded
from r1.serving.search.results import SearchError

PUBLIC_ADDRESS = "93.184.215.14"
PAGE = "<html><title>A page</title><p>" + "The words of the page. " * 20 + "</html>"
NAMES = {
    "public.test": [PUBLIC_ADDRESS],
    "both.test": ["2606:2800:21f:cb07:6820:80da:af6b:8b2c", PUBLIC_ADDRESS],
    "inner.test": ["10.0.0.5"],
    "loop.test": ["127.0.0.1"],
    "meta.test": ["169.254.169.254"],
    "mixed.test": [PUBLIC_ADDRESS, "127.0.0.1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "nat.test": ["64:ff9b::7f00:1"],
    "none.test": [],
}
Reply = Callable[[httpx2.Request], httpx2.Response]


async def resolve(host: str, port: int) -> list[str]:
    """The names of the tests; numbers are what the system makes of them."""
    if host in NAMES:
        return NAMES[host]
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return [str(answer[4][0]) for answer in answers]


def fetcher(reply: Reply, limits: FetchLimits | None = None) -> PageFetcher:
    return PageFetcher(limits, resolve=resolve, transport=httpx2.MockTransport(reply))


def page(body: bytes | str = PAGE, status: int = 200, **headers: str) -> httpx2.Response:
    content = body.encode() if isinstance(body, str) else body
    named = {"content-type": "text/html"} | {k.replace("_", "-"): v for k, v in headers.items()}

    async def stream() -> object:
        yield content

    return httpx2.Response(status, headers=named, content=stream())  # type: ignore[arg-type]


def fetch_from(replies: Mapping[str, httpx2.Response], url: str) -> str:
    """The page's text, where the names and paths of `replies` are all that there is."""

    def reply(request: httpx2.Request) -> httpx2.Response:
        return replies[f"{request.headers['host']}{request.url.path}"]

    return asyncio.run(fetcher(reply).fetch(url)).text


def test_the_connection_goes_to_the_checked_address() -> None:
    seen: list[httpx2.Request] = []

    def reply(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return page(set_cookie="a=b")

    text = asyncio.run(fetcher(reply).fetch("https://public.test/a?b=c#d"))
    assert (text.title, text.text[:9]) == ("A page", "The words")
    request = seen[0]
    assert str(request.url) == f"https://{PUBLIC_ADDRESS}/a?b=c"
    assert request.headers["host"] == "public.test"
    assert request.extensions["sni_hostname"] == "public.test"
    assert request.headers["user-agent"].startswith("r1/")
    assert not {"cookie", "authorization", "referer"} & set(request.headers)


def test_the_second_address_is_tried() -> None:
    def reply(request: httpx2.Request) -> httpx2.Response:
        if ":" in request.url.host:
            raise httpx2.ConnectError("no route")
        return page()

    assert asyncio.run(fetcher(reply).fetch("http://both.test/")).text
    with pytest.raises(SearchError, match=r"both\.test cannot be reached"):
        asyncio.run(fetcher(_unreachable).fetch("http://both.test/"))


def _unreachable(_: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("no route")


HOSTILE_LINKS = (
    *("http://inner.test/", "http://loop.test/", "http://meta.test/latest/meta-data/"),
    *("http://mixed.test/", "http://mapped.test/", "http://nat.test/", "http://127.0.0.1/"),
    *("http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/", "http://0/"),
    *("http://[::1]/", "http://[::ffff:7f00:1]/", "http://[fe80::1]/", "http://10.0.0.1:443/"),
    *("http://169.254.169.254/", "http://[fd00:ec2::254]/", "http://100.100.100.200/"),
    *("file:///etc/passwd", "http://public.test:6379/", "gopher://public.test/", "//inner.test/x"),
)


@pytest.mark.parametrize("link", HOSTILE_LINKS)
def test_no_request_leaves_for_a_place_that_is_not_public(link: str) -> None:
    """Neither when a result names it, nor when a page redirects to it."""

    def reply(request: httpx2.Request) -> httpx2.Response:
        assert request.url.host == PUBLIC_ADDRESS
        return page(status=302, location=link)

    if not link.startswith("//"):
        with pytest.raises(SearchError, match=r"not a public address|only|not a link"):
            asyncio.run(fetcher(_never).fetch(link))
    with pytest.raises(SearchError, match=r"not a public address|only|not a link"):
        asyncio.run(fetcher(reply).fetch("http://public.test/"))


def _never(request: httpx2.Request) -> httpx2.Response:
    raise AssertionError(f"a request to {request.url}")


def test_redirects_are_followed_and_counted() -> None:
    replies = {
        "public.test/1": page(status=301, location="/2"),
        "public.test/2": page(status=307, location="https://both.test/3"),
        "both.test/3": page(status=303, location="4"),
        "both.test/4": page("<p>the end"),
        "public.test/0": page(status=308, location="/1"),
        "public.test/loop": page(status=302, location="/loop"),
        "public.test/bad": page(status=302, location="http://[bad/"),
        "public.test/nowhere": page(status=302),
    }
    assert fetch_from(replies, "http://public.test/1") == "the end"
    for path, reason in (
        ("0", "more than 3 redirects"),
        ("loop", "more than 3 redirects"),
        ("bad", "not a link"),
        ("nowhere", "answered 302"),
    ):
        with pytest.raises(SearchError, match=reason):
            fetch_from(replies, f"http://public.test/{path}")


BOMB = gzip.compress(bytes(6 * 2**20), 9)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (page(status=404), "answered 404"),
        (page(status=500), "answered 500"),
        (page(status=204), "answered 204"),
        (page(b"x", content_type="image/png"), "image/png is not a page"),
        (page(b"x", content_type="application/octet-stream"), "is not a page"),
        (page(b"x", content_type="video/mp4; charset=utf-8"), "video/mp4 is not a page"),
        (page(bytes(6 * 2**20)), "more than 5 MiB"),
        (page(BOMB, content_encoding="gzip"), "more than 5 MiB"),
        (page(zlib.compress(bytes(6 * 2**20)), content_encoding="deflate"), "more than 5 MiB"),
        (page(b"not gzip", content_encoding="gzip"), "packed wrongly"),
        (page(b"x", content_encoding="br"), "packed with br"),
        (page(b"x", content_encoding="gzip, gzip"), "packed with gzip, gzip"),
        (page(b""), "the file is empty"),
        (page("<script>let x = 1</script>"), "has no text"),
        (page(b"\x89PNG\r\n\x1a\n"), "is an image"),
        (page(b"%PDF-1.7 broken", content_type="application/pdf"), "is broken"),
    ],
)
def test_replies_that_are_no_pages(reply: httpx2.Response, reason: str) -> None:
    with pytest.raises(SearchError, match=reason):
        fetch_from({"public.test/": reply}, "http://public.test/")


def test_pages_in_other_forms() -> None:
    packed = page(gzip.compress(PAGE.encode()), content_encoding="gzip")
    assert fetch_from({"public.test/": packed}, "http://public.test/").startswith("The words")
    old = page("<p>中文网页的内容".encode("gb18030"), content_type="text/html; charset=GBK")
    assert fetch_from({"public.test/": old}, "http://public.test/") == "中文网页的内容"
    named = page(b'<meta charset="shift_jis"><p>' + "日本語の頁".encode("cp932"))
    assert fetch_from({"public.test/": named}, "http://public.test/") == "日本語の頁"
    plain = page(b"plain words", content_type="text/plain")
    assert fetch_from({"public.test/": plain}, "http://public.test/") == "plain words"


def test_no_more_is_unpacked_than_is_wanted() -> None:
    async def chunks() -> object:
        yield gzip.compress(bytes(50 * 2**20), 9)

    with pytest.raises(SearchError, match="more than 1 MiB"):
        asyncio.run(read_bounded(chunks(), "gzip", 2**20))  # type: ignore[arg-type]


class SlowServer(BaseHTTPRequestHandler):
    """Sends a page for ever, a little at a time; or at once."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        if self.path == "/":
            self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        if self.path == "/":
            self.wfile.write(PAGE.encode())
            return
        try:
            while not self.server.is_over.wait(0.05):  # type: ignore[attr-defined]
                self.wfile.write(b"<p>more")
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the tests' screen."""


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), SlowServer)
    server.is_over = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_address[1]
    server.is_over.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


class ToLocalPort(httpx2.AsyncBaseTransport):
    """Real sockets, to the test's server instead of the checked address."""

    def __init__(self, port: int) -> None:
        self.inner = httpx2.AsyncHTTPTransport(trust_env=False)
        self.port = port

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.url = request.url.copy_with(host="127.0.0.1", port=self.port)
        return await self.inner.handle_async_request(request)


def test_over_real_sockets_with_a_bound_of_time(port: int) -> None:
    async def both() -> tuple[str, str]:
        transport = ToLocalPort(port)
        limits = FetchLimits(seconds=20, reading=DocumentLimits())
        whole = PageFetcher(limits, resolve=resolve, transport=transport)
        quick = PageFetcher(FetchLimits(seconds=0.3), resolve=resolve, transport=transport)
        text = (await whole.fetch("http://public.test/")).text
        with pytest.raises(SearchError, match=r"no page within 0\.3 s") as error:
            await quick.fetch("http://public.test/for-ever")
        await transport.inner.aclose()
        return text, str(error.value)

    assert asyncio.run(both())[0].startswith("The words")
