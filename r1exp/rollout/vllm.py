"""Runs vLLM inside this process: for the trainer, which updates its weights, and for evaluation and sampling.

The only file that imports vLLM. It sets what vLLM 0.31 and TRL 1.16 leave to their defaults:

* It uses the policy's compute dtype; `auto` would convert float32 weights to bfloat16.
* It uses the seed of the run; TRL passes only the rank.
* On a CPU it disables weight packing. vLLM packs the weights of a linear layer when it loads them and computes with
  the packed copy, so that later updates of the weights would have no effect.
"""

import io
import os
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from tqdm import tqdm
from transformers import GenerationConfig, PreTrainedTokenizerBase

os.environ |= {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
}

from vllm import LLM, SamplingParams  # reads the environment
from vllm.model_executor.layers import utils
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.utils.network_utils import get_open_port

from r1exp.launcher.base import loopback
from r1exp.model.load import load_tokenizer
from r1exp.model.settings import ModelSettings
from r1exp.records import Completion, Message
from r1exp.rollout.base import GeneratorInputs, Sampling
from r1exp.rollout.kept import KeptRows
from r1exp.rollout.settings import VllmColocate

Device = Literal["cpu", "cuda"]
Request = tuple[list[int], int]  # token ids of a prompt, and the seed of its completions


@contextmanager
def colocated(settings: VllmColocate, model: ModelSettings, device: Device, seed: int) -> Iterator[None]:
    """Return a context in which TRL builds its engine with these settings."""
    from trl.generation import vllm_generation

    vllm_generation.LLM = partial(_engine, settings, model, device, seed)
    try:
        yield
    finally:
        vllm_generation.LLM = LLM


def _engine(
    settings: VllmColocate,
    policy: ModelSettings,
    device: Device,
    first_seed: int,
    /,
    *,
    seed: int,
    **arguments: Any,
) -> LLM:
    """Return an engine in this process.

    Args:
        settings: The rollout.
        policy: The model; states the compute dtype and the revision.
        device: Device of the policy.
        first_seed: Seed of the run.
        seed: Added to `first_seed`: the index of this engine among those of all ranks.
        arguments: Further arguments of `LLM`, set by TRL or by the generator below.
    """
    _set_rank_variables()
    if device == "cpu":
        _disable_weight_packing()
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # the trainer uses the same threads
        arguments["kv_cache_memory_bytes"] = settings.cpu_kvcache_gib << 30
    return LLM(
        **arguments,
        seed=first_seed + seed,
        dtype=policy.compute_dtype,
        revision=policy.revision,
        tokenizer_revision=policy.revision,
        code_revision=policy.revision,  # read only where the code of the model is trusted
        enforce_eager=settings.enforce_eager or device == "cpu",
        disable_log_stats=True,
    )


def _disable_weight_packing() -> None:
    """Make linear layers compute with their current weights instead of a packed copy (vLLM 0.31)."""
    utils.dispatch_cpu_unquantized_gemm = _plain_linear


def _plain_linear(layer: torch.nn.Module, remove_weight: bool) -> None:
    del remove_weight
    layer.cpu_linear = torch.nn.functional.linear  # type: ignore[assignment]  # as vLLM itself does


class _Counter(tqdm):
    """A progress bar that is not drawn: vLLM 0.31 updates it with the number of new completions.

    vLLM makes another one to iterate over the prompts, which are not counted.
    """

    def __init__(
        self, advance: Callable[[float], None], iterable: Iterable[Any] | None = None, **options: Any
    ) -> None:
        super().__init__(iterable, **options, file=io.StringIO())
        self._advance = advance

    def update(self, n: float | None = 1) -> bool | None:
        if self.iterable is None:
            self._advance(n or 0)
        return super().update(n)


