"""The engine: requests in, samples out. The package's own `Generator`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Sequence as SequenceOf

import numpy as np
import torch

from r1.engine.block_manager import BlockManager
from r1.engine.detokenizer import IncrementalDetokenizer
from r1.engine.engine_config import EngineConfig, max_model_len, num_blocks, turn_exact
from r1.engine.input_batch import InputBatch, NewTokens
from r1.engine.kv_cache import PagedKVCache
from r1.engine.model_runner import ModelRunner
from r1.engine.outputs import EngineStats, StepOutput
from r1.engine.reply_stream import ReplyStream
from r1.engine.request_check import check_request
from r1.engine.routing_cache import RoutingCache
from r1.engine.sampler import stream_key
from r1.engine.scheduler import Scheduler
from r1.engine.sequence import Sequence, SequenceGroup
from r1.engine.stream_options import StreamOptions
from r1.models.language_model import LanguageModel
from r1.models.quantize import quantize_model
from r1.records import FinishReason, GenerationRequest, Sample
from r1.text.tokenizer import Tokenizer


class Engine:
    """Continuous batching on one model; a `Generator`, and `step()` for streaming.

    The model is the engine's to overwrite: `load_weights` copies into it. Results
    depend only on the weights and the request (fp32; to rounding in the last bits, which
    follows the batch). The same calls on a fresh engine, or after `load_weights` or
    `reset_prefix_cache`, repeat bit for bit on the same machine and thread count.
    """

    def __init__(
        self, model: LanguageModel, tokenizer: Tokenizer, config: EngineConfig | None = None
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = config or EngineConfig()
        self.weights_version = 0
        turn_exact(model, self.config)
        self._quantize()
        block_count = num_blocks(model, self.config)
        self.max_model_len = max_model_len(model, self.config, block_count)
        weight = model.head_weight
        # Before what keeps a list of the blocks: here a size beyond the memory is refused at once.
        self._kv_cache = PagedKVCache(
            model.config,
            block_count,
            self.config.block_size,
            weight.dtype,
            weight.device,
            self.config.num_draft_layers,
        )
        if self.config.touch_cache:
            self._kv_cache.clear()
        self._rows = InputBatch(
            self.config.max_num_seqs, self.max_model_len, self.config.block_size
        )
        self._block_manager = BlockManager(block_count)
        self._scheduler = Scheduler(
            self._block_manager,
            self._rows,
            self.config.max_num_batched_tokens,
            self.config.enable_prefix_caching,
            self.config.speculative_tokens,
        )
        self._routing = (
            RoutingCache(model.config, block_count, self.config.block_size, weight.device)
            if self.config.record_routing
            else None
        )
        self._runner = ModelRunner(
            model, self._kv_cache, self._rows, self._routing, self.config.speculative_tokens
        )
        self._num_arrivals = 0
        self._num_steps = 0
        self._num_generated_tokens = 0

    # ------------------------------------------------------------ Generator

    def generate(
        self,
        requests: SequenceOf[GenerationRequest],
        on_sample: Callable[[Sample], None] | None = None,
    ) -> list[list[Sample]]:
        """Answer every request; result[i][j] is sample j of requests[i].

        Raises ValueError for a request that can never run, before any is started. When
        interrupted (Ctrl-C, an exception in `on_sample`) the engine is left empty.
        """
        if self.has_unfinished():
            raise ValueError("generate: the engine still has requests of add_request() to step()")
        groups = [self._new_group(request, None) for request in requests]
        place = {
            sequence: (i, j)
            for i, group in enumerate(groups)
            for j, sequence in enumerate(group.sequences)
        }
        samples: list[list[Sample | None]] = [[None] * len(group.sequences) for group in groups]
        for group in groups:
            self._scheduler.add(group)
        try:
            while self.has_unfinished():
                for sequence, sample in self._advance()[1]:
                    i, j = place[sequence]
                    samples[i][j] = sample
                    if on_sample is not None:
                        on_sample(sample)
        except BaseException:
            self._scheduler.abort_all()
            raise
        return [[sample for sample in row if sample is not None] for row in samples]

    def load_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Copy new weights into the model and forget the prefix cache.

        Refused while sequences are in flight: a sample is of one version. Raises
        ValueError naming the tensors that are missing, unknown or misshapen; then
        no weight has changed.
        """
        if self.has_unfinished():
            raise ValueError("load_weights: requests are in flight; finish or cancel them first")
        parameters = dict(self.model.checkpoint_tensors())
        received = dict(named_tensors)
        for what, names in (
            ("unknown", received.keys() - parameters.keys()),
            ("missing", parameters.keys() - received.keys()),
        ):
            if names:
                shown = ", ".join(sorted(names)[:3])
                raise ValueError(f"load_weights: {len(names)} {what} tensors: {shown}")
        for name, tensor in received.items():
            if tensor.shape != parameters[name].shape:
                shape, expected = list(tensor.shape), list(parameters[name].shape)
                raise ValueError(f"load_weights: {name} has shape {shape}, expected {expected}")
        with torch.no_grad():
            for name, tensor in received.items():
                # A trainer that works on the engine's own module publishes this very memory.
                if tensor.data_ptr() != parameters[name].data_ptr():
                    parameters[name].copy_(tensor)
        self._quantize()
        self.weights_version = version
        self.reset_prefix_cache()

    def _quantize(self) -> None:
        if self.config.quantize is not None:
            quantize_model(self.model, int(self.config.quantize.removeprefix("int")))

    # ------------------------------------------------------------ streaming

    def add_request(self, request: GenerationRequest, options: StreamOptions | None = None) -> None:
        """Queue a request for `step()`. Raises ValueError if it can never run.

        A constraint counts the tokens of one reply, so it needs `num_samples` 1.
        """
        options = options or StreamOptions()
        assert options.constraint is None or request.num_samples == 1
        if any(self._request_ids_in_flight(request.id)):
            raise ValueError(f"request {request.id!r} is already in flight")
        self._scheduler.add(self._new_group(request, options))

    def step(self, *, holds_back: bool = False) -> list[StepOutput]:
        """Compute one batch; outputs of every sample that got a token or ended.

        With `holds_back` only of those that end or have had no text yet: what the others made
        comes with a later step, for far less than token by token. An engine without requests
        gives an empty list.
        """
        if not self.has_unfinished():
            return []
        try:
            return self._advance(holds_back)[0]
        except BaseException:
            self._scheduler.abort_all()
            raise

    def cancel(self, request_id: str) -> list[Sample]:
        """Stop a request and free its memory; returns its unfinished samples as they are.

        A request that is unknown or finished gives an empty list.
        """
        cancelled = self._scheduler.cancel(request_id)
        return [self._to_sample(sequence, "cancelled") for sequence in cancelled]

    def has_unfinished(self) -> bool:
        """Whether any request is waiting or running."""
        return self._scheduler.has_unfinished()

    def reset_prefix_cache(self) -> None:
        """Forget the prompts seen so far; what runs is not disturbed."""
        self._block_manager.reset_prefix_cache()

    def stats(self) -> EngineStats:
        """Load and counters, cheap enough to read at every step."""
        scheduler, speculator = self._scheduler, self._runner.speculator
        return EngineStats(
            num_waiting=sum(len(group.sequences) for group in scheduler.waiting),
            num_prefilling=sum(len(group.sequences) for group in scheduler.prefilling),
            num_running=len(scheduler.running),
            num_blocks=self._block_manager.num_blocks,
            num_free_blocks=self._block_manager.num_free_blocks,
            num_cached_blocks=self._block_manager.num_cached_blocks,
            num_steps=self._num_steps,
            num_generated_tokens=self._num_generated_tokens,
            num_cached_tokens=scheduler.num_cached_tokens,
            num_preemptions=scheduler.num_preemptions,
            weights_version=self.weights_version,
            num_draft_tokens=0 if speculator is None else speculator.num_drafts,
            num_accepted_tokens=0 if speculator is None else speculator.num_accepted,
        )

    # ------------------------------------------------------------ inside

    def _advance(
        self, holds_back: bool = True
    ) -> tuple[list[StepOutput], list[tuple[Sequence, Sample]]]:
        """Schedule, run, postprocess."""
        batch = self._scheduler.schedule()
        try:
            new = self._runner.execute(batch)
        except ValueError:
            self._kv_cache.clear()
            raise
        self._scheduler.advance(batch)
        self._num_steps += 1
        return ([], []) if new is None else self._postprocess(new, holds_back)

    def _postprocess(
        self, new: NewTokens, holds_back: bool
    ) -> tuple[list[StepOutput], list[tuple[Sequence, Sample]]]:
        """End what has ended; Python touches only those rows and the ones that show something."""
        rows, slots = self._rows, new.slots
        is_stopped = rows.ended_by_token(slots)
        num_before = rows.num_tokens[slots] - new.counts
        for index in np.flatnonzero(rows.has_stop_strings[slots]).tolist():
            is_stopped[index] |= self._search_stop(
                slots[index], int(num_before[index]), bool(is_stopped[index])
            )
        num_added = rows.num_tokens[slots] - num_before
        self._num_generated_tokens += int(num_added.sum())
        self._keep_alternatives(new, num_added)
        is_ended = is_stopped | (rows.num_tokens[slots] >= rows.max_total_tokens[slots])
        is_held_back = rows.has_begun[slots] & ~is_ended & holds_back
        shown = slots[rows.is_streaming[slots] & ~is_held_back]
        if not (len(shown) or is_ended.any()):
            return [], []
        unshown = [self._unshown(slot) for slot in shown.tolist()]
        self._keep_routing(slots[is_ended])
        ended = self._scheduler.finish(slots[is_ended])
        finished = {
            sequence: self._to_sample(sequence, "stop" if stopped else "length")
            for sequence, stopped in zip(ended, is_stopped[is_ended], strict=True)
        }
        outputs: list[StepOutput] = []
        for sequence, ids, logprobs in unshown:
            assert sequence.stream is not None
            blank = StepOutput(
                sequence.request.id,
                sequence.sample_index,
                num_cached_tokens=sequence.num_cached_tokens,
            )
            sample = finished.get(sequence)
            outputs += sequence.stream.take_outputs(blank, ids, logprobs, sample)
            if sample is None:
                rows.has_begun[sequence.slot] = sequence.stream.has_begun
        return outputs, list(finished.items())

    def _search_stop(self, slot: int, num_before: int, has_stop_token: bool) -> bool:
        """Search a row's new tokens for stop strings, and take back what follows one."""
        rows, sequence = self._rows, self._rows.sequences[slot]
        assert sequence is not None and sequence.detokenizer is not None
        for place in range(num_before, int(rows.num_tokens[slot]) - has_stop_token):
            if sequence.detokenizer.push(int(rows.token_ids[slot, place])):
                rows.num_tokens[slot] = place + 1
                return True
            if sequence.stream is not None:
                sequence.stream.keep_text()
        return False

    def _keep_alternatives(self, new: NewTokens, num_added: np.ndarray) -> None:
        """The most probable tokens, for the streams that ask for them."""
        firsts = np.cumsum(new.counts) - new.counts
        for index in np.flatnonzero(self._rows.num_top_logprobs[new.slots]).tolist():
            sequence = self._rows.sequences[new.slots[index]]
            assert sequence is not None and sequence.stream is not None
            added = slice(firsts[index], firsts[index] + num_added[index])
            sequence.stream.keep_alternatives(
                new.tokens.top_ids[added], new.tokens.top_logprobs[added]
            )

    def _unshown(self, slot: int) -> tuple[Sequence, np.ndarray, np.ndarray]:
        """A streamed row with the tokens that it has not shown yet, and their log-probs."""
        rows, sequence = self._rows, self._rows.sequences[slot]
        assert sequence is not None and sequence.stream is not None
        first = sequence.num_prompt_tokens + sequence.stream.num_shown
        place = (slot, slice(first, rows.num_tokens[slot]))
        return sequence, rows.token_ids[place], rows.raw_logprobs[place]

    def _keep_routing(self, slots: np.ndarray) -> None:
        """Read what is recorded of rows that end, before their blocks are free."""
        if self._routing is None:
            return
        for slot in slots.tolist():
            sequence = self._rows.sequences[slot]
            assert sequence is not None
            # The last token was sampled and never computed.
            num_tokens = int(self._rows.num_tokens[slot]) - 1
            sequence.routed_experts = self._routing.read(self._rows.block_ids(slot), num_tokens)

    def _to_sample(self, sequence: Sequence, finish_reason: FinishReason) -> Sample:
        token_ids = sequence.token_ids[sequence.num_prompt_tokens :].tolist()
        return Sample(
            request_id=sequence.request.id,
            sample_index=sequence.sample_index,
            prompt_ids=sequence.request.prompt_ids,
            token_ids=tuple(token_ids),
            text=self._text(sequence, token_ids),
            sampler_logprobs=tuple(sequence.sampler_logprobs.tolist()),
            raw_logprobs=tuple(sequence.raw_logprobs.tolist()),
            finish_reason=finish_reason,
            weights_version=self.weights_version,
            routed_experts=sequence.routed_experts,
        )

    def _text(self, sequence: Sequence, token_ids: list[int]) -> str:
        """The reply's text, without the stop string or stop token that ended it."""
        detokenizer = sequence.detokenizer
        if detokenizer is not None and detokenizer.is_stopped:
            return detokenizer.text
        if token_ids and token_ids[-1] in sequence.stop_token_ids:
            token_ids = token_ids[:-1]
        return self.tokenizer.decode(token_ids)

    def _request_ids_in_flight(self, request_id: str) -> Iterable[bool]:
        scheduler = self._scheduler
        for group in (*scheduler.waiting, *scheduler.prefilling):
            yield group.sequences[0].request.id == request_id
        for slot in scheduler.running.tolist():
            sequence = self._rows.sequences[slot]
            yield sequence is not None and sequence.request.id == request_id

    def _new_group(
        self, request: GenerationRequest, options: StreamOptions | None
    ) -> SequenceGroup:
        """The sequences of a request; with `options` it is streamed."""
        check_request(request, self.model.config.vocab_size, self.max_model_len)
        is_streaming = options is not None
        options = options or StreamOptions()
        random_stream = options.random_stream or request.id
        sampling = request.sampling
        eos_ids = () if sampling.ignore_eos else self.tokenizer.eos_ids
        stop_token_ids = tuple(dict.fromkeys((*eos_ids, *sampling.stop_token_ids)))
        prompt = np.array(request.prompt_ids, np.int64)
        group = SequenceGroup(deque())
        for offset in range(request.num_samples):
            sample_index = request.first_sample_index + offset
            sequence = Sequence(
                request=request,
                sample_index=sample_index,
                arrival=self._num_arrivals,
                stream_key=stream_key(request.seed, random_stream, sample_index),
                stop_token_ids=stop_token_ids,
                max_total_tokens=min(len(prompt) + sampling.max_tokens, self.max_model_len),
                token_ids=prompt,
                options=options,
            )
            if is_streaming or sampling.stop:
                sequence.detokenizer = IncrementalDetokenizer(
                    self.tokenizer, sampling.stop, sampling.min_tokens
                )
            if is_streaming:
                assert sequence.detokenizer is not None
                sequence.stream = ReplyStream(sequence.detokenizer, options, prompt)
            self._num_arrivals += 1
            group.sequences.append(sequence)
        return group
