"""Trains every algorithm under every launcher, resumes it exactly, and compares it with the other launchers.

A launcher is started once for all its cases. Ordinary runs take a cover of the matrix in which every pair of
values (algorithm and launcher, launcher and LoRA, ...) stands at least once; `make matrix` takes all of it, or a
shard of it: of any number of shards the first begins with such a cover of the whole matrix.
"""

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.files import write_text
from r1exp.plan.steps import planned_steps
from r1exp.stage.step import Step

SCRIPT = Path(__file__).with_name("matrix_script.py")
FOLDER = os.environ.get(
    "R1EXP_MATRIX_FOLDER"
)  # keeps what finished cells left, for later runs; make matrix FOLDER=
SHARD = os.environ.get("R1EXP_MATRIX_SHARD", "1/1")  # which part of how many; make matrix SHARD=
COMMON = [
    "tracking=none", "health=off", "evaluation.before=false", "evaluation.after=false", "max_completion_length=8",
    "max_steps=6", "learning_rate=1e-3", "++trainer.save_strategy=steps", "++trainer.save_total_limit=null",
    "launcher.threads_per_process=1", "launcher.device=cpu",
]  # fmt: skip
SAMPLED = [
    "stage=rl", "dataset.num_train=12", "algorithm.prompts_per_step=4", "num_generations=2", "model.rows_per_device.rl=8",
    "~rewards.graded", "~rewards.xml_count", "algorithm.minibatches=1",
]  # fmt: skip
PAIRS = ["dataset=preference", "dataset.test_share=0", "dataset.path=PAIRS"]
IN_WORKERS = "+rewards.letters={kind: 'bare_rewards:letters'}"  # starts processes of its own, in every cell
IN_PROCESS = "+rewards.letters={kind: 'matrix_rewards:Letters'}"  # the same scores
WORDS = {
    "sft": ["stage=sft", "dataset.num_train=14", "stage.rows_per_step=4"],
    "grpo": [*SAMPLED, IN_WORKERS, "algorithm=grpo"],
    "dr_grpo": [*SAMPLED, IN_PROCESS, "algorithm=dr_grpo"],
    "dapo": [*SAMPLED, IN_PROCESS, "algorithm=dapo", "rewards.soft_overlong.margin=2"],
    "gspo": [*SAMPLED, IN_PROCESS, "algorithm=gspo"],
    "rloo": [*SAMPLED, IN_PROCESS, "algorithm=rloo"],
    "ppo": [*SAMPLED, IN_PROCESS, "algorithm=ppo", "trainer.max_grad_norm=0.01"],  # both parts are clipped
    "ppo_shared": [*SAMPLED, IN_PROCESS, "algorithm=ppo", "algorithm.critic.kind=shared"],
    "dpo": ["stage=rl", "algorithm=dpo", "algorithm.pairs_per_step=4", *PAIRS],
    "cispo": [*SAMPLED, IN_PROCESS, "algorithm=cispo"],
    "sapo": [*SAMPLED, IN_PROCESS, "algorithm=sapo"],
    "reinforce_pp": [*SAMPLED, IN_PROCESS, "algorithm=reinforce_pp"],
    "reinforce_pp_baseline": [*SAMPLED, IN_PROCESS, "algorithm=reinforce_pp_baseline"],
    "ipo": ["stage=rl", "algorithm=ipo", "algorithm.pairs_per_step=4", *PAIRS],
    "simpo": ["stage=rl", "algorithm=simpo", "algorithm.pairs_per_step=4", *PAIRS],
    "kto": ["stage=rl", "algorithm=kto", "algorithm.answers_per_step=8", *PAIRS],
    "distil": ["stage=distil", "dataset.num_train=14", "stage.prompts_per_step=4", "stage.teacher=TEACHER"],
    "reward_model": ["stage=reward_model", "stage.pairs_per_step=4", *PAIRS],
}
# In ordinary runs only the cases of FEW: those without a trainer of their own, and the trainers that came last.
NARROW = ("cispo", "sapo", "reinforce_pp", "reinforce_pp_baseline", "ipo", "simpo", "kto", "distil")
# The offline cases have 14 rows: each epoch of 3 steps of 4 rows leaves out 2 of them. (KTO: 28 rows, 8 in a step.)
POINTS = {  # after which of 6 optimizer steps a run is cut; an epoch has 3
    "inside": (2, []),
    "border": (3, []),
    "later": (4, []),
    "mid_cycle": (3, ["algorithm.minibatches=2"]),  # two updates a generation; an epoch has one generation
    "adaptive": (4, ["algorithm.kl.target=0.01", "beta=0.05"]),
    "replayed": (4, []),  # every number of ranks is given the same completions
    "bfloat16": (4, ["model.compute_dtype=bfloat16"]),  # weights of float32: mixed precision, as on GPUs
}
ONLINE_ONLY = ("mid_cycle", "adaptive", "replayed")
OFFLINE = ("sft", "dpo", "ipo", "simpo", "kto", "reward_model")
LAUNCHED = ("local", "ddp", "zero1", "zero2", "zero3", "fsdp2")
OFFLOADED = "zero3_offload"  # beside the matrix
# Of the change of all weights: DeepSpeed rounds gradients and the residual stream to bfloat16, autocast only matrix products.
RELATIVE_TOLERANCE = {
    "given": 0.25,
    "sampled": 0.5,
}  # measured: 0.14; 0.28 where rounding changed a sampled token
TOLERANCE = 3e-7  # of a weight, after six updates of at most 1e-3: sums in another order; measured: 2e-8


