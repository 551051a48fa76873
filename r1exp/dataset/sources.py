"""Finds the rows of a split: in a file, in a folder, or on the Hugging Face hub.

A folder is one that `save_to_disk` wrote, a copy of a repository of the hub (its README.md may name the files of each
subset and split), or one in which a file or a folder is named after its split: train.jsonl, data/train-00000-of-00002.parquet,
train/part-1.csv. Local files are read without the library `datasets`, whose import takes a second.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from r1exp.dataset.readers import format_of, plain, read_rows
from r1exp.dataset.rows import Row, Rows, fingerprint_of_file, stamp_of, unreadable, value_in
from r1exp.errors import Refused
from r1exp.files import read_json
from r1exp.settings import nearest

HUB = "hf://datasets/"  # prefix of a path that is on the hub, whatever there is on this machine
_HUB_TIMEOUT = 10.0  # seconds
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # owner/name
# Other names of a split, as in `datasets`.
_ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}


class Source(ABC):
    """The rows of one split."""

    @abstractmethod
    def rows(self) -> Rows:
        """Yield (place, row)."""

    @abstractmethod
    def fingerprint(self) -> Any:
        """Return a JSON value that changes with the rows."""

    @abstractmethod
    def state(self) -> Any:
        """Return what tells, in one process, whether the rows changed since they were read."""


@dataclass(frozen=True)
class Files(Source):
    """The rows of local files, in order."""

    paths: tuple[Path, ...]
    default: str | None = None  # the format of a file whose ending names none

    def rows(self) -> Rows:
        """Yield the rows of all files."""
        for path in self.paths:
            yield from read_rows(path, self.default)

    def fingerprint(self) -> Any:
        """Return the hash of the file's content, or a list of them."""
        hashes = [fingerprint_of_file(path) for path in self.paths]
        return hashes[0] if len(hashes) == 1 else hashes

    def state(self) -> Any:
        """Return name, size and time of change of each file."""
        try:
            return tuple((str(path), *stamp_of(path)) for path in self.paths)
        except OSError as error:
            raise unreadable(Path(error.filename), error) from error


@dataclass(frozen=True)
class Chosen(Source):
    """The rows of another source that have certain values and an answer."""

    source: Source
    keep: tuple[tuple[str, tuple[Any, ...]], ...]  # column, its allowed values
    has_answer: Callable[[Row], bool] | None  # whether a row is kept for its answer; None: every row is

    def rows(self) -> Rows:
        """Yield the chosen rows, with the places that they have in the source.

        Raises:
            Refused: a column does not exist, or no row is left.
        """
        is_empty, place = True, "the data"
        for place, row in self.source.rows():
            if any(value_in(row, name, place, "dataset.keep") not in values for name, values in self.keep):
                continue
            if self.has_answer is not None and not self.has_answer(row):
                continue
            is_empty = False
            yield place, row
        if is_empty:
            kept = ", ".join(f"{name} is one of {list(values)}" for name, values in self.keep)
            raise Refused(
                f"{place}: none of the rows up to this one is left{f' where {kept}' if kept else ''}"
                f"{' and there is an answer' if self.has_answer else ''}; change dataset.keep, or dataset.unanswered=refuse"
            )

    def fingerprint(self) -> Any:
        """Return that of the source; what is chosen is among the settings."""
        return self.source.fingerprint()

    def state(self) -> Any:
        """Return that of the source."""
        return self.source.state()


@dataclass(frozen=True)
class Hub(Source):
    """A split on the hub, which `datasets` downloads into its cache and maps into memory."""

    path: str  # owner/name
    subset: str | None
    revision: str | None
    split: str

    def rows(self) -> Rows:
        """Yield the rows.

        Raises:
            Refused: there is no such data set, subset or split, or no network.
        """
        import datasets  # imported late: takes 1 s, and only hub ids need it

        try:
            rows = datasets.load_dataset(self.path, self.subset, split=self.split, revision=self.revision)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise _no_download(self.path, f"{self.subset or 'default'}, {self.split}", error) from error
        for number, row in enumerate(_undecoded(rows)):
            yield f"{self.path}, {self.split}, row {number}", plain(row)

    def fingerprint(self) -> Any:
        """Return the hub id; `revision` is among the settings."""
        return self.path

    def state(self) -> Any:
        """Return the split's name."""
        return (self.path, self.subset, self.revision, self.split)


