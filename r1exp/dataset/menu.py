"""The data sets that `dataset.kind` can name. To add one, write its file and add its line."""

from typing import Annotated

from r1exp.dataset.base import Dataset
from r1exp.registry import Registry

DATASETS: Registry[Dataset] = Registry(
    "dataset",
    Dataset,
    {
        "arithmetic": "r1exp.dataset.arithmetic:Arithmetic",
        "bilingual": "r1exp.dataset.bilingual:Bilingual",
        "bilingual_chat": "r1exp.dataset.bilingual_chat:BilingualChat",
        "countdown": "r1exp.dataset.countdown:Countdown",
        "gpqa": "r1exp.dataset.gpqa:Gpqa",
        "hf": "r1exp.dataset.hf:Hf",
        "ioi": "r1exp.dataset.ioi:Ioi",
        "jsonl": "r1exp.dataset.jsonl:Jsonl",
        "labelled": "r1exp.dataset.labelled:Labelled",
        "mixture": "r1exp.dataset.mixture:Mixture",
        "preference": "r1exp.dataset.preference:Preference",
        "reasoning_gym": "r1exp.dataset.reasoning_gym:ReasoningGym",
    },
)
DatasetSettings = Annotated[Dataset, DATASETS]