class VllmGenerator:
    """Generates completions with a model in vLLM and its tokenizer.

    Each completion has its own random stream, so that it depends neither on the batch size nor on the other prompts.
    """

    def __init__(
        self,
        path: str,
        model: ModelSettings,
        tokenizer: PreTrainedTokenizerBase,
        settings: VllmColocate,
        device: Device,
        advance: Callable[[float], None] = lambda amount: None,
        kept: KeptRows | None = None,
        engine: LLM | None = None,
        sharing: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self._advance = advance
        self._kept = kept or KeptRows()
        self._end_ids = _end_ids(path, model.revision, tokenizer)
        self._sharing = _sharing_ranks(settings.tensor_parallel_size) if engine is None else sharing
        self._engine = engine or _engine(
            settings,
            model,
            device,
            0,
            seed=0,  # every request has its own seed
            model=path,
            trust_remote_code=model.trust_remote_code,
            tensor_parallel_size=settings.tensor_parallel_size,
            gpu_memory_utilization=settings.gpu_memory_utilization,
            max_model_len=settings.max_model_length,
            distributed_executor_backend="external_launcher",
            logprobs_mode="processed_logprobs",
            # Chunked prefill rewinds the random stream of a completion, which vLLM 0.31 cannot do on a CPU.
            enable_chunked_prefill=device != "cpu",
        )

    def generate(self, prompts: list[list[Message]], n: int, sampling: Sampling) -> list[list[Completion]]:
        """Return `n` completions of each prompt, in the order of the prompts.

        All ranks that share a copy of the model must call this method, each with its own prompts.
        """
        rows = self._tokenized(prompts) if prompts else []
        is_greedy = sampling.temperature == 0.0
        num_drawn = 1 if is_greedy else n  # vLLM refuses n > 1 with greedy decoding
        streams = random.Random(sampling.seed)
        requests = [(row, streams.getrandbits(31)) for row in rows]
        kept = self._kept.completions(prompts, n, sampling)
        if kept.done:
            self._advance(len(kept.done))
        done = dict(kept.done)
        missing = [row for row in range(len(rows)) if any(row * n + k not in done for k in range(n))]
        own = [requests[row] for row in missing]
        offset, gathered = self._with_sharing_ranks(own)
        # The engine counts what it has drawn for all ranks that share it.
        share = len(own) * n / max(1, len(gathered) * num_drawn)

        def finish(number: int, output: RequestOutput) -> None:
            if 0 <= number - offset < len(missing):
                row = missing[number - offset]
                prompt = len(requests[row][0])
                group = [self._completion(each, prompt) for each in output.outputs]
                numbered = dict(enumerate(group * n if is_greedy else group, start=row * n))
                kept.add(numbered)
                done.update(numbered)

        with self._finishing(finish):
            self._engine.generate(
                [{"prompt_token_ids": row} for row, _ in gathered],
                [self._parameters(num_drawn, sampling, seed) for _, seed in gathered],
                use_tqdm=partial(_Counter, lambda number: self._advance(number * share)),
            )
        return [[done[row * n + k] for k in range(n)] for row in range(len(rows))]

    @contextmanager
    def _finishing(self, finish: Callable[[int, RequestOutput], None]) -> Iterator[None]:
        """Pass each request to `finish` when it ends, with its number: `LLM.generate` returns when all have ended.

        vLLM 0.31 numbers the requests of an engine in order.
        """
        engine, first = self._engine.llm_engine, self._engine.request_counter.counter
        step = engine.step

        def watched_step() -> Any:
            outputs = step()
            for output in outputs:
                if output.finished:
                    finish(int(output.request_id) - first, output)
            return outputs

        engine.step = watched_step  # restored below
        try:
            yield
        finally:
            engine.step = step

    def _tokenized(self, prompts: list[list[Message]]) -> list[list[int]]:
        texts = self.tokenizer.apply_chat_template(prompts, add_generation_prompt=True, tokenize=False)
        # The chat template has already added the special tokens.
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    def _with_sharing_ranks(self, requests: list[Request]) -> tuple[int, list[Request]]:
        """Return the requests of all ranks that share a copy of the model, and the offset of this rank's."""
        if self._sharing is None:
            return 0, requests
        gathered: list[list[Request]] = [[] for _ in range(torch.distributed.get_world_size(self._sharing))]
        torch.distributed.all_gather_object(gathered, requests, group=self._sharing)
        index = torch.distributed.get_rank(self._sharing)
        return sum(map(len, gathered[:index])), [request for shard in gathered for request in shard]

    def _parameters(self, n: int, sampling: Sampling, seed: int) -> SamplingParams:
        # All fields are stated, because the model's generation config applies to the others.
        return SamplingParams(
            n=n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=0.0,
            repetition_penalty=1.0,
            max_tokens=sampling.max_tokens,
            stop_token_ids=self._end_ids,
            seed=seed,
            logprobs=0,
            detokenize=False,
        )

    def _completion(self, output: CompletionOutput, num_prompt_tokens: int) -> Completion:
        ids = list(output.token_ids)
        logprobs = tuple(step[token].logprob for step, token in zip(output.logprobs, ids, strict=True))
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return Completion(
            text, len(ids), ids[-1] in self._end_ids, logprobs, num_prompt_tokens=num_prompt_tokens
        )


def _set_rank_variables() -> None:
    """Set the variables that vLLM's external launcher reads, if accelerate started one process without them."""
    for name, alone in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")):
        os.environ.setdefault(name, alone)
    if not torch.distributed.is_initialized():
        # accelerate 1.15 gives every single process port 29500, so that two on one machine would collide.
        os.environ |= {"MASTER_ADDR": loopback(), "MASTER_PORT": str(get_open_port())}


def _sharing_ranks(size: int) -> torch.distributed.ProcessGroup | None:
    """Return the process group of the ranks that share a copy with this one; None: this rank has its own copy."""
    if size == 1:
        return None
    group, _ = torch.distributed.new_subgroups(size)
    return group


def _end_ids(path: str, revision: str | None, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return every token that ends a completion: the tokenizer's, and those of the model's generation config."""
    try:
        named = GenerationConfig.from_pretrained(path, revision=revision).eos_token_id
    except OSError:  # the model has no generation config
        named = None
    from_model = set() if named is None else {named} if isinstance(named, int) else set(named)
    return sorted(from_model | {tokenizer.eos_token_id})


def generator(settings: VllmColocate, inputs: GeneratorInputs) -> VllmGenerator:
    """Return a generator with an engine in this process."""
    tokenizer = load_tokenizer(inputs.model_path, inputs.model)
    return VllmGenerator(
        inputs.model_path, inputs.model, tokenizer, settings, inputs.device, inputs.advance, inputs.kept
    )


@contextmanager
def in_training(settings: VllmColocate, inputs: GeneratorInputs, trainer: Any) -> Iterator[VllmGenerator]:
    """Return a context with a generator of the trainer's engine, which has the trainer's weights.

    Every request has its own seed, so that the engine's random numbers stay those of the training.

    Args:
        settings: The rollout of the step.
        inputs: What a generator needs from the step.
        trainer: GRPO's or RLOO's trainer of TRL 1.16 with a colocated engine.
    """
    theirs = trainer.vllm_generation
    theirs.sync_weights()
    trainer._last_loaded_step = (
        trainer.state.global_step
    )  # not a second time where the training generates next
    if settings.sleep:
        theirs.llm.wake_up(tags=["kv_cache"])
    sharing = theirs.tp_group if settings.tensor_parallel_size > 1 else None
    tokenizer = trainer.processing_class
    try:
        yield VllmGenerator(
            inputs.model_path, inputs.model, tokenizer, settings, inputs.device, inputs.advance,
            engine=theirs.llm, sharing=sharing,
        )  # fmt: skip
    finally:
        theirs.llm.reset_prefix_cache()  # a prefix that the training finds there would shift the digits of its completions
        if settings.sleep:
            theirs.llm.sleep(level=2)
            theirs._llm_weights_sleeping = True
            trainer._last_loaded_step = -1  # a sleeping engine has no weights
