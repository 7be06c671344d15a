"""The server's settings: where it listens, who may ask, how much, and the rules of use."""

from __future__ import annotations

from pydantic import Field

from r1.config import Config

LOOPBACK = ("127.0.0.1", "::1", "localhost")
UPLOAD_PATHS = ("/api/files", "/api/chats/import")


class ServerSettings(Config):
    """Limits and rules; sizes in bytes, times in seconds, lengths in tokens.

    `api_keys` empty lets everyone in. `thinking_budget` None lets a thought take the whole
    reply. `loop_tokens` is how long the same tokens must repeat to count as an endless
    loop (0: never). `max_running` and `max_waiting` are each model's. A reply's
    new text is sent every `flush_interval_seconds`; where many are streamed, less often. A
    client that is `max_buffered_tokens` behind, or takes nothing for `write_timeout_seconds`,
    is cut off.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    api_keys: tuple[str, ...] = ()
    is_strict_deepseek: bool = False

    temperature: float = Field(default=0.6, ge=0, le=2)
    top_p: float = Field(default=0.95, gt=0, le=1)
    max_tokens: int = Field(default=32_768, ge=1)
    thinking_budget: int | None = Field(default=None, ge=1)
    loop_tokens: int = Field(default=1024, ge=0)

    max_running: int = Field(default=64, ge=1)
    max_waiting: int = Field(default=256, ge=0)
    max_body_bytes: int = Field(default=8 * 2**20, ge=1024)
    max_upload_bytes: int = Field(default=32 * 2**20, ge=1024)
    max_header_bytes: int = Field(default=32 * 2**10, ge=1024)
    max_connections: int = Field(default=2048, ge=1)
    max_buffered_tokens: int = Field(default=8192, ge=1)
    flush_interval_seconds: float = Field(default=0.02, ge=0, le=1)
    keep_alive_seconds: float = Field(default=10.0, gt=0)
    write_timeout_seconds: float = Field(default=60.0, gt=0)
    body_timeout_seconds: float = Field(default=30.0, gt=0)
    grammar_timeout_seconds: float = Field(default=5.0, gt=0)
    drain_seconds: int = Field(default=60, ge=0)
    retry_after_seconds: int = Field(default=5, ge=1)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK

    def max_bytes_of(self, path: str) -> int:
        """How long the body of a request to a path may be."""
        return self.max_upload_bytes if path in UPLOAD_PATHS else self.max_body_bytes
