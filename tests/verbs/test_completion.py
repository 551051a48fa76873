"""Tab completion: what may stand at the cursor, and that a shell gets it quickly and without torch."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.verbs.completion import candidates


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("r1exp pl", {"plan"}, id="a verb"),
        pytest.param("r1exp rewar", {"rewards=", "rewards."}, id="a group, which is also a key"),
        pytest.param("r1exp rewards=gra", {"rewards=graded"}, id="an option"),
        pytest.param("r1exp -m rewards=strict,gra", {"rewards=strict,graded"}, id="the last of a list"),
        pytest.param("r1exp plan model.lo", {"model.lora."}, id="a mapping"),
        pytest.param("r1exp model.lora.d", {"model.lora.dropout="}, id="a key"),
        pytest.param("r1exp +model.lora.d", {"+model.lora.dropout="}, id="a key with a sign"),
        pytest.param("r1exp ~rewards.xml_count.mo", {"~rewards.xml_count.most"}, id="a key to delete"),
        pytest.param("r1exp model.dtype=b", {"model.dtype=bfloat16"}, id="a value"),
        pytest.param("r1exp evaluation.greedy=", {"evaluation.greedy=true", "evaluation.greedy=false"}, id="true or false"),
        pytest.param("r1exp rewards=strict rewards.st", {"rewards.strict."}, id="keys of what was chosen before"),
        pytest.param("r1exp trainer.adam_beta", {"trainer.adam_beta1=", "trainer.adam_beta2="}, id="trainer"),
        pytest.param("r1exp sweep re", {"retry", "report"}, id="what a verb takes"),
        pytest.param("r1exp help model.lora.d", {"model.lora.dropout"}, id="a topic of help"),
        pytest.param("r1exp --mul", {"--multirun"}, id="an option of the command"),
        pytest.param("r1exp --cfg h", {"hydra"}, id="the value of an option"),
        pytest.param("r1exp beta=0,", set(), id="no values to choose from"),
        pytest.param("r1exp bta=1 'x=", set(), id="a line that cannot be read"),
    ],
)  # fmt: skip
def test_candidates_at_the_end_of_a_line(line: str, expected: set[str]) -> None:
    assert set(candidates(line)) == expected


def test_an_empty_line_offers_verbs_groups_and_keys() -> None:
    assert {"plan", "sweep", "rewards=", "beta=", "trainer."} <= set(candidates("r1exp "))


def test_options_of_a_folder_of_the_user_are_offered(tmp_path: Path) -> None:
    (tmp_path / "rewards").mkdir()
    (tmp_path / "rewards" / "mine.yaml").write_text("strict: {kind: strict}\n")
    assert candidates(f"r1exp --config-dir={tmp_path} rewards=mi") == ["rewards=mine"]


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-sc", "install=tcsh"]) == 2
    assert 'eval "$(r1exp -sc install=bash)"' in capsys.readouterr().err


_ASK = {
    "bash": """
        source <("$1" -sc install=bash); complete -p r1exp >&2
        COMP_WORDS=("$1" rewards=gra) COMP_CWORD=1 COMP_LINE="r1exp rewards=gra" COMP_POINT=17
        _r1exp_completion; printf '%s\\n' "${COMPREPLY[@]}"
        source <("$1" -sc uninstall=bash); complete -p r1exp 2>/dev/null || echo removed
    """,
    "fish": """
        set -x PATH (dirname $argv[1]) $PATH
        r1exp -sc install=fish | source
        complete -C 'r1exp rewards=gra'
        r1exp -sc uninstall=fish | source
        functions -q __r1exp_completion; or echo removed
    """,
    "zsh": """
        autoload -Uz compinit && compinit -u -D
        eval "$($1 -sc install=zsh)"
        print -r -- "${_comps[r1exp]}" >&2
        words=("$1" rewards=gra) BUFFER="r1exp rewards=gra" CURSOR=17
        compadd() { print -r -- "${@[-1]}" }
        _r1exp_completion
        eval "$($1 -sc uninstall=zsh)"; (( $+functions[_r1exp_completion] )) || echo removed
    """,
}


@pytest.mark.parametrize("shell", list(_ASK))
def test_a_shell_completes_an_option(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "ask"
    script.write_text(_ASK[shell])
    command = [program, str(script), str(Path(sys.executable).parent / "r1exp")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["rewards=graded", "removed"], done.stderr


def test_completion_does_not_import_torch() -> None:
    code = "import sys; from r1exp.__main__ import main; main(['-sc', 'query=bash']); assert 'torch' not in sys.modules"
    environment = os.environ | {"COMP_LINE": "r1exp model.lora."}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "model.lora.r=" in done.stdout
