"""Data-parallel training by the processes that `torchrun` starts: shards of a batch, sums over ranks, joint errors.

Each process holds the whole model, the graph and all features and computes its shard of every batch; gradients are
summed by one explicit all-reduce after `backward`. DistributedDataParallel is not used because it averages over
processes however many photos each has, needs the loss as the output of `forward`, and hangs or hides a process without
a photo in the last batch. Its advantage, communication during the backward pass, gains nothing here: a head has 1 to 13
million parameters, a few milliseconds of communication.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from os import environ

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mlzsl.cli.errors import FailureError, MlzslError, reason_of

TIMEOUT = timedelta(days=2)  # the main process may extract features for long; a process that died is noticed at once


class RemoteRankError(MlzslError):
    """Another process of the training failed and reports the error itself: exit with its code, print nothing."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"another process of this training failed (exit code {exit_code}).")
        self.exit_code = exit_code


@dataclass(frozen=True)
class Shard:
    """A process's part of a batch.

    Attributes:
        photos: the range [start, stop) of the batch. A process without a photo takes the first one at weight 0.
        weight: the fraction of the batch's photos; the mean over a batch is the sum over shards of weight × mean.
    """

    photos: slice
    weight: float


@dataclass(frozen=True)
class Processes:
    """The processes of a training, as one of them sees them.

    Attributes:
        rank: the index of this process.
        count: the world size.
        local_rank: the index of this process on its machine, and of its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def shard(self, photos: int) -> Shard:
        """This process's shard of a batch: equal numbers of photos, one more for the first ranks if any remain."""
        each, remainder = divmod(photos, self.count)
        start = self.rank * each + min(self.rank, remainder)
        own = each + (self.rank < remainder)
        return Shard(slice(start, start + own), own / photos) if own else Shard(slice(0, 1), 0.0)

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one dtype and device by their sums over all processes, bitwise equal on each of them.

        Raises:
            FailureError: a process ended.
        """
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _connected():
            dist.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def broadcast(self, model: nn.Module) -> None:
        """Copy the tensors of the main process's model to all processes.

        Raises:
            FailureError: a process ended.
        """
        if self.count > 1:
            with _connected(), torch.no_grad():
                for tensor in model.state_dict().values():
                    dist.broadcast(tensor, src=0)

    @contextmanager
    def barrier(self, main_first: bool = False) -> Iterator[None]:
        """A block that ends on all processes together: all succeed, or all raise.

        Of the processes that failed, the one of the lowest rank raises its own error.

        Args:
            main_first: the others enter after the main process has left, and find the files it has written.

        Raises:
            RemoteRankError: another process failed.
            FailureError: a process ended.
        """
        if self.count == 1:
            yield
            return
        if main_first and not self.is_main:
            self._exchange(None)
        error = None
        try:
            yield
        except MlzslError as caught:
            error = caught
        if main_first and self.is_main:
            self._exchange(error)
        self._exchange(error)

    def _exchange(self, error: MlzslError | None) -> None:
        codes = torch.zeros(self.count, dtype=torch.int64)  # on the CPU, whatever the device
        codes[self.rank] = error.exit_code if error else 0
        with _connected():
            dist.all_reduce(codes)
        failed = codes.nonzero().flatten().tolist()
        if not failed:
            return
        if error is not None and failed[0] == self.rank:
            raise error
        raise RemoteRankError(int(codes[failed[0]]))


SINGLE_PROCESS = Processes()


@contextmanager
def launched_processes(device: str) -> Iterator[Processes]:
    """Join the processes that `torchrun` started for the block; without `torchrun`, a single process.

    Args:
        device: "cpu" (gloo) or "cuda" (nccl for tensors on GPUs, gloo for exit codes).

    Raises:
        FailureError: the processes cannot connect.
    """
    if not dist.is_torchelastic_launched():
        yield SINGLE_PROCESS
        return
    rank, count, local_rank = (int(environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    with process_group(Processes(rank, count, local_rank), "env://", device):
        yield Processes(rank, count, local_rank)


@contextmanager
def process_group(processes: Processes, init_method: str, device: str = "cpu") -> Iterator[None]:
    """Connect with the other processes for the block.

    Args:
        processes: this process's ranks.
        init_method: a URL of `torch.distributed.init_process_group`.
        device: as in `launched_processes`.

    Raises:
        FailureError: the processes cannot connect.
    """
    has_gpu = torch.cuda.is_available() and dist.is_nccl_available()  # if not, `open_device` raises
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" and has_gpu else "gloo"
    with _connected():
        dist.init_process_group(
            backend, init_method=init_method, rank=processes.rank, world_size=processes.count, timeout=TIMEOUT
        )
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what torch.distributed raises with any backend
        raise FailureError(
            f"another process of this training has ended or cannot be reached ({reason_of(error)}); "
            "read its error, then run the command again with --resume."
        ) from error
