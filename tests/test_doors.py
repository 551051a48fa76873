"""Options of a user's own, from a folder and from an installed package, without a change to r1exp."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas
import pytest
import torch

from r1exp import plugins
from r1exp.__main__ import main
from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.plan.steps import planned_steps
from r1exp.prompt.style import style_named
from r1exp.registry import Registry

ROOT = Path(__file__).parents[1]
EXAMPLE = Path(__file__).parent / "plugin_example"
ENTRY_POINT = "[r1exp.plugins]\n{name} = {value}\n"
HEAVY = ("torch", "transformers", "trl", "datasets")
LOOK = f"""
import sys
from r1exp.__main__ import main
code = main(sys.argv[1:])
print(code, [name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""

Install = Callable[..., Path]


def forget_plugins() -> None:
    plugins.installed_plugins.cache_clear()
    style_named.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that makes the entry point of a package visible, and returns the folder with its metadata."""

    def made_visible(value: str, name: str = "example") -> Path:
        site = tmp_path / "site"
        metadata = site / f"{name}_of_a_test-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-of-a-test\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(ENTRY_POINT.format(name=name, value=value))
        monkeypatch.syspath_prepend(site)
        forget_plugins()
        return site

    yield made_visible
    monkeypatch.undo()
    forget_plugins()


@pytest.fixture
def example(install: Install, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the example package visible, and return the PYTHONPATH with which a subprocess sees it too."""
    site = install("r1exp_example:plugin")
    monkeypatch.syspath_prepend(EXAMPLE)
    inherited = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([str(ROOT), str(EXAMPLE), str(site), inherited])


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the message of a command line that is refused."""
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


# An installed package


def test_an_experiment_of_an_installed_package_composes_with_its_own_classes(example: str) -> None:
    with session():
        experiment = experiment_from(["experiment=subtraction", "rewards.near.reach=3"])
        steps = planned_steps(experiment)
    sft, rl = (step.config for step in experiment.steps)
    assert [type(config.dataset).__name__ for config in (sft, rl)] == ["Subtraction", "Subtraction"]
    assert style_named(rl.prompt.style).tags == ("<work>", "</work>", "<result>", "</result>")
    assert rl.rewards is not None and rl.rewards["near"].model_dump()["reach"] == 3
    assert type(rl.algorithm).__module__ == "r1exp_example.algorithm"
    assert rl.beta == 0.005  # of algorithm=grpo, which the recipe starts from
    assert [step.label for step in steps] == ["pre_sft", "sft", "post_sft", "rank_grpo", "post_rank_grpo"]


@pytest.mark.parametrize("verb", ["plan", "check", "--help"])
def test_a_verb_on_an_installed_package_does_not_import_torch(
    verb: str, example: str, tmp_path: Path
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LOOK, verb, "experiment=subtraction"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": example},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr.splitlines()[-1] == "0 []"
    assert list(folder.iterdir()) == []
    if verb == "--help":
        assert "reasoning_gym, subtraction, " in done.stdout


def test_the_example_problems_are_reproducible_and_the_splits_share_no_numbers(example: str) -> None:
    with session():
        data = experiment_from(["dataset=subtraction"]).run.dataset
    train, test = (data.load(split) for split in ("train", "test"))
    assert (len(train), len(test)) == (10_000, 1000)
    assert [problem.prompt for problem in data.load("test")] == [problem.prompt for problem in test]
    for problem in [*train, *test]:
        first, difference = problem.columns["solution"].splitlines()[0].split("=")
        larger, smaller = map(int, first.split("-"))
        assert int(difference) == larger - smaller
        assert problem.columns["solution"].endswith(f"={problem.answer}")

    def numbers(problem_solution: str) -> tuple[str, ...]:
        lines = [line.replace("=", "-").split("-") for line in problem_solution.splitlines()]
        return (lines[0][0], *sorted([lines[0][1], lines[1][1]]))

    sets = [{numbers(problem.columns["solution"]) for problem in split} for split in (train, test)]
    assert not sets[0] & sets[1]


def test_the_example_advantages_are_ranks_in_at_most_20_lines(example: str) -> None:
    with session():
        algorithm = experiment_from(["stage=rl", "algorithm=rank_grpo"]).steps[0].config.online
    assert algorithm is not None
    rewards = torch.tensor([0.0, 2.0, 1.0, 2.0, 5.0, 5.0, 5.0, float("nan")])
    thirds = (3 * algorithm.advantages(rewards, 4)).tolist()
    assert thirds == pytest.approx([-3.0, 2.0, -1.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    tree = ast.parse((EXAMPLE / "r1exp_example" / "algorithm.py").read_text())
    (made,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    assert made.end_lineno is not None and made.end_lineno - made.lineno < 20


def test_a_plugin_may_extend_every_group_whose_options_have_a_kind() -> None:
    assert {registry.group for registry in Registry._by_base.values()} | {"prompt"} == set(plugins.GROUPS)


@pytest.mark.parametrize(
    ("source", "part"),
    [
        pytest.param("1/0", "ZeroDivisionError: division by zero", id="raises when it is imported"),
        pytest.param("def plugin(:", "SyntaxError", id="is not valid Python"),
        pytest.param("import no_such_library", "No module named 'no_such_library'", id="needs another"),
        pytest.param("other = 1", "has no attribute 'plugin'", id="has no such name"),
        pytest.param("plugin = {}", "is a dict, and must be an r1exp.Plugin", id="is no Plugin"),
        pytest.param(
            "from r1exp.plugins import Plugin\nplugin = Plugin(kinds={'datasets': {}})",
            "has kinds of datasets, which is no group",
            id="misspells a group",
        ),
        pytest.param(
            "from pathlib import Path\nfrom r1exp.plugins import Plugin\nplugin = Plugin(conf=Path('/nowhere'))",
            "conf=/nowhere, which does not exist",
            id="names no folder",
        ),
    ],
)
def test_a_plugin_that_cannot_be_used_is_refused_with_its_package(
    source: str, part: str, install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = f"broken_plugin_{tmp_path.name}"
    site = install(f"{module}:plugin")
    (site / f"{module}.py").write_text(source)
    message = refusal(["plan"], capsys)
    assert part in message
    assert "repair it, or uninstall example-of-a-test" in message
    assert message.count("\n") == 1


def test_a_kind_that_two_packages_provide_is_refused_where_it_is_used(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = install("second_grpo:plugin")
    (site / "second_grpo.py").write_text(
        "from r1exp.plugins import Plugin\nplugin = Plugin(kinds={'algorithm': {'grpo': 'second_grpo:Grpo'},"
        " 'prompt': {'plain': 'second_grpo:PLAIN'}})"
    )
    assert main(["plan", "algorithm=rloo"]) == 0
    capsys.readouterr()
    expected = "kind=grpo is provided more than once, by r1exp.algorithm.grpo:Grpo and second_grpo:Grpo"
    assert expected in refusal(["plan"], capsys)
    assert "kind=plain is provided more than once" in refusal(["plan", "prompt=plain"], capsys)


# A folder of the user


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working directory with options in `mine/`."""
    files = {
        "mine/rewards/exact.yaml": 'strict: {kind: strict, style: "${prompt.style}"}\n',
        "mine/rewards/graded_only.yaml": 'graded: {kind: graded, style: "${prompt.style}"}\n',
        "mine/experiment/short.yaml": "# @package _global_\nname: short\nmax_steps: 7\n",
        "packed/__init__.py": "",
        "packed/conf/__init__.py": "",
        "packed/conf/rewards/packed.yaml": 'strict: {kind: strict, style: "${prompt.style}"}\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("address", ["--config-dir=mine", "hydra.searchpath=[file://mine]"])
def test_a_folder_of_options_is_found_by_every_verb(
    address: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--full", address, "rewards=exact", "experiment=short"]) == 0
    shown = capsys.readouterr().out
    assert "Run 'short'" in shown and "rewards/exact.yaml" in shown
    assert main(["plan", "--full", "-m", address, "rewards=exact,graded_only", "experiment=short"]) == 0
    assert "1: rewards=graded_only experiment=short" in capsys.readouterr().out
    assert main(["check", address, "rewards=exact"]) == 0
    assert "strict" in capsys.readouterr().out
    assert main(["--help", address]) == 0
    assert "exact" in capsys.readouterr().out


def test_a_folder_inside_a_package_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--full", "hydra.searchpath=[pkg://packed.conf]", "rewards=packed"]) == 0
    assert "rewards/packed.yaml" in capsys.readouterr().out


def test_an_option_with_the_name_of_another_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same_name = folder / "mine" / "rewards" / "graded.yaml"
    same_name.write_text((folder / "mine" / "rewards" / "exact.yaml").read_text())
    message = refusal(["plan", "--config-dir=mine", "rewards=graded"], capsys)
    assert f"rewards/graded.yaml is in {ROOT}/conf and in {folder}/mine" in message
    same_name.rename(folder / "packed" / "conf" / "rewards" / "exact.yaml")
    both = ["--config-dir=mine", "--config-dir=packed/conf"]
    assert "rewards/exact.yaml is in" in refusal(["plan", *both], capsys)
    same = ["--config-dir=mine", "hydra.searchpath=[file://mine]", f"--config-dir={ROOT}/conf"]
    assert main(["plan", *same]) == 0


@pytest.mark.parametrize(
    ("value", "part"),
    [
        pytest.param("[file://nowhere]", "nowhere is no folder", id="no folder"),
        pytest.param("[pkg://no_such_package.conf]", "there is no module 'no_such_package'", id="no package"),
        pytest.param("[file://mine", "give a list of folders", id="no list"),
        pytest.param("", "give a list of folders", id="nothing"),
        pytest.param("[3]", "give a list of folders", id="a number"),
    ],
)
def test_a_search_path_that_does_not_exist_is_refused(
    value: str, part: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refusal(["plan", f"hydra.searchpath={value}"], capsys)


BASES = "from r1exp.dataset.base import Dataset\nfrom r1exp.rewards.base import Reward\n"


@pytest.mark.parametrize(
    ("source", "part"),
    [
        pytest.param(None, "there is no module", id="no module"),
        pytest.param("class Other: ...", "has no 'Mine'; it defines Other", id="no class"),
        pytest.param("class Mines: ...", "did you mean MODULE:Mines?", id="a misspelt class"),
        pytest.param("class Mine: ...", "must be a subclass of", id="another class"),
        pytest.param("def Mine(): ...", "is a function, and must be a subclass of", id="a function"),
        pytest.param(f"{BASES}class Mine(Dataset): ...", "the class must define", id="an unfinished class"),
        pytest.param(
            "x = 1\nclass Mine(", "SyntaxError: '(' was never closed (FILE, line 2)", id="no Python"
        ),
        pytest.param(
            "import json\njson.loads('{')", "JSONDecodeError: Expecting property name", id="an error"
        ),
        pytest.param("x = 1\n\n1/0", "ZeroDivisionError: division by zero (FILE, line 3)", id="its line"),
        pytest.param("import sys\nsys.exit('bye')", "SystemExit: bye (FILE, line 2)", id="an exit"),
        pytest.param("import no_such_library", "No module named 'no_such_library' (FILE", id="a library"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused_with_its_file_and_line(
    source: str | None,
    part: str,
    folder: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = "mine_" + "".join(letter if letter.isalnum() else "_" for letter in request.node.callspec.id)
    if source is not None:
        (folder / f"{module}.py").write_text(source)
    expected = part.replace("FILE", str(folder / f"{module}.py")).replace("MODULE", module)
    message = refusal(["plan", f"dataset.kind={module}:Mine"], capsys)
    assert expected in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("override", "part"),
    [
        pytest.param("algorithm.kind=parts:Own", "subclass of r1exp.algorithm.base:Algorithm", id="algorithm"),
        pytest.param("algorithm.kind=parts:Broken", "did you mean parts:BrokenReward?", id="misspelt"),
        pytest.param("+rewards.mine={kind: 'parts:Missing'}", "has no 'Missing'", id="a reward class"),
        pytest.param("+rewards.mine={kind: 'parts:brif'}", "did you mean parts:brief?", id="a reward function"),
        pytest.param("+rewards.mine={kind: 'parts:BrokenReward'}", "must define score, span", id="unfinished"),
        pytest.param("prompt.style=parts:STYLE", "did you mean parts:STYLES?", id="a style"),
        pytest.param("prompt.style=parts:STYLES", "is a int, and a style must be", id="no style"),
    ],
)  # fmt: skip
def test_every_door_refuses_what_it_cannot_use(
    override: str, part: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "parts.py").write_text(
        f"{BASES}class Own(Dataset): ...\nclass BrokenReward(Reward): ...\ndef brief(completions): ...\nSTYLES = 1\n"
    )
    sys.modules.pop("parts", None)
    assert part in refusal(["plan", override], capsys)


# Real runs

SHORT = ["debug=fast", "tracking=none", "launcher.threads_per_process=1", "algorithm.prompts_per_step=4"]
SHORT += ["pipeline.steps.sft.set.stage.rows_per_step=8", "paths.run=run"]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of a new virtual environment that has the wheels of r1exp and of the example package."""
    folder = tmp_path_factory.mktemp("fresh")
    environment = clean_environment()

    def run(*command: str | Path) -> None:
        arguments = [str(part) for part in command]
        done = subprocess.run(
            arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    run(sys.executable, "-m", "venv", "venv")
    pip: list[str | Path] = [folder / "venv" / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", "wheels", ROOT, EXAMPLE)
    wheels = sorted((folder / "wheels").glob("*.whl"))
    assert [wheel.name.split("-")[0] for wheel in wheels] == ["r1exp", "r1exp_example"]
    # Modules are compiled when they are imported; most never are.
    run(*pip, "install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt", *wheels)
    return folder / "venv" / "bin"


def clean_environment() -> dict[str, str]:
    """Return the environment without what would lead a subprocess to the checkout or keep it from writing bytecode."""
    left_out = ("PYTHONPATH", "VIRTUAL_ENV", "WANDB_API_KEY", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if name not in left_out}


@pytest.mark.slow
def test_a_package_beside_the_wheel_trains_with_its_own_options(fresh: Path, tmp_path: Path) -> None:
    # 60 optimizer steps of SFT instead of 2: after 2 every answer is wrong, and no group has rewards that differ.
    learned = ["debug.max_steps=60", "max_steps=2", "pipeline.steps.sft.set.stage.rows_per_step=32"]
    learned += ["num_generations=8", "debug.max_completion_length=64", "debug.num_rows=10000"]
    short = [override for override in SHORT if not override.startswith("pipeline")]
    command = [fresh / "r1exp", "experiment=subtraction", *short, *learned, "++trainer.log_completions=true"]
    done = subprocess.run(
        [str(part) for part in command],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["state"] == "done"
    assert [(name, step["state"]) for name, step in summary["steps"].items()] == [
        ("evaluate-pre-sft", "done"),
        ("sft", "done"),
        ("evaluate-post-sft", "done"),
        ("rl", "done"),
        ("evaluate-post-rank-grpo", "done"),
    ]
    folder = tmp_path / "run" / "steps" / "04-rl"
    config = json.loads((folder / "step.json").read_text())["config"]
    assert (config["dataset"]["kind"], config["prompt"]["style"]) == ("subtraction", "work_result")
    assert config["algorithm"]["kind"] == "rank_grpo"
    assert "rewards/near/mean" in (folder / "metrics.jsonl").read_text()
    assert str(ROOT) not in (folder / "log.txt").read_text()
    table = pandas.concat(map(pandas.read_parquet, sorted(folder.glob("checkpoints/completions/*.parquet"))))
    assert len(table) == 2 * 4 * 8  # optimizer steps, prompts, completions per prompt
    assert all("sells" in prompt for prompt in table["prompt"].map(str))
    for _, group in table.groupby(["step", table["prompt"].map(str)]):
        total = (group["near"] + group["format"]).round(5)
        ranks = [sum(total < value) - sum(total > value) for value in total]
        assert group["advantage"].tolist() == pytest.approx([rank / 7 for rank in ranks], abs=1e-6)
    assert table["advantage"].abs().max() > 0.0


OWN_REWARD = """
import os
from r1exp.rewards.base import SlowReward


class Short(SlowReward):
    @property
    def span(self):
        return (0.0, 1.0)

    def score(self, problem, completion, context):
        with open(os.environ["TEST_LOG"], "a") as file:
            file.write(f"class {os.getpid()}\\n")
        return 1.0 / (1 + completion.num_tokens)


def few_words(completions, **columns):
    with open(os.environ["TEST_LOG"], "a") as file:
        file.write(f"function {os.getpid()}\\n")
    return [1.0 / (1 + len(completion[0]["content"])) for completion in completions]
"""


@pytest.mark.slow
def test_modules_of_the_working_directory_reach_all_ranks_and_reward_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is the installed script, which unlike `python -m` does not put the folder on the path itself."""
    (tmp_path / "own_parts.py").write_text(OWN_REWARD)
    log = tmp_path / "log"
    overrides = ["stage=rl", "launcher=ddp", "launcher.num_processes=2", "evaluation.before=false"]
    overrides += ["evaluation.after=false", "~rewards.xml_count"]
    overrides += ["+rewards.short={kind: 'own_parts:Short'}", "+rewards.few={kind: 'own_parts:few_words'}"]
    short = [override for override in SHORT if not override.startswith("pipeline")]
    done = subprocess.run(
        [str(Path(sys.executable).parent / "r1exp"), *overrides, *short],
        cwd=tmp_path,
        env=clean_environment() | {"TEST_LOG": str(log), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    scored = log.read_text().splitlines()
    metrics = (tmp_path / "run" / "steps" / "01-grpo" / "metrics.jsonl").read_text()
    for name, kind in (("short", "class"), ("few", "function")):
        assert f'"rewards/{name}/abstained": 0.0' in metrics
        assert len({line for line in scored if line.startswith(kind)}) > 1  # processes