@dataclass(frozen=True)
class Case:
    """One cell of the matrix."""

    algorithm: str
    launcher: str
    lora: bool
    point: str

    @property
    def name(self) -> str:
        """The name without the launcher, which has a folder of its own."""
        return f"{self.algorithm}-{'lora' if self.lora else 'full'}-{self.point}"


def launcher_words(case: Case) -> list[str]:
    name, _, is_offloaded = case.launcher.partition("_")
    ranks = [] if name == "local" else ["launcher.num_processes=2"]  # a plan would find out: two on a CPU
    return [f"launcher={name}", *ranks, *(["launcher.offload=true"] if is_offloaded else [])]


def identity(case: Case) -> str:
    return f"{case.launcher}-{case.name}"


def whole_matrix() -> list[Case]:
    cells = itertools.starmap(Case, itertools.product(WORDS, LAUNCHED, (False, True), POINTS))
    return [
        case
        for case in cells
        if not (case.algorithm in (*OFFLINE, "distil") and case.point in ONLINE_ONLY)
        and not (case.algorithm == "reward_model" and case.lora)
    ]


def pairs_of(case: Case) -> set[tuple[tuple[int, object], ...]]:
    return set(itertools.combinations(enumerate(astuple(case)), 2))


def cover(cases: Iterable[Case]) -> list[Case]:
    """Return cases that hold every pair of values that some case holds; each adds the most new pairs."""
    left = list(cases)
    missing = set().union(*map(pairs_of, left))
    chosen = []
    while missing:
        best = max(left, key=lambda case: len(pairs_of(case) & missing))
        chosen.append(best)
        missing -= pairs_of(best)
    return chosen


