"""The losses of the three training stages."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from efficientvla_ros.acceleration.feature_cache import ResidualCache
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import DiTConfig
from efficientvla_ros.models.diffusion import add_noise, ddim_timesteps, noise_between
from efficientvla_ros.training.features import Features
from efficientvla_ros.training.heads import TrainingHeads
from efficientvla_ros.training.packing import packed_cognition
from efficientvla_ros.training.pruned import pruned_cognition
from efficientvla_ros.training.settings import TrainSettings
from efficientvla_ros.training.thinned import thinned


@dataclass(frozen=True)
class Batch:
    """One step's data.

    Attributes:
        images: float32 [B, 3, S, S], augmented.
        texts: prompt ids without BOS [B, 3, T].
        actions: normalised plans [B, 3, H, A].
        object_ids: [B, 3], targets of the instructions.
        reference_ids: [B, 3], where targets are to go; -1 where the instruction has no place.
        object_pixels: [B, 3, 2], of the targets, fractions of the augmented image.
        gripper_pixel: [B, 2].
        keypoints: [B, K, 2], of everything that a picture can show; outside 0..1 where it is
            absent or out of the picture, which is what `in_picture` says.
    """

    images: Tensor
    texts: Tensor
    actions: Tensor
    object_ids: Tensor
    reference_ids: Tensor
    object_pixels: Tensor
    gripper_pixel: Tensor
    keypoints: Tensor


def vision_loss(
    model: CogACT,
    heads: TrainingHeads,
    batch: Batch,
    settings: TrainSettings,
    rng: np.random.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Stage `vision`: where are the objects and the gripper?"""
    loss, pixels = keypoint_loss(heads, model.visual_tokens(batch.images), batch)
    return loss, {'pixels': pixels}


