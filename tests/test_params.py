from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manet_lib.params import CLASSES, MODELS, Params, UserError, load_params, some_of, validate
from manet_lib.paths import project_root
from manet_lib.workflow.parameters import READ_BY, fingerprint, view

# Sections 2.2, 2.3, 4.1 and 4.2 of the paper.
RECIPE = {
    "image_size": 512,
    "split": "image",
    "val_fraction": 0.1,
    "test_fraction": 0.1,
    "seg_test_fraction": 0.1,
    "normalisation": "min_max",
    "seg_epochs": 50,
    "seg_batch_size": 64,
    "seg_learning_rate": 2e-4,
    "seg_weight_decay": 1e-5,
    "seg_rotation": 10,
    "trials": 3,
    "epochs": 200,
    "batch_size": 64,
    "learning_rate": 0.01,
    "momentum": 0.9,
    "rotation": 30,
    "brightness": 0.2,
    "contrast": 0.2,
    "shift": 0.0625,
    "scale": 0.2,
    "augment_probability": 0.5,
    "classes": ["normal", "covid19", "tb", "bp", "vp"],
    "pretrained": "none",
    "published": False,
}
NOT_A_STEP = {
    "profile",
    "published",
    "figure_dpi",
}  # of the run as a whole, and of the tables and figures
PROFILES = sorted(path.stem for path in (project_root() / "params").glob("*.yaml"))


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(text: str | bytes) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(("name", "value"), RECIPE.items())
def test_default_is_the_papers(name: str, value: object) -> None:
    assert getattr(Params(profile="x"), name) == value


@pytest.mark.parametrize("profile", PROFILES)
class TestParameterFile:
    def test_is_valid_and_named_after_its_profile(self, profile: str) -> None:
        assert load_params(project_root() / "params" / f"{profile}.yaml").profile == profile

    def test_every_key_has_a_comment(self, profile: str) -> None:
        lines = (project_root() / "params" / f"{profile}.yaml").read_text().splitlines()
        keys = [line for line in lines if line and not line.startswith("#")]
        assert keys
        bare = [line for line in keys if not re.fullmatch(r"\w+: .*\S +# \S.*", line)]
        assert bare == []

    def test_writes_numbers_so_that_yaml_reads_numbers(self, profile: str) -> None:
        values = yaml.safe_load((project_root() / "params" / f"{profile}.yaml").read_text())
        texts = {key: value for key, value in values.items() if isinstance(value, str)}
        assert not [key for key, value in texts.items() if re.fullmatch(r"[-+\d.eE]+", value)]


def test_published_setting() -> None:
    params = load_params(project_root() / "params" / "paper.yaml")
    assert (params.image_size, params.devices, params.trials) == (512, 4, 3)
    assert params.models == list(MODELS)
    assert params.published
    differing = {name for name, value in RECIPE.items() if getattr(params, name) != value}
    assert differing == {"published"}


def test_published_setting_shares_its_batches_evenly() -> None:
    params = load_params(project_root() / "params" / "paper.yaml")
    assert params.batch_size // params.devices == 16


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("lerning_rate", "learning_rate"),
        ("batchsize", "batch_size"),
        ("epoch", "epochs"),
        ("Seed", "seed"),
        ("imagesize", "image_size"),
        ("momentun", "momentum"),
        ("max_per_clas", "max_per_class"),
    ],
)
def test_unknown_key_names_the_nearest(written: Any, refused: Any, wrong: str, right: str) -> None:
    with refused("mine.yaml", wrong, repr(right)):
        load_params(written(f"profile: x\n{wrong}: 3\n"))