def shard_of(cases: list[Case], text: str) -> list[Case]:
    """Return the part of the matrix that `text` (2/4: the second of four) names.

    The cover stands first, and then all launchers of a case together, for they are compared. Each shard begins with
    another launcher, so that shards that run side by side do not wait for each other's.
    """
    number, _, total = text.partition("/")
    by_name = sorted(cases, key=lambda case: case.name)
    order = list(dict.fromkeys([*cover(cases), *by_name]))
    bounds = [len(order) * part // int(total) for part in (int(number) - 1, int(number))]
    first = 3 * (int(number) - 1)
    return sorted(
        order[slice(*bounds)], key=lambda case: (LAUNCHED.index(case.launcher) - first) % len(LAUNCHED)
    )


EVERY = whole_matrix()
FLOAT32 = [case for case in EVERY if case.point != "bfloat16"]
WIDE = [case for case in FLOAT32 if case.algorithm not in NARROW]
COVER = cover(WIDE)
COMPARED = [("grpo", False), ("ppo", False), ("ppo_shared", True), ("dpo", True)]  # (algorithm, LoRA)
AGREE = [
    Case(name, launcher, lora, "inside") for name, lora in COMPARED for launcher in (*LAUNCHED[1:], OFFLOADED)
]
REPLAYED = [
    Case(name, launcher, False, "replayed") for name in ("grpo", "rloo", "ppo") for launcher in LAUNCHED[:2]
]
REMAINDER = [
    Case(name, launcher, False, "later")
    for name in ("sft", "dpo", "reward_model")
    for launcher in ("local", "ddp", "zero2")
]
REMAINDER += [Case("kto", launcher, False, "later") for launcher in ("local", "ddp")]
FEW = [Case(name, "ddp", False, "later") for name in NARROW]
FEW += [Case(name, "local", True, "inside") for name in ("reinforce_pp", "simpo", "kto", "distil")]
BFLOAT16 = [  # those that broke, and every launcher
    Case(name, launcher, lora, "bfloat16")
    for name, launcher, lora in (
        ("ppo", "zero3", False), ("ppo", "zero3", True), ("ppo", "zero2", False), ("ppo", "ddp", False), ("ppo", "local", True),
        ("grpo", "zero3", False), ("ppo_shared", "zero3", True), ("rloo", "zero1", True), ("reward_model", "zero3", False),
        ("dpo", "zero3", True), ("dpo", "ddp", True), ("sft", "zero1", False), ("sft", "zero2", False),
        ("sft", "zero3", False), ("sft", "ddp", False), ("grpo", "fsdp2", False), ("ppo", "fsdp2", False), ("dpo", "fsdp2", True),
        ("sft", "fsdp2", False),
    )
]  # fmt: skip
BFLOAT16_AGREE = [
    case for case in BFLOAT16 if case.launcher != "local" and replace(case, launcher="ddp") in BFLOAT16
]
ORDINARY = list(dict.fromkeys([*COVER, *AGREE, *REPLAYED, *REMAINDER, *FEW, *BFLOAT16]))


def test_the_cover_holds_every_pair_of_the_matrix() -> None:
    assert set().union(*map(pairs_of, COVER)) == set().union(*map(pairs_of, WIDE))
    assert len(COVER) < len(WIDE) / 5
    assert {case.algorithm for case in FEW} == set(NARROW)


def test_every_algorithm_with_a_model_of_its_own_and_every_launcher_is_trained_in_bfloat16() -> None:
    assert {case.launcher for case in BFLOAT16} == set(LAUNCHED)
    assert {"sft", "ppo", "ppo_shared", "dpo", "reward_model"} <= {case.algorithm for case in BFLOAT16}
    assert set(BFLOAT16) <= set(EVERY)


def test_the_shards_divide_the_matrix_and_the_first_begins_with_a_cover() -> None:
    shards = [shard_of(EVERY, f"{number}/10") for number in range(1, 11)]
    assert sorted(itertools.chain(*shards), key=identity) == sorted(EVERY, key=identity)
    assert set().union(*map(pairs_of, shards[0])) == set().union(*map(pairs_of, EVERY))


def write_teacher(student: Path, folder: Path) -> None:
    """Write a model of the same family with other weights."""
    shutil.copytree(student, folder)
    generator = torch.Generator().manual_seed(0)
    weights = load_file(folder / "model.safetensors")
    moved = {
        name: weight + 0.1 * torch.randn(weight.shape, generator=generator)
        for name, weight in weights.items()
    }
    save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})


def weights_in(folder: Path, attempt: str) -> Path:
    return folder / attempt / "artifact" / "model.safetensors"


