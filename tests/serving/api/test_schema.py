"""5,000 requests made from the API's own schema: no 500, no reply that breaks the schema."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis.strategies import one_of
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.serving.api.conftest import MakeServer, tiny_engine_model

NUM_REQUESTS = 5000


def test_every_route_documents_its_errors(make_server: MakeServer) -> None:
    server = make_server(tiny_engine_model())
    with server.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/models",
        "/v1/tokenize",
        "/v1/detokenize",
        "/health",
        "/metrics",
    }
    for path in paths.values():
        for operation in path.values():
            assert {"200", "400", "401"} <= operation["responses"].keys()


def operations_of(url: str) -> list[Any]:
    """All operations of a server's own schema."""
    results = list(schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations())
    operations = [result.ok() for result in results if isinstance(result, Ok)]
    assert len(operations) == len(results)
    return operations


def ask(
    operation: Any,
    num_requests: int,
    statuses: Counter[tuple[str, int]],
    prepare: Callable[[Any], None] = lambda _: None,
) -> None:
    """Valid and invalid requests of one operation; a reply that breaks a check raises.

    `prepare` may change a request before it is sent.
    """
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]

    @hypothesis.settings(
        max_examples=num_requests,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[*HealthCheck],  # pyright: ignore[reportArgumentType]
    )
    @hypothesis.given(case=one_of([operation.as_strategy(mode) for mode in GenerationMode]))
    def check(case: Any) -> None:
        prepare(case)
        response = case.call_and_validate(checks=checks, timeout=120)
        statuses[operation.path, response.status_code] += 1

    check()


@pytest.mark.slow
def test_schemathesis_finds_no_500_and_no_breach(make_server: MakeServer) -> None:
    server = make_server(tiny_engine_model(max_model_len=64))
    operations = operations_of(server.url)
    statuses: Counter[tuple[str, int]] = Counter()
    posts = [operation for operation in operations if operation.method == "post"]

    for operation in operations:
        ask(operation, NUM_REQUESTS // len(posts) if operation in posts else 5, statuses)
    assert sum(statuses.values()) >= NUM_REQUESTS
    assert statuses["/v1/chat/completions", 200] > 0
    assert statuses["/v1/completions", 200] > 0
    print(dict(statuses))
