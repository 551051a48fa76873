"""Reads and writes the value head of a critic: a linear layer from hidden states to one number.

A critic is saved as a folder in the layout of Hugging Face: config.json and weights that `AutoModel` loads, and the head
beside them, in value_head.safetensors. A reward model has a head as well: `score.weight`, among its own weights.

Runs in workers: imports torch.
"""

from contextlib import suppress
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.utils import cached_file

from r1exp.errors import Refused

HEAD = "value_head.safetensors"
_SCORE = "score."  # the head of transformers' classes for sequence classification
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def read_head(path: str, revision: str | None, trunk: PreTrainedModel) -> dict[str, torch.Tensor] | None:
    """Return `weight`, (1, hidden), and maybe `bias`, (1,), of a critic or reward model; None of any other model.

    Args:
        path: Folder or hub id that `trunk` was loaded from.
        revision: Revision of a hub id; None: its main branch.
        trunk: The model, without its head.

    Raises:
        Refused: it is a classifier whose head has several labels, or cannot be read.
    """
    own = Path(path) / HEAD
    if own.is_file():
        return load_file(own)
    architectures = trunk.config.architectures or []
    if not any(name.endswith("ForSequenceClassification") for name in architectures):
        return None
    found: dict[str, torch.Tensor] = {}
    for file in _files(path, revision):
        with safe_open(file, framework="pt") as weights:
            names = [name for name in weights.keys() if name.startswith(_SCORE)]  # noqa: SIM118 - no mapping
            found |= {name.removeprefix(_SCORE): weights.get_tensor(name) for name in names}
    if "weight" not in found or found["weight"].size(0) != 1:
        what = (
            f"{found['weight'].size(0)} labels"
            if "weight" in found
            else "no score.weight in its *.safetensors"
        )
        raise Refused(
            f"algorithm.critic.path={path} is a classifier with {what}, and a value is one number; give a reward model with "
            "num_labels=1 (stage=reward_model makes one), or a model without such a head"
        )
    return found


def save_critic(
    trunk: PreTrainedModel | None,
    weights: dict[str, torch.Tensor],
    head: dict[str, torch.Tensor],
    config_of: PreTrainedModel,
    folder: Path,
) -> None:
    """Save a critic.

    Args:
        trunk: The value model; None: the head is on the policy's trunk.
        weights: State dict of the trunk; its own may be partitioned, or have adapters.
        head: `weight` and `bias`.
        config_of: The policy, whose config.json stands for the trunk of a shared critic.
        folder: Created.
    """
    folder.mkdir()
    if trunk is None:
        config_of.config.save_pretrained(folder)
    else:
        trunk.save_pretrained(folder, state_dict=weights)
    save_file({name: value.detach().cpu().contiguous() for name, value in head.items()}, folder / HEAD)


def _files(path: str, revision: str | None) -> list[Path]:
    """Return the files with weights: those of a folder, or of the snapshot of a hub id, which has been downloaded."""
    folder = Path(path)
    if not folder.is_dir():
        for name in _WEIGHTS:
            with suppress(OSError, ValueError):
                found = cached_file(
                    path, name, revision=revision, _raise_exceptions_for_missing_entries=False
                )
                folder = Path(found).parent if found else folder
    return sorted(folder.glob("*.safetensors"))