def sources(path: str, subset: str | None, revision: str | None, setting: str) -> dict[str, Source] | Source:
    """Return the splits of a path by name; or its only source, if it is one file or a single saved table.

    Args:
        path: A file, a folder, or a hub id.
        subset: Name of a subset (of a config, in the words of the hub).
        revision: Branch, tag or commit on the hub.
        setting: The field that holds the path, for messages.

    Raises:
        Refused: there are no data.
    """
    place = located(path, setting)
    if isinstance(place, str):
        return {name: Hub(place, subset, revision, name) for name in _hub_splits(place, subset, revision)}
    if revision is not None:
        raise Refused(
            f"dataset.revision={revision} chooses a version on the hub, and {setting}={path} is on this machine; leave it out"
        )
    if place.is_file():
        return Files((place,))
    return _saved(place) or _named_in_readme(place, subset) or _named_after_splits(place, subset, setting)


def located(path: str, setting: str) -> Path | str:
    """Return a path on this machine, or a hub id.

    Raises:
        Refused: there is no such file or folder, and the text is no hub id, or looks more like a path.
    """
    if path.startswith(HUB):
        path = path.removeprefix(HUB)
        if not _HUB_ID.fullmatch(path):
            raise Refused(f"{setting}={HUB}{path}: after {HUB} comes owner/name, as in {HUB}openai/gsm8k")
        return path
    place = Path(path).expanduser()
    if place.exists():
        return place
    parent = place.parent
    on_hub = _HUB_ID.fullmatch(path) is not None
    if on_hub and format_of(place) is None and not parent.is_dir():
        return path
    if format_of(place) is not None:
        raise unreadable(place, FileNotFoundError(2, "No such file or directory"))
    there = sorted(other.name for other in parent.iterdir()) if parent.is_dir() else []
    similar = nearest(place.name, there)
    hint = (
        f"did you mean {parent / similar[0]}?"
        if similar
        else f"type a path that exists (this is {Path.cwd()})"
    )
    also = f" For the data set of that name on the hub, type {setting}={HUB}{path}" if on_hub else ""
    raise Refused(
        f"{setting}={path} is neither a file or folder on this machine nor a hub id (owner/name, as openai/gsm8k); {hint}{also}"
    )


def check_hub(path: str, revision: str | None) -> None:
    """Make one request for a data set of the hub, because `datasets` reports a fault only after half a minute of retries.

    Raises:
        Refused: there is no such data set or revision, no access to it, or no network.
    """
    import datasets
    import httpx  # the HTTP client of huggingface_hub
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    cached = Path(datasets.config.HF_DATASETS_CACHE) / path.replace("/", "___")
    if constants.is_offline_mode() or cached.is_dir():
        return
    try:
        HfApi().dataset_info(path, revision=revision, timeout=_HUB_TIMEOUT)
    except (HfHubHTTPError, httpx.HTTPError) as error:
        raise _no_download(path, f"revision {revision or 'main'}", error) from error


def split_named(found: dict[str, Source], name: str, path: str, setting: str) -> Source:
    """Return a split by its name.

    Raises:
        Refused: there is none of that name.
    """
    if name not in found:
        similar = nearest(name, found) or sorted(found)
        raise Refused(
            f"{path} has no split {name!r}, only {sorted(found)}; type {setting}={similar[0] if similar else '...'}"
        )
    return found[name]


def _hub_splits(path: str, subset: str | None, revision: str | None) -> list[str]:
    import datasets

    try:
        return list(datasets.get_dataset_split_names(path, subset, revision=revision))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise _no_download(path, subset or "default", error) from error


def _no_download(path: str, what: str, error: Exception) -> Refused:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return Refused(
        f"{path} ({what}) could not be downloaded from the hub: {text}; check the name and "
        "the network (HF_HUB_OFFLINE=1 forbids downloads), or give a local folder with dataset.path=FOLDER"
    )


def _undecoded(rows: Any) -> Iterator[Any]:
    """Return the rows without decoding images and sounds, which no text needs."""
    for name, feature in (rows.features or {}).items():
        if hasattr(feature, "decode"):
            rows = rows.cast_column(name, type(feature)(decode=False))
    return iter(rows)