def test_key_like_no_other_gets_no_hint() -> None:
    with pytest.raises(UserError) as caught:
        validate({"profile": "x", "qqqqqqqq": 1}, "here")
    assert "nearest" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("learning_rate: 1e-4", ("learning_rate", "'1e-4'", "text", "0.0001")),
        ("learning_rate: 125e-6", ("learning_rate", "'125e-6'", "text", "0.000125")),
        ("mirror: localhost/x", ("mirror", "'localhost/x'", "https://")),
        ("data_source: public\nmax_per_class: 2", ("max_per_class: 2", "data_source: manifest", "expected 0")),
        ("epochs: many", ("epochs", "'many'", "integer")),
        ("epochs: 3.5", ("epochs", "3.5", "integer")),
        ("epochs: 3.0", ("epochs", "3.0", "integer")),
        ("epochs: true", ("epochs", "True", "integer")),
        ("learning_rate: true", ("learning_rate", "True", "number")),
        ("learning_rate: .nan", ("learning_rate", "nan", "finite")),
        ("learning_rate: .inf", ("learning_rate", "inf", "finite")),
        ("remask: 1", ("remask", "1", "bool")),
        ("remask: 'yes'", ("remask", "'yes'", "bool")),
        ("profile: ../elsewhere", ("profile", "../elsewhere")),
        ("profile: ''", ("profile",)),
        ("classes: normal", ("classes", "'normal'", "list")),
        ("models: [resnet51]", ("models", "resnet51", "resnet50")),
        ("models: []", ("models", "[]", "1 item")),
        ("models: [vgg16, vgg16]", ("models", "twice")),
        ("epochs: 0", ("epochs", "0", "1")),
        ("test_fraction: 0.5", ("test_fraction", "0.5", "less than")),
        ("augment_probability: 1.5", ("augment_probability", "1.5", "1")),
        ("seed: -1", ("seed", "-1", "0")),
        ("learning_rate: 0", ("learning_rate", "0", "greater")),
        ("split: patients", ("split", "'patients'", "'patient'")),
        ("image_size: 100", ("image_size", "100", "32", "96")),
        ("devices: 3", ("batch_size", "64", "devices", "3")),
        ("seg_batch_size: 6\ndevices: 4", ("seg_batch_size", "6", "devices", "4")),
        ("classes: [normal, sick]", ("classes", "data_source: manifest")),
        ("image_size: 64", ("image_size", "64", "Inception", "96")),
        ("epochs: 3\nepochs: 4", ("epochs", "twice")),
    ],
)
def test_wrong_value_is_one_line(written: Any, refused: Any, line: str, parts: tuple[str, ...]) -> None:
    head = "" if line.startswith("profile") else "profile: x\n"
    with refused("mine.yaml", *parts):
        load_params(written(f"{head}{line}\n"))


@pytest.mark.parametrize("size", range(41, 132, 7))
@pytest.mark.parametrize("model", ["resnet34", "inceptionv3"])
def test_the_image_size_that_a_message_proposes_is_accepted(written: Any, model: str, size: int) -> None:
    lines = f"profile: x\nmodels: [{model}]\nimage_size: "
    with pytest.raises(UserError) as refused:
        load_params(written(f"{lines}{size}\n"))
    proposed = re.search(r"(?:expected|such as) (\d+)", str(refused.value))
    assert proposed
    load_params(written(f"{lines}{proposed[1]}\n"))


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "key: value"),
        ("just words", "key: value"),
        ("- profile: x", "key: value"),
        ("seed: 3", "profile is missing"),
        ("profile: [x", "not valid YAML"),
        ("profile: x\n\tseed: 3", "not valid YAML"),
        ("profile: x\n---\nprofile: y", "not valid YAML"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe\x80", "cannot be read"),
        ("profile: x\x00", "not valid YAML"),
    ],
)
def test_file_of_another_form_is_one_line(written: Any, refused: Any, content: str | bytes, part: str) -> None:
    with refused("mine.yaml", part):
        load_params(written(content))


def test_missing_file_is_one_line(tmp_path: Path, refused: Any) -> None:
    with refused("absent.yaml", tmp_path.name):
        load_params(tmp_path / "absent.yaml")


def test_folder_in_place_of_a_file_is_one_line(tmp_path: Path, refused: Any) -> None:
    with refused(tmp_path.name):
        load_params(tmp_path)


@pytest.mark.parametrize(
    "scalar",
    ["!!int ''", "!!float ''", "!!bool perhaps", "!!timestamp today", "0:" * 300 + "0.5", "0x" + "f" * 5000],
    ids=["int", "float", "bool", "timestamp", "sexagesimal", "hexadecimal"],
)
def test_scalar_that_yaml_cannot_build_is_one_line(written: Any, refused: Any, scalar: str) -> None:
    with refused("mine.yaml"):
        load_params(written(f"profile: x\nseed: {scalar}\n"))


@pytest.mark.parametrize("text", ['"a\\nb": 1', '"a\\u2028b": 1', '"a\\nb": 1\n"a\\nb": 2', '"a\\rb": 1'])
def test_key_with_a_line_break_is_one_line(written: Any, refused: Any, text: str) -> None:
    with refused("mine.yaml"):
        load_params(written(f"profile: x\n{text}\n"))


