"""Do the tests notice when a rule is broken? Seeded edits, each with the tests that must fail after it.

    .venv/bin/python tools/mutants.py                applies every mutant of tools/mutants.yaml, one at a time, to a copy of the checkout
    .venv/bin/python tools/mutants.py --only NAME    only this one; repeatable

First the tests run once on the unchanged copy: they must pass, else the check says nothing. The exit code is 1 unless every mutant is
killed. A mutant that survives is a rule that no test needs: write the test, or delete the rule.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tools" / "mutants.yaml"
PACKAGE = "semantic_stereo_ros"
TIMEOUT_S, UNCHANGED_TIMEOUT_S = 300.0, 3600.0
PASSED, NOTHING_RAN = 0, 5  # pytest's exit codes
OUTPUT_LINES = 15


class MutantError(Exception):
    """The check itself cannot be done; one sentence."""


@dataclass(frozen=True)
class Mutant:
    """One edit: `old`, which occurs exactly once in `file`, becomes `new`. tests: pytest's arguments; one of them at least must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """verdict: 'killed', 'SURVIVED' or 'CANNOT'; why: what is to be known of it beyond that."""

    mutant: Mutant
    verdict: str
    seconds: float = 0.0
    why: str = ""


def read_mutants(path: Path = LIST) -> tuple[Mutant, ...]:
    """The mutants of a list. Raises MutantError where an entry has other keys, or two have one name."""
    mutants = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        try:
            mutants.append(Mutant(**{**entry, "tests": tuple(entry["tests"])}))
        except (TypeError, KeyError) as error:
            raise MutantError(f"{path.name}: an entry needs name, file, old, new and tests, got {entry} ({error})") from error
    twice = [name for name, count in Counter(mutant.name for mutant in mutants).items() if count > 1]
    if twice:
        raise MutantError(f"{path.name}: two mutants are named {twice[0]}: give each a name of its own")
    return tuple(mutants)


def mutated(text: str, mutant: Mutant) -> str:
    """The file's text after the edit. Raises MutantError unless `old` occurs exactly once and `new` differs."""
    count = text.count(mutant.old)
    if count != 1:
        raise MutantError(f"{mutant.name}: the old text occurs {count} times in {mutant.file}, expected once: {mutant.old!r}")
    if mutant.old == mutant.new:
        raise MutantError(f"{mutant.name}: old and new text are the same, so nothing would change in {mutant.file}")
    return text.replace(mutant.old, mutant.new)


def check_applies(mutant: Mutant, root: Path) -> str:
    """The mutated text of the file below `root`. Raises MutantError where the file, the old text or a test's file is not there."""
    file = root / mutant.file
    if not file.is_file():
        raise MutantError(f"{mutant.name}: there is no file {mutant.file}")
    for test in mutant.tests:
        if not (root / test.partition("::")[0]).exists():
            raise MutantError(f"{mutant.name}: there is no test {test}")
    return mutated(file.read_text(encoding="utf-8"), mutant)


@contextlib.contextmanager
def copied(root: Path) -> Iterator[Path]:
    """A temporary copy of what git tracks below `root` and of what it does not ignore. Raises MutantError without git."""
    listing = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=root, capture_output=True, check=False)
    if listing.returncode:
        raise MutantError(f"{root} is no git checkout, so its files cannot be listed: {os.fsdecode(listing.stderr).strip()}")
    with tempfile.TemporaryDirectory(prefix="mutants_") as folder:
        copy = Path(folder).resolve() / root.name
        for name in filter(None, os.fsdecode(listing.stdout).split("\0")):
            if (root / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, copy / name)
        yield copy


def run_tests(copy: Path, tests: Iterable[str], timeout_s: float = TIMEOUT_S) -> tuple[int | None, str]:
    """pytest's exit code, None after `timeout_s`, and its output. What runs is the copy's package, in child processes too."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    with subprocess.Popen(
        command, cwd=copy, env=_environment(copy), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, f"stopped after {timeout_s:g} s"
    return process.returncode, output


def check_import(copy: Path, package: str) -> None:
    """Raises MutantError unless a Python started in the copy imports the copy's package, whatever is installed."""
    code = f"import {package}; print({package}.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, env=_environment(copy), capture_output=True, text=True, check=False)
    if done.returncode or not Path(done.stdout.strip()).resolve().is_relative_to(copy):
        raise MutantError(f"the copy's {package} is not the one that is imported, got {(done.stdout + done.stderr).strip()}")


