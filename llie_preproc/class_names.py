"""Matching the classes of a detector to those of an annotated set, by name and never by position.

A class keeps its meaning under several names: COCO's ``motorcycle`` is ExDark's ``Motorbike`` and VisDrone's ``motor``.
Names match if they are equal, if they differ only in case, spaces, hyphens and underscores, or if a table of synonyms
has both (:mod:`llie_preproc.class_synonyms`). A mapping says the rest. Where a class of the detector stands for several
classes of the set, these are measured as one, because no score can tell them apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .class_mapping_files import Mapped, shipped_like
from .class_synonyms import alike, letters, match_by_name
from .errors import nearest

MERGED = "llie_merged"
"""Key of a category that :meth:`ClassMatch.truth` has merged: the names of the classes that it was made of."""

_NAMED, _TOLD = 5, 10


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
        dropped: Names of the detector's classes that the mapping leaves out.
        passed_over: Names of the set's classes that would match by name alone, but not with the mapping.

    Examples:
        >>> match = match_classes(["person", "dog", "car"], ["car", "pedestrian", "people", "van"], "set.json")
        >>> [each.name for each in match.shared], match.ignored, match.unknown
        (['person', 'car'], ['dog'], ['van'])
    """

    detector: tuple[str, ...]
    annotated: tuple[str, ...]
    shared: tuple[SharedClass, ...]
    dropped: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()

    @property
    def found_as(self) -> dict[str, str | None]:
        """The name in scores for each class of the detector; None for a class whose detections do not count.

        Examples:
            >>> match_classes(["person", "dog"], ["People"], "set.json").found_as
            {'person': 'People', 'dog': None}
        """
        names = {name: each.name for each in self.shared for name in each.detector}
        return {name: names.get(name) for name in self.detector}

    @property
    def ignored(self) -> list[str]:
        """Classes of the detector whose detections do not count."""
        return [name for name, found in self.found_as.items() if found is None]

    @property
    def unknown(self) -> list[str]:
        """Classes of the set that are not measured."""
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
        renamed = [each for each in one if letters(each.detector[0]) != letters(each.annotated[0])]
        merged = [each for each in self.shared if each not in one]
        return [
            *_told("classes with other names", renamed),
            *_told("classes that count as one", merged),
            *_left_out(self._lacking, "the set", self.annotated, "which the detector does not know"),
            *_left_out(self.passed_over, "the set", self.annotated, "which the mapping leaves without a match"),
        ]

    @property
    def ignored_note(self) -> list[str]:
        """Sentences on the classes of the detector whose detections do not count; empty if there are none.

        Examples:
            >>> match_classes(["person", "dog", "cat"], ["person", "cat"], "set.json", {"cat": None}).ignored_note
            ["left out of the scores: 1 of the detector's 3 classes, which the set does not have (dog)", "left out of \
the scores: 1 of the detector's 3 classes, which the mapping leaves out (cat)"]
        """
        return [
            *_left_out(self._absent, "the detector", self.detector, "which the set does not have"),
            *_left_out(self.dropped, "the detector", self.detector, "which the mapping leaves out"),
        ]

    @property
    def _lacking(self) -> list[str]:
        """Classes of the set that the detector does not have, whatever the mapping says."""
        return [name for name in self.unknown if name not in self.passed_over]

    @property
    def _absent(self) -> list[str]:
        """Classes of the detector that the set does not have, whatever the mapping says."""
        return [name for name in self.ignored if name not in self.dropped]

    def truth(self, truth: Mapping[str, Any]) -> dict[str, Any]:
        """Copy checked COCO annotations with the shared classes alone, merged and named as in scores.

        A merged class has the id of its first class, and the names of all under :data:`MERGED`.

        Raises:
            ValueError: :data:`MERGED` of a category is something else than this method writes.

        Examples:
            >>> kinds = [dict(id=4, name="people"), dict(id=5, name="pedestrian")]
            >>> box = dict(id=1, image_id=1, category_id=5, bbox=[0, 0, 9, 9], area=81)
            >>> truth = dict(images=[dict(id=1)], categories=kinds, annotations=[box])
            >>> merged = match_classes(["person"], ["people", "pedestrian"], "set.json").truth(truth)
            >>> merged["categories"], merged["annotations"][0]["category_id"]
            ([{'id': 4, 'name': 'person', 'llie_merged': ['people', 'pedestrian']}], 4)
        """
        by_name = {each["name"]: each for each in truth["categories"]}
        categories, new = [], {}
        for each in self.shared:
            first = by_name[each.annotated[0]]
            # If a class was merged before, the names that it was made of are kept, so that a metric recognises them.
            names = [name for old in each.annotated for name in merged_names(by_name[old])]
            merged = {MERGED: names} if len(each.annotated) > 1 else {}
            categories.append(dict(first, name=each.name) | merged)
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
        """The detector's label for each class of the set that the detector knows.

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
            whole: Whether the detector must know all classes of the set. If not, the set may have further classes, as
                long as the detector has none that the set lacks.
        """
        if self.unknown and (self.ignored or whole):
            raise ValueError(self._unlike(source))

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

    def require_shared(self, source: str) -> None:
        """Raise ``ValueError`` if the two share no class.

        Args:
            source: Name of the annotations in messages.
        """
        if not self.shared:
            raise ValueError(self._unlike(source))

    def _unlike(self, source: str) -> str:
        sides = {
            "the detector has no": self._lacking,
            "the set has no": self._absent,
            "the mapping leaves out": self.dropped,
        }
        lacking = ", ".join(f"{what} {_listed(names)}" for what, names in sides.items() if names)
        return f"{source}: its classes are not the detector's: {lacking}"