class Matrix:
    """Runs the cases of a launcher together, once, and hands out what they left."""

    def __init__(self, folder: Path, model: Path) -> None:
        self._folder = folder
        self._model = model
        self._started: set[tuple[str, int]] = set()
        self._pairs = folder / "pairs.jsonl"
        rows = [{"prompt": f"{n} + 1?", "chosen": f"{n + 1}", "rejected": f"{n} or so"} for n in range(14)]
        self._teacher = folder / "teacher"
        with FileLock(folder / "lock"):
            if not self._pairs.exists():
                write_teacher(model, self._teacher)
                write_text(self._pairs, "".join(json.dumps(row) + "\n" for row in rows))

    def weights(self, case: Case, cases: list[Case], attempt: str = "whole") -> dict[str, torch.Tensor]:
        """Return the weights that one attempt of a case ended with; `cases` are run along with it."""
        if case.launcher.startswith("zero") and find_spec("deepspeed") is None:
            pytest.skip("needs deepspeed: pip install 'r1exp[deepspeed]'")
        key = (case.launcher, len(cases))
        if key not in self._started:
            self._started.add(key)
            with FileLock(self._folder / f"{case.launcher}.lock"):  # shards that run at the same time
                self.run([other for other in cases if other.launcher == case.launcher])
        folder = self._place(case)
        if (folder / "error.txt").exists():
            pytest.fail((folder / "error.txt").read_text())
        model = weights_in(folder, attempt)
        assert model.exists(), (folder.parent / "log.txt").read_text()[-3000:]
        weights = load_file(model)
        stated = json.loads(model.with_name("config.json").read_text())["dtype"]
        assert {str(weight.dtype) for weight in weights.values()} == {f"torch.{stated}"} == {"torch.float32"}
        return weights

    def run(self, cases: list[Case]) -> None:
        """Start a launcher for those of its cases that are not finished; again where one has ended the others' ranks."""
        left = [case for case in cases if not self._is_finished(case)]
        for case in left:
            shutil.rmtree(self._place(case), ignore_errors=True)
        while left:
            self._start(left)
            number = len(left)
            left = [
                case
                for case in left
                if not self._is_finished(case) and not (self._place(case) / "error.txt").exists()
            ]
            if len(left) == number:
                return

    def _place(self, case: Case) -> Path:
        return self._folder / case.launcher / case.name

    def _is_finished(self, case: Case) -> bool:
        return weights_in(self._place(case), "resumed").exists()

    def _start(self, cases: list[Case]) -> None:
        """Start a launcher for some of its cases."""
        folder = self._folder / cases[0].launcher
        with session():
            for case in cases:
                shutil.rmtree(self._place(case), ignore_errors=True)
                self._write(case, self._place(case))
            words = [*launcher_words(cases[0]), *COMMON, "stage=sft"]
            launcher = experiment_from(words).steps[0].config.launcher
        write_text(folder / "cases.txt", "".join(f"{case.name}\n" for case in cases))
        launch = launcher.launch(folder)
        for file, text in launch.files.items():
            write_text(folder / file, text)
        path = os.pathsep.join([str(SCRIPT.parent), os.environ.get("PYTHONPATH", "")])
        arguments = [*launch.arguments[:-3], str(SCRIPT), str(folder)]
        with (folder / "log.txt").open("w") as log:
            environment = {**os.environ, "PYTHONPATH": path, **launch.environment}
            subprocess.run(arguments, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False)

    def _filled(self, word: str) -> str:
        return word.replace("PAIRS", str(self._pairs)).replace("TEACHER", str(self._teacher))

    def _write(self, case: Case, folder: Path) -> None:
        at, point_words = POINTS[case.point]
        words = [*COMMON, *WORDS[case.algorithm], *point_words, f"++trainer.save_steps={at}"]
        words += [*launcher_words(case), *(["model.lora.r=2"] if case.lora else [])]
        (step,) = planned_steps(experiment_from([self._filled(word) for word in words]))
        frozen = Step(
            name=step.name, index=1, run_id="matrix", run_name="matrix", key=step.key, data=step.data, config=step.config,
            device="cpu", world_size=step.config.launcher.num_processes, trainer_args=step.trainer_args,
            model_path=str(self._model),
        )  # fmt: skip
        for attempt in ("whole", "resumed"):
            frozen.write(folder / attempt)
        write_text(folder / "resumed" / "at.txt", str(at))
        if case.point == "replayed":
            write_text(folder / "replay.txt", "")


