"""The verb that serves models."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1.cli.talking import MODEL_HELP

if TYPE_CHECKING:
    from r1.serving.api.settings import ServerSettings

KEY_VARIABLE = "R1_API_KEY"
PACKAGES = (
    *("charset_normalizer", "fastapi", "llguidance", "mammoth", "openpyxl", "platformdirs"),
    *("prometheus_client", "pypdf", "python_multipart", "readability", "sqlalchemy", "uvicorn"),
)

ModelNames = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help=MODEL_HELP, show_default=False)
]
Host = Annotated[
    str, typer.Option(help="The address to listen on; the default is this machine alone.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
Name = Annotated[
    str | None,
    typer.Option("--name", help="What clients call the one model; left out, its own name."),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file", help=f"Keys, one a line; left out, ${KEY_VARIABLE}, or no key at all."
    ),
]
Backend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="URL",
        help="Put the API before an OpenAI-compatible server that runs each MODEL.",
    ),
]
BackendKey = Annotated[
    str | None,
    typer.Option(
        "--backend-key-env", metavar="VARIABLE", help="The variable with that server's key."
    ),
]
Budget = Annotated[
    int | None,
    typer.Option("--thinking-budget", min=1, help="Tokens of a thought; left out, no limit."),
]
Strict = Annotated[
    bool, typer.Option("--strict-deepseek", help="Refuse and ignore what DeepSeek's API does.")
]
Running = Annotated[
    int, typer.Option("--max-running", min=1, help="Replies computed at once, a model.")
]
Waiting = Annotated[
    int, typer.Option("--max-waiting", min=0, help="Replies that may queue, a model.")
]
CacheSize = Annotated[
    float,
    typer.Option("--kv-cache-gb", min=0.001, max=1e6, help="Memory of the KV cache, a model."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="Where chats are kept: sqlite:///FILE or postgresql+psycopg://...; left out, "
        "SQLite in the user's data folder.",
    ),
]
Search = Annotated[
    str | None,
    typer.Option(
        "--search",
        metavar="PROVIDER",
        help="What the page may search: folder:PATH, searxng:URL, brave, tavily or ddgs "
        "(keys in $BRAVE_SEARCH_API_KEY, $TAVILY_API_KEY; ddgs is a package to install).",
    ),
]
NoPage = Annotated[bool, typer.Option("--no-page", help="The API alone, no page and no chats.")]
PrintCommand = Annotated[
    str | None,
    typer.Option(
        "--print-command",
        metavar="vllm|sglang",
        help="Print how a bigger engine serves the model, and end.",
    ),
]


def serve(
    models: ModelNames,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    name: Name = None,
    api_key_file: KeyFile = None,
    backend: Backend = None,
    backend_key: BackendKey = None,
    thinking_budget: Budget = None,
    strict_deepseek: Strict = False,
    max_running: Running = 64,
    max_waiting: Waiting = 256,
    kv_cache_gb: CacheSize = 1.0,
    device: Device = "auto",
    database_url: DatabaseUrl = None,
    search: Search = None,
    no_page: NoPage = False,
    print_command: PrintCommand = None,
) -> None:
    """Serve models over OpenAI's API and on a chat page, with R1's rules of use.

    A request names its model; the first is the default.

    [dim]r1 serve runs/quickstart
    r1 serve tiny smollm2 --port 8001
    r1 serve deepseek-ai/DeepSeek-R1 --backend http://gpu-machine:8000/v1
    r1 serve deepseek-ai/DeepSeek-R1 --print-command sglang[/dim]
    """
    if print_command is not None:
        from r1.serving.model_facts import launch_command

        print(*(launch_command(model, print_command) for model in models), sep="\n")
        return
    named = _by_name(models, name)
    settings = _settings(
        host=host,
        port=port,
        api_keys=_read_keys(api_key_file),
        thinking_budget=thinking_budget,
        is_strict_deepseek=strict_deepseek,
        max_running=max_running,
        max_waiting=max_waiting,
    )
    _require_packages()
    from r1.serving.api import run_server
    from r1.serving.chats.page import PageSettings

    page = PageSettings(is_served=not no_page, database_url=database_url, search=search)
    if backend is not None:
        from r1.backends.openai_http_client import ServerConfig

        upstreams = {
            known_as: ServerConfig(url=backend, model=model, api_key_variable=backend_key)
            for known_as, model in named.items()
        }
        run_server.serve_backend(upstreams, settings, page)
        return
    run_server.serve(named, settings, page, int(kv_cache_gb * 1e9), device)


def _by_name(models: Sequence[str], name: str | None) -> dict[str, str]:
    """The models by what clients call them. Raises ValueError where that is not clear."""
    if name is not None and len(models) > 1:
        raise ValueError(f"--name is for one model; {len(models)} go by their own names")
    named: dict[str, str] = {}
    for model in models:
        known_as = name or Path(model).name
        if known_as in named:
            raise ValueError(
                f"{model}: there is a model {known_as} already ({named[known_as]}); "
                "each needs a name of its own"
            )
        named[known_as] = model
    return named


def _settings(**values: object) -> ServerSettings:
    from r1.config import parse_config
    from r1.serving.api.settings import ServerSettings

    return parse_config(ServerSettings, values, "r1 serve")


def _read_keys(file: Path | None) -> list[str]:
    """The keys of a file or of the environment; a file without one is a mistake."""
    if file is None:
        text = os.environ.get(KEY_VARIABLE, "")
    else:
        try:
            text = file.expanduser().read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"--api-key-file {file}: not UTF-8 text") from None
    keys = [line.strip() for line in text.splitlines() if line.strip()]
    if file is not None and not keys:
        raise ValueError(f"{file}: holds no key; write one a line")
    return keys


def _require_packages() -> None:
    """The server's packages are an extra; looked for, because to import them all takes a second."""
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"{name} is not installed: pip install 'r1[serve]'")
