"""The application: its routes, its middleware, and what begins and ends with it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from r1 import __version__
from r1.serving.api import errors, responses, rules
from r1.serving.api.access import Access
from r1.serving.api.chat import answer_chat
from r1.serving.api.completions import answer_completion
from r1.serving.api.errors import ApiError, JsonResponse
from r1.serving.api.metrics import MergedMetrics, ServerMetrics
from r1.serving.api.model_side import ModelSide
from r1.serving.api.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
)
from r1.serving.api.served_models import ServedModels
from r1.serving.api.service import Service
from r1.serving.api.settings import ServerSettings
from r1.text.tokenizer import Tokenizer

# Of some 1,000 tokens, which are encoded within a millisecond or two.
_SHORT_BODY_BYTES = 4096


def build_app(models: Mapping[str, ModelSide], settings: ServerSettings) -> FastAPI:
    """The API of models by their names, the first the default.

    Whatever else is served (the page) is added to it by the caller.

    What lives as long as the server goes into `app.state.parts` as asynchronous contexts.
    """
    served = ServedModels(
        [
            Service(name, model, settings, ServerMetrics(model, name))
            for name, model in models.items()
        ]
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with AsyncExitStack() as stack:
            for model in models.values():
                stack.push_async_callback(model.close)
            for part in app.state.parts:
                await stack.enter_async_context(part)
            yield

    app = FastAPI(
        title="r1",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        # Their scripts come from elsewhere, and would run where the page's chats are.
        docs_url=None,
        redoc_url=None,
    )
    app.add_exception_handler(HTTPException, errors.on_http_error)
    app.add_exception_handler(RequestValidationError, errors.on_invalid_request)
    app.add_exception_handler(Exception, errors.on_unexpected_error)
    app.state.settings = settings
    app.state.models = served
    app.state.parts = []
    app.add_middleware(Access, settings=settings)
    _add_completions(app, served)
    _add_tokens(app, served)
    _add_status(app, served)
    return app


def _add_completions(app: FastAPI, models: ServedModels) -> None:
    """Each endpoint also without /v1, as DeepSeek's base address has it."""
    chat = responses.documented(responses.ChatCompletion, is_stream=True)
    text = responses.documented(responses.TextCompletion, is_stream=True)

    @app.post("/chat/completions", responses=chat, include_in_schema=False)
    @app.post("/v1/chat/completions", responses=chat)
    async def chat_completions(request: Request, body: ChatRequest) -> Response:
        """Answer a conversation."""
        return await _prepared(request, lambda: answer_chat(models.find(body.model), body))

    @app.post("/completions", responses=text, include_in_schema=False)
    @app.post("/beta/completions", responses=text, include_in_schema=False)
    @app.post("/v1/completions", responses=text)
    async def completions(request: Request, body: CompletionRequest) -> Response:
        """Continue a text."""
        return await _prepared(request, lambda: answer_completion(models.find(body.model), body))

    app.post("/beta/chat/completions", include_in_schema=False)(chat_completions)


async def _prepared(request: Request, answer: Callable[[], Response]) -> Response:
    """The response, made in a thread where its prompt is long: that would hold up every stream.

    A short one costs less than the way to the thread and back.
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) <= _SHORT_BODY_BYTES:
        return answer()
    return await run_in_threadpool(answer)


def _add_tokens(app: FastAPI, models: ServedModels) -> None:
    @app.post("/tokenize", include_in_schema=False)
    @app.post("/v1/tokenize", responses=responses.documented(responses.Tokens))
    def tokenize(body: TokenizeRequest) -> Response:
        """The token ids of a text, or of the prompt of a conversation."""
        service = models.find(body.model)
        tokenizer = _tokenizer(service)
        ids = _token_ids(service, tokenizer, body)
        value = {"count": len(ids), "max_model_len": service.model.max_model_len, "tokens": ids}
        texts = [tokenizer.decode([i], skip_special=False) for i in ids]
        return JsonResponse(value | {"token_strs": texts if body.return_token_strs else None})

    @app.post("/detokenize", include_in_schema=False)
    @app.post("/v1/detokenize", responses=responses.documented(responses.Detokenized))
    def detokenize(body: DetokenizeRequest) -> Response:
        """The text of token ids, special ones included."""
        service = models.find(body.model)
        tokenizer = _tokenizer(service)
        beyond = [token for token in body.tokens if token >= tokenizer.vocab_size]
        if beyond:
            message = f"tokens: {beyond[0]} is outside the vocabulary of {tokenizer.vocab_size}"
            raise ApiError(400, message, param="tokens")
        return JsonResponse({"prompt": tokenizer.decode(body.tokens, skip_special=False)})


def _token_ids(service: Service, tokenizer: Tokenizer, body: TokenizeRequest) -> list[int]:
    try:
        if body.messages is not None:
            chat = ChatRequest(messages=body.messages)
            is_reasoning = service.model.is_reasoning
            plan = rules.plan_chat(chat, service.settings, is_reasoning=is_reasoning)
            return list(service.model.prepare_chat(plan.chat).ids)
        prefix = tokenizer.prefix_ids if body.add_special_tokens else ()
        return [*prefix, *tokenizer.encode(body.prompt or "", allow_special=False)]
    except ValueError as error:
        raise ApiError(400, str(error)) from None


def _tokenizer(service: Service) -> Tokenizer:
    if service.model.tokenizer is None:
        raise ApiError(404, "the model is on another server, and its tokenizer is not here")
    return service.model.tokenizer


def _add_status(app: FastAPI, models: ServedModels) -> None:
    started = int(time.time())
    metrics_of_all = MergedMetrics([service.metrics for service in models])

    @app.get("/models", include_in_schema=False)
    @app.get("/v1/models", responses=responses.documented(responses.ModelList))
    async def model_list() -> Response:
        """The models that are served."""
        cards: list[dict[str, Any]] = [
            {
                "id": service.name,
                "object": "model",
                "created": started,
                "owned_by": "r1",
                "max_model_len": service.model.max_model_len,
            }
            for service in models
        ]
        return JsonResponse({"object": "list", "data": cards})

    @app.get("/health", responses=responses.documented(responses.Health))
    async def health() -> Response:
        """Whether requests are answered."""
        for service in models:
            if service.is_draining or not service.model.load().is_healthy:
                message = f"the model {service.name} does not answer"
                raise ApiError(503, message, headers={"retry-after": "5"})
        return JsonResponse({"status": "ok"})

    text = {
        "description": "The metrics.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    errors_only = {k: v for k, v in responses.documented(responses.Health).items() if k != 200}

    @app.get("/metrics", response_class=Response, responses={**errors_only, 200: text})
    async def metrics() -> Response:
        """Prometheus metrics under vLLM's names."""
        return Response(metrics_of_all.render(), media_type="text/plain; version=0.0.4")
