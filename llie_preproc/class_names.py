"""Matching the classes of a detector to those of an annotated set, by name and never by position.

A class keeps its meaning under several names: COCO's ``motorcycle`` is ExDark's ``Motorbike`` and VisDrone's ``motor``.
Names match if they are equal, if they differ only in case, spaces, hyphens and underscores, or if :data:`SYNONYMS` has
both in one row. A mapping says the rest. Where a class of the detector stands for several classes of the set, these are
measured as one, because no score can tell them apart.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .coco_json import kind_of, read_json
from .errors import one_line, require
from .files import read_text

SYNONYMS = (
    ("person", "people", "pedestrian"),
    ("bicycle", "bike"),
    ("motorcycle", "motorbike", "motor"),
    ("airplane", "aeroplane"),
    ("couch", "sofa"),
    ("dining table", "table"),
    ("tv", "tv monitor", "television"),
    ("cell phone", "mobile phone"),
    ("hair drier", "hair dryer"),
    ("donut", "doughnut"),
    ("face", "human face"),
)
"""Names of one class in COCO, PASCAL VOC, ExDark, VisDrone, BDD100K and Open Images, a class in each row."""

MAPPINGS = Path(__file__).parent / "class_mappings"
"""Folder of the shipped mappings, each a file ``NAME.json``."""

Mapped = Mapping[str, "str | Sequence[str] | None"]
"""Mapping from a detector's class to a class of the set, to several that are measured as one, or to None for none."""

_NAMED, _TOLD, _NEAR = 5, 100, 3


@dataclass(frozen=True)
class SharedClass:
    """A class that the detector and the set both have.

    Attributes:
        name: Name in scores: that of the set's class or, if there are several, those of the detector's classes.
        detector: Names of the detector's classes whose detections count.
        annotated: Names of the set's classes whose objects count.
    """

    name: str
    detector: tuple[str, ...]
    annotated: tuple[str, ...]


