"""Finds the class that a `kind` names, for config groups whose options are classes.

A kind is a name of r1exp's own, a name that an installed package registered (`r1exp.plugins`), or the
import path `package.module:Class` of anyone's class. Classes are imported when they are first needed.
"""

import inspect
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from r1exp.plugins import import_user_module, path_of, paths_of
from r1exp.settings import Settings, nearest

Base = TypeVar("Base", bound=Settings)
NO_KIND = "kind_missing"  # error type of a mapping without `kind`


def load(path: str) -> Any:
    """Return the object at an import path such as `package.module:name`.

    Raises:
        ValueError: there is no such module or name, or the module raises an error; the message says which.
    """
    module, _, name = path.partition(":")
    try:
        found = import_user_module(module)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not hasattr(found, name):
        close = nearest(name, [known for known in vars(found) if not known.startswith("_")])
        own = [known for known, value in vars(found).items() if getattr(value, "__module__", "") == module]
        hint = f"did you mean {module}:{close[0]}?" if close else f"it defines {', '.join(own) or 'nothing'}"
        raise ValueError(f"{path}: the module {module!r} has no {name!r}; {hint}")
    return getattr(found, name)


class Registry(Generic[Base]):
    """The classes of one config group, by their `kind`.

    Used as the annotation of a field, it validates a mapping with the class that its `kind` names:

        DATASETS = Registry("dataset", Dataset, {"gsm8k": "r1exp.dataset.gsm8k:Gsm8k"})
        DatasetSettings = Annotated[Dataset, DATASETS]

    Args:
        group: The config group, as in messages and in `Plugin.kinds`.
        base: The class that all of them extend.
        members: The kinds that r1exp provides, and their import paths.
    """

    _by_base: ClassVar[dict[type[BaseModel], "Registry[Any]"]] = {}

    def __init__(self, group: str, base: Any, members: Mapping[str, str]) -> None:
        self.group = group
        self.base: type[Base] = base  # may be abstract, which `type[Base]` would not accept as an argument
        self._members = dict(members)
        Registry._by_base[base] = self

    @staticmethod
    def of(base: type[BaseModel]) -> "Registry[Any] | None":
        """Return the registry whose classes extend `base`, or None."""
        return Registry._by_base.get(base)

    @property
    def own(self) -> Mapping[str, str]:
        """The kinds that r1exp provides, and their import paths."""
        return self._members

    def kinds(self) -> list[str]:
        """Return every kind that has a name, sorted."""
        return sorted(self._paths())

    def find(self, kind: str) -> type[Base]:
        """Return the class that `kind` names.

        Raises:
            ValueError: there is no such kind, or the class does not extend the group's base class.
        """
        paths = self._paths()
        if kind not in paths and ":" not in kind:
            close = nearest(kind, paths)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ValueError(
                f"kind={kind}: there is no such {self._noun()}.{hint} Kinds: {', '.join(sorted(paths))}, "
                "or package.module:Class of your own"
            )
        return self.checked(load(path_of(kind, paths)), kind)

    def checked(self, found: Any, kind: str) -> type[Base]:
        """Return `found` if it is a class of this group."""
        if not (isinstance(found, type) and issubclass(found, self.base)):
            what = "another class" if isinstance(found, type) else f"a {type(found).__name__}"
            place = f"{self.base.__module__}:{self.base.__name__}"
            raise ValueError(f"kind={kind} is {what}, and must be a subclass of {place}")
        if inspect.isabstract(found):
            missing = ", ".join(sorted(found.__abstractmethods__))
            raise ValueError(f"kind={kind}: the class must define {missing}")
        return found

    def validate(self, value: Any) -> Base:
        """Return `value`, a mapping with the key `kind` or an instance, as an instance of its class."""
        if isinstance(value, self.base):
            return value
        if not isinstance(value, dict):
            raise ValueError(f"must be a mapping with the key `kind`, and found {value!r}")
        kind = value.get("kind")
        if not isinstance(kind, str):
            raise PydanticCustomError(
                NO_KIND, "has no kind; give one of: {kinds}", {"kinds": ", ".join(self.kinds())}
            )
        # Through JSON, so that a list is accepted where a tuple is declared, also in strict mode.
        return self.find(kind).model_validate_json(json.dumps(value), strict=True)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate through `validate`; without a serializer pydantic dumps the fields of the actual class."""
        return core_schema.no_info_plain_validator_function(self.validate)

    def _paths(self) -> dict[str, list[str]]:
        return paths_of(self.group, self._members)

    def _noun(self) -> str:
        return self.group.removesuffix("s")
