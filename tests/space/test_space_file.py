"""Search spaces: files that are accepted and refused, and the choices that Optuna makes."""

from __future__ import annotations

import optuna
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sweeper.core.errors import SpaceError
from sweeper.core.paths import search_spaces_dir
from sweeper.core.records import Coordinate
from sweeper.core.yaml_file import MAX_BYTES, parse_yaml
from sweeper.losses import FAMILIES, build_loss
from sweeper.space import (
    count_floor_trials,
    get_default_params,
    get_middle_rate,
    list_named_losses,
    load_named_losses,
    load_space,
    make_default_choice,
    suggest_choice,
)

TASKS = ["binary", "multiclass", "multilabel"]
HEAD = "version: 1\ntask: binary\nnuisance: {lr: {log: [3.0e-4, 1.0e-2]}}\nlosses:\n"


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes) -> str:
        path = tmp_path / "mine.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def list_problems(path: str, task="binary") -> tuple[str, ...]:
    with pytest.raises(SpaceError) as caught:
        load_space(path, task)
    return caught.value.problems


# --- Shipped ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_shipped_spaces_search_what_the_registry_declares(task):
    everything = {"binary": "full"}.get(task, f"full_{task}")
    focused = ["cross_entropy", "weighted_ce", "focal", "dice", "tversky", "dice_ce", "dice_focal"]
    all_of_them = [name for name, family in FAMILIES.items() if task in family.tasks]
    for name, families in ((task, focused), (everything, all_of_them)):
        space = load_space(name, task)
        assert [family.family for family in space.families] == families
        for family in space.families:
            free = FAMILIES[family.family].coordinates[task]
            assert family.coordinates == {name: one.search for name, one in free.items() if one.search is not None}
        assert space.lr == Coordinate(kind="log", low=1e-4, high=1e-2)


def test_the_example_in_the_readme_is_a_valid_space(write):
    text = (search_spaces_dir() / "README.md").read_text(encoding="utf-8")
    block = text.split("```yaml\n")[1].split("```")[0]
    space = load_space(write(block), "binary")
    assert space.families[0].coordinates["alpha"] == Coordinate(kind="fixed", low=0.5, high=0.5)


# --- Reading ------------------------------------------------------------------------------------------------


def test_families_and_coordinates_have_the_order_of_the_registry(write):
    one = load_space(write(HEAD + "  dice: {}\n  focal: {alpha: 0.5, gamma: {uniform: [0, 5]}}\n"), "binary")
    two = load_space(write(HEAD + "  focal: {gamma: {uniform: [0, 5]}, alpha: 0.5}\n  dice:\n"), "binary")
    assert one == two
    assert [family.family for family in one.families] == ["focal", "dice"]
    assert list(one.families[0].coordinates) == ["gamma", "alpha"]


