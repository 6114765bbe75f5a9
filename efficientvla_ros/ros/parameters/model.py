"""Parameters `model.*`; free of torch and ROS."""

from __future__ import annotations

from efficientvla_ros.ros.parameters.table import Changes, Spec

# One parameter a block reads better than one argument a line.
# fmt: off
SPECS: tuple[Spec, ...] = (
    Spec(
        'model.path', 'tabletop-small',
        'Name of a model whose weights are in the package, or path of a checkpoint folder or '
        '.pt file.',
        changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.device', 'cpu',
        'Device that runs the model: cpu, cuda or cuda:<index>.',
        changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.dtype', 'auto',
        'Number type of the weights; auto takes float32 on a CPU and bfloat16 on CUDA. The '
        'diffusion head always runs in float32.',
        choices=('auto', 'float32', 'bfloat16'), changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.tokenizer', '',
        'Folder with the tokenizer.json of the model; empty looks in the checkpoint folder.',
        changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.unnorm_key', '',
        'Data set whose statistics turn the output of the model into metres and radians; empty '
        'takes the only one that the checkpoint has.',
        changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.use_ema', False,
        'Take the averaged weights of the diffusion head, where the checkpoint has them.',
        changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.random_weights', False,
        'Build the model without its weights, to measure latency; model.path may then be any '
        'name that the package knows. The arm moves at random.',
        changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.threads', 1, 'CPU threads of one inference.',
        low=1, high=256, changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.ddim_steps', 0,
        'Denoising steps of the diffusion head; 0 takes the number stored with the model.',
        low=0, high=1000, changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.guidance', 0.0,
        'Classifier-free guidance scale; 0 takes the value stored with the model.',
        low=0.0, high=20.0, changes=Changes.CONFIGURE,
    ),
)
# fmt: on
