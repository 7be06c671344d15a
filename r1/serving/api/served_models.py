"""The models of one server, found by the name that a request gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from r1.serving.api.errors import ApiError
from r1.serving.api.rules import ANSWERING_ALIAS, THINKING_ALIAS
from r1.serving.api.service import Service


class ServedModels:
    """A service for each model; the first answers who names none, and DeepSeek's names.

    A model that has one of DeepSeek's names itself keeps it.
    """

    def __init__(self, services: Sequence[Service]) -> None:
        self._services = tuple(services)
        self.first = self._services[0]
        aliases = dict.fromkeys((THINKING_ALIAS, ANSWERING_ALIAS), self.first)
        named = {service.name: service for service in services}
        self._by_name = named | {k: v for k, v in aliases.items() if k not in named}

    def __iter__(self) -> Iterator[Service]:
        return iter(self._services)

    def find(self, name: str | None) -> Service:
        """The model of a request. Raises ApiError 404 for one that is not served."""
        if name is None:
            return self.first
        if name in self._by_name:
            return self._by_name[name]
        message = f"no model {name!r} here: this server has {', '.join(self._by_name)}"
        raise ApiError(404, message, code="model_not_found", param="model")
