"""The menu of data sets: `dataset.kind` chooses one."""

from typing import Annotated

from pydantic import Field

from r1exp.dataset.arithmetic import Arithmetic
from r1exp.dataset.gsm8k import Gsm8k
from r1exp.dataset.jsonl import Jsonl
from r1exp.dataset.preference import Preference

DatasetSettings = Annotated[Arithmetic | Gsm8k | Jsonl | Preference, Field(discriminator="kind")]