def test_exponents_without_a_dot_are_numbers(write):
    """YAML 1.1, which PyYAML reads, takes 3e-4 for text."""
    space = load_space(write(HEAD.replace("3.0e-4", "3e-4") + "  dice: {}\n"), "binary")
    assert space.lr.low == 3e-4


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ("focal: {gamma: {uniform: [5, 0]}}", "losses.focal.gamma: low must be below high, got {'uniform': [5, 0]}"),
        ("focal: {gamma: {uniform: [0, 500]}}", "losses.focal.gamma: must be at least 0 and at most 50"),
        ("focal: {gamma: {log: [0, 5]}}", "losses.focal.gamma: low must be above 0"),
        ("focal: {gamma: {uniform: [0, .inf]}}", "losses.focal.gamma: must be at least 0 and at most 50"),
        ("focal: {gamma: {uniform: [0, none]}}", "losses.focal.gamma: must be a number or one of {uniform: [low, high"),
        ("focal: {gamma: {unifrom: [0, 5]}}", "losses.focal.gamma: must be a number or one of"),
        ("focal: {gamma: yes}", "losses.focal.gamma: must be a number or one of"),
        ("focal: {gamma: -2}", "losses.focal.gamma: must be at least 0 and at most 50, got -2"),
        ("focal: {gamma: {power_of_imbalance: [0, 1]}}", "losses.focal.gamma: must be a number or one of"),
        ("focal: {gama: 2}", "losses.focal.gama: not a hyper-parameter of focal for binary tasks, did you mean `gam"),
        ("dice: 3", "losses.dice: Input should be a valid dictionary, got 3"),
        ("dise: {}", "losses.dise: no loss for this task, did you mean `dice`?"),
        ("weighted_ce: {}", "losses.weighted_ce.pos_weight: missing"),
        ("weighted_ce: {pos_weight: {power_of_imbalance: [0, 9]}}", "losses.weighted_ce.pos_weight: must be"),
        ("tversky: {fn_weight: {uniform: [0.5, 1.5]}}", "losses.tversky: the weights of false negatives"),
        ("tversky: {fn_weight: 0, fp_weight: 0}", "losses.tversky: the weights of false negatives"),
        ("dice: {}\n  dice: {}", "losses.dice: appears twice (line 6)"),
        ("dice: {}\n  [dice]: {}", "losses: keys must be plain words"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_losses_is_reported_with_its_key_path(write, losses, expected):
    (problem,) = list_problems(write(f"{HEAD}  {losses}\n"))
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("version: 1", "version: 2", "version: Input should be 1, got 2"),
        ("task: binary", "task: binry", "task: Input should be 'binary', 'multiclass' or 'multilabel', got 'binry'"),
        ("task: binary", "task: multiclass", "task: must be binary as the data are, got multiclass"),
        ("nuisance", "nuisence", "nuisance: Field required"),
        ("lr: {log: [3.0e-4, 1.0e-2]}", "", "nuisance.lr: Field required"),
        ("{lr: {log: [3.0e-4, 1.0e-2]}}", "fast", "nuisance: Input should be a valid dictionary"),
        ("log: [3.0e-4,", "log: [0,", "nuisance.lr: must be above 0"),
        ("{log: [3.0e-4, 1.0e-2]}", "0", "nuisance.lr: must be above 0 and at most 10, got 0"),
        ("  dice: {}", "", "losses: Input should be a valid dictionary, got None"),
    ],
)
def test_a_mistake_outside_the_losses_is_reported_with_its_key_path(write, old, new, expected):
    text = HEAD + "  dice: {}\n"
    assert old in text
    assert list_problems(write(text.replace(old, new, 1)))[0].startswith(expected)


def test_all_mistakes_are_reported_at_once(write):
    text = HEAD.replace("3.0e-4", "-1") + (
        "  dise: {}\n  focal: {gamma: {uniform: [5, 0]}, alfa: 1}\n  weighted_ce: {}\n  dice_ce: {mix: 3}\n"
    )
    problems = list_problems(write(text))
    paths = {problem.split(":")[0] for problem in problems}
    assert paths == {
        "nuisance.lr", "losses.dise", "losses.weighted_ce.pos_weight", "losses.focal.gamma", "losses.focal.alfa",
        "losses.dice_ce.mix",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "(top): Input should be a valid dictionary"),
        (b"a: &x 1\nb: *x", "(file): must be valid YAML, got: an anchor or alias"),
        (b"a: 1\n---\nb: 2", "(file): must be valid YAML, got: expected a single document"),
        (b"a: " + b"1" * 5000, "(file): must be valid YAML"),
        (b"[" * 900000, "(file): must be valid YAML, got: maximum recursion depth"),
        (b"\xff\xfe\xff", "(file): must be UTF-8"),
        (b"#" * (MAX_BYTES + 1), "(file): must be UTF-8 text of at most 1 MiB, got: it has more"),
    ],
)
def test_a_file_that_is_not_a_space_is_refused(write, content, expected):
    assert list_problems(write(content))[0].startswith(expected)


