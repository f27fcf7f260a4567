"""The mutation check itself: on a small package of its own, and that its list fits this checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.mutants import ROOT, Mutant, MutantError, check_applies, copied, read_mutants, run_all

MUTANTS = read_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_every_mutant_applies_exactly_once(mutant):
    compile(check_applies(mutant, ROOT), mutant.file, "exec")


@pytest.mark.long
def test_every_mutant_is_killed():
    done = subprocess.run([sys.executable, "tools/mutants.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def small(tmp_path) -> Path:
    """A git checkout with a package `small`, its tests, and a file that git ignores."""
    root = tmp_path / "checkout"
    (root / "small").mkdir(parents=True)
    (root / "small" / "__init__.py").write_text("def twice(x):\n    return 2 * x\n\n\ndef unused():\n    return 1\n")
    (root / "test_small.py").write_text(
        "import subprocess, sys\nimport small\n\n\ndef test_here():\n    assert small.twice(2) == 4\n\n\ndef test_child():\n"
        "    command = [sys.executable, '-c', 'import small; print(small.twice(2))']\n"
        "    assert subprocess.run(command, capture_output=True, text=True).stdout == '4\\n'\n\n\ndef test_wrong():\n    assert False\n"
    )
    (root / ".gitignore").write_text("ignored\n")
    (root / "ignored").write_text("")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


def of_small(name: str, old: str, new: str, test: str = "test_small.py::test_here") -> Mutant:
    return Mutant(name, "small/__init__.py", old, new, (test,))


def test_what_breaks_a_test_is_killed_here_and_in_a_child_and_the_rest_survives(small, capsys):
    outcomes = run_all(
        [
            of_small("syntax", "def twice(x):", "def twice(x:"),
            of_small("value", "2 * x", "3 * x"),
            of_small("child", "2 * x", "3 * x", "test_small.py::test_child"),
            of_small("unused", "return 1", "return 2"),
            of_small("gone", "no such text", ""),
            of_small("many", "return", "pass"),
            of_small("untested", "2 * x", "3 * x", "test_nothing.py"),
        ],
        small,
        "small",
        jobs=2,
    )
    assert [outcome.verdict for outcome in outcomes] == ["killed"] * 3 + ["SURVIVED"] + ["CANNOT"] * 3
    assert "occurs 0 times in small/__init__.py" in outcomes[4].why and "occurs 2 times" in outcomes[5].why
    assert "no test test_nothing.py" in outcomes[6].why
    assert "SURVIVED" in capsys.readouterr().out
    assert "return 2 * x" in (small / "small" / "__init__.py").read_text(), "the checkout itself is never touched"


def test_tests_that_fail_unchanged_end_the_check(small):
    with pytest.raises(MutantError, match="must pass before anything is changed"):
        run_all([of_small("value", "2 * x", "3 * x", "test_small.py::test_wrong")], small, "small")


def test_a_package_that_is_not_the_copys_ends_the_check(small):
    with pytest.raises(MutantError, match="not the one that is imported"):
        run_all([of_small("value", "2 * x", "3 * x")], small, "json")


def test_the_copy_holds_what_git_does_not_ignore_and_needs_git(small, tmp_path):
    with copied(small) as copy:
        assert {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()} == {
            ".gitignore",
            "small/__init__.py",
            "test_small.py",
        }
    assert not copy.exists()
    alone = tmp_path / "alone"
    alone.mkdir()
    with pytest.raises(MutantError, match="is no git checkout"), copied(alone):
        pass


def test_a_list_with_a_bad_entry_or_a_name_twice_is_refused(tmp_path):
    entry = "- {name: a, file: f, old: x, new: y, tests: [t]}\n"
    (tmp_path / "twice.yaml").write_text(entry * 2)
    with pytest.raises(MutantError, match="two mutants are named a"):
        read_mutants(tmp_path / "twice.yaml")
    (tmp_path / "bad.yaml").write_text(entry.replace("old", "olt"))
    with pytest.raises(MutantError, match="needs name, file, old, new and tests"):
        read_mutants(tmp_path / "bad.yaml")


def test_an_unknown_name_is_said():
    command = [sys.executable, "tools/mutants.py", "--only", "no_such_mutant"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "unknown mutant no_such_mutant; known: rig_resized_by_corners" in done.stderr
