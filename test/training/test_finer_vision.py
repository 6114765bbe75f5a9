"""What the towers of larger pictures learn from those of smaller ones."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from efficientvla_ros.training.finer_vision import CoarseVision, distance


def seeing(policy):
    parts = 'vision_backbone.', 'projector.'
    return {k: value for k, value in policy.state_dict().items() if k.startswith(parts)}


def test_every_patch_is_to_give_what_the_small_picture_gave_there(tiny_policy):
    small = tiny_policy(3, 4, 2).float()
    coarse = CoarseVision(replace(small.config, image_size=112), seeing(small))
    images = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    found = coarse(images, 8).view(2, 8, 8, -1)
    tokens = small.visual_tokens(F.avg_pool2d(images, 2)).view(2, 4, 4, -1)
    for row in range(8):
        for column in range(8):
            wanted = tokens[:, row // 2, column // 2]
            torch.testing.assert_close(found[:, row, column], wanted, atol=1e-5, rtol=1e-4)


def test_the_targets_do_not_learn(tiny_policy):
    small = tiny_policy(3, 4, 2).float()
    coarse = CoarseVision(replace(small.config, image_size=112), seeing(small))
    assert not any(parameter.requires_grad for parameter in coarse.parameters())
    assert not coarse(torch.rand(1, 3, 112, 112), 8).requires_grad


def test_the_distance_of_the_mean_is_one():
    wanted = torch.randn(4, 100, 8, generator=torch.Generator().manual_seed(0))
    assert abs(float(distance(wanted.mean().expand_as(wanted), wanted)) - 1.0) < 1e-3
    assert float(distance(wanted, wanted)) == 0.0
