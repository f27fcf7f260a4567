"""side_by_side.each: every task is done, errors arrive, and the caller's number of threads stays."""

import threading
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")

from semantic_stereo_ros.models.cpu import parallel


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_tasks_run_on_single_threaded_threads_and_the_callers_number_stays(threads):
    written, seen = torch.zeros(7), []

    def task(k):
        seen.append((threading.get_ident(), torch.get_num_threads()))
        written[k] = torch.arange(k + 1.0).sum()
        return -k

    assert parallel.each(task, range(7)) == [0, -1, -2, -3, -4, -5, -6]
    assert written.tolist() == [0, 1, 3, 6, 10, 15, 21]
    here = threading.get_ident()
    assert all(ident == here for ident, _ in seen) if threads == 1 else all(ident != here and count == 1 for ident, count in seen)
    later = []
    other = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert torch.get_num_threads() == threads and later == [threads]


def test_an_error_is_raised_and_no_task_goes_on_after_it(threads):
    ended = []

    def task(k):
        if k == 0:
            raise RuntimeError("out of memory")
        ended.append(k)

    with pytest.raises(RuntimeError, match="out of memory"):
        parallel.each(task, [1, 0, 2])
    assert sorted(ended) == ([1] if threads == 1 else [1, 2])


def test_results_belong_to_the_callers_mode(threads):
    with torch.no_grad():
        results = parallel.each(lambda k: torch.ones(k).mul(2), [1, 2])
    assert not any(x.is_inference() or x.requires_grad for x in results)
    with torch.inference_mode():
        assert all(x.is_inference() for x in parallel.each(torch.ones, [1, 2]))


TASKS = Path("/proc/self/task")


@pytest.mark.skipif(not TASKS.exists(), reason="threads are counted in Linux's /proc")
@pytest.mark.parametrize("threads", [3], indirect=True)
def test_threads_of_single_operations_do_not_wait_busily_beside_the_tasks(threads):
    if parallel._openmp_pause() is None:
        pytest.skip("this torch is not built with GCC's OpenMP 5")
    parallel.each(abs, [1, 2])  # the pool is there from now on
    torch.ones(1 << 20).add(1)
    allowed = len(list(TASKS.iterdir())) - (threads - 1)

    def fewest(_) -> int:
        """Threads of this process, once those that end have left the kernel's list, which it may do later than whoever joined them."""
        end_s = time.monotonic() + 60.0
        while (count := len(list(TASKS.iterdir()))) > allowed and time.monotonic() < end_s:
            time.sleep(0.01)
        return count

    assert max(parallel.each(fewest, [1, 2])) <= allowed