def match_classes(
    detector: Sequence[str], annotated: Sequence[str], source: str, mapping: Mapped | None = None
) -> ClassMatch:
    """Match a detector's classes to those of a set.

    A class of the detector that the mapping names is matched as the mapping says. The others are matched by name, also
    to classes that the mapping leads to. There are three steps, and each matches only what is left over: equal names,
    names that differ only in case and separators, and synonyms. If one side has several names of one class in a step
    and the other side has one name, all of them match; if both sides have several, none does.

    Args:
        detector: Names of the detector's classes in the order of its labels.
        annotated: Names of the annotated classes, in any order.
        source: Name of the annotations in messages.
        mapping: Mapping from some of the detector's classes.

    Raises:
        ValueError: The two share no class; the detector has two classes of one name; the mapping has a name that the
            detector or the set lacks, or something else than a name, names or None; or two measured classes would have
            one name.

    Examples:
        >>> match_classes(["motorcycle", "cup"], ["Cup", "Motorbike"], "set.json").found_as
        {'motorcycle': 'Motorbike', 'cup': 'Cup'}
        >>> match_classes(["car", "bus"], ["vehicle"], "set.json", {"car": "vehicle", "bus": "vehicle"}).found_as
        {'car': 'vehicle', 'bus': 'vehicle'}
        >>> match_classes(["person"], ["face"], "faces.json")
        Traceback (most recent call last):
        ValueError: faces.json: its classes are not the detector's: the detector has no face, the set has no person
    """
    if repeated := next((name for name in detector if list(detector).count(name) > 1), None):
        # Labels are found by name, so that every label after the second of them would stand for another class.
        raise ValueError(f"{source}: the detector has the class {repeated!r} twice, expected names that differ")
    mapped = _by_mapping(mapping or {}, detector, annotated, source)
    targets = mapped | match_by_name([name for name in detector if name not in mapped], annotated)
    shared = _joined(detector, annotated, targets)
    known = {name for names in targets.values() for name in names}
    by_name = {name for names in match_by_name(detector, annotated).values() for name in names} if mapped else set()
    match = ClassMatch(
        tuple(detector),
        tuple(annotated),
        shared,
        dropped=tuple(name for name in detector if mapped.get(name) == ()),
        passed_over=tuple(name for name in annotated if name in by_name - known),
    )
    match.require_shared(source)
    names = [each.name for each in match.shared]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{source}: two classes would be measured as {twice[0]!r}: change the mapping")
    return match


