"""Mappings of classes are read from files and by name; an error about the content of a file names the file."""

import json

import pytest

from llie_preproc.class_mapping_files import MAPPINGS, read_mapping


@pytest.mark.parametrize("target", [3, [], [None], {"a": 1}, [3], True])
def test_a_mapping_to_something_else_than_names_is_refused(tmp_path, target):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({"person": target}))
    for form in (path, str(path), {"person": target}):
        with pytest.raises(ValueError, match=r"'person': .*, expected a name, a list of names, or null"):
            read_mapping(form)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "[1]", "holds a list, expected an object"),
        ("a.json", "{", "is not JSON"),
        ("a.json", '{"a": "b", "a": "c"}', "'a' twice"),
        ("a.yaml", "a: [b", "is not YAML"),
        ("a.yaml", "a: !!python/object/apply:os.getcwd []", "is not YAML"),
        ("a.yaml", "no: b", "expected a name"),
        ("a.yaml", "- a", "holds a list, expected an object"),
        ("a.yaml", "a: b\nc: d\na: e", "is not YAML: it has the key 'a' twice"),
        ("a.yaml", "&k a: b\n*k : c", "is not YAML: it has the key 'a' twice"),
        ("a.yaml", "a: !!int b", "is not YAML"),
        ("a.yaml", "a: !!bool b", "is not YAML"),
        ("a.yaml", "a: !!timestamp b", "is not YAML"),
        ("a.yaml", "a: !!set {b}", "expected a name"),
        ("a.yaml", "? [a]\n: b", "is not YAML"),
        ("a.yaml", "a: " + "[" * 3000, "is not YAML"),
    ],
)
def test_damaged_files_of_mappings_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_mapping(tmp_path / name)


def test_a_mapping_is_a_file_or_the_name_of_a_shipped_one_which_no_folder_hides(tmp_path, monkeypatch):
    (tmp_path / "own.yml").write_text("person: [pedestrian, people]\ndog:\n")
    assert read_mapping(tmp_path / "own.yml") == {"person": ["pedestrian", "people"], "dog": None}
    assert read_mapping(None) == {}
    for path in MAPPINGS.iterdir():
        assert read_mapping(path.stem) == json.loads(path.read_text())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coco-exdark").mkdir()
    assert read_mapping("coco-exdark")["person"] == "People"
    (tmp_path / "coco-visdrone").write_text('{"person": "people"}')
    assert read_mapping("coco-visdrone") == {"person": "people"}
    with pytest.raises(FileNotFoundError, match=r"no mapping of classes coco-nothing: .*coco-exdark, coco-visdrone"):
        read_mapping("coco-nothing")
    with pytest.raises(ValueError, match="classes is a tuple"):
        read_mapping(("a", "b"))
