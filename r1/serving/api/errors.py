"""Errors as the protocol words them, for every way in which a request can fail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_balance_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class ApiError(HTTPException):
    """What the client is told: the status, one clear line, and what a program can go by."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.code = code
        self.param = param

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's error object, which is DeepSeek's too."""
        kind = _TYPES.get(self.status_code, "server_error")
        error = {"message": self.detail, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def response(self) -> JsonResponse:
        """The error as a whole response."""
        return JsonResponse(self.body, self.status_code, self.headers)


# Of what should not happen: the client learns nothing about the inside.
UNEXPECTED = ApiError(500, "internal error")


class JsonResponse(Response):
    """JSON of any text: a lone surrogate, which UTF-8 cannot hold, becomes a question mark."""

    media_type = "application/json"

    def __init__(
        self, content: Any, status_code: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(json_bytes(content), status_code, headers)


def json_bytes(value: Any) -> bytes:
    """Compact UTF-8 JSON."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace")


async def on_http_error(request: Request, error: Exception) -> Response:
    """Handler of ours, and of what the framework refuses: paths, methods, broken JSON."""
    assert isinstance(error, HTTPException)
    if isinstance(error, ApiError):
        return error.response()
    return ApiError(error.status_code, str(error.detail), headers=error.headers).response()


async def on_invalid_request(request: Request, error: Exception) -> Response:
    """Handler of a body that is not of the schema: 400 as OpenAI, 422 in DeepSeek's mode.

    DeepSeek tells a body that is no JSON object at all (400) from wrong parameters (422).
    """
    assert isinstance(error, RequestValidationError)
    details = error.errors()
    first = details[0]
    path = [str(part) for part in first["loc"] if part != "body"]
    is_format = first["type"] == "json_invalid" or not path
    where = ".".join(path)
    message = f"{where}: {first['msg']}" if where else str(first["msg"])
    if len(details) > 1:
        message += f" (and {len(details) - 1} more)"
    is_strict = request.app.state.settings.is_strict_deepseek
    status = 422 if is_strict and not is_format else 400
    return ApiError(status, message, param=where or None, code="invalid_value").response()


async def on_unexpected_error(request: Request, error: Exception) -> Response:
    """Handler of everything else."""
    return UNEXPECTED.response()
