"""The critic of PPO: estimates the return before each token, inside the policy's forward.

`separate`: a value model of any size with a value head. `shared`: a value head on the policy's trunk.
Both are a submodule `critic` of the policy and are called by the policy's forward, so that
DistributedDataParallel and DeepSpeed wrap one module and there is one backward pass. (With a critic
outside the wrapped policy, DDP raises `mark a variable ready only once`.) The values are returned as a
field of the output, because DDP searches the output for tensors that need a gradient.

The value head is initialized to zero, so that all values are 0 before the first optimizer step, unless the critic starts from
one that was trained, or from a reward model, whose head it takes. With LoRA the backbone has adapters of its own.

Shapes: B completions, S tokens of prompt and completion.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from accelerate.utils import is_peft_model
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations import is_deepspeed_zero3_enabled
from trl.trainer.utils import FusedCausalLMOutput, disable_dropout_in_model

from r1exp.algorithm.row_groups import RowGroups, in_groups
from r1exp.errors import Refused
from r1exp.model.load import load_backbone
from r1exp.model.value_head import read_head, save_critic

NAME = "critic"  # name of the submodule


@dataclass
class ValuedOutput(FusedCausalLMOutput):
    """TRL's output of the policy, with the critic's values before each next token, (B, S - 1)."""

    state_values: Tensor | None = None  # not named `values`, which is a method of every model output


class Critic(nn.Module):
    """A value head on a backbone of its own, or on hidden states that the caller passes."""

    def __init__(self, hidden_size: int, backbone: nn.Module | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.backbone = backbone
        self.load_backbone: Callable[[], PreTrainedModel] | None = None  # without adapters, as at the start
        self.head = nn.Linear(hidden_size, 1, dtype=dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def set_head(self, head: dict[str, Tensor] | None, path: str, *, is_needed: bool = False) -> None:
        """Start from the head of a critic or reward model instead of zeros.

        Raises:
            Refused: it has another size, or there is none and one `is_needed`.
        """
        if head is None and is_needed:
            raise Refused(
                f"algorithm.critic.path={path}: there is no value head, and algorithm.critic.kind=shared starts from nothing "
                "else; give the run of a PPO with a critic, or leave algorithm.critic.path out"
            )
        if head is None:
            return
        if head["weight"].shape != self.head.weight.shape:
            raise Refused(
                f"algorithm.critic.path={path}: its value head reads {head['weight'].size(-1)} features and the trunk has "
                f"{self.head.weight.size(-1)}; give a critic of the same size"
            )
        with torch.no_grad():
            self.head.weight.copy_(head["weight"])
            if "bias" in head:
                self.head.bias.copy_(head["bias"])

    def trained_names(self) -> frozenset[str]:
        """Return the names of the weights that are trained: all, or the adapters and the head."""
        return frozenset(name for name, weight in self.named_parameters() if weight.requires_grad)

    def save(self, weights: dict[str, Tensor], policy: PreTrainedModel, folder: Path) -> None:
        """Save the critic so that `algorithm.critic.path` can name it; adapters are merged into its trunk.

        Args:
            weights: The critic's whole state dict, gathered from all ranks; with adapters, those of the trunk's weights that
                are not in it are read again, because they have not changed.
            policy: The policy, whose trunk a shared critic has.
            folder: Must not exist.
        """
        head = {name: weights[f"head.{name}"] for name in ("weight", "bias")}
        trunk = self.backbone
        own = _below("backbone.", weights)
        if isinstance(trunk, PeftModel):
            lora = trunk.peft_config["default"]
            own = _below("base_model.model.", own)
            trunk = trunk.get_base_model()
            if not any(name.endswith(".base_layer.weight") for name in own):
                assert self.load_backbone is not None
                trunk = self.load_backbone()
                own |= trunk.state_dict()
            own = _merged(own, lora.lora_alpha / lora.r)
        save_critic(trunk, own, head, policy, folder)

    def forward(
        self, ids_bs: Tensor, mask_bs: Tensor | None, hidden_bsd: Tensor | None, *, is_shifted: bool = False
    ) -> Tensor:
        """Return float32 values before each next token, (B, S - 1).

        Args:
            ids_bs: Token ids of prompt and completion.
            mask_bs: Attention mask; None: all tokens.
            hidden_bsd: Last hidden states of the policy's trunk; only used without a backbone.
            is_shifted: Whether hidden states are of the tokens before a scored one only, as in `row_groups`: all have a value.
        """
        if self.backbone is not None:
            hidden_bsd = self.backbone(
                input_ids=ids_bs, attention_mask=mask_bs, use_cache=False
            ).last_hidden_state
        assert hidden_bsd is not None
        return self.head(hidden_bsd if is_shifted else hidden_bsd[:, :-1]).squeeze(-1).float()

    def values_in_groups(
        self, ids_bs: Tensor, mask_bs: Tensor, labels_bs: Tensor, groups: RowGroups
    ) -> Tensor:
        """Return the values of a critic with a backbone before each scored token, (B, S - 1); see `in_groups`."""
        assert self.backbone is not None

        def one(input_ids: Tensor, attention_mask: Tensor | None, shift_labels: Tensor) -> ValuedOutput:
            del shift_labels
            return ValuedOutput(state_values=self(input_ids, attention_mask, None, is_shifted=True))

        found: Tensor = in_groups(
            one, groups, [self.backbone], input_ids=ids_bs, attention_mask=mask_bs, labels=labels_bs
        ).state_values
        return found


def _below(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def _merged(weights: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return plain weights, W + scale B A, from those of a model with LoRA adapters; nothing is changed in place."""
    found = {
        name.replace(".base_layer", ""): weight for name, weight in weights.items() if ".lora_" not in name
    }
    for name, down in weights.items():
        layer, is_adapter, _ = name.partition(".lora_A.")
        if is_adapter:
            up = weights[name.replace(".lora_A.", ".lora_B.")]
            base = found[f"{layer}.weight"]
            found[f"{layer}.weight"] = (base.float() + scale * (up.float() @ down.float())).to(base.dtype)
    return found


