"""Work spread over a Ray cluster, where processes and whole machines may be lost.

    batches of tasks -> (parts of each, where it is a large one) -> results, in any order

Ray Data hands batches to cores. A process of a core calls `make` once, such as to load a model,
and what that returns for each task. A batch whose process died is tried again, then its tasks one
by one; a task that ends its process each time is a failure of that task alone. Tasks and results
are pickled, so a node needs the same version of this package.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pickle
import queue
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from asr.errors import ASRError, MissingDependencyError

if TYPE_CHECKING:
    import pyarrow as pa
    import ray.data

T = TypeVar("T")
Work: TypeAlias = Callable[[Any], Any]
Split: TypeAlias = Callable[[Any], Iterable[Any]]

LOCAL = "local"  # the address of a cluster of this machine's cores, for this run alone
_RETRIES = 2  # of a batch whose process or machine was lost
_BLOCK_BYTES = 4 << 20  # parts of large tasks travel in blocks of about this size
_READER_BYTES = 1 << 20  # memory that Ray counts for reading a large task, to see that it runs
_CHECK_SECONDS = 5.0  # between looks at an idle cluster
_IDLE_CHECKS = 12  # looks in a row that find it idle: what is waited for is lost


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster: its address, `auto` for the one this machine belongs to, LOCAL, or
    None for no cluster.

    Raises MissingDependencyError without Ray, ASRError where there is no such cluster.
    """
    if address is None:
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no statistics leave the machine
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"a cluster needs {error.name}", "pip install 'blstm-ctc-asr[cluster]'"
        ) from error
    if ray.is_initialized():  # within another `connected`
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == LOCAL:
            ray.init(address=LOCAL, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except Exception as error:  # ConnectionError, ValueError and those of gRPC
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ASRError(
            f"no cluster at {address}: {reason[0]}",
            "`ray start --head` begins one; `local` uses this machine's cores",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def counter(name: str, description: str) -> Callable[[float], object]:
    """Adds to a counter that Ray exports to Prometheus, and so to its dashboard, as `ray_NAME`.

    Make and call it within `connected`.
    """
    from ray.util.metrics import Counter

    ray_counter = Counter(name, description)

    def add(amount: float) -> None:
        if amount > 0:  # Ray refuses to add nothing
            ray_counter.inc(amount)

    return add


def each(
    address: str | None,
    tasks: Sequence[Any],
    make: Callable[[], Work],
    *,
    name: Callable[[Any], str] = str,
    batch_size: int = 1,
) -> Iterator[tuple[int, Any]]:
    """The number of each task with its result, or with the exception that working on it raised.

    Without a cluster (`address` None) they come in order; on one, in any order, `batch_size` of
    them at a time. `name`: what to call a task in a message.
    """
    if address is None:
        work = make()
        for number, task in enumerate(tasks):
            yield number, _attempt(work, task)
        return
    numbered = [_Numbered(number, task, name(task)) for number, task in enumerate(tasks)]
    batches = (numbered[i : i + batch_size] for i in range(0, len(numbered), batch_size))
    for item, (result,) in run(batches, _OnNumbered(make)):
        yield item.number, result


def run(
    batches: Iterable[Sequence[Any]],
    make: Callable[[], Work],
    *,
    is_large: Callable[[Any], bool] = lambda task: False,
    split: Split | None = None,
) -> Iterator[tuple[Any, list[Any]]]:
    """Each task with its result, in any order: with one result, or, of large ones, a result for
    each part that `split` yields, in order.

    A result is an exception where work or split raised one, or where processes kept dying.
    Call it within `connected`.

    Args:
        batches: tasks; a batch is what one core takes at a time: seconds of work, not hours.
        make: called once in each process; returns the function that is called with each task.
        is_large: of tasks that occupy many cores.
        split: reads a large one, and yields one part at least.
    """
    lost = yield from _round(batches, make, is_large, split)
    if lost:
        lost = yield from _round(([task] for task in lost), make, is_large, split)
    for task in lost:
        yield (
            task,
            [
                ASRError(
                    f"{task}: processes were stopped while they worked on it, {_RETRIES + 1} times",
                    "memory may have run out: ask for nodes with more of it",
                )
            ],
        )


@dataclass(frozen=True)
class _Numbered:
    number: int
    task: Any
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class _OnNumbered:
    make: Callable[[], Work]

    def __call__(self) -> Work:
        work = self.make()
        return lambda item: work(item.task)


@dataclass
class _Batch:
    """Tasks that are waited for: one bit of `left` for each; `parts` are results of a large one."""

    tasks: ray.ObjectRef[pa.Table]
    left: int
    parts: dict[int, Any]
    n_parts: int | None = None


def _round(
    batches: Iterable[Sequence[Any]],
    make: Callable[[], Work],
    is_large: Callable[[Any], bool],
    split: Split | None,
) -> Generator[tuple[Any, list[Any]], None, list[Any]]:
    """The results of all tasks but those whose processes died, which are returned."""
    import ray

    waiting: dict[int, _Batch] = {}
    large, small = [], []

    def put(tasks: Sequence[Any]) -> ray.ObjectRef[pa.Table]:
        rows = ray.put(_rows(len(waiting), tasks))
        waiting[len(waiting)] = _Batch(rows, (1 << len(tasks)) - 1, {})
        return rows

    for tasks in batches:
        large += [put([task]) for task in tasks if is_large(task)]
        if some := [task for task in tasks if not is_large(task)]:
            small.append(put(some))
    for row in _results(large, small, make, split):
        batch = waiting[row["batch"]]
        batch.parts[row["part"]] = pickle.loads(row["content"])
        if row["last"]:
            batch.n_parts = row["part"] + 1
        if len(batch.parts) != batch.n_parts:
            continue
        yield pickle.loads(row["task"]), [batch.parts[i] for i in range(batch.n_parts)]
        batch.parts, batch.n_parts = {}, None
        batch.left &= ~(1 << row["index"])
        if not batch.left:
            del waiting[row["batch"]]
    lost = []
    for batch in waiting.values():
        tasks = ray.get(batch.tasks)["task"].to_pylist()
        lost += [pickle.loads(task) for i, task in enumerate(tasks) if batch.left >> i & 1]
    return lost


def _rows(number: int, tasks: Sequence[Any]) -> pa.Table:
    """A batch as Ray moves it. `content` is the part or the result, null for the task itself."""
    import pyarrow as pa

    n = len(tasks)
    columns = {
        "batch": pa.array([number] * n, pa.int64()),
        "index": pa.array(range(n), pa.int64()),
        "part": pa.array([0] * n, pa.int64()),
        "last": pa.array([True] * n),
        "task": pa.array(map(pickle.dumps, tasks), pa.binary()),
        "content": pa.array([None] * n, pa.binary()),
    }
    return pa.table(columns)


def _results(
    large: list[Any], small: list[Any], make: Callable[[], Work], split: Split | None
) -> Iterator[dict[str, Any]]:
    """The rows that come back, as they come."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # `run` reports what is lost
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a batch that is lost does not end the others
    context.target_max_block_size = _BLOCK_BYTES
    options: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow"}
    options["max_retries"] = _RETRIES  # without it, what ends its process would be tried for ever
    # Ray warns that this may get another name; its versions have a tested upper bound here.
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
    datasets = []
    if large:
        assert split is not None
        # Reading holds no core, which those that work on its parts need, so that it never ends up
        # waiting for them. It is a small share of the work.
        datasets.append(
            ray.data.from_arrow_refs(large).map_batches(
                functools.partial(_split, split),
                num_cpus=0,
                memory=_READER_BYTES,
                compute=ray.data.TaskPoolStrategy(size=min(len(large), _cores())),
                **options,
            )
        )
    if small:
        datasets.append(ray.data.from_arrow_refs(small))
    if not datasets:
        return
    dataset = datasets[0].union(*datasets[1:]) if len(datasets) > 1 else datasets[0]
    made = pickle.dumps(make)
    dataset = dataset.map_batches(functools.partial(_work, made), num_cpus=1, **options)
    blocks: Iterable[Any] = dataset.iter_batches(
        batch_size=None, batch_format="pyarrow", prefetch_batches=0
    )
    try:
        for block in _until_idle(blocks, _is_idle):
            yield from block.to_pylist()
    except ray.exceptions.RayError as error:
        raise ASRError(
            f"the cluster was lost: {type(error).__name__}", "run the same command again to resume"
        ) from error


def _until_idle(blocks: Iterable[T], is_idle: Callable[[], bool]) -> Iterator[T]:
    """The blocks, but for those that never come: the iteration ends where none arrives and the
    cluster is idle.

    Ray Data waits for ever for a task that Ray lost while its process started, as happens on busy
    machines (https://github.com/ray-project/ray/issues/62535).
    """
    arrived: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=1)
    left = threading.Event()

    def put(is_block: bool, item: Any) -> None:
        while not left.is_set():
            with contextlib.suppress(queue.Full):
                arrived.put((is_block, item), timeout=_CHECK_SECONDS)
                return

    def read() -> None:
        end: BaseException | None = None
        try:
            for block in blocks:
                put(True, block)
                if left.is_set():
                    return
        except BaseException as error:  # raised again below, where it can be handled
            end = error
        put(False, end)

    threading.Thread(target=read, name="blocks of Ray Data", daemon=True).start()
    idle = 0
    try:
        while idle < _IDLE_CHECKS:
            try:
                is_block, item = arrived.get(timeout=_CHECK_SECONDS)
            except queue.Empty:
                idle = idle + 1 if is_idle() else 0
                continue
            if not is_block:
                if item is not None:
                    raise item
                return
            idle = 0
            yield item
    finally:
        left.set()


def _is_idle() -> bool:
    """Whether the cluster has nodes and no task holds anything of them."""
    import ray

    there, free = ray.cluster_resources(), ray.available_resources()
    return "CPU" in there and all(free.get(name) == there[name] for name in ("CPU", "memory"))


def _cores() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _split(split: Split, rows: pa.Table) -> Iterator[pa.Table]:
    """A large task -> its parts, each as soon as it is there. Runs in a process of the cluster."""
    task = pickle.loads(rows["task"][0].as_py())
    number, waiting = 0, b""
    for part in _attempt_all(split, task):
        if number:
            yield _filled(rows, [waiting], part=number - 1, last=False)
        number, waiting = number + 1, _pickled(part)
    yield _filled(rows, [waiting], part=number - 1, last=True)


def _work(made: bytes, rows: pa.Table) -> pa.Table:
    """Tasks, or parts of large ones -> their results. Runs in a process of the cluster."""
    results = []
    for row in rows.to_pylist():
        content = row["content"] if row["content"] is not None else row["task"]
        task = pickle.loads(content)
        if not isinstance(task, Exception):  # else splitting raised it
            task = _attempt(lambda task: _loaded(made)(task), task)
        results.append(_pickled(task))
    return _filled(rows, results)


def _filled(rows: pa.Table, contents: list[bytes], **values: Any) -> pa.Table:
    import pyarrow as pa

    columns = {name: pa.array([value] * len(rows)) for name, value in values.items()}
    columns["content"] = pa.array(contents, pa.binary())
    for name, column in columns.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows


@functools.cache
def _loaded(made: bytes) -> Work:
    """What this process made first for a run, and uses for all its tasks."""
    return pickle.loads(made)()


def _attempt(work: Work, task: Any) -> Any:
    try:
        return work(task)
    except BrokenPipeError:  # who reads the output has seen enough
        raise
    except Exception as error:  # one task must not end the others
        return error


def _attempt_all(split: Split, task: Any) -> Iterator[Any]:
    try:
        yield from split(task)
    except Exception as error:
        yield error


def _pickled(result: Any) -> bytes:
    try:
        content = pickle.dumps(result)
        if isinstance(result, Exception):
            pickle.loads(content)  # some can be written and not read
    except Exception as error:
        return pickle.dumps(ASRError(f"{result!r} cannot be sent: {error}"))
    return content
