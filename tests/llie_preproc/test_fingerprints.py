"""``fingerprint`` differs for networks of different code, settings or weights, and refuses what it cannot read."""

from __future__ import annotations

import enum
import functools
import importlib
import json
import logging
import pathlib
import re
import subprocess
import sys
import textwrap
import threading
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from llie_preproc.enhancers import Capabilities, Enhancer
from llie_preproc.enhancers.build import build_enhancer
from llie_preproc.enhancers.names import enhancer_classes
from llie_preproc.fingerprints import Digest, fingerprint
from tests.support.networks import SMALL
from tests.support.places import ROOT

MODULE = """
from llie_preproc.enhancers import Capabilities, Enhancer
{imports}
{before}
class Mine({base}):
    capabilities = Capabilities(halo=0)
    def forward(self, image):
        return {result}
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes modules, imports them anew, and returns the fingerprint of the last one's ``Mine``."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def build(**texts: str) -> str:
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        for name in texts:
            sys.modules.pop(name, None)
        return fingerprint(importlib.import_module(list(texts)[-1]).Mine())

    yield build
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def mine(result: str = "image", imports: str = "", before: str = "", base: str = "Enhancer") -> str:
    return MODULE.format(imports=imports, before=before, base=base, result=result)


def test_a_changed_class_changes_the_fingerprint(written):
    assert written(mine=mine("image * 2")) == written(mine=mine("image * 2")) != written(mine=mine("image * 4"))


def test_a_changed_function_of_the_same_file_counts(written):
    first, second = (mine("helped(image)", before=f"def helped(x): return x * {n}") for n in (2, 4))
    assert written(mine=first) != written(mine=second)


@pytest.mark.parametrize("imports", ["from near import helped", "import near; helped = near.helped"])
def test_code_that_a_users_file_imports_counts(written, imports):
    own, found = mine("helped(image)", imports), []
    for factor in (2, 2, 4):
        near = "import numpy, torch\nfrom far import factor\ndef helped(x): return x * factor"
        found.append(written(far=f"factor = {factor}", near=near, mine=own))
    assert found[0] == found[1] != found[2]


def test_base_classes_count(written):
    own = mine("super().forward(image)", "from near import Near", base="Near")
    assert written(near=mine("image * 2") + "Near = Mine", mine=own) != written(
        near=mine("image * 4") + "Near = Mine", mine=own
    )


@pytest.mark.parametrize("imports", ["from near import helped", "import near; helped = near.helped"])
def test_code_that_a_function_imports_counts(written, imports):
    own, found = (
        mine(f"self.help(image)\n    def help(self, image):\n        {imports}\n        return helped(image)"),
        [],
    )
    for factor in (2, 2, 4):
        found.append(written(near=f"def helped(x): return x * {factor}", mine=own))
    assert found[0] == found[1] != found[2]


EDITS = {
    "method": ("mine", "image * 2", "image * 4"),
    "constant of the module": ("mine", "GAIN = [2]", "GAIN = [4]"),
    "default": ("mine", "n=2", "n=4"),
    "what is imported": ("near", "x * 2", "x * 4"),
    "what is imported later": ("late", "x * 2", "x * 4"),
    "constant of what is imported": ("near", "FACTOR = 2", "FACTOR = 4"),
}
NEAR = "FACTOR = 2\n@property\ndef other(x): return 1\ndef helped(x): return x * 2"
OWN = "GAIN = [2]\ndef own(n=2): return n"


def editable(written, tmp_path):
    late = "\n    def late(self, image):\n        import late\n        return late.helped(image)"
    written(late="def helped(x): return x * 2", near=NEAR, mine=mine("image * 2" + late, "import near", OWN))
    importlib.import_module("late")
    return sys.modules["mine"].Mine()


@pytest.mark.parametrize("edit", EDITS)
def test_a_file_that_is_edited_after_its_import_is_refused(written, tmp_path, edit):
    network = editable(written, tmp_path)
    name, old, new = EDITS[edit]
    path = tmp_path / f"{name}.py"
    before = fingerprint(network)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=rf"{name}\.py was edited after its import.*restart the process"):
        fingerprint(network)
    path.write_text(path.read_text().replace(new, old))
    assert fingerprint(network) == before


def test_a_module_imported_later_is_compared_by_its_functions(written, tmp_path):
    network = editable(written, tmp_path)
    # Only the class statement of a network or a fingerprint records sources: neither comes between import and edit.
    sys.modules.pop("late")
    late = tmp_path / "late.py"
    late.write_text(
        "import functools\n@functools.cache\ndef helped(x): return x * 3\nclass A:\n    f = lambda s: {1, 2}"
    )
    importlib.invalidate_caches()
    importlib.import_module("late")
    late.write_text("# Longer.\n" + late.read_text())
    fingerprint(network)
    sys.modules.pop("late")
    importlib.import_module("late")
    late.write_text(late.read_text().replace("{1, 2}", "{1, 3}"))
    with pytest.raises(ValueError, match="was edited after its import"):
        fingerprint(network)


def test_comments_do_not_count_as_an_edit_and_a_reload_ends_one(written, tmp_path):
    network = editable(written, tmp_path)
    path = tmp_path / "mine.py"
    path.write_text("# A comment.\n\n" + path.read_text())
    fingerprint(network)
    path.write_text(path.read_text().replace("image * 2", "image * 4"))
    importlib.invalidate_caches()
    assert fingerprint(importlib.reload(sys.modules["mine"]).Mine())


def without_weights(name: str) -> Enhancer:
    """An enhancer whose weights are all zero."""
    network = build_enhancer({"type": name, **SMALL.get(name, {})}, checkpoint=None)
    network.load_state_dict({key: torch.zeros_like(value) for key, value in network.state_dict().items()})
    return network


@pytest.fixture(scope="module")
def another_process() -> subprocess.CompletedProcess:
    """A process that prints the fingerprint of every enhancer, then asks for that of a class of its command line."""
    code = "import json\n"
    code += "from tests.llie_preproc.test_fingerprints import enhancer_classes, fingerprint, without_weights\n"
    code += "print(json.dumps({name: fingerprint(without_weights(name)) for name in enhancer_classes()}))\n"
    return subprocess.run(
        [sys.executable, "-c", f"{code}{mine()}fingerprint(Mine())"],
        capture_output=True,
        cwd=ROOT,
        text=True,
        timeout=300,
    )


def test_a_class_from_the_command_line_is_refused(another_process):
    assert "__main__.Mine has no source file" in another_process.stderr


@pytest.mark.examples(4)
@pytest.mark.parametrize("name", enhancer_classes())
def test_every_enhancer_has_the_same_fingerprint_in_another_process(name, another_process):
    assert fingerprint(without_weights(name)) == json.loads(another_process.stdout)[name]


@pytest.mark.parametrize("definition", ["exec", "type"])
def test_a_class_without_a_source_file_is_refused(definition):
    if definition == "exec":
        names: dict = {"__name__": __name__}
        exec(mine(), names)  # noqa: S102
        kind = names["Mine"]
    else:
        kind = type("Mine", (Enhancer,), {"forward": lambda self, image: image})
    with pytest.raises(ValueError, match="Mine has no source file"):
        fingerprint(kind())


class Holder(Enhancer):
    """An enhancer with a setting."""

    capabilities = Capabilities()

    def __init__(self, setting):
        super().__init__()
        self.setting = setting

    def forward(self, image):
        return image


class Colour(enum.Enum):
    RED, BLUE = 1, 2


@dataclass
class Options:
    gamma: float = 1.0
    curve: object = None


class Plain:
    def __init__(self, value):
        self.value = value


class Slotted:
    __slots__ = ("__private", "value")

    def __init__(self, value):
        self.value, self.__private = value, value


Point = namedtuple("Point", "x y")


def power(x, gamma=1.0):
    return x**gamma


def made(gamma):
    return lambda x: x**gamma


def changed_array(seed):
    values = np.arange(5000.0)
    values[2500] += seed
    return values


def cyclic(value):
    holder = Plain(value)
    holder.itself = [holder]
    return holder


# A maker of each kind of setting: equal numbers give equal contents, different numbers different ones.
SETTINGS = {
    "number": float,
    "int and float": lambda n: 1 if n else 1.0,
    "text": str,
    "array": changed_array,
    "array of objects": lambda n: np.array([{"a": n}, None], dtype=object),
    "NumPy number": np.float32,
    "tensor": lambda n: torch.from_numpy(changed_array(n)),
    "bfloat16": lambda n: torch.full((3000,), n, dtype=torch.bfloat16),
    "shape": lambda n: np.zeros((2, 3) if n else (3, 2)),
    "dtype": lambda n: torch.float16 if n else torch.bfloat16,
    "list": lambda n: [1, [changed_array(n)]],
    "tuple": lambda n: (1, n),
    "named tuple": lambda n: Point(0, n),
    "dict": lambda n: {"a": {"b": changed_array(n)}},
    "order": lambda n: OrderedDict([("a", 1), ("b", 2)][:: -1 if n else 1]),
    "set": lambda n: {"a", "b", str(n)},
    "function": lambda n: functools.partial(power, gamma=n),
    "closure": made,
    "lambda": lambda n: (lambda x: 2 * x) if n else (lambda x: 3 * x),
    "method": lambda n: Plain(n).__eq__,
    "class": lambda n: nn.ReLU if n else nn.GELU,
    "torch function": lambda n: torch.relu if n else torch.tanh,
    "NumPy function": lambda n: np.clip if n else np.minimum,
    "enum": lambda n: Colour.RED if n else Colour.BLUE,
    "path": lambda n: pathlib.Path(str(n)),
    "pattern": lambda n: re.compile(str(n)),
    "generator": lambda n: torch.Generator().manual_seed(n),
    "dataclass": lambda n: Options(curve=changed_array(n)),
    "object": lambda n: Plain(changed_array(n)),
    "slots": Slotted,
    "cycle": cyclic,
    "network in a list": lambda n: [nn.Linear(2, 3 + n)],
    "weights in a list": lambda n: [nn.utils.skip_init(nn.Linear, 2, 2).requires_grad_(False).apply(filled(n))],
}


def filled(number):
    def fill(module):
        for parameter in module.parameters():
            parameter.fill_(number)

    return fill


@pytest.mark.examples(10)
@pytest.mark.parametrize("kind", [kind for kind in SETTINGS if kind not in ("method", "network in a list")])
def test_settings_are_compared_by_content(kind):
    digests = []
    for number in (0, 0, 1):
        digests.append(fingerprint(Holder(SETTINGS[kind](number))))
    assert digests[0] == digests[1] != digests[2]


def test_private_settings_and_the_network_in_a_list_count():
    holders = [Holder(0) for _ in range(2)]
    holders[1]._gain = 2
    assert fingerprint(holders[0]) != fingerprint(holders[1])
    torch.manual_seed(0)
    layers = [nn.Linear(2, 3), nn.Linear(2, 4)]
    assert fingerprint(Holder([layers[0]])) != fingerprint(Holder([layers[1]]))


@pytest.mark.parametrize(
    "setting", [threading.Lock(), iter([1]), {"a": np.random.default_rng(0)}], ids=["lock", "iterator", "generator"]
)
def test_settings_with_hidden_content_are_refused_by_name(setting):
    with pytest.raises(ValueError, match=r"Holder\.setting.*content cannot be seen"):
        fingerprint(Holder(setting))


def test_loggers_do_not_count_by_their_handlers():
    assert fingerprint(Holder(logging.getLogger("a"))) == fingerprint(Holder(logging.getLogger("a")))


def test_buffers_that_are_not_saved_and_hooks_count():
    digests = []
    for value, hook in ((1.0, None), (2.0, None), (1.0, power)):
        network = Holder(0)
        network.register_buffer("table", torch.full((2000,), value), persistent=False)
        if hook:
            network.register_forward_hook(hook)
        digests.append(fingerprint(network))
    assert len(set(digests)) == 3


def test_scripted_parts_are_compared_by_their_code():
    @torch.jit.script
    def double(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @torch.jit.script
    def triple(x: torch.Tensor) -> torch.Tensor:
        return 3 * x

    assert fingerprint(Holder(double)) != fingerprint(Holder(triple))


def test_weights_count_and_the_mode_does_not():
    networks = [without_weights("PSENet").train(), without_weights("PSENet").eval(), build_enhancer("PSENet", None)]
    assert fingerprint(networks[0]) == fingerprint(networks[1]) != fingerprint(networks[2])


def test_containers_of_the_same_text_differ():
    digests = set()
    for value in (["ab", "c"], ["a", "bc"], [["ab"], "c"], ("ab", "c"), "abc", b"abc", ["ab", b"c"]):
        digest = Digest()
        digest.add(value)
        digests.add(digest.hexdigest())
    assert len(digests) == 7
