"""Token scores and selections written as plain loops over float64 numbers."""

from __future__ import annotations

import functools
import math

import numpy as np


def naive_select(relevance, hidden, keep, key, task, greedy=False, bonus=None):
    """One sample: relevance [P], hidden [P, D] -> {patch: role}, roles 0 key, 1 task, 2 other."""
    relevance = [float(value) for value in relevance]
    count = len(relevance)
    bonus = [0.0] * count if bonus is None else [float(value) for value in bonus]
    if any(bonus):
        low, high = min(relevance), max(relevance)
        span = (high - low) or 1.0
        relevance = [(value - low) / span + extra for value, extra in zip(relevance, bonus)]
    order = sorted(range(count), key=lambda i: (-relevance[i], i))
    roles = {i: 0 for i in order[:key]} | {i: 1 for i in order[key : key + task]}

    @functools.cache
    def alike(i, k):
        return cosine(hidden[i], hidden[k])

    def distance(i, others):
        return 1.0 - max(alike(i, k) for k in others)

    against = list(roles) if greedy else order[:key]
    left = [i for i in range(count) if i not in roles]
    if not greedy:
        left.sort(key=lambda i: (-(distance(i, against) + bonus[i]), i))
        return roles | {i: 2 for i in left[: keep - key - task]}
    while len(roles) < keep:
        best = min(left, key=lambda i: (-(distance(i, against) + bonus[i]), i))
        left.remove(best)
        against.append(best)
        roles[best] = 2
    return roles


def cosine(a, b):
    dot = math.fsum(float(x) * float(y) for x, y in zip(a, b))
    return dot / (norm(a) * norm(b)) if norm(a) and norm(b) else 0.0


def norm(a):
    return math.sqrt(sum(float(x) ** 2 for x in a))


def naive_attention(layer, x, theta=10000.0):
    """Attention probabilities of a decoder layer for one sequence x [S, D], float64 [H, S, S]."""
    attention = layer.self_attn
    heads, kv_heads, dim = attention.heads, attention.kv_heads, attention.head_dim
    gain = layer.input_layernorm.weight.double().numpy()
    x = x.double().numpy()
    scale = np.sqrt((x**2).mean(-1, keepdims=True) + layer.input_layernorm.eps)
    normed = x / scale * gain
    q = normed @ attention.q_proj.weight.double().numpy().T
    k = normed @ attention.k_proj.weight.double().numpy().T
    length = len(x)
    found = np.zeros((heads, length, length))
    for head in range(heads):
        kv = head // (heads // kv_heads)
        for i in range(length):
            row = turn(q[i, head * dim : (head + 1) * dim], i, theta)
            scores = [
                row @ turn(k[j, kv * dim : (kv + 1) * dim], j, theta) / math.sqrt(dim)
                for j in range(i + 1)
            ]
            weights = np.exp(np.array(scores) - max(scores))
            found[head, i, : i + 1] = weights / weights.sum()
    return found


def turn(vector, position, theta):
    """Rotary position by complex numbers: component c pairs with c + half."""
    half = len(vector) // 2
    angles = position / theta ** (np.arange(half) / half)
    turned = (vector[:half] + 1j * vector[half:]) * np.exp(1j * angles)
    return np.concatenate((turned.real, turned.imag))
