"""Writes the table of docs/models.md: which model fits which cards, and with what, by the estimate of `plan`.

    python docs/model_table.py           # print it
    python docs/model_table.py --write   # replace the part of docs/models.md between the two markers

GRPO with a reference model, prompts of 512 tokens and completions of 1,024, 256 completions an optimizer step, gradient
checkpointing, and `rollout=vllm_colocate rollout.sleep=true`, whose engine takes 30 % of a card while the trainer keeps its
weights and optimizer there. A card is used up to 90 %. Torch-free.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from omegaconf import OmegaConf

from r1exp.model.memory import memory_per_device
from r1exp.model.settings import LoraSettings, ModelSettings
from r1exp.model.workload import Load
from r1exp.plan.fit import MARGIN

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "models.md"
BEGIN = "<!-- begin: python docs/model_table.py --write -->"
END = "<!-- end -->"
CARDS = {"24 GB": 23_028 << 20, "48 GB": 46_068 << 20, "80 GB": 81_559 << 20}  # an A10, an L40S, an H100
NUMBERS = (1, 2, 4, 8)  # cards
PROMPT, COMPLETION, COMPLETIONS, ENGINE = 512, 1024, 256, 0.3
ROWS = (32, 16, 8, 4, 2, 1)
STRATEGIES = (
    ("ddp", 0, False),
    ("zero1", 1, False),
    ("zero2", 2, False),
    ("zero3", 3, False),
    ("zero3 offload", 3, True),
)


def presets() -> Iterator[tuple[str, ModelSettings]]:
    """Yield the pretrained presets with published sizes, from the smallest."""
    found = []
    for file in sorted((ROOT / "conf" / "model").glob("*.yaml")):
        values = OmegaConf.to_container(OmegaConf.load(file))
        if isinstance(values, dict) and values["kind"] == "pretrained" and values["shape"] is not None:
            model = ModelSettings.model_validate_json(json.dumps(values))
            found.append((file.stem, model.model_copy(update={"attn_implementation": _attention(model)})))
    yield from sorted(found, key=lambda named: _weights(named[1]))


def _attention(model: ModelSettings) -> str | None:
    return "sdpa" if model.attn_implementation == "auto" else model.attn_implementation


def _weights(model: ModelSettings) -> int:
    assert model.shape is not None
    load = Load(False, False, rows=0, tokens=0, logit_tokens=0, sampled_rows=0)
    return memory_per_device(model.shape, model, load).weights


def need(model: ModelSettings, ranks: int, rows: int, stage: int, offload: bool, card: int) -> int:
    """Return the peak of one card, in bytes."""
    assert model.shape is not None
    load = Load(
        trains=True, keeps_reference=True, rows=rows, tokens=PROMPT + COMPLETION, logit_tokens=COMPLETION, sampled_rows=0,
        world_size=ranks, zero_stage=stage, offload=offload, syncs=True, accumulates=rows * ranks < COMPLETIONS,
    )  # fmt: skip
    parts = memory_per_device(model.shape, model, load)
    return max(parts.total, parts.permanent + int(ENGINE * card))


def best(model: ModelSettings, ranks: int, card: int) -> str:
    """Return the cheapest launcher that fits with the most rows of a pass; empty: nothing fits."""
    for name, stage, offload in STRATEGIES:
        if stage and ranks == 1 and not offload:
            continue  # nothing to share
        for rows in ROWS:
            size = need(model, ranks, rows, stage, offload, card)
            if size <= MARGIN * card:
                launcher = "local" if name == "ddp" and ranks == 1 else name
                return f"{launcher}, {rows} rows, {size / 1e9:.0f} GB"
    return ""


def cell(model: ModelSettings, ranks: int, card: int) -> str:
    """Return what fits: all weights, else adapters on bfloat16 weights."""
    full = best(model, ranks, card)
    if full and "offload" not in full:
        return full
    adapters = {"lora": LoraSettings(r=16), "dtype": "bfloat16"}
    lora = best(model.model_copy(update=adapters), ranks, card)
    found = [*([f"LoRA: {lora}"] if lora else []), *([full] if full else [])]
    return "; ".join(found) or "no"


def table() -> str:
    """Return the table as Markdown."""
    lines = [f"| model | cards | {' | '.join(CARDS)} |", "|---|---|---|---|---|"]
    for name, model in presets():
        trained = model.model_copy(update={"gradient_checkpointing": True})
        for ranks in NUMBERS:
            cells = " | ".join(cell(trained, ranks, card) for card in CARDS.values())
            lines.append(f"| {f'`{name}`' if ranks == 1 else ''} | {ranks} | {cells} |")
    return "\n".join(lines)


def page_with(text: str) -> str:
    """Return docs/models.md with the part between the markers replaced."""
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{text}\n{END}{tail}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="replace the table in docs/models.md")
    if parser.parse_args().write:
        PAGE.write_text(page_with(table()), encoding="utf-8")
    else:
        sys.stdout.write(f"{table()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
