"""The models that a step reads beside the one it starts from: a critic's backbone, reward models. Torch-free."""

from pathlib import Path

from r1exp.algorithm.settings import Ppo
from r1exp.files import hash_of_folder
from r1exp.model.locate import check_model
from r1exp.plan.references import PREFIX
from r1exp.rewards.reward_model import RewardModel
from r1exp.stage.config import StepConfig


def other_models(config: StepConfig) -> dict[str, str]:
    """Return dotted key -> folder or hub id; what an earlier step will make is not among them."""
    found = {
        f"rewards.{name}.model": member.model
        for name, member in (config.rewards or {}).items()
        if isinstance(member, RewardModel)
    }
    if isinstance(config.algorithm, Ppo) and config.algorithm.critic.kind == "separate":
        found["algorithm.critic.path"] = config.algorithm.critic.path or ""
    return {key: path for key, path in found.items() if path and not path.startswith(PREFIX)}


def refuse_missing_models(config: StepConfig) -> None:
    """Raise Refused for a model that is in no folder, in no cache, and that the hub does not give out."""
    for key, path in other_models(config).items():
        check_model(key, path)


def hashes_of_models(config: StepConfig) -> dict[str, str]:
    """Return dotted key -> hash of the files, of those that lie in folders: another model there is another step."""
    return {
        key: hash_of_folder(Path(path)) for key, path in other_models(config).items() if Path(path).is_dir()
    }