def separate_critic(
    path: str,
    revision: str | None,
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype,
    *,
    trusts_code: bool = False,
    lora: LoraConfig | None = None,
) -> Critic:
    """Return a critic whose backbone is the model at `path`, for example a policy, a critic or a reward model.

    The model is loaded with `from_pretrained`, which partitions the weights during loading under ZeRO-3.
    With `trusts_code` the code of its repository may run: the policy's own model, of a trusted policy.
    With `lora` adapters of that form are trained instead of the backbone's weights; the head is always trained whole.

    Raises:
        Refused: there is no model, or it has fewer embeddings than the policy has tokens.
    """
    load = functools.partial(
        load_backbone, "algorithm.critic.path", path, revision, dtype, trusts_code=trusts_code
    )
    backbone = load()
    config = backbone.config.get_text_config()
    if config.vocab_size < len(tokenizer):
        raise Refused(
            f"the critic at {path} embeds {config.vocab_size} tokens and the policy has {len(tokenizer)}; "
            "both must use the same tokens: give algorithm.critic.path a model of the policy's family"
        )
    disable_dropout_in_model(backbone)
    head = read_head(path, revision, backbone)
    trained = backbone
    if (
        lora is not None
    ):  # ZeRO-3 needs one dtype, and peft would give adapters of float32 to weights of bfloat16
        same = is_deepspeed_zero3_enabled()
        trained = get_peft_model(backbone, _for_backbone(lora), autocast_adapter_dtype=not same)
    critic = Critic(config.hidden_size, trained, dtype)
    critic.set_head(head, path)
    critic.load_backbone = load
    return critic


def _for_backbone(lora: LoraConfig) -> LoraConfig:
    own = deepcopy(lora)
    if not isinstance(own.target_modules, str):
        # peft replaces `all-linear` by the names in the policy, whose trunk is `model`.
        own.target_modules = {name.removeprefix("model.") for name in own.target_modules or ()}
    own.task_type = TaskType.FEATURE_EXTRACTION
    return own


def shared_critic(policy: PreTrainedModel, path: str | None = None) -> Critic:
    """Return a value head for the policy's trunk; `path` is a critic to take the head of."""
    critic = Critic(policy.config.get_text_config().hidden_size, None, policy.dtype)
    if path is not None:
        critic.set_head(read_head(path, None, policy), path, is_needed=True)
    return critic


def attach(policy: PreTrainedModel, critic: Critic) -> None:
    """Make `critic` a submodule of the policy, and return its values from the policy's scoring forward.

    The policy must already have TRL's fused head (`add_fused_lm_head`, TRL 1.16). Generation does not
    compute values, so its cost does not change.
    """
    inner = policy.get_base_model() if is_peft_model(policy) else policy
    scored = inner.forward
    adapters = [module for module in inner.modules() if isinstance(module, BaseTunerLayer)]
    setattr(inner, NAME, critic)

    @functools.wraps(type(inner).forward)  # `generate` validates its arguments by the signature
    def forward(self: Any, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return scored(*args, **kwargs)
        if adapters and adapters[0].disable_adapters:  # the reference needs no values
            return scored(*args, fused_lm_head=True, **kwargs)
        with _last_hidden_states(inner.base_model) as hidden:
            output = scored(*args, fused_lm_head=True, **kwargs)
        shared_bsd = hidden[-1] if critic.backbone is None else None
        values_bs = getattr(self, NAME)(
            kwargs["input_ids"], kwargs["attention_mask"], shared_bsd, is_shifted="shift_labels" in kwargs
        )
        return ValuedOutput(**output, state_values=values_bs)

    inner.forward = MethodType(forward, inner)


@contextmanager
def _last_hidden_states(trunk: nn.Module) -> Iterator[list[Tensor]]:
    """Yield a list to which every forward of the trunk appends its last hidden states."""
    seen: list[Tensor] = []
    handle = trunk.register_forward_hook(lambda module, inputs, output: seen.append(output.last_hidden_state))
    try:
        yield seen
    finally:
        handle.remove()


def critic_of(policy: PreTrainedModel) -> Critic | None:
    """Return the critic of a policy; None: it has none."""
    return getattr(policy.get_base_model() if is_peft_model(policy) else policy, NAME, None)


def detach(policy: PreTrainedModel) -> None:
    """Remove the critic from a policy after training."""
    inner = policy.get_base_model() if is_peft_model(policy) else policy
    if hasattr(inner, NAME):
        delattr(inner, NAME)


def without_critic(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the policy only."""
    return {name: weight for name, weight in weights.items() if not _is_critic(name)}


def critic_alone(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the critic only, under the names of its `load_state_dict`."""
    return {
        name.partition(f"{NAME}.")[2]: weight.contiguous()
        for name, weight in weights.items()
        if _is_critic(name)
    }


def _is_critic(name: str) -> bool:
    return name.removeprefix("base_model.model.").startswith(f"{NAME}.")
