"""Measure ideas for one GPU: several trainings at once, and fewer kernels in a step.

    python bench/gpu_ideas.py [--size 128 256] [--batch-size 16] [--steps 100] [--most 4]

Prints, for a U-Net/ResNet-34 of full depth in bfloat16, milliseconds per step and training:

- of one training, as it is and with `CastOnce`, where one kernel casts all weights to bfloat16 and nearest-neighbour
  upsampling stays in bfloat16. It also prints the relative difference between the gradients of both, next to that
  between two runs with autocast.
- of 1 to `--most` trainings in one process, each on its own stream, which take their steps in turn.
- of 1 to `--most` processes, as with `--workers`; then the same under NVIDIA's Multi-Process Service, if the program
  `nvidia-cuda-mps-control` is installed. The service is started for this, and ended.

docs/performance.md has the results on an H200. Without a GPU only the gradients are compared, in a minute.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, interpolate
from torch.overrides import TorchFunctionMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.gpu import open_training
from sweeper.core.recipe import Recipe
from sweeper.core.records import Dataset
from sweeper.data import load_dataset
from sweeper.training.engine import StudyTraining

DATA = "synthetic:cracks?images=40&size=512"
FIRST_STEPS = 20
"""Steps before the timed ones."""
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
START_SECONDS = 120


class CastOnce:
    """Forward pass under autocast in which one kernel casts the weights of convolutions and linear layers."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        in_layers = {id(p) for m in model.modules() if type(m) in LAYERS for p in m.parameters(recurse=False)}
        self._weights = {name: p for name, p in model.named_parameters() if id(p) in in_layers}

    def __call__(self, inputs: Tensor) -> Any:
        cast = _CastFunction.apply(*self._weights.values())
        with _UpsamplingWithoutAutocast():
            return functional_call(self._model, dict(zip(self._weights, cast, strict=True)), (inputs,))


class _CastFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        cast = [torch.empty_like(weight, dtype=torch.bfloat16) for weight in weights]
        torch._foreach_copy_(cast, list(weights))
        return tuple(cast)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        narrow = [gradient for gradient in gradients if gradient is not None]
        wide = [torch.empty_like(gradient, dtype=torch.float32) for gradient in narrow]
        torch._foreach_copy_(wide, narrow)
        remaining = iter(wide)
        return tuple(None if gradient is None else next(remaining) for gradient in gradients)


class _UpsamplingWithoutAutocast(TorchFunctionMode):
    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is interpolate and (kwargs or {}).get("mode", "nearest").startswith("nearest"):
            with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def compare_gradients(device: str) -> None:
    """Print the relative difference (Euclidean norm) between gradients with `CastOnce` and with autocast."""
    import segmentation_models_pytorch as smp

    torch.backends.cudnn.deterministic = True
    for arch, encoder in (
        ("unet", "resnet34"),
        ("unet", "efficientnet-b0"),
        ("fpn", "resnet18"),
        ("segformer", "mit_b0"),
    ):
        model = smp.create_model(arch, encoder_name=encoder, encoder_weights=None, classes=5).to(device)
        model = model.to(memory_format=torch.channels_last)
        state = {name: values.clone() for name, values in model.state_dict().items()}
        inputs, labels = torch.randn(4, 3, 64, 64, device=device), torch.randint(5, (4, 64, 64), device=device)
        gradients = []
        for network in (model, model, CastOnce(model)):
            model.load_state_dict(state)
            model.zero_grad(set_to_none=True)
            torch.manual_seed(1)
            with torch.autocast(device, dtype=torch.bfloat16, cache_enabled=False):
                logits = network(inputs)
            cross_entropy(logits.float(), labels).backward()
            parts = [p.grad.flatten().double() for p in model.parameters() if p.grad is not None]
            gradients.append(torch.cat(parts))
        first = gradients[0]
        differences = [float((first - other).norm() / first.norm()) for other in gradients[1:]]
        print(
            f"{arch}/{encoder}: autocast twice {differences[0]:.1e}, weights cast at once {differences[1]:.1e}",
            flush=True,
        )


def make_training(dataset: Dataset, size: int, batch: int, *, cast_once: bool = False) -> StudyTraining:
    """Return a training whose steps are recorded, after its first steps."""
    recipe = Recipe(encoder="resnet34", encoder_depth=5, size=size, batch_size=batch)
    training = open_training(dataset, recipe, "graph", "cuda", 100_000)
    if cast_once:
        training._steps.model = CastOnce(training._steps.model)  # type: ignore[assignment]
    training._steps.take_steps(0, FIRST_STEPS)
    assert training._steps.is_recorded, training._steps.why_plain
    return training