def policy_loss(
    model: CogACT,
    heads: TrainingHeads,
    batch: Batch,
    settings: TrainSettings,
    rng: np.random.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Stage `policy`: the chunk regressed from the cognition feature, and where to look."""
    visual = model.visual_tokens(batch.images)
    keypoint, pixels = keypoint_loss(heads, visual, batch)
    batch, cognition, relevance = _cognition(
        model, visual, batch, settings, rng, settings.token_drop
    )
    chunk = chunk_error(heads.chunk(cognition), batch.actions)
    wanted = torch.cat(
        (batch.object_pixels, batch.gripper_pixel.unsqueeze(1).expand_as(batch.object_pixels)),
        dim=-1,
    )
    distance = (heads.probe(cognition) - wanted).abs() * heads.keypoint.side
    probe = masked_mean(distance.mean(-1), in_picture(batch.object_pixels))
    loss = chunk + 0.3 * keypoint + 0.25 * probe
    values = {'chunk': chunk.detach(), 'pixels': pixels, 'probe': probe.detach()}
    if relevance is not None and settings.attention_weight:
        loss = loss + settings.attention_weight * attention_loss(relevance, batch)
    return loss, values


@torch.no_grad()
def head_features(
    model: CogACT, batch: Batch, settings: TrainSettings, rng: np.random.Generator
) -> Features:
    """What stage `head` learns from: the frozen rest, with parts left out as in stage `policy`."""
    visual = model.visual_tokens(batch.images)
    batch, cognition, _ = _cognition(model, visual, batch, settings, rng, token_drop=0.0)
    return Features(cognition.flatten(0, 1).float(), batch.actions.flatten(0, 1))


def head_loss(
    model: CogACT, features: Features, settings: TrainSettings, rng: np.random.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Stage `head`: noise prediction on features of the frozen rest (DDPM, eq. 14)."""
    z, actions = features.cognition, features.actions
    steps = model.config.head.diffusion_steps
    times = torch.as_tensor(rng.integers(0, steps, len(z)), device=z.device)
    noise = _noise(model.config.head, actions, settings, rng)
    net = model.action_model.net
    dropped = torch.as_tensor(rng.random(len(z)) < settings.condition_drop, device=z.device)
    z = torch.where(dropped.unsqueeze(-1), net.z_embedder.uncondition, z)
    cache = ResidualCache(net.run_blocks, full=(0,))

    def error_at(times: Tensor) -> Tensor:
        predicted = net(add_noise(actions, noise, times, steps), times, z, cache)
        return _NOISE_LOSSES[settings.noise_loss](predicted, noise)

    loss = error_at(times)
    values = {'noise': loss.detach()}
    if settings.cache_weight:
        reused = error_at(_later(times, steps, rng))
        loss = loss + settings.cache_weight * reused
        values['cached'] = reused.detach()
    return loss, values


def _later(times: Tensor, steps: int, rng: np.random.Generator) -> Tensor:
    """Times [N] that sampling comes to after those given, up to half the schedule further on."""
    times, device = times.numpy(force=True), times.device
    most = np.minimum(times, steps // 2)
    gaps = rng.integers(np.minimum(most, 1), most + 1)
    return torch.as_tensor(times - gaps, device=device)


def _noise(
    head: DiTConfig, actions: Tensor, settings: TrainSettings, rng: np.random.Generator
) -> Tensor:
    noise = torch.randn(actions.shape, generator=_torch_generator(rng)).to(actions.device)
    # From a start of another size, sampling comes to these actions by another noise: one that
    # is bound to them. With less of the same noise the start itself would give them away.
    sizes = torch.as_tensor(rng.random(len(noise)), dtype=noise.dtype, device=noise.device)
    first = ddim_timesteps(head.ddim_steps, head.diffusion_steps)[0]
    bound = noise_between(actions, noise * sizes.view(-1, 1, 1), first, head.diffusion_steps)
    quiet = torch.as_tensor(rng.random(len(noise)) < settings.quiet_draws, device=noise.device)
    return torch.where(quiet.view(-1, 1, 1), bound, noise)


_NOISE_LOSSES = {'mse': F.mse_loss, 'l1': F.l1_loss}

LOSSES = {'vision': vision_loss, 'policy': policy_loss}


def _cognition(
    model: CogACT,
    visual: Tensor,
    batch: Batch,
    settings: TrainSettings,
    rng: np.random.Generator,
    token_drop: float,
) -> tuple[Batch, Tensor, Tensor | None]:
    """Features [B, N, D] of the language model with parts left out, and the batch they are of.

    The last item is what `pruned_cognition` says of the visual tokens' relevance.
    """
    with thinned(model, settings, rng):
        if rng.random() < settings.pruned_steps:
            batch = one_instruction(batch, rng)
            texts = batch.texts[:, 0]
            cognition, relevance = pruned_cognition(model, visual, texts, settings, rng)
            return batch, cognition.unsqueeze(1), relevance
        kept = _kept_tokens(visual, token_drop, rng) if token_drop else None
        layers = _kept_layers(model, settings, rng)
        return batch, packed_cognition(model, visual, batch.texts, kept, layers), None


def one_instruction(batch: Batch, rng: np.random.Generator) -> Batch:
    """Keeps one random instruction for each image: all but the images become [B, 1, ...]."""
    count = batch.texts.shape[1]
    pick = torch.as_tensor(rng.integers(0, count, len(batch.texts)), device=batch.texts.device)
    rows = torch.arange(len(pick), device=pick.device)
    names = ('texts', 'actions', 'object_ids', 'reference_ids', 'object_pixels')
    return replace(batch, **{name: getattr(batch, name)[rows, pick, None] for name in names})


def keypoint_loss(heads: TrainingHeads, visual: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Distance in patches and patch cross-entropy of the visible keypoints.

    Returns:
        The loss, and the mean distance as a fraction of the image.
    """
    position, logits = heads.keypoint(visual)
    side = heads.keypoint.side
    wanted = torch.cat((batch.keypoints, batch.gripper_pixel.unsqueeze(1)), dim=1)
    visible = in_picture(wanted)
    mean = masked_mean((position - wanted).abs().mean(-1), visible)
    patch = _patch(wanted, side)
    entropy = F.cross_entropy(logits.flatten(0, 1), patch.flatten(), reduction='none')
    entropy = masked_mean(entropy.view_as(visible), visible)
    return mean * side + 0.1 * entropy, mean.detach()


def attention_loss(relevance: Tensor, batch: Batch) -> Tensor:
    """How little of the attention goes to what the instruction is about: target, place, gripper.

    Args:
        relevance: of the visual tokens [B, P], at least 0.
        batch: of one instruction an image.

    Returns:
        Mean over the visible points of -log of the share that their visual token gets.
    """
    reference = batch.reference_ids[:, 0]
    rows = torch.arange(len(reference), device=reference.device)
    place = batch.keypoints[rows, reference.clamp(min=0)]
    points = torch.stack((batch.object_pixels[:, 0], batch.gripper_pixel, place), dim=1)
    visible = in_picture(points)
    visible[:, 2] &= reference >= 0
    share = relevance / relevance.sum(-1, keepdim=True).clamp(min=1e-9)
    side = round(relevance.shape[1] ** 0.5)
    return masked_mean(-share.gather(1, _patch(points, side)).clamp(min=1e-6).log(), visible)


def _patch(points: Tensor, side: int) -> Tensor:
    """The visual tokens that points [..., 2] lie in, int64 [...]."""
    cell = (points.clamp(0, 0.999) * side).long()
    return cell[..., 1] * side + cell[..., 0]


def in_picture(pixels: Tensor) -> Tensor:
    """Which points [..., 2] lie in the picture: bool [...]."""
    return ((pixels >= 0) & (pixels < 1)).all(-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values whose mask is true; 0 where there is none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def chunk_error(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error of chunks [..., H, A]; early steps, which are executed, count more."""
    horizon = wanted.shape[-2]
    weight = torch.linspace(1.5, 0.5, horizon, device=wanted.device).unsqueeze(-1)
    return ((predicted - wanted).abs() * weight).mean()


def _kept_layers(model: CogACT, settings: TrainSettings, rng: np.random.Generator) -> list[int]:
    # Stochastic depth (Huang et al. 2016): whole layers of the step are left out.
    depth = model.config.llm.layers
    rates = settings.layer_drop * np.arange(depth) / max(1, depth - 1)
    # Half the steps run the full stack, which is what is deployed.
    draws = rng.random(depth) >= (rates if rng.random() < 0.5 else 0.0)
    return np.flatnonzero(draws).tolist()


def _kept_tokens(visual: Tensor, largest: float, rng: np.random.Generator) -> Tensor | None:
    batch, patches, _ = visual.shape
    dropped = int(rng.uniform(0, largest) * patches)
    if rng.random() < 0.5 or not dropped:
        return None
    order = torch.rand(batch, patches, generator=_torch_generator(rng)).argsort(dim=1)
    return order[:, dropped:].sort(dim=1).values.to(visual.device)


def _torch_generator(rng: np.random.Generator) -> torch.Generator:
    return torch.Generator().manual_seed(int(rng.integers(2**31)))
