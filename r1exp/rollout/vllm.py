"""vLLM inside this process: for the trainer, whose weights it is given, and for evaluation and sampling.

The only file that imports vLLM. What vLLM 0.31 and TRL 1.16 leave open is decided here:

* the numbers' type is the one the policy computes in (`auto` would make float32 weights bfloat16);
* the seed is the run's (TRL passes the rank alone);
* on a CPU weights stay live. vLLM repacks the weights of a linear layer when it loads them and
  computes with the packed copy, so that weights written later would change nothing.
"""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

os.environ |= {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
}

from vllm import LLM, SamplingParams  # reads the environment
from vllm.model_executor.layers import utils
from vllm.outputs import CompletionOutput
from vllm.utils.network_utils import get_open_port

from r1exp.model.load import load_tokenizer
from r1exp.model.settings import ModelSettings
from r1exp.records import Completion, Message
from r1exp.rollout.base import GeneratorInputs, Sampling
from r1exp.rollout.settings import VllmColocate

Device = Literal["cpu", "cuda"]
Asked = tuple[list[int], int]  # the tokens of a prompt, and the seed of its completions


@contextmanager
def colocated(settings: VllmColocate, model: ModelSettings, device: Device, seed: int) -> Iterator[None]:
    """Return a context in which TRL builds its engine as the settings say."""
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
        settings: Of the rollout.
        policy: Which model, and the type of number that it computes in.
        device: What the policy computes on.
        first_seed: The run's.
        seed: Added to it: the number of this engine among those of other ranks.
        arguments: What TRL, or the generator below, decides.
    """
    _say_who_this_rank_is()
    if device == "cpu":
        _keep_weights_live()
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # the threads are the trainer's too
        arguments["kv_cache_memory_bytes"] = settings.cpu_kvcache_gib << 30
    return LLM(
        **arguments,
        seed=first_seed + seed,
        dtype=policy.compute_dtype,
        revision=policy.revision,
        tokenizer_revision=policy.revision,
        enforce_eager=settings.enforce_eager or device == "cpu",
        disable_log_stats=True,
    )


def _keep_weights_live() -> None:
    """Let linear layers compute with the weights they have, not with a packed copy. vLLM 0.31."""
    utils.dispatch_cpu_unquantized_gemm = _plain_linear


def _plain_linear(layer: torch.nn.Module, remove_weight: bool) -> None:
    del remove_weight
    layer.cpu_linear = torch.nn.functional.linear  # type: ignore[assignment]  # as vLLM itself does


class VllmGenerator:
    """A model in vLLM and its tokenizer, ready to answer prompts.

    Each completion draws from a stream of its own, so that neither the size of a batch nor the other
    prompts decide what it says.
    """

    def __init__(
        self,
        path: str,
        model: ModelSettings,
        tokenizer: PreTrainedTokenizerBase,
        settings: VllmColocate,
        device: Device,
    ) -> None:
        self.tokenizer = tokenizer
        self._end_ids = _end_ids(path, model.revision, tokenizer)
        self._sharing = _sharing_ranks(settings.tensor_parallel_size)
        self._engine = _engine(
            settings,
            model,
            device,
            0,
            seed=0,  # every completion has its own
            model=path,
            tensor_parallel_size=settings.tensor_parallel_size,
            gpu_memory_utilization=settings.gpu_memory_utilization,
            max_model_len=settings.max_model_length,
            distributed_executor_backend="external_launcher",
            logprobs_mode="processed_logprobs",
            # On a CPU vLLM 0.31 cannot take back a draw from a completion's own stream, as chunks demand.
            enable_chunked_prefill=device != "cpu",
        )

    def generate(self, prompts: list[list[Message]], n: int, sampling: Sampling) -> list[list[Completion]]:
        """Return `n` completions of each prompt, in the order of the prompts.

        Ranks that share a copy of the model must all call it, each with its own prompts.
        """
        rows = self._tokenized(prompts) if prompts else []
        is_greedy = sampling.temperature == 0.0
        num_drawn = 1 if is_greedy else n  # vLLM refuses to search greedily for several
        streams = random.Random(sampling.seed)
        asked = [(row, streams.getrandbits(31)) for row in rows]
        before, everybody = self._with_sharing_ranks(asked)
        answers = self._engine.generate(
            [{"prompt_token_ids": row} for row, _ in everybody],
            [self._parameters(num_drawn, sampling, seed) for _, seed in everybody],
            use_tqdm=False,
        )
        own = answers[before : before + len(asked)]
        groups = [[self._completion(output) for output in answer.outputs] for answer in own]
        return [group * n if is_greedy else group for group in groups]

    def _tokenized(self, prompts: list[list[Message]]) -> list[list[int]]:
        texts = self.tokenizer.apply_chat_template(prompts, add_generation_prompt=True, tokenize=False)
        # The template has written the special tokens already.
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    def _with_sharing_ranks(self, asked: list[Asked]) -> tuple[int, list[Asked]]:
        """Return how many rows come before this rank's, and the rows of all ranks that share its copy."""
        if self._sharing is None:
            return 0, asked
        gathered: list[list[Asked]] = [[] for _ in range(torch.distributed.get_world_size(self._sharing))]
        torch.distributed.all_gather_object(gathered, asked, group=self._sharing)
        place = torch.distributed.get_rank(self._sharing)
        return sum(map(len, gathered[:place])), [row for rows in gathered for row in rows]

    def _parameters(self, n: int, sampling: Sampling, seed: int) -> SamplingParams:
        # Everything is stated: what is not, the model's own generation config would decide.
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

    def _completion(self, output: CompletionOutput) -> Completion:
        ids = list(output.token_ids)
        logprobs = tuple(step[token].logprob for step, token in zip(output.logprobs, ids, strict=True))
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return Completion(text, len(ids), finished=ids[-1] in self._end_ids, logprobs=logprobs)


def _say_who_this_rank_is() -> None:
    """Set what vLLM's executor for outside launchers reads, where accelerate started one process without it."""
    for name, alone in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")):
        os.environ.setdefault(name, alone)
    if not torch.distributed.is_initialized():
        # accelerate 1.15 says 29500 to every single process, and two on one machine would fight for it.
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(get_open_port())}


def _sharing_ranks(size: int) -> torch.distributed.ProcessGroup | None:
    """Return the group of this rank and those it shares a copy of the model with; None: it has its own."""
    if size == 1:
        return None
    group, _ = torch.distributed.new_subgroups(size)
    return group


def _end_ids(path: str, revision: str | None, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return every token that ends a completion: the tokenizer's and those the model's config names."""
    try:
        named = GenerationConfig.from_pretrained(path, revision=revision).eos_token_id
    except OSError:  # a model need not have one
        named = None
    from_model = set() if named is None else {named} if isinstance(named, int) else set(named)
    return sorted(from_model | {tokenizer.eos_token_id})


def generator(settings: VllmColocate, inputs: GeneratorInputs) -> VllmGenerator:
    """Return a generator with an engine in this process."""
    tokenizer = load_tokenizer(inputs.model_path, inputs.model)
    return VllmGenerator(inputs.model_path, inputs.model, tokenizer, settings, inputs.device)
