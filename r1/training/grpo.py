"""GRPO: draw questions, generate groups, grade, advantages, pack, update, publish, log."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from r1.allocator import keep_freed_memory
from r1.engine.engine import Engine
from r1.engine.engine_config import max_model_len, num_blocks
from r1.engine.open_model import GeneratorFactory, open_model
from r1.generator import Generator
from r1.models.exact import make_exact
from r1.models.hf_checkpoint import save_model
from r1.models.language_model import LanguageModel
from r1.models.presets import R1_GENERATION
from r1.records import Completion, SamplingParams
from r1.run_log import Progress, RunError, RunFolder, StepTimer, atomic_folder, write_json
from r1.tasks.task import build_task, preflight
from r1.text.tokenizer import Tokenizer
from r1.training import rollouts
from r1.training.checkpoint import (
    capture,
    load_state,
    load_tensors,
    restore,
    save_state,
    with_prefix,
)
from r1.training.expert_balance import check_experts
from r1.training.grpo_config import GrpoConfig, TaskShare, TokenLimit
from r1.training.memory import fit_memory
from r1.training.optimizer import NonFiniteError, Optimizer
from r1.training.policy_update import PolicyBatch, UpdateResult, reply_logprobs, update_policy
from r1.training.prompt_limit import check_prompts_fit, longest_prompt, max_prompt_tokens
from r1.training.reward_model import load_reward_model
from r1.training.rollout_metrics import rollout_metrics, sample_rows
from r1.training.rollouts import Group, QuestionSource, RolloutSettings, Scorer

__all__ = ["GrpoConfig", "TaskShare", "TokenLimit", "run_grpo"]

_REFERENCE = "reference."


def run_grpo(config: GrpoConfig, *, make_generator: GeneratorFactory = Engine) -> Path:
    """Train a policy; returns the folder of its final checkpoint.

    The same call continues a stopped run, and ends with the same bits. By default
    our engine samples from the very module that is trained; a backend with weights
    of its own comes as `make_generator` and is given the new ones after every rollout.

    Raises ValueError for a mistake in the data or the config, RunError when the run
    cannot go on (a loss that is not finite, a full disk, a folder in use).
    """
    keep_freed_memory()
    with RunFolder.open(config.output, config=config) as run:
        if run.checkpoint_path.exists():
            return run.checkpoint_path
        sources = load_sources(config)
        learner = build_learner(config, sources, make_generator)
        check_prompts(learner, sources)
        position = resume(run, learner, len(sources))
        try:
            train(run, learner, sources, position)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped; the same command goes on from the last saved step in {run.path}"
            ) from None
        with atomic_folder(run.checkpoint_path) as folder:
            generation = {**R1_GENERATION, **learner.tokenizer.token_ids}
            save_model(learner.model, folder, generation_config=generation)
            learner.tokenizer.save(folder)
        return run.checkpoint_path


# ---------------------------------------------------------------- what a run is made of


@dataclass(frozen=True)
class Learner:
    """The models at work: the policy that is trained, and who samples, judges and anchors it."""

    config: GrpoConfig
    model: LanguageModel
    tokenizer: Tokenizer
    optimizer: Optimizer
    generator: Generator
    reference: LanguageModel | None
    scorers: Mapping[str, Scorer]


@dataclass(frozen=True)
class Position:
    """How far a run is: finished steps, and questions drawn from each source."""

    step: int
    drawn: tuple[int, ...]


def load_sources(config: GrpoConfig) -> list[QuestionSource]:
    """Build the tasks, and find what is wrong with them before a model is loaded."""
    sources = []
    for share in config.task_shares:
        # The format that is rewarded is the one that the prompt asks for.
        style = share.task.format_style or config.prompt_style
        task = build_task(share.task.model_copy(update={"format_style": style}))
        preflight(task, splits=("train",))
        problems = task.problems("train")
        # A grade of an empty reply has the parts of any other, so names are checked now.
        parts = {**task.grade(problems[0], Completion(text="")).parts, **config.reward_models}
        rollouts.check_reward_parts(config.reward_weights, parts, task.name)
        sources.append(
            QuestionSource(task, problems, share.weight, share.from_step, share.until_step)
        )
    return sources


def build_learner(
    config: GrpoConfig, sources: Sequence[QuestionSource], make_generator: GeneratorFactory
) -> Learner:
    """Open the policy, its frozen reference (where there is a KL) and the reward models.

    Raises ValueError for one that cannot be opened, and when they do not fit the memory.
    """
    model, tokenizer = open_model(config.model, dtype=config.dtype, device=config.device)
    check_experts(model, config.experts)
    # Prompts are only counted for a plan: of many questions it takes a while.
    is_bounded = config.max_memory_bytes is not None
    longest = longest_sequence(config, sources, model, tokenizer) if is_bounded else 0
    config = fit_memory(config, model, longest)
    is_exact = config.exact or config.engine.exact
    engine = config.engine.model_copy(update={"exact": is_exact})
    if is_exact:
        make_exact(model)
    reference = None
    if config.kl_coefficient:
        reference = copy.deepcopy(model)
        if config.reference is not None:
            reference, _ = open_model(config.reference, dtype=config.dtype, device=config.device)
            if is_exact:
                make_exact(reference)
        reference.requires_grad_(False)
    generator = make_generator(model, tokenizer, engine)
    if is_exact and not isinstance(generator, Engine):
        raise ValueError("exact = true is r1's own engine's: another samples with its own bits")
    return Learner(
        config=config,
        model=model,
        tokenizer=tokenizer,
        optimizer=Optimizer(model, config, config.steps),
        generator=generator,
        reference=reference,
        scorers={
            part: load_reward_model(path, device=config.device)
            for part, path in config.reward_models.items()
        },
    )


def longest_sequence(
    config: GrpoConfig,
    sources: Sequence[QuestionSource],
    model: LanguageModel,
    tokenizer: Tokenizer,
) -> int:
    """Tokens of the longest prompt with a reply, as far as the engine has room for them."""
    prompt_tokens = max(
        longest_prompt(tokenizer, source.task, source.problems, config.prompt_style)
        for source in sources
    )
    room = max_model_len(model, config.engine, num_blocks(model, config.engine))
    return min(room, prompt_tokens + config.longest_reply)


def check_prompts(learner: Learner, sources: Sequence[QuestionSource]) -> None:
    """Raises TaskError for questions that can never be asked, rather than at their step."""
    for source in sources:
        check_prompts_fit(
            learner.tokenizer,
            source.task,
            source.problems,
            style=learner.config.prompt_style,
            max_tokens=max_prompt_tokens(learner.generator, learner.model),
        )


def resume(run: RunFolder, learner: Learner, num_sources: int) -> Position:
    """Take up the last saved state, and drop what was logged after it."""
    state = load_state(run.state_path)
    position = Position(step=0, drawn=(0,) * num_sources)
    if state is not None:
        restore(state, learner.model, learner.optimizer)
        if learner.reference is not None:
            load_tensors(learner.reference, with_prefix(state.tensors, _REFERENCE))
        position = Position(state.step, tuple(state.extra["drawn"]))
    run.metrics.truncate(max_step=position.step)
    run.samples.truncate(max_step=position.step)
    learner.generator.load_weights(learner.model.checkpoint_tensors(), position.step)
    return position


def save(run: RunFolder, learner: Learner, position: Position) -> None:
    """Write what `resume` takes up: weights, moments, reference, step and data position."""
    reference = {} if learner.reference is None else dict(learner.reference.named_parameters())
    state = capture(
        learner.model,
        learner.optimizer,
        position.step,
        extra={"drawn": list(position.drawn)},
        extra_tensors={_REFERENCE + name: t.detach() for name, t in reference.items()},
    )
    save_state(run.state_path, state)


# ---------------------------------------------------------------- training


def train(
    run: RunFolder, learner: Learner, sources: Sequence[QuestionSource], position: Position
) -> None:
    """Rollout after rollout to the last step, saving every `save_every` steps.

    Raises RunError, with the batch saved, for a loss or gradient that is not finite.
    """
    config = learner.config
    timer = StepTimer()
    with Progress(config.steps, "grpo") as progress:
        progress.update(position.step)
        while position.step < config.steps:
            before = position.step
            groups, drawn = collect_groups(learner, sources, position, timer)
            step = train_on_groups(run, learner, groups, before, (timer, progress))
            position = Position(step, drawn)
            if step // config.save_every > before // config.save_every or step == config.steps:
                with timer.phase("save"):
                    save(run, learner, position)


def collect_groups(
    learner: Learner, sources: Sequence[QuestionSource], position: Position, timer: StepTimer
) -> tuple[list[Group], tuple[int, ...]]:
    """Draw questions, generate groups, grade, reward, advantages: one rollout.

    With dynamic sampling, groups without signal are made up for by further questions
    (DAPO); all groups are returned, so that measurements are not biased by the choice.
    """
    config, step, drawn = learner.config, position.step, position.drawn
    wanted = config.questions_per_step * config.updates_per_rollout
    max_tokens = config.max_tokens_at(step)
    settings = RolloutSettings(
        group_size=config.group_size,
        prompt_style=config.prompt_style,
        sampling=SamplingParams(temperature=config.temperature, max_tokens=max_tokens),
        seed=config.seed,
    )
    groups: list[Group] = []
    num_kept = 0
    for _ in range(1 + (config.max_refills if config.dynamic_sampling else 0)):
        questions, drawn = rollouts.draw_questions(
            sources, drawn, count=wanted - num_kept, step=step, seed=config.seed
        )
        with rollouts.grading_pool(config.num_grading_threads) as pool:
            with timer.phase("generate"):
                asked, jobs = rollouts.generate_groups(
                    learner.generator, learner.tokenizer, questions, settings, pool
                )
            with timer.phase("grade"):
                graded, completions = rollouts.grade_groups(asked, jobs)
        with timer.phase("grade"):
            if step >= config.preference_from_step:
                graded = rollouts.score_with_models(
                    graded, completions, learner.scorers, which=config.reward_models_on
                )
            if config.overlong == "penalty":
                graded = rollouts.penalize_overlong(
                    graded, max_tokens, config.overlong_buffer_tokens
                )
            graded = rollouts.reward_groups(graded, config.reward_weights)
        groups += [rollouts.with_advantages(g, divide_by_std=config.divide_by_std) for g in graded]
        num_kept = sum(group.has_signal for group in groups)
        if num_kept >= wanted:
            break
    return groups, drawn


def train_on_groups(
    run: RunFolder,
    learner: Learner,
    groups: Sequence[Group],
    step: int,
    shown: tuple[StepTimer, Progress],
) -> int:
    """The updates of one rollout; returns the number of steps finished after it."""
    timer, progress = shown
    config = learner.config
    max_tokens = config.max_tokens_at(step)
    of_rollout = rollout_metrics(groups)
    first_step = step
    for minibatch in _minibatches(_policy_batch(learner, groups, timer), step, config):
        with timer.phase("update"):
            try:
                result = update_policy(
                    learner.model, learner.optimizer, minibatch, config, max_tokens=max_tokens
                )
            except NonFiniteError as error:
                raise _save_failed_batch(run, minibatch, step, error) from error
        step += 1
        is_last = step - first_step == config.steps_per_rollout or step == config.steps
        if is_last:
            with timer.phase("publish"):
                _refresh_reference(learner, first_step, step)
                learner.generator.load_weights(learner.model.checkpoint_tensors(), step)
        metrics = of_rollout | _step_metrics(result, timer)
        run.metrics.append({"step": step, **metrics})
        if (step - 1) % config.samples_every == 0:
            for row in sample_rows(groups[: config.samples_groups]):
                run.samples.append({"step": step, **row})
        progress.update(step, **_shown(metrics))
        timer.reset()
        if is_last:
            break
    return step


def _policy_batch(learner: Learner, groups: Sequence[Group], timer: StepTimer) -> PolicyBatch:
    """The rollout's trainable replies, with old and reference log-probs where needed."""
    config = learner.config
    kept = [g for g in groups if g.has_signal or not config.dynamic_sampling]
    batch = PolicyBatch.from_rollouts(
        [rollout for group in kept for rollout in group.rollouts],
        mask_overlong=config.overlong == "mask",
    )
    if config.steps_per_rollout > 1:
        with timer.phase("old_logprobs"):
            old = reply_logprobs(learner.model, batch.sequences, config, batch.routed_experts)
        batch = replace(batch, old_logprobs=old)
    if learner.reference is not None:
        with timer.phase("reference_logprobs"):
            reference = reply_logprobs(learner.reference, batch.sequences, config)
        batch = replace(batch, reference_logprobs=reference)
    return batch