def merged_names(category: Mapping[str, Any]) -> list[str]:
    """Names of the classes that a category was made of by :meth:`ClassMatch.truth`; its own name if it was not merged.

    Raises:
        ValueError: :data:`MERGED` of the category is something else than this project writes.

    Examples:
        >>> merged_names(dict(name="person", llie_merged=["people", "pedestrian"])), merged_names(dict(name="car"))
        (['people', 'pedestrian'], ['car'])
    """
    names = category.get(MERGED, [category["name"]])
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"the category {category['name']!r} has {MERGED} {names!r}, expected a list of names")
    return names


def _by_mapping(
    mapping: Mapped, detector: Sequence[str], annotated: Sequence[str], source: str
) -> dict[str, tuple[str, ...]]:
    """Read a mapping, whose names may be in any spelling, to the set's names by the detector's names."""
    found: dict[str, tuple[str, ...]] = {}
    targets = {name: [target] if isinstance(target, str) else target or [] for name, target in mapping.items()}
    try:
        for name, names in targets.items():
            own = _spelled_as(name, detector, "the detector")
            if own in found:
                raise ValueError(f"classes: {name!r} is {own!r}, which the mapping has already")
            found[own] = tuple(dict.fromkeys(_spelled_as(each, annotated, source) for each in names))
    except _UnknownClassError as error:
        unknown, meant = error.args
        raise ValueError(f"{unknown}; {_wrong_mapping(mapping, targets, detector, annotated) or meant}") from None
    return found


class _UnknownClassError(ValueError):
    """A mapping has a name that the detector or the set lacks. Arguments: the message, and what may be meant."""


def _wrong_mapping(
    mapping: Mapped, targets: Mapping[str, Sequence[str]], detector: Sequence[str], annotated: Sequence[str]
) -> str:
    """Explain a mapping with an unknown name: it is reversed, or shipped for another pair; empty if neither."""
    if shipped := shipped_like(mapping):
        return shipped
    values = [name for names in targets.values() for name in names]
    reversed_ = all(alike(name, annotated) for name in targets) and all(alike(name, detector) for name in values)
    return "the mapping is reversed: it must lead from the detector's classes to the set's" if reversed_ else ""


def _spelled_as(name: str, names: Sequence[str], side: str) -> str:
    found = alike(name, names)
    if len(found) == 1:
        return found[0]
    if found:
        meant = " or ".join(map(repr, found))
        raise ValueError(f"classes: {name!r} may be {meant} of {side}: write the name exactly as {side} has it")
    meant = nearest(name, names, letters) or f"it has {_listed(names)}"
    raise _UnknownClassError(f"classes: {side} has no class {name!r}", meant)


def _joined(
    detector: Sequence[str], annotated: Sequence[str], targets: Mapping[str, Sequence[str]]
) -> tuple[SharedClass, ...]:
    """The shared classes. Classes that a chain of matches connects become one."""
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


def _left_out(names: Sequence[str], whose: str, all_of_it: Sequence[str], why: str) -> list[str]:
    if not names:
        return []
    count = f"{len(names)} of {whose}'s {len(all_of_it)} classes"
    return [f"left out of the scores: {count}, {why} ({_listed(names, _TOLD)})"]


def _told(what: str, classes: Iterable[SharedClass]) -> list[str]:
    pairs = [
        f"{' and '.join(each.detector)} {'is' if len(each.detector) == 1 else 'are'} {' and '.join(each.annotated)}"
        for each in classes
    ]
    return [f"{what}: {_listed(pairs, _TOLD)}"] if pairs else []


def _listed(names: Collection[str], most: int = _NAMED) -> str:
    shown = ", ".join(list(names)[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
