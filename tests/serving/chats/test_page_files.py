"""The page's own files, their headers, and who may use the API behind them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from r1.serving.chats.page_files import CONTENT_SECURITY_POLICY, PageFiles
from tests.serving.chats.conftest import MakePage, Page


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><script src=/assets/a-1.js></script>")
    (folder / "assets" / "a-1.js").write_text("export {};" * 500)
    (folder / "icon.svg").write_text("<svg/>")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "assets" / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


def client_of(folder: Path) -> TestClient:
    app = FastAPI()
    app.add_middleware(PageFiles, folder=folder)
    return TestClient(app)


def test_the_page_and_its_assets(built: Path) -> None:
    client = client_of(built)
    index = client.get("/")
    assert index.text.startswith("<!doctype html>")
    assert index.headers["cache-control"] == "no-cache"
    script = client.get("/assets/a-1.js")
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert script.headers["content-encoding"] == "gzip"
    assert "javascript" in script.headers["content-type"]
    for response in (index, script, client.get("/icon.svg")):
        assert response.status_code == 200
        assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
    assert client.head("/").status_code == 200
    again = client.get("/", headers={"if-none-match": index.headers["etag"]})
    assert again.status_code == 304


def test_the_policy_is_as_agreed() -> None:
    assert CONTENT_SECURITY_POLICY == (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/assets/%2e%2e/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/assets/link.txt",
        "//etc/passwd",
        "/assets/%00",
        "/assets",
        "/assets/",
        "/index.html/",
        "/" + "x" * 5000,
    ],
)
def test_nothing_else_is_served(built: Path, path: str) -> None:
    response = client_of(built).get(path, follow_redirects=False)
    assert "secret" not in response.text
    assert response.status_code == 404


def test_a_page_that_is_not_built_says_how(tmp_path: Path) -> None:
    response = client_of(tmp_path / "nothing").get("/")
    assert response.status_code == 200
    assert "make page" in response.text
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


def test_files_need_no_key_and_the_api_does(make_page: MakePage) -> None:
    page = make_page(api_keys=("k",))
    assert page.ask("GET", "/").status_code == 200
    for path in ("/api/page", "/api/chats", "/v1/models", "/metrics", "/openapi.json"):
        assert page.ask("GET", path).status_code == 401
    assert page.as_owner("k").json("GET", "/api/page")["needs_key"] is True


ORIGINS = [
    ({}, 200),
    ({"sec-fetch-site": "same-origin"}, 200),
    ({"sec-fetch-site": "none"}, 200),
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "same-site"}, 403),
    ({"origin": "http://evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"origin": "http://localhost.evil.example"}, 403),
    ({"host": "evil.example"}, 403),
    ({"host": "evil.example", "sec-fetch-site": "same-origin"}, 403),
    ({"host": "127.0.0.1.evil.example"}, 403),
]


def test_no_other_site_uses_the_api(page: Page) -> None:
    for headers, status in ORIGINS:
        path = f"/api/chats/{'0' * 32}"
        allowed = 404 if status == 200 else status
        assert page.ask("DELETE", path, headers=headers).status_code == allowed, headers
        assert page.ask("GET", "/api/chats", headers=headers).status_code == status, headers


def test_a_form_of_another_site_posts_nothing(page: Page) -> None:
    """What a form can send without asking first: no JSON is read from it."""
    headers = {"content-type": "text/plain"}
    response = page.ask("POST", "/api/chats", content=b'{"title": "x"}', headers=headers)
    assert response.status_code == 400
    assert page.json("GET", "/api/chats") == {"chats": []}
