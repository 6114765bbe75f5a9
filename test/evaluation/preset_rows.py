"""Made-up episodes and measurements of presets."""

from __future__ import annotations

STAGES = ('preprocess', 'vision', 'language', 'action_head', 'postprocess')


def plan(tokens: int = 64, layers: int = 12, steps: int = 10, notes: tuple[str, ...] = ()) -> dict:
    return {
        'acceleration': {'tokens': tokens},
        'layers': list(range(layers)),
        'notes': list(notes),
        'visual_tokens': tokens,
        'layers_run': layers,
        'diffusion_steps': steps,
    }


def row(seed: int, outcome: str = 'success', made_by: dict | None = None, ms: float = 20.0):
    seconds = 1e-3 * ms
    return {
        'seed': seed, 'instruction': 'pick orange', 'target': 'orange', 'swapped': False,
        'outcome': outcome, 'ticks': 10, 'lifted_object': 'orange', 'inferences': 2,
        'rejected_commands': 0, 'holds': {}, 'interventions': {},
        'stage_seconds': {
            **{stage: [seconds / 4, seconds / 4] for stage in STAGES},
            'total': [seconds, 3 * seconds],
        },
        'plan': plan() if made_by is None else made_by,
    }  # fmt: skip


def rows(outcomes: str, made_by: dict | None = None, ms: float = 20.0, first: int = 10) -> list:
    """A row for each letter: s for success, t for timeout."""
    names = {'s': 'success', 't': 'timeout'}
    return [
        row(first + index, names[letter], made_by, ms) for index, letter in enumerate(outcomes)
    ]


def benchmark(**speed_ups: float) -> dict:
    """A report of `efficientvla benchmark --presets`: `dense` and others by their speed-up."""
    stages = ('vision', 'language', 'action_head', 'total')
    presets = {}
    for name, factor in {'dense': 1.0, **speed_ups}.items():
        latency = {stage: {'p50': 0.1 / factor, 'p95': 0.2, 'p99': 0.3} for stage in stages}
        presets[name] = {'plan': plan(), 'latency_s': latency}
        if name != 'dense':
            presets[name]['speed_up'] = dict.fromkeys(stages, factor)
    settings = {'model': 'cogact-mini', 'threads': 2, 'runs': 50}
    return {'settings': settings, 'presets': presets}


CHANNELS = {
    'kinds': ['update', 'sparse'], 'ratios': [0.0, 0.25], 'similarities': [None, 0.5],
    'reasons': ['first frame'], 'audits': [[0.1] * 7], 'changed': [0.04], 'missed': 0, 'notes': [],
}  # fmt: skip


def channel_rows(outcomes: str, made_by: dict | None = None, ms: float = 20.0) -> list:
    """Rows of a plan that adapts channels."""
    return [{**each, 'channels': CHANNELS} for each in rows(outcomes, made_by, ms)]


def replayed(relative: float) -> dict:
    """An episode of two ticks compared with dense."""
    deviation = [[0.0] * 7, [relative] * 7]
    return {
        'kinds': ['update', 'sparse'],
        'ratios': [0.0, 0.25],
        'deviation': deviation,
        'relative': [0.0, relative],
    }
