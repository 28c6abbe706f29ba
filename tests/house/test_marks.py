"""``tests/support/marks.py`` chooses the cases of each test for the fast suite, and sorts long files first."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.marks import leave_examples, longest_first, require_lasting_names


class Case(pytest.Item):
    """A test case that does nothing."""

    def runtest(self) -> None:
        pass


def cases(request: pytest.FixtureRequest, name: str, number: int, examples: int | None, slow: int = 0) -> list[Case]:
    made = [Case.from_parent(request.session, name=f"{name}[{index}]") for index in range(number)]
    for index, case in enumerate(made):
        if examples is not None:
            case.add_marker(pytest.mark.examples(examples))
        if index < slow:
            case.add_marker("slow")
    return made


def marked(items: list[Case], name: str) -> list[str]:
    return [item.name for item in items if item.get_closest_marker(name)]


@given(number=st.integers(1, 30), examples=st.integers(1, 12), slow=st.integers(0, 3))
def test_the_fast_suite_keeps_the_given_number_of_cases(
    request: pytest.FixtureRequest, number: int, examples: int, slow: int
) -> None:
    items = [*cases(request, "some", number, examples, slow), *cases(request, "all", 5, None)]
    leave_examples(items)
    quick = number - min(slow, number)
    assert len(marked(items, "further")) == quick - min(examples, quick)
    assert not {*marked(items, "further")} & {*marked(items, "slow")}
    assert not [name for name in marked(items, "further") if name.startswith("all")]


def test_the_kept_cases_depend_on_the_name_of_the_test(request: pytest.FixtureRequest) -> None:
    drawn: Counter[tuple[str, ...]] = Counter()
    for name in ("one", "one", "other"):
        items = cases(request, name, 40, 10)
        leave_examples(items)
        drawn[tuple(each.partition("[")[2] for each in marked(items, "further"))] += 1
    assert sorted(drawn.values()) == [1, 2]


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([None, 3, 40])), max_size=12))
def test_files_are_kept_together_and_sorted_by_time(
    request: pytest.FixtureRequest, given: list[tuple[int, int | None]]
) -> None:
    items = []
    for number, (file, seconds) in enumerate(given):
        item = Case.from_parent(request.session, name=str(number))
        item.path = Path(f"test_{file}.py")
        if seconds:
            item.add_marker(pytest.mark.slow(seconds))
        items.append(item)
    longest_first(items)
    taken: dict[Path, float] = {}
    for item in items:
        assert item.path not in list(taken)[:-1]
        mark = item.get_closest_marker("slow")
        taken[item.path] = taken.get(item.path, 0) + (mark.args[0] if mark else 0.1)
        assert int(item.name) == min(int(each.name) for each in items[items.index(item) :] if each.path == item.path)
    assert list(taken.values()) == sorted(taken.values(), reverse=True)


def test_a_name_that_holds_an_address_is_refused(request: pytest.FixtureRequest) -> None:
    for name in ("levels[0x80]", "of[psenet]"):
        require_lasting_names([Case.from_parent(request.session, name=name)])
    with pytest.raises(ValueError, match=r"need ids: .*object at"):
        require_lasting_names([Case.from_parent(request.session, name=f"of[{object()}]")])