def test_tags_of_yaml_run_no_code(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list_problems(write("losses: !!python/object/apply:os.system ['touch fired']"))
    assert not (tmp_path / "fired").exists()


def test_an_unknown_name_or_missing_file_is_refused(tmp_path):
    for name in (str(tmp_path), str(tmp_path / "none.yaml"), "", "a\0b"):
        assert "must be a shipped space" in list_problems(name)[0]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ranges = st.one_of(
    plain,
    st.dictionaries(
        st.sampled_from(["uniform", "log", "power_of_imbalance"]), st.lists(st.floats(-1, 6), max_size=3), max_size=2
    ),
)
names = st.sampled_from(["mix", "gamma", "alpha", "pos_weight", "class_weight_power", "fn_weight", "fp_weight", "x"])
spaces = st.fixed_dictionaries(
    {
        "version": st.just(1) | plain,
        "task": st.sampled_from(TASKS) | plain,
        "nuisance": st.fixed_dictionaries({"lr": ranges}) | plain,
        "losses": st.dictionaries(
            st.sampled_from([*FAMILIES, "y"]), st.dictionaries(names, ranges, max_size=2) | plain
        ),
    }
)


@settings(deadline=None, max_examples=300)
@given(content=spaces | plain, task=st.sampled_from(TASKS))
def test_any_data_gives_a_space_or_a_list_of_problems(tmp_path_factory, content, task):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
    try:
        space = load_space(str(path), task)
    except SpaceError as error:
        assert error.problems and all(problem.isprintable() for problem in error.problems)
        return
    for end in ("low", "high"):
        for family in space.families:
            params = {
                name: 20.0 ** getattr(c, end) if c.kind == "power_of_imbalance" else getattr(c, end)
                for name, c in family.coordinates.items()
            }
            build_loss(family.family, task=task, class_frequencies=(0.5, 0.4, 0.1), **params)


@settings(deadline=None, max_examples=200)
@given(text=st.text(max_size=60) | st.text("[]{}:-?&*!|>'\"%@, \n\tab1.", max_size=60))
@example("?\n?")
def test_any_text_is_parsed_or_refused(text):
    problems: list[str] = []
    content = parse_yaml(text, problems)
    of_file = [problem for problem in problems if problem.startswith(("(file)", "line "))]
    assert len(of_file) <= 1 and not (of_file and content is not None)
    of_keys = [problem for problem in problems if "appears twice" in problem or "keys must be plain words" in problem]
    assert sorted(problems) == sorted(of_file + of_keys)  # other keys are read, so that all mistakes are listed


# --- Optuna -------------------------------------------------------------------------------------------------


def create_study(seed: int = 0) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))


SHIPPED = [("binary", "binary"), ("multiclass", "multiclass"), ("full", "binary"), ("full_multiclass", "multiclass")]


@pytest.mark.parametrize(("name", "task"), SHIPPED)
def test_every_choice_can_be_built_and_the_first_ones_are_those_enqueued(name, task):
    """Names and ranges of the queue are those of the suggestions, as Optuna would silently draw others."""
    space = load_space(name, task)
    trials, chosen = create_study(), set()
    for family in space.families:
        trials.enqueue_trial(get_default_params(family, space))
    for family in space.families:
        trial = trials.ask()
        suggest_choice(trial, space, imbalance=61.0)
        assert trial.params == get_default_params(family, space)
    for _ in range(10 * len(space.families)):
        trial = trials.ask()
        choice = suggest_choice(trial, space, imbalance=61.0)
        chosen.add(choice.family)
        build_loss(choice.family, task=task, class_frequencies=(9, 1), **choice.params)
        assert space.lr.low <= choice.lr <= space.lr.high
        others = [name for name in trial.params if name != "loss" and not name.startswith(f"{choice.family}.")]
        assert others == []
    assert chosen == {family.family for family in space.families}


def test_every_imbalance_gives_a_weight_that_can_be_built(write):
    space = load_space(write(HEAD + "  weighted_ce: {pos_weight: {power_of_imbalance: [0, 2]}}\n"), "binary")
    fixed = {"loss": "weighted_ce", "weighted_ce.pos_weight_power": 2.0, "weighted_ce.lr": 1e-3}
    for imbalance in (1e-4, 1.0, 1e8):
        choice = suggest_choice(optuna.trial.FixedTrial(fixed), space, imbalance)
        build_loss("weighted_ce", task="binary", **choice.params)


