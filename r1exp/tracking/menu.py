"""The trackers that `tracking` can choose. To add one, write its file and add a line here.

`tracking` is a mapping from names to trackers, so that several can be chosen and each setting has a key of its own:
`tracking=[wandb,tensorboard] tracking.wandb.entity=team`. A key directly below `tracking` reaches every chosen tracker
that has it (`tracking.project=mine`); the files of conf/tracking/ read it by an interpolation.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from r1exp.registry import Registry
from r1exp.settings import nearest
from r1exp.tracking.base import Tracker

TRACKERS: Registry[Tracker] = Registry(
    "tracking",
    Tracker,
    {
        "mlflow": "r1exp.tracking.mlflow:Mlflow",
        "tensorboard": "r1exp.tracking.tensorboard:Tensorboard",
        "trackio": "r1exp.tracking.trackio:Trackio",
        "wandb": "r1exp.tracking.wandb:Wandb",
    },
)


def _without_shared_keys(values: Any) -> Any:
    """Return the trackers, without the keys that they share and have read by an interpolation.

    Raises:
        ValueError: no chosen tracker has the key.
    """
    if not isinstance(values, Mapping):
        return values
    trackers = {name: value for name, value in values.items() if isinstance(value, Mapping | Tracker)}
    known = {
        key
        for value in trackers.values()
        for key in (value if isinstance(value, Mapping) else type(value).model_fields)
    } - {"kind"}
    for key in values.keys() - trackers.keys():
        if key not in known:
            close = nearest(key, known)
            hint = f" Did you mean tracking.{close[0]}?" if close else ""
            keys = f"they have: {', '.join(sorted(known))}" if known else "none is chosen that has settings"
            raise ValueError(f"no chosen tracker has the key {key} ({keys}).{hint}")
    return trackers


TrackingSettings = Annotated[dict[str, Annotated[Tracker, TRACKERS]], BeforeValidator(_without_shared_keys)]