def time_one(dataset: Dataset, size: int, batch: int, steps: int) -> None:
    """Print the milliseconds per step of one training, as it is and with weights cast at once, in turn."""
    pair = [make_training(dataset, size, batch, cast_once=once) for once in (False, True)]
    times: list[list[float]] = [[], []]
    for repetition in range(3):
        first = FIRST_STEPS + repetition * steps
        for training, values in zip(pair, times, strict=True):
            began = time.perf_counter()
            training._steps.take_steps(first, first + steps)
            values.append(1000 * (time.perf_counter() - began) / steps)
    print(f"{size}², {batch}: as it is {sorted(times[0])[1]:.2f} ms, weights cast at once {sorted(times[1])[1]:.2f} ms")


def time_streams(dataset: Dataset, size: int, batch: int, steps: int, most: int) -> None:
    """Print the milliseconds per step of several trainings of this process, in turn, each on its own stream."""
    trainings, first = [make_training(dataset, size, batch) for _ in range(most)], FIRST_STEPS
    streams = [torch.cuda.Stream() for _ in trainings]
    for count in range(1, most + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for number in range(first, first + steps):
            for training, stream in zip(trainings[:count], streams, strict=False):
                taker = training._steps
                with torch.cuda.stream(stream), taker._seed_network_draws():
                    taker._seed_step(number)
                    taker._set_rate(number)
                    taker._take_step(number)
        torch.cuda.synchronize()
        first += steps
        milliseconds = 1000 * (time.perf_counter() - began) / (steps * count)
        print(f"{size}², {batch}: {count} on streams of one process {milliseconds:.2f} ms", flush=True)


def serve_steps(pipe: Connection, folder: str, sizes: list[int], batch: int) -> None:
    """Take the steps that the pipe requests, until it sends None."""
    torch.set_num_threads(2)
    dataset = load_dataset(DATA, Path(folder))
    trainings, done = {size: make_training(dataset, size, batch) for size in sizes}, dict.fromkeys(sizes, FIRST_STEPS)
    pipe.send(None)
    while (order := pipe.recv()) is not None:
        size, steps = order
        trainings[size]._steps.take_steps(done[size], done[size] + steps)
        done[size] += steps
        pipe.send(None)


def time_processes(folder: str, arguments: argparse.Namespace, label: str) -> None:
    """Print the milliseconds per step of several processes at the same time."""
    context = multiprocessing.get_context("spawn")
    workers = []
    for _ in range(arguments.most):
        ours, theirs = context.Pipe()
        process = context.Process(
            target=serve_steps, args=(theirs, folder, arguments.size, arguments.batch_size), daemon=True
        )
        process.start()
        workers.append((process, ours))
    try:
        for _, pipe in workers:
            if not pipe.poll(START_SECONDS):
                print(f"{label}: a process was not ready within {START_SECONDS} s")
                return
            pipe.recv()
        for size in arguments.size:
            for count in range(1, arguments.most + 1):
                began = time.perf_counter()
                for _, pipe in workers[:count]:
                    pipe.send((size, arguments.steps))
                for _, pipe in workers[:count]:
                    pipe.recv()
                milliseconds = 1000 * (time.perf_counter() - began) / (arguments.steps * count)
                print(f"{size}², {arguments.batch_size}: {count} {label} {milliseconds:.2f} ms", flush=True)
    finally:
        for process, _ in workers:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="*", default=[128, 256])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--most", type=int, default=4)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        compare_gradients("cpu")
        return
    compare_gradients("cuda")
    with tempfile.TemporaryDirectory() as folder:
        dataset = load_dataset(DATA, Path(folder))
        for size in arguments.size:
            time_one(dataset, size, arguments.batch_size, arguments.steps)
            time_streams(dataset, size, arguments.batch_size, arguments.steps, arguments.most)
            torch.cuda.empty_cache()
        time_processes(folder, arguments, "processes")
        os.environ.update({"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder})
        try:
            subprocess.run(["nvidia-cuda-mps-control", "-d"], check=True, timeout=30)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"no Multi-Process Service: {error}")
            return
        try:
            time_processes(folder, arguments, "processes under MPS")
        finally:
            subprocess.run(["nvidia-cuda-mps-control"], input=b"quit\n", check=False, timeout=60)


if __name__ == "__main__":
    main()
