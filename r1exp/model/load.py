"""Load a policy and its tokenizer, and save them so that `from_pretrained` finds a plain model.

Runs in workers: imports torch.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import PartialState
from huggingface_hub.errors import HFValidationError
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors import SafetensorError
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    dynamic_module_utils,
)
from transformers.utils import cached_file

from r1exp.errors import Refused
from r1exp.files import whole_folder
from r1exp.model.chat_template import adapted
from r1exp.model.locate import check_hub
from r1exp.model.quantization import refuse_missing_library
from r1exp.model.remote_code import FILES, copy_code, needs_code, refuse_code
from r1exp.model.settings import ModelSettings
from r1exp.prompt.chat import CHAT_TEMPLATE

# Raised by transformers for files that are missing, truncated, of another architecture or with other
# tensor sizes, and for an attention implementation that is not installed.
_BROKEN = (OSError, ValueError, KeyError, RuntimeError, ImportError, HFValidationError, SafetensorError)


def load_tokenizer(path: str, settings: ModelSettings) -> PreTrainedTokenizerBase:
    """Return the tokenizer, with a padding token and a chat template that every prompt can be written with.

    A tokenizer without a chat template gets `r1exp.prompt.chat.CHAT_TEMPLATE`. Its own is adapted where that is
    needed (`r1exp.model.chat_template`). A tokenizer without a padding token uses its end-of-sequence token for
    padding.

    Raises:
        Refused: there is no tokenizer at `path`, it has no end-of-sequence token, or its chat template cannot be used.
    """
    check_source(path, settings.revision, trusts_code=settings.trust_remote_code)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, revision=settings.revision, trust_remote_code=settings.trust_remote_code
        )
    except _BROKEN as error:
        raise Refused(_message(path, "tokenizer", error)) from error
    if tokenizer.eos_token is None:
        raise Refused(
            f"model.path={path}: its tokenizer has no end-of-sequence token, so no completion could end; "
            "set eos_token in its tokenizer_config.json, or choose another model"
        )
    template = tokenizer.chat_template
    if isinstance(template, dict):  # several, by name
        template = template.get("default")
    template = CHAT_TEMPLATE if template is None else template
    tokenizer.chat_template = adapted(
        template, tokenizer.special_tokens_map, settings.chat_template_kwargs, path
    ).text
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_policy(path: str, settings: ModelSettings) -> PreTrainedModel:
    """Return the model with weights of `settings.dtype`; the matrices of its layers quantized if the settings say so.

    A quantized model is on this rank's device, and cannot be moved.

    Raises:
        Refused: there is no causal language model at `path`, or some of its weights are missing; or bitsandbytes is not
            installed.
    """
    check_source(path, settings.revision, trusts_code=settings.trust_remote_code)
    refuse_missing_library(settings)
    options: dict[str, Any] = {}
    if settings.attn_implementation not in (None, "auto"):  # auto: in plans only, which choose
        options["attn_implementation"] = settings.attn_implementation
    if settings.quantization is not None:
        options |= {
            "quantization_config": _quantization(settings),
            "device_map": {"": PartialState().device},
        }
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            path,
            revision=settings.revision,
            trust_remote_code=settings.trust_remote_code,
            dtype=getattr(torch, settings.dtype),
            output_loading_info=True,
            **options,
        )
    except _BROKEN as error:
        raise Refused(_message(path, "model", error)) from error
    missing = sorted(found["missing_keys"])
    if missing:
        raise Refused(
            f"model.path={path}: {len(missing)} weights are missing there (the first is {missing[0]}) and would be "
            "random; the files are incomplete or belong to another config.json: copy the model again"
        )
    return model


def _quantization(settings: ModelSettings) -> BitsAndBytesConfig:
    """Return the configuration of `r1exp.model.quantization`."""
    if settings.quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, settings.compute_dtype),
    )


def load_backbone(
    key: str, path: str, revision: str | None, dtype: torch.dtype, *, trusts_code: bool = False
) -> PreTrainedModel:
    """Return a model without the language-modeling head, for example as the trunk of a critic.

    Args:
        key: The setting that names the model, for messages.
        path: Folder or hub id.
        revision: Revision of a hub id; None: its main branch.
        dtype: Data type of the weights.
        trusts_code: Whether the code of its repository may run (`r1exp.model.remote_code`).

    Raises:
        Refused: there is no such model at `path`, or it needs code that must not run.
    """
    check_source(path, revision, key, trusts_code=trusts_code)
    try:
        return AutoModel.from_pretrained(path, revision=revision, dtype=dtype, trust_remote_code=trusts_code)
    except _BROKEN as error:
        raise Refused(_message(path, "model", error, key)) from error


def check_source(
    path: str, revision: str | None, key: str = "model.path", *, trusts_code: bool = False
) -> None:
    """Check that a model can be found and that it needs no code that must not run; called before its first file is loaded.

    Args:
        path: Folder or hub id.
        revision: Revision of a hub id; None: its main branch.
        key: The setting that names the model, for messages.
        trusts_code: Whether the code of its repository may run.

    Raises:
        Refused: it cannot be found, or it needs code that must not run.
    """
    check_hub(path, revision, key)
    place: Path | str = Path(path) if Path(path).is_dir() else path
    if (
        place == path
    ):  # fetched before anything else, so that the question is answered before anything is loaded
        for name in FILES:
            with suppress(OSError, ValueError):  # the loader itself states the reason
                cached_file(path, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    refuse_code(place, revision, is_trusted=trusts_code, key=key)
    # Where transformers, or a model's code, loads a part of a model without stating whether its code may run: an error at
    # once instead of a question on the terminal.
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    if trusts_code:
        _use_own_modules()


@cache
def _use_own_modules() -> TemporaryDirectory[str]:
    """Keep the copies of a model's modules in a folder of this process.

    transformers 5.17 copies them to a cache of the user and imports them there, and two ranks that copy at once read each
    other's half-written files.
    """
    folder = TemporaryDirectory(prefix="r1exp-modules-")
    dynamic_module_utils.HF_MODULES_CACHE = folder.name
    return folder


def peft_config(settings: ModelSettings) -> LoraConfig | None:
    """Return the configuration of the LoRA adapters, or None if all weights are trained (`lora.r=0`)."""
    lora = settings.lora
    if lora.r == 0:
        return None
    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def save_artifact(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    weights: dict[str, torch.Tensor] | None = None,
    load_base: Callable[[], PreTrainedModel] | None = None,
    code_of: tuple[str, str | None] | None = None,
    beside: Callable[[Path], None] = lambda folder: None,
    *,
    stays_as_it_is: bool = False,
) -> None:
    """Save a model that `from_pretrained` loads without further steps; adapters are merged.

    The folder appears only when every file is written. Adapters of a quantized model are merged into the weights that
    it was quantized from: merging into quantized weights would round them a second time. Given adapters are merged into the
    same weights.

    Args:
        model: The policy.
        tokenizer: Saved in the same folder.
        folder: Must not exist.
        weights: State dict to save instead of the model's own, for example gathered from all ranks; of a model with
            adapters only the adapters, under the names of its parameters.
        load_base: Returns the model that adapters belong to, without quantization.
        code_of: Folder or hub id, and revision, of a trusted model whose code the artifact needs as well; None: no code.
        beside: Saves what belongs to it in addition, into the same folder.
        stays_as_it_is: The model is trained further: its adapters are merged into the one that `load_base` returns.
    """
    plain: PreTrainedModel
    if isinstance(model, PeftModel):
        plain, weights = _merged(model, load_base, weights, stays_as_it_is), None
    else:
        plain = model
    if weights is not None:  # the state dict gathered by DeepSpeed holds a tied weight under both names
        weights = {
            name: weight for name, weight in weights.items() if name not in plain.all_tied_weights_keys
        }
    with whole_folder(folder) as unfinished:
        plain.save_pretrained(unfinished, state_dict=weights)
        if weights is not None:
            _state_dtype(unfinished / "config.json", weights)
        tokenizer.save_pretrained(unfinished)
        if code_of is not None:
            copy_code(*code_of, unfinished)
        beside(unfinished)


def _merged(
    model: PeftModel,
    load_base: Callable[[], PreTrainedModel] | None,
    adapters: dict[str, torch.Tensor] | None,
    stays_as_it_is: bool,
) -> PreTrainedModel:
    in_place = adapters is None and not stays_as_it_is
    if in_place and not getattr(model.get_base_model(), "is_quantized", False):
        return model.merge_and_unload()
    assert load_base is not None
    whole = get_peft_model(load_base(), model.peft_config["default"])
    if adapters is None:
        set_peft_model_state_dict(whole, get_peft_model_state_dict(model))
    else:
        found = whole.load_state_dict(adapters, strict=False)
        assert not found.unexpected_keys
    return whole.merge_and_unload()


def _state_dtype(config: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write the dtype of the saved weights: `save_pretrained` writes that of the model, which DeepSpeed has converted."""
    values = json.loads(config.read_text(encoding="utf-8"))
    dtypes = {str(weight.dtype).removeprefix("torch.") for weight in weights.values()}
    if len(dtypes) == 1 and {values.get("dtype")} != dtypes:
        values["dtype"] = dtypes.pop()
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _message(path: str, what: str, error: Exception, key: str = "model.path") -> str:
    if "trust_remote_code" in str(error):  # transformers has no class for it
        return needs_code(path, key)
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (
        f"{key}={path}: no {what} can be loaded from there ({reason}); give a folder that `from_pretrained` "
        "loads, or a hub id that this machine can download or has in its cache"
    )