def test_overrides_take_precedence_and_are_checked(written: Any, refused: Any) -> None:
    path = written("profile: x\nepochs: 3\n")
    assert load_params(path, epochs=5).epochs == 5
    with refused("epochs", "0"):
        load_params(path, epochs=0)


def _documents() -> st.SearchStrategy[bytes]:
    scalar = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=12),
        st.dates(),
        st.binary(max_size=8),
    )
    value = st.recursive(
        scalar,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
        ),
        max_leaves=6,
    )
    known = st.sampled_from(sorted(Params.model_fields))
    typed = {
        "profile": st.sampled_from(["x", "tiny", "no good", ""]),
        "classes": st.lists(st.sampled_from(CLASSES), max_size=6),
        "models": st.lists(st.sampled_from(MODELS), max_size=4),
        "image_size": st.sampled_from([32, 64, 96, 100, 512, 4096]),
    }
    near = st.integers(-2, 70) | st.sampled_from([0.1, 0.5, 1.0, 30.0, "auto", "cpu", "image", True, False])
    proper = st.fixed_dictionaries({"profile": typed.pop("profile")}, optional=typed)
    plausible = st.builds(dict.__or__, st.dictionaries(known, near, max_size=3), proper)
    wild = st.dictionaries(known | st.text(max_size=8), value, max_size=4)
    dumped = (plausible | wild).map(lambda one: yaml.safe_dump(one, allow_unicode=True).encode())
    punctuated = st.text(alphabet="ab:-[]{}!&*#|>'\"%@`?,.<=0123x \t\n_~", max_size=40)
    lines = st.tuples(known, punctuated).map(lambda pair: f"profile: x\n{pair[0]}: {pair[1]}\n".encode())
    return st.one_of(dumped, lines, punctuated.map(str.encode), st.text(max_size=40).map(str.encode), st.binary())


@pytest.mark.parametrize("count", [600, pytest.param(3_000, marks=[pytest.mark.slow, pytest.mark.exhaustive])])
def test_any_file_is_taken_or_refused_in_one_line(written: Any, count: int) -> None:
    outcomes: dict[bool, int] = {True: 0, False: 0}

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(_documents())
    def check(content: bytes) -> None:
        path = written(content)
        try:
            params = load_params(path)
        except UserError as error:
            assert str(error).startswith("mine.yaml: ")
            assert len(str(error).splitlines()) == 1
            outcomes[False] += 1
        else:
            assert validate(params.model_dump(), "again") == params
            outcomes[True] += 1

    check()
    assert min(outcomes.values()) > count // 100  # both kinds were met


def test_steps_declare_known_parameters_once() -> None:
    for step, names in READ_BY.items():
        assert set(names) <= set(Params.model_fields), step
        assert len(set(names)) == len(names), step


def _sources() -> str:
    root = project_root()
    files = [*(root / "manet_lib").rglob("*.py"), *(root / "notebooks").glob("*.ipynb"), root / "Snakefile"]
    return "\n".join(path.read_text() for path in files if path.name != "params.py")


def test_every_parameter_is_read() -> None:
    declared = {name for names in READ_BY.values() for name in names}
    assert set(Params.model_fields) - declared == NOT_A_STEP
    text = _sources()
    unread = [name for name in Params.model_fields if not re.search(rf"(params|SETTINGS|read)\.{name}\b", text)]
    assert unread == []


@pytest.mark.parametrize("step", READ_BY)
def test_step_sees_what_it_declares_and_nothing_else(step: str) -> None:
    params = Params(profile="x")
    seen = view(params, step)
    for name in Params.model_fields:
        if name in READ_BY[step]:
            assert getattr(seen, name) == getattr(params, name)
        else:
            with pytest.raises(AttributeError, match=name):
                getattr(seen, name)


def test_where_to_compute_is_no_part_of_a_fingerprint() -> None:
    params = Params(profile="x")
    elsewhere = params.model_copy(update={"accelerator": "cpu", "threads": 2, "num_workers": 3})
    assert all(fingerprint(params, step) == fingerprint(elsewhere, step) for step in READ_BY)


def test_parameters_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Params(profile="x").epochs = 3


def test_many_names_are_five_and_a_number() -> None:
    assert some_of("abcde") == "a, b, c, d, e"
    assert some_of("abcdefg") == "a, b, c, d, e and 2 more"