class BreaksOnce(Matrix):
    """Stands in for a launcher: its first start ends with an error of its second case, later ones finish theirs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.starts: list[list[Case]] = []

    def _start(self, cases: list[Case]) -> None:
        self.starts.append(cases)
        is_first = len(self.starts) == 1
        for case in cases[:1] if is_first else cases:
            write_text(weights_in(self._place(case), "resumed"), "")
        if is_first:
            write_text(self._place(cases[1]) / "error.txt", "broken")


def test_a_cell_that_breaks_leaves_the_others_to_a_second_start_and_is_repeated_next_time(
    tmp_path: Path,
) -> None:
    first, broken, last = (Case(name, "ddp", False, "inside") for name in ("sft", "grpo", "ppo"))
    matrix = BreaksOnce(tmp_path)
    matrix.run([first, broken, last])
    assert matrix.starts == [[first, broken, last], [last]]
    matrix.run([first, broken, last])
    assert matrix.starts[2:] == [[broken]]


@pytest.fixture(scope="session")
def matrix(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # the plan looks for the rewards
        folder = Path(FOLDER) if FOLDER else tmp_path_factory.mktemp("matrix")
        folder.mkdir(parents=True, exist_ok=True)
        yield Matrix(folder.resolve(), tiny)


def resumes_exactly(case: Case, cases: list[Case], matrix: Matrix, tiny: Path) -> None:
    whole, resumed = (matrix.weights(case, cases, attempt) for attempt in ("whole", "resumed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    start = load_file(tiny / "model.safetensors")
    assert any(not torch.equal(whole[name], start[name]) for name in start if name in whole)


def relative_distance(case: Case, matrix: Matrix, tiny: Path, cases: list[Case]) -> float:
    """Return how far a case is from the same with DDP, as a share of how far that has moved from its start."""
    ours, theirs = (matrix.weights(replace(case, launcher=name), cases) for name in (case.launcher, "ddp"))
    start = {name: weight for name, weight in load_file(tiny / "model.safetensors").items() if name in theirs}
    apart, moved = (
        sum(float((other[name] - theirs[name]).square().sum()) for name in start) for other in (ours, start)
    )
    return (apart / moved) ** 0.5


def agrees(case: Case, cases: list[Case], matrix: Matrix, tiny: Path) -> bool:
    """Whether a launcher ends with the weights of DDP: in bfloat16 with about the same change of them."""
    if case.point == "bfloat16":
        rows = "given" if case.algorithm in OFFLINE else "sampled"
        return relative_distance(case, matrix, tiny, cases) < RELATIVE_TOLERANCE[rows]
    theirs = matrix.weights(replace(case, launcher="ddp"), cases)
    return distance(matrix.weights(case, cases), theirs) < TOLERANCE


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


@pytest.mark.slow
@pytest.mark.parametrize("case", ORDINARY, ids=identity)
def test_a_resumed_run_ends_bit_for_bit_where_an_uninterrupted_one_does(
    case: Case, matrix: Matrix, tiny: Path
) -> None:
    resumes_exactly(case, ORDINARY, matrix, tiny)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [case for case in AGREE + BFLOAT16_AGREE if case.launcher != "ddp"], ids=identity
)
def test_partitioned_weights_end_as_those_of_ddp(case: Case, matrix: Matrix, tiny: Path) -> None:
    assert agrees(case, ORDINARY, matrix, tiny)


@pytest.mark.slow
@pytest.mark.parametrize("case", REPLAYED[::2], ids=identity)
def test_one_rank_and_two_learn_the_same_from_the_same_completions(case: Case, matrix: Matrix) -> None:
    shared = matrix.weights(replace(case, launcher="ddp"), ORDINARY)
    assert distance(matrix.weights(case, ORDINARY), shared) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in REMAINDER if case.launcher != "local"], ids=identity)
def test_epochs_with_a_remainder_make_the_same_updates_on_any_number_of_ranks(
    case: Case, matrix: Matrix
) -> None:
    one = matrix.weights(replace(case, launcher="local"), ORDINARY)
    assert distance(matrix.weights(case, ORDINARY), one) < TOLERANCE


PART = shard_of(EVERY, SHARD)
PARTITIONED = [case for case in PART if case.launcher not in ("local", "ddp")]
WITH_DDP = list(dict.fromkeys([*PART, *(replace(case, launcher="ddp") for case in PARTITIONED)]))


@pytest.mark.matrix
@pytest.mark.parametrize("case", PART, ids=identity)
def test_every_cell_resumes_bit_for_bit(case: Case, matrix: Matrix, tiny: Path) -> None:
    resumes_exactly(case, WITH_DDP, matrix, tiny)


@pytest.mark.matrix
@pytest.mark.parametrize("case", PARTITIONED, ids=identity)
def test_every_partitioned_cell_ends_with_the_weights_of_ddp(case: Case, matrix: Matrix, tiny: Path) -> None:
    assert agrees(case, WITH_DDP, matrix, tiny)