def _environment(copy: Path) -> dict[str, str]:
    """No compiled files: they are told apart by whole seconds and sizes, and a mutant may change neither."""
    path = os.pathsep.join(filter(None, [str(copy), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def run_mutant(mutant: Mutant, copy: Path) -> Outcome:
    """Apply, test, and put the file back."""
    file = copy / mutant.file
    begin = time.monotonic()
    try:
        text = check_applies(mutant, copy)
    except MutantError as error:
        return Outcome(mutant, "CANNOT", why=str(error))
    original = file.read_bytes()
    try:
        file.write_text(text, encoding="utf-8")
        code, _ = run_tests(copy, mutant.tests)
    finally:
        file.write_bytes(original)
    seconds = time.monotonic() - begin
    if code == NOTHING_RAN:
        return Outcome(mutant, "CANNOT", seconds, "its tests were all skipped: a library is missing")
    return Outcome(mutant, "SURVIVED" if code == PASSED else "killed", seconds, "timeout" if code is None else "")


def run_all(mutants: Sequence[Mutant], root: Path, package: str = PACKAGE, jobs: int = 1) -> list[Outcome]:
    """The outcome of each, told as it comes; `jobs` at a time, each in a copy of its own.

    Raises MutantError where the check says nothing: when the unchanged tests fail, for one.
    """
    with contextlib.ExitStack() as stack:
        copies = [stack.enter_context(copied(root)) for _ in range(jobs)]
        for copy in copies:
            check_import(copy, package)
        _check_unchanged(mutants, copies[0])
        free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for copy in copies:
            free.put(copy)

        def run(mutant: Mutant) -> Outcome:
            copy = free.get()
            try:
                return run_mutant(mutant, copy)
            finally:
                free.put(copy)

        outcomes = []
        for outcome in stack.enter_context(ThreadPoolExecutor(jobs)).map(run, mutants):
            outcomes.append(outcome)
            print(
                f"{outcome.verdict:<8} {outcome.seconds:5.1f} s  {outcome.mutant.name}  {outcome.mutant.file}  {outcome.why}".rstrip(),
                flush=True,
            )
    return outcomes


def _check_unchanged(mutants: Sequence[Mutant], copy: Path) -> None:
    """All tests of all mutants, those whose file is there."""
    tests = {test for mutant in mutants for test in mutant.tests if (copy / test.partition("::")[0]).exists()}
    begin = time.monotonic()
    code, output = run_tests(copy, sorted(tests), timeout_s=UNCHANGED_TIMEOUT_S)
    if code not in (PASSED, NOTHING_RAN):
        last = "\n".join(output.splitlines()[-OUTPUT_LINES:])
        raise MutantError(f"the tests must pass before anything is changed, but they ended with {code}:\n{last}")
    print(f"unchanged: passed in {time.monotonic() - begin:.0f} s", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="NAME", action="append", help="run this mutant only; repeatable")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="so many at a time; half of the cores")
    options = parser.parse_args(arguments)
    only = options.only
    try:
        mutants = read_mutants()
        unknown = set(only or ()) - {mutant.name for mutant in mutants}
        if unknown:
            raise MutantError(f"unknown mutant {', '.join(sorted(unknown))}; known: {', '.join(mutant.name for mutant in mutants)}")
        outcomes = run_all([mutant for mutant in mutants if not only or mutant.name in only], ROOT, jobs=max(1, options.jobs))
    except MutantError as error:
        print(error, file=sys.stderr)
        return 1
    killed = sum(outcome.verdict == "killed" for outcome in outcomes)
    print(f"{killed} of {len(outcomes)} mutants were killed")
    return 0 if killed == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
