"""Adds LoRA adapters to the weights of their base model: `python -m r1exp.model.merge ADAPTERS TARGET [--trust-remote-code]`.

A process of its own, because the process that plans and runs steps does not import torch.
"""

import sys
from pathlib import Path

from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1exp.errors import ExitCode, Refused
from r1exp.files import whole_folder
from r1exp.model.adapters import base_of
from r1exp.model.load import check_source
from r1exp.model.remote_code import copy_code


def merge(adapters: Path, target: Path, *, trusts_code: bool = False) -> None:
    """Write the base model with the adapters added to its weights, and its tokenizer, to the folder `target`.

    The weights keep the dtype in which the base model is stored. The tokenizer is the one beside the adapters if there
    is one, else that of the base model. With `trusts_code` the code of the base model may run, and is copied.

    Raises:
        Refused: the base model or the adapters cannot be loaded, or they do not belong together.
    """
    base, revision = base_of(adapters)
    check_source(str(base), revision, trusts_code=trusts_code)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base, revision=revision, dtype="auto", trust_remote_code=trusts_code
        )
        merged = PeftModel.from_pretrained(model, str(adapters)).merge_and_unload(safe_merge=True)
        own_tokenizer = (adapters / "tokenizer_config.json").is_file()
        tokenizer = (
            AutoTokenizer.from_pretrained(adapters, trust_remote_code=False)
            if own_tokenizer
            else AutoTokenizer.from_pretrained(base, revision=revision, trust_remote_code=trusts_code)
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Refused(
            f"model.path={adapters}: the adapters cannot be added to their base model {base} ({reason}); check "
            "base_model_name_or_path in adapter_config.json"
        ) from error
    with whole_folder(target) as unfinished:
        merged.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        if trusts_code:
            copy_code(str(base), revision, unfinished)


def main() -> ExitCode:
    """Merge what the command line names; an error is one line on standard error."""
    try:
        merge(Path(sys.argv[1]), Path(sys.argv[2]), trusts_code="--trust-remote-code" in sys.argv[3:])
    except Refused as error:
        print(error, file=sys.stderr)  # noqa: T201 # read by the process that started this one
        return error.exit_code
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
