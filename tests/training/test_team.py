"""What a process is among others; that two train as one is in test_loop."""

from itertools import chain

import pytest
import torch
from torch import nn

from cryoready.core.errors import CryoreadyError
from cryoready.training.team import ALONE, Team


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_the_parts_of_a_batch_make_it_up(size):
    batch = list(range(6))
    parts = [Team(rank, size).part(batch) for rank in range(size)]
    assert list(chain(*parts)) == batch
    assert len({len(part) for part in parts}) == 1


def test_a_batch_that_cannot_be_shared_equally_is_refused():
    with pytest.raises(
        CryoreadyError, match=r"train.batch_size = 5 must be a multiple of the 2 devices"
    ):
        Team(0, 2).part([0] * 5)


def test_one_process_alone_has_no_group():
    network = nn.Linear(1, 1)
    assert ALONE.leads
    assert ALONE.shared(network, torch.device("cpu")) is network
    assert ALONE.mean(1.5, 2.0) == [1.5, 2.0]
    assert ALONE.agree("word") == "word"
    assert not torch.distributed.is_initialized()
