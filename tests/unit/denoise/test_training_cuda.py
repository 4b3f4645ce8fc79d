from __future__ import annotations

import pytest
import torch

from nn_from_scratch.denoise.data import PairSet
from nn_from_scratch.denoise.denoiser import Denoiser
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.denoise.settings import TrainingSettings
from nn_from_scratch.denoise.training import make_optimizer, train


@pytest.mark.gpu
def test_the_same_seed_gives_the_same_bits_on_a_gpu(tiny_pairs: PairSet) -> None:
    settings = TrainingSettings(epochs=3, batch_size=4, lr=0.1)
    results = []
    for _ in range(2):
        model = report_model(generator=torch.Generator().manual_seed(0)).cuda()
        done = train(model, make_optimizer(model, settings), tiny_pairs, settings=settings)
        assert done.epoch == 3
        results.append(model.state_dict())
    assert all(tensor.is_cuda and torch.equal(tensor, results[1][name]) for name, tensor in results[0].items())


@pytest.mark.gpu
def test_a_denoiser_on_a_gpu_gives_what_it_gives_on_the_processor() -> None:
    images = torch.randint(0, 256, (2, 3, 50, 60), dtype=torch.uint8)
    expected = Denoiser.pretrained().predict(images).int()
    found = Denoiser.pretrained(device="cuda").predict(images)
    assert found.device.type == "cpu"
    assert int((found.int() - expected).abs().max()) <= 1
