"""A store shared by two users of one group, and one that can only be read. The users are real: only root can be them."""

import os
import stat
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from r1exp.errors import Refused
from r1exp.files import follow_folder, hash_of_folder, make_read_only, whole_folder, write_json, write_text
from r1exp.paths import StepPaths
from r1exp.runner.store import StepStore, is_leased
from r1exp.step.status import ArtifactInfo, Status

GROUP, ADA, BEN = 20000, 20001, 20002
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two users")


def nothing() -> None:
    """Take no notice of having to wait."""


def done_by(user: int, work: Callable[[], None], umask: int = 0o002) -> None:
    """Call `work` in a child process of a user of the group."""
    if (child := os.fork()) == 0:
        code = 1
        try:
            os.setgroups([GROUP])
            os.setgid(user)
            os.setuid(user)
            os.umask(umask)
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - shown by the parent
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """Return a folder of the group, which everyone can reach."""
    folder = tmp_path / "shared"
    folder.mkdir()
    os.chown(folder, 0, GROUP)
    folder.chmod(0o2775)
    for above in folder.parents:
        if above.owner() == "root" and above.stat().st_mode & 0o055 != 0o055:
            above.chmod(above.stat().st_mode | 0o055)
    yield folder


def finish(folder: Path) -> None:
    """Make a finished step, with weights as safetensors writes them."""
    write_json(folder / "step.json", {"run_id": "run"})
    with whole_folder(folder / "artifact") as artifact:
        weights = artifact / "model.safetensors"
        weights.write_bytes(b"weights")
        weights.chmod(0o600)
    artifact = folder / "artifact"
    Status(state="done", artifact=ArtifactInfo(kind="model", hash=hash_of_folder(artifact))).write(folder)
    make_read_only(artifact)


def save_checkpoint(folder: Path, step: int) -> None:
    checkpoint = folder / "checkpoints" / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    (checkpoint / "model.safetensors").chmod(0o600)
    follow_folder(checkpoint)
    write_text(checkpoint / "complete.json", "{}")


@as_root
def test_two_users_of_a_group_share_finished_steps_leases_and_checkpoints(shared: Path) -> None:
    def ada() -> None:
        store = StepStore(shared / "store")
        with store.lease("done", nothing):
            store.take_over("done", shared / "ada")
            finish(shared / "ada")
            store.publish("done", shared / "ada")
        with store.lease("begun", nothing):
            store.take_over("begun", shared / "killed")
            Status(state="running").write(shared / "killed")
            save_checkpoint(shared / "killed", 2)

    def ben() -> None:
        store = StepStore(shared / "store")
        with store.lease("done", nothing):
            found = store.find("done")
            assert found is not None
            assert (found / "artifact" / "model.safetensors").read_bytes() == b"weights"
            store.publish("other", found)
        with store.lease("begun", nothing):
            store.take_over("begun", shared / "ben")
            assert (shared / "ben" / "checkpoints" / "checkpoint-2" / "model.safetensors").read_bytes()
            save_checkpoint(shared / "ben", 4)

    def ada_again() -> None:
        store = StepStore(shared / "store")
        with store.lease("begun", nothing):
            store.take_over("begun", shared / "killed")
            assert (shared / "killed" / "checkpoints" / "checkpoint-4" / "model.safetensors").read_bytes()
        assert store.find("other") is not None

    for user, work in ((ADA, ada), (BEN, ben), (ADA, ada_again)):
        done_by(user, work)
    for path in shared.rglob("*"):
        about = path.stat()
        assert about.st_gid == GROUP, path
        wanted = 0o2775 if path.is_dir() else about.st_mode & 0o220 | 0o444
        assert stat.S_IMODE(about.st_mode) == wanted, path


@as_root
def test_files_follow_a_strict_umask(shared: Path) -> None:
    done_by(ADA, lambda: finish(shared / "ada"), umask=0o077)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (shared / "ada").rglob("*")} == {
        0o2700,
        0o600,
        0o400,
    }


@as_root
def test_a_store_of_somebody_else_serves_its_steps_and_takes_none(
    shared: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def ada() -> None:
        store = StepStore(shared / "store")
        finish(shared / "ada")
        store.publish("done", shared / "ada")

    def ben() -> None:
        store = StepStore(shared / "store")
        assert not store.is_writable
        assert store.find("done") is not None
        assert not is_leased(shared / "store", "done")
        with store.lease("new", nothing):
            own = shared / "ben"
            own.mkdir()
            store.take_over("new", own)
            finish(own)
            store.publish("new", own)
        assert store.find("new") is None

    done_by(ADA, ada, umask=0o022)
    shared.chmod(0o2777)
    done_by(BEN, ben, umask=0o022)
    assert "its finished steps are reused, and those of this run are not shared" in capfd.readouterr().err


@as_root
def test_a_store_that_does_not_exist_and_cannot_be_made_is_refused(shared: Path) -> None:
    def ben() -> None:
        with pytest.raises(Refused, match="cannot be written"):
            StepStore(shared / "store")

    shared.chmod(0o755)
    done_by(BEN, ben)


def test_what_is_read_only_or_shared_by_hard_links_keeps_its_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "one" / "read_only", "x")
    write_text(tmp_path / "one" / "linked", "x")
    for name in ("read_only", "linked"):
        (tmp_path / "one" / name).chmod(0o400 if name == "read_only" else 0o600)
    os.link(tmp_path / "one" / "linked", tmp_path / "other")
    follow_folder(tmp_path / "one")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "one").iterdir()}
    assert modes == {"read_only": 0o400, "linked": 0o600}
    assert StepPaths(tmp_path).not_shared == ("checkpoints", "best", "ranks.lock", "reserve.bin")
