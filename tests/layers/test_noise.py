"""Noise inside layers: every clip of every step has its own, however the batch is split."""

import torch
from torch import Tensor

from ssl_wb.layers.noise import normal_noise, seeded, step_noise


def draw(seed: int, first_row: int = 0, rows: int = 8, draws: int = 2) -> Tensor:
    """Draw ``[draws, rows, 3, 4]`` in a step of 8 clips with this seed."""
    generator = torch.Generator().manual_seed(seed)
    with step_noise(generator, first_row=first_row, global_rows=8, rows=rows):
        return torch.stack([normal_noise(rows, 3, 4, device=torch.device("cpu")) for _ in range(draws)])


def test_neighbouring_steps_and_draws_share_no_noise() -> None:
    # The seed of a step is the one before it plus 1.
    everything = torch.cat([draw(seed).flatten(0, 1) for seed in (100, 101, 102)])  # [3 * 2 * 8, 3, 4]
    assert len(everything.flatten(1).unique(dim=0)) == len(everything)


def test_noise_does_not_depend_on_how_the_batch_is_split() -> None:
    parts = torch.cat([draw(100, 0, 2), draw(100, 2, 5), draw(100, 7, 1)], dim=1)
    assert torch.equal(parts, draw(100))


def test_outside_of_a_step_there_is_no_noise() -> None:
    assert not normal_noise(2, 3, device=torch.device("cpu")).any()


def test_numbers_above_32_bits_change_what_a_generator_draws() -> None:
    # torch's CPU generator reads the lowest 32 bits of a seed.
    device = torch.device("cpu")
    drawn = [torch.rand(8, generator=seeded(device, *numbers)) for numbers in [(0, 1), (1 << 32, 1), (1 << 48, 1)]]
    assert len(torch.stack(drawn).unique(dim=0)) == 3