@dataclass(frozen=True)
class ClassMatch:
    """The classes that a detector and a set share, and those that only one of them has.

    Attributes:
        detector: Names of the detector's classes in the order of its labels.
        annotated: Names of the set's classes.
        shared: Shared classes, in the detector's order.

    Examples:
        >>> match = match_classes(["person", "dog", "car"], ["car", "pedestrian", "people", "van"], "set.json")
        >>> [each.name for each in match.shared], match.ignored, match.unknown
        (['person', 'car'], ['dog'], ['van'])
    """

    detector: tuple[str, ...]
    annotated: tuple[str, ...]
    shared: tuple[SharedClass, ...]

    @property
    def found_as(self) -> dict[str, str | None]:
        """Name in scores of each of the detector's classes; None for a class whose detections do not count.

        Examples:
            >>> match_classes(["person", "dog"], ["People"], "set.json").found_as
            {'person': 'People', 'dog': None}
        """
        names = {name: each.name for each in self.shared for name in each.detector}
        return {name: names.get(name) for name in self.detector}

    @property
    def ignored(self) -> list[str]:
        """Classes of the detector that the set does not have."""
        return [name for name, found in self.found_as.items() if found is None]

    @property
    def unknown(self) -> list[str]:
        """Classes of the set that the detector does not have."""
        known = {name for each in self.shared for name in each.annotated}
        return [name for name in self.annotated if name not in known]

    @property
    def notes(self) -> list[str]:
        """Sentences on what a score means: classes of the set that are left out, merged or named differently.

        Examples:
            >>> match_classes(["person", "car"], ["People", "car", "Cup"], "set.json").notes
            ['classes with other names: person is People', "left out of the scores: 1 of the set's 3 classes, which \
the detector does not know (Cup)"]
        """
        one = [each for each in self.shared if len(each.detector) == len(each.annotated) == 1]
        renamed = [each for each in one if _letters(each.detector[0]) != _letters(each.annotated[0])]
        merged = [each for each in self.shared if each not in one]
        of_set = _left_out(self.unknown, "the set", self.annotated, "the detector does not know")
        return [*_told("classes with other names", renamed), *_told("classes that count as one", merged), *of_set]

    @property
    def ignored_note(self) -> list[str]:
        """Sentence on the classes of the detector that the set does not have; empty if there is none."""
        return _left_out(self.ignored, "the detector", self.detector, "the set does not have")

    def truth(self, truth: Mapping[str, Any]) -> dict[str, Any]:
        """Copy checked COCO annotations with the shared classes alone, merged and named as in scores.

        A merged class has the id of its first class, and the names of all under ``merged``.

        Examples:
            >>> kinds = [dict(id=4, name="people"), dict(id=5, name="pedestrian")]
            >>> box = dict(id=1, image_id=1, category_id=5, bbox=[0, 0, 9, 9], area=81)
            >>> truth = dict(images=[dict(id=1)], categories=kinds, annotations=[box])
            >>> merged = match_classes(["person"], ["people", "pedestrian"], "set.json").truth(truth)
            >>> merged["categories"], merged["annotations"][0]["category_id"]
            ([{'id': 4, 'name': 'person', 'merged': ['people', 'pedestrian']}], 4)
        """
        by_name = {each["name"]: each for each in truth["categories"]}
        categories, new = [], {}
        for each in self.shared:
            first = by_name[each.annotated[0]]
            merged = dict(merged=list(each.annotated)) if len(each.annotated) > 1 else {}
            categories.append(dict(first, name=each.name, **merged))
            new.update({by_name[name]["id"]: first["id"] for name in each.annotated})
        annotations = [
            dict(each, category_id=new[each["category_id"]])
            for each in truth["annotations"]
            if each["category_id"] in new
        ]
        return dict(truth, categories=categories, annotations=annotations)

    def detections(
        self, detections: Sequence[Mapping[str, Any]], named: Sequence[Mapping[str, Any]], truth: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Copy checked COCO results of the shared classes, with the ids of classes that :meth:`truth` has.

        Args:
            detections: COCO results.
            named: Categories (``id``, ``name``) of the results.
            truth: Annotations that :meth:`truth` has returned.
        """
        ids = {each["name"]: each["id"] for each in truth["categories"]}
        new = {each["id"]: ids.get(self.found_as[each["name"]]) for each in named}
        return [
            dict(each, category_id=number) for each in detections if (number := new[each["category_id"]]) is not None
        ]

    def labels(self) -> dict[str, int]:
        """The detector's label of each class of the set that it knows.

        Where several of the detector's classes stand for one class of the set, the label is that of the first.

        Examples:
            >>> match_classes(["car", "person"], ["pedestrian", "people", "van"], "set.json").labels()
            {'pedestrian': 1, 'people': 1}
        """
        first = {name: self.detector.index(each.detector[0]) for each in self.shared for name in each.annotated}
        return {name: first[name] for name in self.annotated if name in first}

    def require_known(self, source: str, whole: bool = True) -> None:
        """Raise ``ValueError`` if the detector lacks classes of the set.

        Args:
            source: Name of the annotations in messages.
            whole: Whether the detector must know all classes of the set. If not, the set may have more classes, but not
                each side classes that the other lacks.
        """
        if self.unknown and (self.ignored or whole):
            raise ValueError(_unlike(self.unknown, self.ignored, source))

    def require_labels(self, source: str, whole: bool = True) -> None:
        """Raise ``ValueError`` if the detector cannot be trained on the set.

        Args:
            source: Name of the annotations in messages.
            whole: Whether the detector must know all classes of the set (:meth:`require_known`).
        """
        self.require_known(source, whole)
        for each in self.shared:
            if len(each.detector) > 1:
                raise ValueError(
                    f"{source}: {' and '.join(each.detector)} of the detector are both {' and '.join(each.annotated)} "
                    "of the set, so that its objects have no single label to train on"
                )


def match_classes(
    detector: Sequence[str], annotated: Sequence[str], source: str, mapping: Mapped | None = None
) -> ClassMatch:
    """Match a detector's classes to those of a set.

    A class that the mapping names is matched as the mapping says. The others are matched by name: equal names first,
    and then, by the rules of this module, what is left over on both sides. If one side has several names of one class
    there and the other side has one name, all of them match. If both sides have several, only equal spellings match.

    Args:
        detector: Names of the detector's classes in the order of its labels.
        annotated: Names of the annotated classes, in any order.
        source: Name of the annotations in messages.
        mapping: Mapping from some of the detector's classes.

    Raises:
        ValueError: The two share no class; the mapping has a name that the detector or the set lacks, or something else
            than a name, names or None; or two measured classes would have one name.

    Examples:
        >>> match_classes(["motorcycle", "cup"], ["Cup", "Motorbike"], "set.json").found_as
        {'motorcycle': 'Motorbike', 'cup': 'Cup'}
        >>> match_classes(["car", "bus"], ["vehicle"], "set.json", {"car": "vehicle", "bus": "vehicle"}).found_as
        {'car': 'vehicle', 'bus': 'vehicle'}
        >>> match_classes(["person"], ["face"], "faces.json")
        Traceback (most recent call last):
        ValueError: faces.json: its classes are not the detector's: the detector has no face, the set has no person
    """
    targets = _by_mapping(mapping or {}, detector, annotated, source)
    given = {name for names in targets.values() for name in names}
    free = [name for name in detector if name not in targets]
    targets |= {name: (name,) for name in free if name in set(annotated)}
    known = {name for names in targets.values() for name in names}
    rest = [name for name in annotated if name not in known | given]
    targets |= _by_meaning([name for name in free if name not in targets], rest)
    match = ClassMatch(tuple(detector), tuple(annotated), _joined(detector, annotated, targets))
    if not match.shared:
        raise ValueError(_unlike(match.unknown, match.ignored, source))
    names = [each.name for each in match.shared]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{source}: two classes would be measured as {twice[0]!r}: change the mapping")
    return match


def read_mapping(given: str | os.PathLike[str] | Mapped | None) -> dict[str, Any]:
    """Read a mapping from a detector's classes to those of a set.

    Args:
        given: Name of a shipped mapping, JSON or YAML file with an object, or a mapping; None for an empty one.

    Returns:
        Names of the set's class, or classes, by the detector's class; None for a class whose detections do not count.

    Raises:
        FileNotFoundError: There is neither a shipped mapping of this name nor such a file.
        MissingExtraError: The file is YAML, and PyYAML is not installed.
        ValueError: The file is damaged, or holds something else.

    Examples:
        >>> read_mapping("coco-visdrone")["person"]
        ['pedestrian', 'people']
    """
    if given is None or isinstance(given, Mapping):
        content, source = given or {}, "classes"
    elif isinstance(given, str | os.PathLike):
        content, source = _read(given), str(given)
    else:
        raise ValueError(f"classes is {kind_of(given)}, expected a mapping from the detector's classes, or its file")
    if not isinstance(content, Mapping):
        raise ValueError(f"{source} holds {kind_of(content)}, expected an object: the detector's class to the set's")
    return {name: _target(name, target, source) for name, target in content.items()}


def _target(name: Any, target: Any, source: str) -> Any:
    names = [] if target is None else [target] if isinstance(target, str) else target
    good = target is None or (isinstance(names, Sequence) and names)
    if not good or not all(isinstance(each, str) for each in (name, *names)):
        raise ValueError(f"{source}: {name!r}: {target!r}, expected a name, a list of names, or null")
    return target if target is None or isinstance(target, str) else list(target)


def _read(given: str | os.PathLike[str]) -> Any:
    shipped = {path.stem: path for path in MAPPINGS.glob("*.json")}
    path = Path(given)
    hidden = str(given) in shipped and not path.is_file()
    if not path.exists() and not hidden:
        raise FileNotFoundError(
            f"no mapping of classes {given}: expected a file, or one of {', '.join(sorted(shipped))}"
        )
    path = shipped[str(given)] if hidden else path
    if path.suffix.lower() not in (".yaml", ".yml"):
        return read_json(path)
    require("yaml", f"{path}, a mapping in YAML,", "mm")
    import yaml

    try:
        text = read_text(path)
        node = yaml.compose(text, yaml.SafeLoader)
        keys = [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(f"it has the key {twice[0]!r} twice")
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"{path} is not YAML: {one_line(error)}") from error


def _by_mapping(
    mapping: Mapped, detector: Sequence[str], annotated: Sequence[str], source: str
) -> dict[str, tuple[str, ...]]:
    """The set's names by the detector's, as a mapping has them in any spelling."""
    found: dict[str, tuple[str, ...]] = {}
    for name, target in mapping.items():
        names = [] if target is None else [target] if isinstance(target, str) else target
        own = _spelled_as(name, detector, "the detector")
        if own in found:
            raise ValueError(f"classes: {name!r} is {own!r}, which the mapping has already")
        found[own] = tuple(dict.fromkeys(_spelled_as(each, annotated, source) for each in names))
    return found


def _spelled_as(name: str, names: Sequence[str], side: str) -> str:
    alike = [name] if name in names else [each for each in names if _letters(each) == _letters(name)]
    if len(alike) == 1:
        return alike[0]
    by_letters = {_letters(each): each for each in names}
    near = [by_letters[each] for each in difflib.get_close_matches(_letters(name), by_letters, _NEAR)]
    meant = f"is {' or '.join(map(repr, near))} meant?" if near else f"it has {_listed(names)}"
    raise ValueError(f"classes: {side} has no class {name!r}; {meant}")


def _by_meaning(detector: Sequence[str], annotated: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The set's names by the detector's, for names of one meaning."""
    found = {}
    for name in detector:
        own = [each for each in detector if _meaning(each) == _meaning(name)]
        there = [each for each in annotated if _meaning(each) == _meaning(name)]
        if len(own) > 1 and len(there) > 1:
            there = [each for each in there if _letters(each) == _letters(name)]
        if there:
            found[name] = tuple(there)
    return found


def _joined(
    detector: Sequence[str], annotated: Sequence[str], targets: Mapping[str, Sequence[str]]
) -> tuple[SharedClass, ...]:
    """The shared classes: all that a chain of matches connects is one class."""
    groups: list[tuple[set[str], set[str]]] = []
    for name in detector:
        own, there = {name}, set(targets.get(name, ()))
        if there:
            linked = [each for each in groups if each[1] & there]
            own, there = own.union(*(each[0] for each in linked)), there.union(*(each[1] for each in linked))
            groups = [each for each in groups if each not in linked] + [(own, there)]
    ordered = [([n for n in detector if n in own], [n for n in annotated if n in there]) for own, there in groups]
    ordered.sort(key=lambda pair: detector.index(pair[0][0]))
    return tuple(
        SharedClass(there[0] if len(there) == 1 else "/".join(own), tuple(own), tuple(there)) for own, there in ordered
    )


def _letters(name: str) -> str:
    """A name without case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", name).casefold()


_ROWS = {_letters(name): row[0] for row in SYNONYMS for name in row}


def _meaning(name: str) -> str:
    letters = _letters(name)
    return _ROWS.get(letters, letters)


def _unlike(unknown: Sequence[str], ignored: Sequence[str], source: str) -> str:
    lacking = [f"the detector has no {_listed(unknown)}"] * bool(unknown)
    lacking += [f"the set has no {_listed(ignored)}"] * bool(ignored)
    return f"{source}: its classes are not the detector's: {', '.join(lacking)}"


def _left_out(names: Sequence[str], whose: str, all_of_it: Sequence[str], why: str) -> list[str]:
    if not names:
        return []
    which = f"{len(names)} of {whose}'s {len(all_of_it)} classes, which {why}"
    return [f"left out of the scores: {which} ({_listed(names, _TOLD)})"]


def _told(what: str, classes: Iterable[SharedClass]) -> list[str]:
    pairs = [f"{' and '.join(each.detector)} is {' and '.join(each.annotated)}" for each in classes]
    return [f"{what}: {_listed(pairs, _TOLD)}"] if pairs else []


def _listed(names: Collection[str], most: int = _NAMED) -> str:
    shown = ", ".join(list(names)[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
