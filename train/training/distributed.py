"""One training by several processes, as `torchrun` starts them: who has which photos, sums over all, ending together.

Each process holds the whole system, the graph and all features, takes its part of every batch, and the gradients are
summed by one explicit all-reduce after `backward`. It is not DistributedDataParallel, because that averages over
processes whatever number of photos each has, wants the loss to come out of `forward`, and hangs or hides a process that
has no photo in the last batch. What it has over this, communication beside the backward pass, gains nothing here: a
head has one to thirteen million parameters, a few milliseconds' worth.
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

PATIENCE = timedelta(days=2)  # while the first process extracts the features of a large set; a dead one shows at once


class ToldElsewhereError(MlzslError):
    """Another process of the training failed, and says why itself: end with its exit code and without a word."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"another process of this training failed (exit code {exit_code}).")
        self.exit_code = exit_code


@dataclass(frozen=True)
class Share:
    """A process's part of one batch.

    Attributes:
        photos: the places [start, stop) in the batch. Where there is a photo too few, the first one stands in.
        weight: the share of the batch's photos; 0 for a stand-in, 1 for a process alone.
    """

    photos: slice
    weight: float


@dataclass(frozen=True)
class Processes:
    """The processes of a training, seen by one of them.

    Attributes:
        rank: its place among all.
        count: of all.
        local_rank: its place among those of its machine, which is that of its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether it is the one that writes files and prints."""
        return self.rank == 0

    def share(self, photos: int) -> Share:
        """This process's part of a batch: as many photos each, the first processes one more of what is left over."""
        each, left = divmod(photos, self.count)
        start = self.rank * each + min(self.rank, left)
        own = each + (self.rank < left)
        return Share(slice(start, start + own), own / photos) if own else Share(slice(0, 1), 0.0)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type and device by their sums over all processes, the same bits on each of them.

        Raises:
            FailureError: a process has gone.
        """
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _reachable():
            dist.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def take_over(self, model: nn.Module) -> None:
        """Give every process the first one's parameters: that they made their own alike is then not relied on.

        Raises:
            FailureError: a process has gone.
        """
        if self.count > 1:
            with _reachable(), torch.no_grad():
                for tensor in model.state_dict().values():
                    dist.broadcast(tensor, src=0)

    @contextmanager
    def together(self, first_before: bool = False) -> Iterator[None]:
        """A block in which all processes succeed, or all of them raise: the first that failed its own error.

        Args:
            first_before: the others begin when the first process is through, and find what it has written.

        Raises:
            ToldElsewhereError: another process failed.
            FailureError: a process has gone.
        """
        if self.count == 1:
            yield
            return
        if first_before and not self.first:
            self._settle(None)
        error = None
        try:
            yield
        except MlzslError as caught:
            error = caught
        if first_before and self.first:
            self._settle(error)
        self._settle(error)

    def _settle(self, error: MlzslError | None) -> None:
        codes = torch.zeros(self.count, dtype=torch.int64)  # on the CPU, whatever the device
        codes[self.rank] = error.exit_code if error else 0
        with _reachable():
            dist.all_reduce(codes)
        failed = codes.nonzero().flatten().tolist()
        if not failed:
            return
        if error is not None and failed[0] == self.rank:
            raise error
        raise ToldElsewhereError(int(codes[failed[0]]))


ALONE = Processes()


@contextmanager
def processes_of_launcher(device: str) -> Iterator[Processes]:
    """The processes that `torchrun` started this one with, joined for the block; this one alone without `torchrun`.

    Args:
        device: "cpu" (gloo) or "cuda" (nccl for the GPU's tensors, gloo for what processes tell each other).

    Raises:
        FailureError: the processes do not find each other.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    rank, count, local_rank = (int(environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    with joined(Processes(rank, count, local_rank), "env://", device):
        yield Processes(rank, count, local_rank)


@contextmanager
def joined(processes: Processes, meeting_place: str, device: str = "cpu") -> Iterator[None]:
    """Join with the other processes for the block.

    Args:
        processes: which one this is.
        meeting_place: a URL of `torch.distributed.init_process_group`.
        device: as in `processes_of_launcher`.

    Raises:
        FailureError: the processes do not find each other.
    """
    has_gpu = torch.cuda.is_available() and dist.is_nccl_available()  # without one, `open_device` says so
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" and has_gpu else "gloo"
    with _reachable():
        dist.init_process_group(
            backend, init_method=meeting_place, rank=processes.rank, world_size=processes.count, timeout=PATIENCE
        )
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # that of torch.distributed, whatever the backend
        raise FailureError(
            f"another process of this training has ended or cannot be reached ({reason_of(error)}); "
            "see what it said, and go on with --resume."
        ) from error
