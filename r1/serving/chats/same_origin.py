"""No other web site uses the page's API through its visitor's browser."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request

from r1.serving.api.errors import ApiError


def refuse_other_sites(request: Request) -> None:
    """Raise ApiError 403 for a request that a browser sends for another site.

    Browsers say so in `Sec-Fetch-Site`, older ones in `Origin`; a program says neither. CORS
    does not stop such a request, it only hides the reply (Fetch standard, 3.2 and 3.3.6).
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        is_ours = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not is_ours:
        raise ApiError(403, "another web site may not use this server", code="other_site")
