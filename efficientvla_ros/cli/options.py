"""Options that several sub-commands share: one type and one help text each."""

from __future__ import annotations

from typing import Annotated

import typer

Device = Annotated[str, typer.Option(help='cpu, cuda or cuda:N.')]
Dtype = Annotated[
    str, typer.Option(help='auto (float32 on a CPU, bfloat16 on CUDA), float32, bfloat16.')
]
Threads = Annotated[int, typer.Option(min=1, help='CPU threads of torch.')]
Tokenizer = Annotated[
    str | None, typer.Option(help="Folder with tokenizer.json; the checkpoint's if not given.")
]
UnnormKey = Annotated[str | None, typer.Option(help='Data set whose action statistics are used.')]
DdimSteps = Annotated[
    int | None, typer.Option(help="Sampling steps; the model's own if not given.")
]
Guidance = Annotated[
    float | None, typer.Option(help="Guidance scale; the model's own if not given.")
]