def _saved(folder: Path) -> dict[str, Source] | Source | None:
    """Return what `save_to_disk` wrote: the splits of a DatasetDict, or one Dataset."""
    if (folder / "dataset_dict.json").is_file():
        return {
            name: _saved_table(folder / name) for name in read_json(folder / "dataset_dict.json")["splits"]
        }
    return _saved_table(folder) if (folder / "state.json").is_file() else None


def _saved_table(folder: Path) -> Source:
    try:
        names = [entry["filename"] for entry in read_json(folder / "state.json")["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(
            f"{folder} has no readable state.json, as `save_to_disk` writes it ({error}); save it again"
        ) from error
    return Files(tuple(folder / name for name in names))


def _named_in_readme(folder: Path, subset: str | None) -> dict[str, Source] | None:
    """Return the splits that the header of README.md names, as in a repository of the hub; None if it names none."""
    configs = _configs(folder / "README.md")
    if not configs:
        return None
    names = [config.get("config_name", "default") for config in configs]
    default = next((c.get("config_name", "default") for c in configs if c.get("default")), "default")
    wanted = subset or (names[0] if len(names) == 1 else default)
    if wanted not in names:
        similar = nearest(wanted, names) or names
        said = "has several subsets" if subset is None else f"has no subset {subset!r}"
        raise Refused(f"{folder} {said}: {names}; type dataset.subset={similar[0]}")
    splits: dict[str, Source] = {}
    data_files = configs[names.index(wanted)]["data_files"]
    for entry in data_files if isinstance(data_files, list) else [data_files]:
        named = entry if isinstance(entry, dict) else {"split": "train", "path": entry}
        patterns = named["path"] if isinstance(named["path"], list) else [named["path"]]
        files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
        if files:
            splits[named["split"]] = Files(tuple(files))
    return splits or None


def _configs(readme: Path) -> list[dict[str, Any]]:
    if not readme.is_file():
        return []
    text = readme.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---"):
        return []
    try:
        header = yaml.safe_load(text.split("---", 2)[1])
    except yaml.YAMLError:
        return []
    configs = header.get("configs") if isinstance(header, dict) else None
    return [config for config in configs or [] if isinstance(config, dict) and "data_files" in config]


def _named_after_splits(folder: Path, subset: str | None, setting: str) -> dict[str, Source]:
    """Return the splits of a folder whose files or folders are named after them."""
    places = [place for place in ([folder / subset] if subset else []) if place.is_dir()]
    for place in [*places, folder, folder / "data"]:
        splits = _splits_in(place, setting)
        if splits:
            return splits
    lines = [f"{name}.jsonl" for name in ("train", "test")]
    raise Refused(
        f"{folder} has no data: none of {', '.join(lines)}, {subset or 'data'}/train-*.parquet, or another file that is "
        f"named after its split and ends in .jsonl, .json, .csv, .parquet or .arrow; give another {setting}"
    )


def _splits_in(place: Path, setting: str) -> dict[str, Source]:
    files = [path for path in sorted(place.glob("*")) if path.is_file() and format_of(path) is not None]
    found: dict[str, list[Path]] = {}
    for path in files:
        stem = path.name.split(".")[0]
        for split, aliases in _ALIASES.items():
            if any(
                re.fullmatch(
                    rf"(.*[-_.])?{alias}([-_.]?\d+)?([-_.]of[-_.]\d+)?(-[0-9a-f]{{8,}})?", stem, re.I
                )
                for alias in aliases
            ):
                found.setdefault(split, []).append(path)
    for split, aliases in _ALIASES.items():
        for alias in aliases:
            inside = sorted(path for path in (place / alias).glob("*") if path.is_file() and format_of(path))
            if inside and split not in found:
                found[split] = inside
    if not found and len(files) == 1:
        found["train"] = files
    for split, paths in found.items():
        formats = {format_of(path) for path in paths}
        if len(formats) > 1:
            names = [path.name for path in paths]
            raise Refused(
                f"{place} has the split {split!r} in several formats: {names}; give one file as {setting}"
            )
    return {split: Files(tuple(paths)) for split, paths in found.items()}
