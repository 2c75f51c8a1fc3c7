"""What several processes share, on one of them and on two; the contrastive objectives on two give what one gives."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
import two_process_worker
from torch import nn
from torch.testing import assert_close

from ssl_wb.layers.batch_norm import GlobalBatchNorm
from ssl_wb.layers.processes import gather_with_gradient, process_place, sum_with_gradient


def test_one_process_is_alone_and_keeps_its_values():
    rows = torch.randn(3, 2)
    assert process_place() == (0, 1)
    assert gather_with_gradient(rows) is rows
    assert sum_with_gradient(rows) is rows


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_of_one_process_is_torchs(affine):
    torch.manual_seed(0)
    ours, theirs = GlobalBatchNorm(5, affine), nn.BatchNorm1d(5, affine=affine)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for module in (ours, theirs):
        if affine:
            nn.init.constant_(module.weight, 1.7)
            nn.init.constant_(module.bias, -0.3)
    for _ in range(3):
        rows = 2.0 + 3.0 * torch.randn(8, 5)
        a, b = rows.clone().requires_grad_(), rows.clone().requires_grad_()
        weights = torch.randn(8, 5)
        (ours(a) * weights).sum().backward()
        (theirs(b) * weights).sum().backward()
        assert_close(ours(a), theirs(b))
        assert_close(a.grad, b.grad)
    assert_close(ours.state_dict(), theirs.state_dict())
    assert_close(ours.eval()(rows), theirs.eval()(rows))
    for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(parameter.grad, other.grad)


def test_batch_norm_keeps_its_precision_far_from_zero_and_in_half_precision():
    torch.manual_seed(1)
    rows = torch.randn(64, 3)
    # Squares of 1e4 leave float32 no digits for a deviation of 1.
    assert_close(GlobalBatchNorm(3)(rows + 1e4), GlobalBatchNorm(3)(rows), rtol=0, atol=5e-3)
    with torch.autocast("cpu", torch.bfloat16):
        normed = GlobalBatchNorm(3)(rows.bfloat16())
    assert normed.dtype == torch.float32
    assert_close(normed, GlobalBatchNorm(3)(rows.bfloat16().float()))


def test_batch_norm_biases():
    assert GlobalBatchNorm(3, bias=False).bias is None
    frozen = GlobalBatchNorm(3, bias_frozen=True)
    frozen(torch.randn(4, 3)).square().sum().backward()
    assert frozen.bias.grad is None
    assert (frozen.bias == 0).all()
    assert "bias" in frozen.state_dict()


def test_batch_norm_of_one_row_is_the_bias_and_of_a_sequence_is_refused():
    norm = GlobalBatchNorm(3)
    assert_close(norm(torch.randn(1, 3)), torch.zeros(1, 3))
    assert torch.isfinite(norm.running_var).all()
    with pytest.raises(ValueError, match=r"rows \[b, features\], not a tensor of shape \[2, 4, 3\]"):
        norm(torch.randn(2, 4, 3))


@pytest.fixture(scope="module")
def one() -> dict[str, dict]:
    """What one process makes of a batch, by case."""
    return two_process_worker.measure_all()


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict[str, dict]]:
    """What each of two processes makes of its half."""
    folder = tmp_path_factory.mktemp("processes")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, two_process_worker.__file__, str(rank), str(folder)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=120)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
def test_rows_are_gathered_in_rank_order_and_gradients_come_back_summed(two):
    for rank, found in enumerate(each["gathering"] for each in two):
        assert found["place"].tolist() == [rank, 2]
        assert found["gathered"].tolist() == [[0.0], [1.0], [10.0], [11.0]]
        # Process r weighs row i by (r + 1) * (i + 1): both processes' weights of this one's rows.
        assert found["gradient"].flatten().tolist() == [3.0 * (2 * rank + i + 1) for i in range(2)]


CASES = ["infonce", "infonce-learned", "infonce-three-views", "clap", "clap-positives", "clap-local"]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_loss_and_the_accuracies_of_one(one, two, case):
    for figure in one[case]["figures"]:
        mean = sum(float(found[case]["figures"][figure]) for found in two) / 2
        assert mean == pytest.approx(float(one[case]["figures"][figure]), abs=1e-5), figure
    # The halves of the batch are not alike: each process has a loss of its own.
    assert abs(float(two[0][case]["figures"]["loss"]) - float(two[1][case]["figures"]["loss"])) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case != "clap-local"])
def test_two_processes_have_the_gradients_of_one_after_ddps_mean(one, two, case):
    assert len(one[case]["gradients"]) >= 5
    for name, expected in one[case]["gradients"].items():
        assert expected.abs().max() > 1e-5, name
        for found in two:
            assert_close(found[case]["gradients"][name], expected, rtol=1e-4, atol=1e-5, msg=f"{case}: {name}")


@pytest.mark.slow
def test_statistics_of_two_processes_are_those_of_one(one, two):
    for name, expected in one["infonce"]["buffers"].items():
        for found in two:
            assert_close(found["infonce"]["buffers"][name], expected, msg=name)


@pytest.mark.slow
def test_released_gradients_are_those_of_one_process_over_the_number_of_processes(one, two):
    """Of all but the scale, which every process computes the whole gradient of."""
    wanted, found = one["clap-released"]["gradients"], two[0]["clap-released"]["gradients"]
    assert wanted.keys() == found.keys()
    for name, gradient in wanted.items():
        world = 1 if name.endswith("log_scale") else 2
        assert_close(found[name] * world, gradient, rtol=1e-4, atol=1e-6)
    # Each process computes the loss of the whole batch.
    for each in two:
        assert_close(each["clap-released"]["figures"], one["clap-released"]["figures"], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_local_gradients_are_others_than_one_process_has(one, two):
    name = "student.weight"
    assert not torch.allclose(two[0]["clap-local"]["gradients"][name], one["clap-local"]["gradients"][name], rtol=1e-2)
    assert math.isfinite(float(two[0]["clap-local"]["gradients"][name].norm()))
