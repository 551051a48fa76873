import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from r1exp.dataset.menu import DatasetSettings

CONF = Path(__file__).parents[2] / "conf" / "dataset"
ADAPTER: TypeAdapter[DatasetSettings] = TypeAdapter(DatasetSettings)

# Files in their layouts are in test_presets.py; a mixture has no parts of its own (test_mixture.py).
ELSEWHERE = {"codeforces", "gpqa", "ioi", "mixture", "numina", "ultrafeedback", "hh_rlhf"}

HASH_OF_ROWS = """
import sys, hashlib, pydantic
from r1exp.dataset.menu import DatasetSettings
data = pydantic.TypeAdapter(DatasetSettings).validate_json(sys.argv[1])
rows = [problem.to_row([]) for split in ("train", "test") for problem in data.load(split)]
assert "torch" not in sys.modules and "datasets" not in sys.modules
print(len(rows), hashlib.sha256(repr(rows).encode()).hexdigest(), data.fingerprint())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        rows = [{"question": f"{split} {n}?", "answer": f"so\n#### {n}", "b": n, "a": [n]} for n in range(40)]
        for row in rows:  # the columns of the presets
            row |= {"problem": row["question"], "messages": [{"role": "user", "content": row["question"]}]}
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairs = [{"prompt": f"{n}?", "chosen": str(n), "rejected": str(n + 1)} for n in range(60)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    return tmp_path


def option(kind: str, folder: Path) -> dict[str, object]:
    content = yaml.safe_load((CONF / f"{kind}.yaml").read_text(encoding="utf-8"))
    values: dict[str, object] = content.get("dataset", content)
    paths = {"jsonl": folder / "train.jsonl", "preference": folder / "pairs.jsonl"}
    generated = {name: {"num_train": 50} for name in ("countdown", "reasoning_gym")}
    generated |= {name: {"num_train": 500} for name in ("arithmetic", "bilingual")}
    generated |= {"bilingual_chat": {"num_train": 200}}
    changes = generated.get(kind, {"path": str(paths.get(kind, folder))})
    return values | changes | ({"num_test": 7} if kind == "jsonl" else {})


@pytest.mark.parametrize(
    "kind", ["arithmetic", "bilingual", "bilingual_chat", "countdown", "gsm8k", "hf", "jsonl", "preference"]
)
def test_two_processes_load_the_same_rows(kind: str, folder: Path) -> None:
    def load_with(hash_seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", HASH_OF_ROWS, json.dumps(option(kind, folder))],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    first = load_with("1")
    assert int(first.split()[0]) >= 40
    assert load_with("2") == first


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(CONF.glob("*.yaml")) if path.stem not in ELSEWHERE],
    ids=lambda path: path.stem,
)
def test_every_yaml_is_read_by_the_kind_of_its_name(path: Path, folder: Path) -> None:
    if path.stem == "reasoning_gym":
        pytest.importorskip("reasoning_gym", reason="an optional part")
    data = ADAPTER.validate_python(option(path.stem, folder))
    assert data.kind in (path.stem, "hf", "preference")  # some are presets
    assert data.load("test") or data.has_labels  # labelled answers are all for training
