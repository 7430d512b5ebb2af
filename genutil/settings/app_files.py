"""App files: YAML, a few keys each over a `base:` that they inherit from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from genutil.config import KEYS
from genutil.errors import UserError, nearest, shortened
from genutil.settings import dialect_2019, dialect_before_options, dialect_keras_zoo, yaml_files
from genutil.settings.field_types import is_text
from genutil.settings.layers import Layer, merge

APPS = Path(__file__).resolve().parents[2] / "apps"
TEXTS = frozenset(key for key, field in KEYS.items() if is_text(field)) | {"base", "graph"}
"""Keys whose values are text."""

SWEEP = "sweep"
"""The word of an app file that is no key: under it stand keys with lists of values, a grid of experiments."""


class App(NamedTuple):
    """What an app file and its bases state."""

    settings: dict[str, Any]
    origins: dict[str, str]
    """Of each key, the key and the file that states it, for messages."""
    own: frozenset[str] = frozenset()
    """The keys that the file states itself; none of a file of 2019, for it may have keys that nothing read."""


def experiments(folder: Path = APPS) -> list[Path]:
    """The app files of a folder, sorted; bases are none: files named base.yml, or in a folder named base."""
    paths = sorted(folder.rglob("*.yml"), key=lambda path: (len(path.parts), path))
    return [path for path in paths if path.stem != "base" and path.parent.name != "base"]


def app_name(path: Path, folder: Path = APPS) -> str:
    """How an app file is called: its path in the folder of apps without .yml or .yaml; elsewhere only its own name."""
    path = path.resolve()
    inside = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
    return inside.as_posix().removesuffix(".yml").removesuffix(".yaml")


def description(path: Path) -> str:
    """The comment on the first line of an app file, or nothing."""
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    return first.strip("# \n") if first.startswith("#") else ""


def find(name: str, folder: Path = APPS) -> Path:
    """The app file that `name` means: a path, or its end within the folder of apps; .yml may be left out.

    Raises UserError where there is none (naming the nearest) or more than one.
    """
    if not name:
        raise UserError("app: needs the name of an experiment, as in app:quickstart.")
    for path in (Path(name), folder / name, folder.parent / name):
        for candidate in (path, Path(f"{path}.yml")):
            if _is_file(candidate):
                return candidate
    known = {app_name(path, folder): path for path in experiments(folder)}
    end = name.removesuffix(".yml")
    found = [full for full in known if f"/{full}".endswith(f"/{end}")]
    if len(found) > 1:
        raise UserError(f"app:{name} is ambiguous; which one is meant: {', '.join(found)}?")
    if not found:
        raise UserError(f"There is no app {shortened(name)}; the nearest is {_nearest_app(end, list(known))}.")
    return known[found[0]]


def _is_file(path: Path) -> bool:
    """Whether there is a file of that name; of one that no file can have, there is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def count(path: Path) -> int:
    """How many experiments an app file holds: YAML documents, with --- between them.

    Raises UserError where the file cannot be read.
    """
    return len(_load(path))


def sweep(path: Path) -> dict[str, list[Any]]:
    """The values of each key that a file sweeps over; nothing where it sweeps over none. Its bases are not asked.

    Raises UserError where the file cannot be read, holds several experiments, or its `sweep` is no such mapping.
    """
    documents = _load(path)
    swept = [stated for stated in documents if isinstance(stated, dict) and stated.get(SWEEP) is not None]
    if not swept:
        return {}
    if len(documents) > 1:
        raise UserError(f"{_shown(path)} holds {len(documents)} experiments; sweep belongs in a file of a single one.")
    grid = swept[0][SWEEP]
    if not isinstance(grid, dict) or not all(isinstance(values, list) and values for values in grid.values()):
        raise UserError(f"sweep in {_shown(path)} must be keys with lists of values, as lr: [0.1, 0.2].")
    return {str(key).replace("-", "_"): values for key, values in grid.items()}


def read(path: Path, folder: Path = APPS, document: int | None = None, over: Mapping[str, Any] | None = None) -> App:
    """What an app file, or a document of it (counted from 0), states, over what its bases do.

    Args:
        path: of the file.
        folder: of the apps.
        document: which one of a file's documents.
        over: settings in the words of today that stand above those of the file.

    Raises UserError where the file or a base cannot be read, where a file is its own base, or where one that ought to
    hold a single experiment holds several.
    """
    layers: list[Layer] = []
    origins: dict[str, str] = {}
    wired = False
    lineage = list(_lineage(path, folder, document))
    for source, stated in reversed(lineage):
        today = dialect_2019.translate(dialect_before_options.translate(stated))
        wired = wired or "wiring" in today
        # a base without a wiring may serve apps with several
        general = source != path and not wired
        # files that call the rule graph were written when options of other rules were passed over
        layers.append(Layer(today, tolerant=general or dialect_2019.is_of_2019(stated) or "graph" in stated))
        origins |= {dialect_2019.KEYS.get(key, key): f"{key} (in {_shown(source)})" for key in stated}
    own = frozenset(layers[-1].stated) if not layers[-1].tolerant else frozenset()
    return App(merge([*layers, Layer(over or {})]), origins, own)


def _lineage(path: Path, folder: Path, document: int | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The file and its bases, the file first, with what each states by itself, in its own words."""
    seen: list[Path] = []
    following: Path | None = path
    while following:
        current = following
        seen.append(current.resolve())
        stated = _stated(current, document if len(seen) == 1 else None)
        following = _base(stated, current, folder)
        if following and following.resolve() in seen:
            raise UserError(f"{_shown(current)} has {_shown(following)} as its base, which inherits from it in turn.")
        yield current, {key: value for key, value in stated.items() if key not in ("base", SWEEP)}


def _base(stated: dict[str, Any], path: Path, folder: Path) -> Path | None:
    base = stated.get("base")
    if base is None:
        return None
    candidates = [path.parent / str(base), folder / str(base)]
    found = [candidate for candidate in candidates if _is_file(candidate)]
    if found:
        return found[0]
    if "title" in stated:  # the runner of 2019 wrote the app's bare name there
        return None
    raise UserError(
        f"{_shown(path)} names the base {shortened(base)}, and there is no such file beside it or in {folder.name}/."
    )


def _stated(path: Path, document: int | None) -> dict[str, Any]:
    """What a file's only document, or one of its documents, states by itself."""
    documents = _load(path)
    if document is None and len(documents) > 1:
        raise UserError(f"{_shown(path)} holds {len(documents)} experiments, and one is wanted here.")
    stated = documents[document or 0]
    if not isinstance(stated, dict):
        raise UserError(f"{_shown(path)} holds no settings; an app file is lines of the form key: value.")
    return dialect_keras_zoo.translate({str(key).replace("-", "_"): value for key, value in stated.items()})


def _load(path: Path) -> list[Any]:
    """The documents of a file; of an empty one a single empty document."""
    try:
        return yaml_files.documents(path, TEXTS)
    except OSError as error:
        raise UserError(f"{_shown(path)} cannot be read: {error.strerror}.") from None
    except yaml_files.YamlError as fault:
        raise UserError(f"{_shown(path)} {fault}.") from None


def _shown(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _nearest_app(name: str, known: list[str]) -> str:
    if "/" in name:
        return nearest(name, known)
    by_stem = {full.rpartition("/")[2]: full for full in known}
    return by_stem[nearest(name, by_stem)]