def test_fixed_values_are_not_suggested_by_optuna(write):
    space = load_space(write(HEAD.replace("{log: [3.0e-4, 1.0e-2]}", "1.0e-3") + "  focal: {gamma: 3}\n"), "binary")
    trial = create_study().ask()
    choice = suggest_choice(trial, space, 10.0)
    assert (choice.params, choice.lr) == ({"gamma": 3.0}, 1e-3)
    assert set(trial.params) == {"loss"}
    assert get_default_params(space.families[0], space) == {"loss": "focal"}


def test_the_first_trial_of_a_family_has_the_defaults_of_the_literature():
    space = load_space("binary")
    assert get_middle_rate(space.lr) == pytest.approx(1e-3)
    assert [get_default_params(family, space) for family in space.families] == [
        {"loss": "cross_entropy"},
        {"loss": "weighted_ce", "weighted_ce.pos_weight_power": 1.0},
        {"loss": "focal", "focal.gamma": 2.0, "focal.alpha": 0.25},
        {"loss": "dice"},
        {"loss": "tversky", "tversky.fn_weight": 0.7},
        {"loss": "dice_ce", "dice_ce.mix": 0.5, "dice_ce.pos_weight_power": 0.0},
        {"loss": "dice_focal", "dice_focal.mix": 0.5, "dice_focal.gamma": 2.0},
    ]


def test_floors_of_families_are_equal_and_fit_into_the_total():
    space = load_space("binary")  # of seven families
    assert [count_floor_trials(space, trials) for trials in (0, 6, 7, 20, 21, 80)] == [0, 0, 1, 2, 3, 3]


def test_defaults_are_clipped_to_the_space_and_missing_ones_are_its_middle(write):
    text = HEAD + (
        "  weighted_ce: {pos_weight: {log: [2, 50]}}\n  focal: {gamma: {uniform: [3, 5]}}\n  tversky: {fn_weight: "
        "{uniform: [0.1, 0.4]}, overlap_exponent: {uniform: [0.5, 2]}}\n  dice_ce: {pos_weight: {log: [2, 50]}}\n"
    )
    space = load_space(write(text), "binary")
    weighted, focal, tversky, mixed = (get_default_params(family, space) for family in space.families)
    assert weighted["weighted_ce.pos_weight"] == pytest.approx(10.0)
    assert focal["focal.gamma"] == 3.0
    assert tversky["tversky.fn_weight"] == 0.4
    assert tversky["tversky.overlap_exponent"] == 0.75
    assert mixed["dice_ce.pos_weight"] == 2.0


def test_named_losses_have_the_given_parameters_and_else_their_defaults():
    words = list_named_losses("tversky:fn_weight=0.6, weighted_ce,dice_ce:pos_weight=3;mix=0.2")
    space = load_named_losses(words, "binary", 16.0)
    chosen = {family.family: make_default_choice(family, space, 16.0).params for family in space.families}
    assert chosen["tversky"]["fn_weight"] == 0.6
    assert chosen["weighted_ce"] == {"pos_weight": pytest.approx(16.0)}
    assert chosen["dice_ce"] == {"pos_weight": 3.0, "mix": 0.2}
    trials = create_study()
    for _ in range(12):
        choice = suggest_choice(trials.ask(), space, 16.0)
        assert choice.params == chosen[choice.family]
    with pytest.raises(SpaceError) as error:
        load_named_losses(["dice", "tversky:gama=2", "dice"], "binary", 16.0)
    assert len(error.value.problems) == 2 and "gama" in str(error.value) and "twice" in str(error.value)


@pytest.mark.parametrize("text", ["", "full", "some/space.yaml", "fulll"])
def test_the_name_of_a_space_or_a_file_names_no_losses(text):
    assert list_named_losses(text) == ()