def _minibatches(batch: PolicyBatch, step: int, config: GrpoConfig) -> list[PolicyBatch]:
    """Each inner epoch splits the replies at random into `updates_per_rollout` parts (R1)."""
    if config.updates_per_rollout == 1:
        return [batch] * config.inner_epochs
    return [
        batch.select(indices.tolist())
        for epoch in range(config.inner_epochs)
        for indices in np.array_split(
            np.random.default_rng([config.seed, step, epoch]).permutation(len(batch)),
            config.updates_per_rollout,
        )
    ]


def _refresh_reference(learner: Learner, before: int, step: int) -> None:
    every = learner.config.reference_refresh_steps
    if learner.reference is not None and every and step // every > before // every:
        learner.reference.load_state_dict(learner.model.state_dict())


def _save_failed_batch(
    run: RunFolder, batch: PolicyBatch, step: int, error: NonFiniteError
) -> RunError:
    path = run.path / "failed_batch.json"
    write_json(path, {"step": step + 1, "error": str(error), **batch.as_json()})
    return RunError(f"step {step + 1} was not applied: {error}; its batch is in {path}")


def _step_metrics(result: UpdateResult, timer: StepTimer) -> dict[str, float]:
    seconds = timer.seconds
    rate = result.num_tokens / seconds["time_step"]
    return {**result.metrics(), "tokens_per_second": rate, **seconds}


def _shown(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    names = ("reward", "accuracy", "response_tokens_mean", "entropy")
    return {n: v for n, v in metrics.items() if n in names or n.startswith("time_")}
