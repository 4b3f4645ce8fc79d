"""Graphs that branch and join: a U-Net trains as torch's does, residual blocks cost what they should, misuse."""

from __future__ import annotations

import time

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.errors import ArgumentError, DtypeError, ShapeError


class UNet(nn.Container):
    """Two levels with a skip connection each, and a residual connection around everything."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> nn.Sequential:
            conv = nn.Conv2d(inputs, outputs, 3, padding=1, generator=generator, dtype=torch.float64)
            return nn.Sequential(conv, nn.BatchNorm2d(outputs, dtype=torch.float64), nn.SiLU())

        self.down1, self.down2, self.bottom = block(1, 4), block(4, 8), block(8, 8)
        self.pool = nn.MaxPool2d(2)
        self.up1 = nn.Upsample(scale_factor=2)
        self.up2 = nn.Upsample(scale_factor=2, mode="bilinear")
        self.concat = nn.Concat()
        self.rise1, self.rise2 = block(16, 4), block(8, 4)
        self.head = nn.Conv2d(4, 1, 1, generator=generator, dtype=torch.float64)
        self.add = nn.Add()

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(self.pool(a))
        c = self.bottom(self.pool(b))
        d = self.rise1(self.concat(self.up1(c), b))
        e = self.rise2(self.concat(self.up2(d), a))
        return self.add(x, self.head(e))


def in_torch(x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """The same, in training mode, with torch's functions."""

    def block(x: Tensor, name: str) -> Tensor:
        s = F.conv2d(x, p[f"{name}.0.weight"], p[f"{name}.0.bias"], padding=1)
        return F.silu(F.batch_norm(s, None, None, p[f"{name}.1.weight"], p[f"{name}.1.bias"], True))

    a = block(x, "down1")
    b = block(F.max_pool2d(a, 2), "down2")
    c = block(F.max_pool2d(b, 2), "bottom")
    d = block(torch.cat([F.interpolate(c, scale_factor=2), b], 1), "rise1")
    e = block(torch.cat([F.interpolate(d, scale_factor=2, mode="bilinear"), a], 1), "rise2")
    return x + F.conv2d(e, p["head.weight"], p["head.bias"])


def test_a_u_net_with_skip_connections_trains_as_in_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    model = UNet(generator)
    clean = torch.rand(8, 1, 8, 8, dtype=torch.float64, generator=generator)
    noisy = clean + 0.3 * torch.randn(clean.shape, dtype=torch.float64, generator=generator)
    theirs = {name: p.clone().requires_grad_() for name, p in model.parameters().items()}
    reference = torch.optim.AdamW(list(theirs.values()), lr=1e-2)
    loss, optimizer = nn.MSE(), nn.AdamW(model, lr=1e-2)
    curve = []
    for _ in range(30):
        optimizer.zero_grad()
        curve.append(float(loss(model(noisy), clean)))
        loss.backward()
        optimizer.step()
        reference.zero_grad()
        expected = F.mse_loss(in_torch(noisy, theirs), clean)
        expected.backward()
        reference.step()
        assert curve[-1] == pytest.approx(float(expected.detach()), rel=1e-6)
    assert curve[-1] < 0.5 * curve[0]
    with nn.no_records():
        assert float(loss(model.eval()(noisy), clean)) < curve[0]


class Residual(nn.Container):
    """x + linear(x)."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(4, 4, dtype=torch.float64)
        self.add = nn.Add()

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.inside(x))


def test_thirty_residual_blocks_take_thirty_times_one() -> None:
    y = nn.Sequential(*[Residual() for _ in range(30)])(torch.randn(2, 4, dtype=torch.float64))
    began = time.perf_counter()
    nn.backward(y)
    assert time.perf_counter() - began < 5  # 2^30 visits would take hours


def test_one_tensor_given_twice_gets_both_gradients() -> None:
    x = torch.randn(2, 3)
    add = nn.Add()
    found = nn.backward(add(x, x))
    assert isinstance(found, tuple)
    layer = nn.Linear(3, 3)
    h = layer(x)
    nn.backward(add(h, h, h))
    assert layer.bias is not None and torch.equal(layer.bias.grad, torch.full((3,), 6.0))  # type: ignore[arg-type]  # set


def test_a_join_does_not_change_its_inputs() -> None:
    x, z = torch.ones(2, 3), torch.ones(2, 3)
    nn.Add()(x, z).add_(1)
    nn.Concat()(x).add_(1)
    nn.Add()(x).add_(1)
    assert torch.equal(x, torch.ones(2, 3)) and torch.equal(z, x)


def test_misuse_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"Add\(\) takes 1 input, not 0"):
        nn.Add()()
    with pytest.raises(ShapeError, match=r"input 1 of Add\(\) has shape \(1, 3\), but input 0 has shape \(2, 3\)"):
        nn.Add()(torch.ones(2, 3), torch.ones(1, 3))
    with pytest.raises(DtypeError, match=r"input 1 of Add\(\) has dtype torch.float64, but torch.float32 is expected"):
        nn.Add()(torch.ones(2), torch.ones(2, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"input 1 of Concat\(\) has shape \(2, 3, 5\), which differs from that of"):
        nn.Concat()(torch.ones(2, 3, 4), torch.ones(2, 3, 5))
    with pytest.raises(ShapeError, match=r"input of Concat\(dim=3\) has shape \(2, 3\), which has no axis 3"):
        nn.Concat(3)(torch.ones(2, 3))
    with pytest.raises(ArgumentError, match="dim is None, but an integer is expected"):
        nn.Concat(None)  # type: ignore[arg-type]  # on purpose
