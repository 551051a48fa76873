"""The settings of a sandbox are chosen by its kind and validated before anything runs."""

import pytest
from pydantic import TypeAdapter, ValidationError

from r1exp.sandbox.base import Case, Limits, Submission, Unavailable
from r1exp.sandbox.menu import SandboxSettings
from r1exp.sandbox.remote import Remote
from r1exp.sandbox.verdicts import run

READ = TypeAdapter(SandboxSettings)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"kind": "local"}', id="local"),
        pytest.param(
            '{"kind": "piston", "urls": ["http://a:2000/api/v2", "http://b:2000/api/v2"]}', id="piston"
        ),
        pytest.param('{"kind": "e2b", "template": "base"}', id="e2b"),
        pytest.param('{"kind": "morph", "snapshot": "snapshot_x"}', id="morph"),
    ],
)
def test_each_kind_reads_its_own_settings(text: str) -> None:
    settings = READ.validate_json(text, strict=True)
    assert f'"kind":"{settings.kind}"' in settings.model_dump_json()
    hash(settings)  # settings are used as keys of caches


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"kind": "docker"}', id="unknown kind"),
        pytest.param('{"kind": "local", "url": "x"}', id="unknown key"),
        pytest.param('{"kind": "piston", "urls": []}', id="no server"),
        pytest.param('{"kind": "morph", "snapshot": " "}', id="blank snapshot"),
        pytest.param('{"kind": "e2b", "concurrency": 0}', id="no concurrency"),
    ],
)
def test_wrong_settings_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        READ.validate_json(text, strict=True)


@pytest.mark.parametrize(
    ("text", "package"),
    [('{"kind": "e2b"}', "e2b"), ('{"kind": "morph", "snapshot": "x"}', "morphcloud")],
    ids=["e2b", "morph"],
)
def test_a_client_that_is_not_installed_is_named(
    text: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    settings = READ.validate_json(text, strict=True)
    assert isinstance(settings, Remote)
    answer = run(settings, Submission("python", "print(1)"), [Case("", "1")], Limits())
    assert isinstance(answer, Unavailable)
    assert f"pip install {package}" in answer.detail
    assert f"pip install {package}" in (settings.check() or "")
