"""``walk`` and ``nodes`` meet each value of a config once, with the keys that lead to it."""

from __future__ import annotations

import json
from functools import reduce
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llie_preproc.config_nodes import nodes, type_name, walk

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
CONFIGS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


def at(config: Any, path: tuple[str, ...]) -> Any:
    return reduce(lambda value, key: value[key if isinstance(value, dict) else int(key)], path, config)


@given(CONFIGS)
def test_the_keys_lead_to_the_value(config: Any) -> None:
    met = list(walk(config))
    assert met[0] == ((), config)
    assert all(at(config, path) is value for path, value in met)
    assert len({path for path, _ in met}) == len(met)
    # A container comes before its values.
    assert all(path[:-1] in [before for before, _ in met[:number]] for number, (path, _) in enumerate(met) if path)


@given(CONFIGS)
def test_every_dict_is_met_once(config: Any) -> None:
    """The reference is JSON's reader, which reports each object once."""
    ended: list[dict] = []
    json.loads(json.dumps(config), object_hook=lambda node: ended.append(node) or node)
    assert sorted(map(repr, nodes(config))) == sorted(map(repr, ended))


def test_tuples_and_values_outside_of_json_are_met() -> None:
    leaf = object()
    assert [path for path, value in walk(dict(a=([leaf],))) if value is leaf] == [("a", "0", "0")]
    assert [type_name(node) for node in nodes(dict(a=(dict(type=dict), [[dict(type="mmdet.Pad")]])))] == [
        "",
        "dict",
        "Pad",
    ]


def test_a_dict_may_be_changed_when_it_is_met() -> None:
    config = dict(model=dict(type="Old", inner=dict(type="Gone")))
    for node in nodes(config):
        if node.get("type") == "Old":
            node.pop("inner")
            node["new"] = dict(type="New")
    assert [type_name(node) for node in nodes(config)] == ["", "Old", "New"]
    assert config == dict(model=dict(type="Old", new=dict(type="New")))
