"""Merging: exactness, seconds and memory, beside PEFT's ties_svd and mergekit's TIES in one run.

    python benchmarks/merge.py [--quick]

Adapters: four random ones, rank 16, at Qwen2.5-VL-7B's shapes (hidden 3584, keys and values 512 wide), cut to rank 64;
and four at the embedded model's (4 layers of 128). Seconds at 7B are of ONE layer (q, k, v, o) for every contender, in
turn, medians: PEFT's dense SVDs take minutes for all 28. Our whole merge of 28 layers runs once beside it in a process
of its own, whose peak memory is `peak_mib`. mergekit (into .cache/benchmarks on the first run; its pins agree with
ours) merges dense weights that are in memory already: what it needs to read five models is not counted, nor does it
cut to a rank, which we do.

`max_error` is the largest difference between our TIES and DARE-TIES, before the cut, and a plain dense float64
reference, over the module's largest entry. Entries within 1e-5 (of the largest) of a tie in threshold or sign are left
out and counted. Then what PEFT gets wrong, as figures. The last line is JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from grandrounds.params import DareTies, Ties

PACKAGES = Path(".cache/benchmarks/packages")
HIDDEN, NARROW, LAYERS, RANK, CUT, DENSITY = 3584, 512, 28, 16, 64, 0.5
NAMES, NEAR = ("first", "second", "third", "fourth"), 1e-5
TIES, DARE = Ties(density=DENSITY), DareTies(type="dare_ties", density=DENSITY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of PEFT at 7B, within four minutes")
    parser.add_argument("--whole", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.whole:
        return whole()
    figures: dict[str, float] = {}
    layer = random_updates(1, HIDDEN, NARROW)
    figures |= exactness(layer)
    figures |= contest("", layer, CUT, 1 if given.quick else 3)
    tiny = random_updates(4, 128, 128, 8)
    figures |= contest("_embedded", tiny, 128, 5)
    figures |= peft_errors(tiny)
    done = subprocess.run([sys.executable, __file__, "--whole"], check=True, capture_output=True, text=True)
    figures |= json.loads(done.stdout.splitlines()[-1])
    print(f"7B, 28 layers: {figures['seconds_whole']:.0f} s, peak {figures['peak_mib']:.0f} MiB with the adapters")
    print(json.dumps(figures))


def random_updates(layers: int, hidden: int, narrow: int, rank: int = RANK) -> dict[str, Any]:
    """Four adapters on q, k, v, o."""
    import torch

    from grandrounds.domain.adapters import LoraFactors, LoraUpdate

    generator = torch.Generator().manual_seed(7)
    outs = {"q_proj": hidden, "k_proj": narrow, "v_proj": narrow, "o_proj": hidden}
    draw = lambda *shape: 0.02 * torch.randn(*shape, generator=generator)  # noqa: E731
    return {
        name: LoraUpdate(
            {
                f"layers.{layer}.{kind}": LoraFactors(draw(rank, hidden), draw(out, rank), 2.0)
                for layer in range(layers)
                for kind, out in outs.items()
            }
        )
        for name in NAMES
    }


def whole() -> None:
    """Our merge of all 28 layers, alone in this process."""
    from grandrounds.domain.merging.merge import merge

    updates = random_updates(LAYERS, HIDDEN, NARROW)
    begin = time.perf_counter()
    merge(updates, {}, TIES, CUT, workers=2)
    seconds, peak = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(json.dumps({"seconds_whole": round(seconds, 1), "peak_mib": round(peak / unit)}))


def contest(suffix: str, updates: dict[str, Any], rank: int, rounds: int) -> dict[str, float]:
    """How many times our time the others take: by the clock, and by the processor, whatever else the machine does."""
    ours, peft, theirs = in_turn(updates, rank, rounds)
    where = "embedded" if suffix else "7B, one layer"
    for what, place in (("seconds", 0), ("of the processor", 1)):
        print(
            f"{where}, {what}: ours {ours[place]:.2f}, PEFT ties_svd {peft[place]:.2f}, mergekit TIES (dense, no cut) "
            f"{theirs[place]:.2f}",
            flush=True,
        )
    return {
        f"{name}{part}{suffix}": round(each[place] / ours[place], 2)
        for name, each in (("ratio_peft", peft), ("ratio_mergekit", theirs))
        for place, part in enumerate(("", "_processor"))
    }


def in_turn(updates: dict[str, Any], rank: int, rounds: int) -> list[tuple[float, float]]:
    """Median (seconds, processor seconds) of ours, PEFT's and mergekit's."""
    import torch

    from grandrounds.domain.merging.merge import merge

    workers = torch.get_num_threads()  # the others have as many threads
    contenders: list[Callable[[], object]] = [
        lambda: merge(updates, {}, TIES, rank, workers=workers), peft_merge(updates, rank), mergekit_merge(updates),
    ]  # fmt: skip
    taken: list[list[tuple[float, float]]] = [[] for _ in contenders]
    for _ in range(rounds):
        for place, contender in enumerate(contenders):
            begin, worked = time.perf_counter(), time.process_time()
            contender()
            taken[place].append((time.perf_counter() - begin, time.process_time() - worked))
    return [(median(wall for wall, _ in each), median(work for _, work in each)) for each in taken]


def peft_model(updates: dict[str, Any], **config: Any) -> Any:
    """Linear layers with the adapters on them, as PEFT holds them."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    first = updates[NAMES[0]]
    plain = torch.nn.Module()
    for module, factors in first.items():
        parent = plain
        for part in module.split(".")[:-1]:
            if not hasattr(parent, part):
                parent.add_module(part, torch.nn.Module())
            parent = getattr(parent, part)
        out, width = factors.shape
        parent.add_module(module.rpartition(".")[2], torch.nn.Linear(width, out, bias=False))
    rank = first.rank
    settings = {"r": rank, "lora_alpha": 2 * rank, "target_modules": list(first), **config}
    wrapped: PeftModel = get_peft_model(plain, LoraConfig(**settings), adapter_name=NAMES[0])
    for name in NAMES[1:]:
        wrapped.add_adapter(name, LoraConfig(**settings))
    for name, update in updates.items():
        for module, factors in update.items():
            target = wrapped.base_model.model.get_submodule(module)
            target.lora_A[name].weight.data.copy_(factors.a)
            target.lora_B[name].weight.data.copy_(factors.b)
    return wrapped


def peft_merge(updates: dict[str, Any], rank: int) -> Callable[[], object]:
    wrapped = peft_model(updates)

    def run() -> None:
        added = {"combination_type": "ties_svd", "svd_rank": rank, "density": DENSITY}
        wrapped.add_weighted_adapter(list(NAMES), [1.0] * len(NAMES), "merged", **added)
        wrapped.delete_adapter("merged")

    return run


def mergekit_merge(updates: dict[str, Any]) -> Callable[[], object]:
    """mergekit's own function on a base of zeros and four dense models, made beforehand."""
    import torch

    if not (PACKAGES / "mergekit").is_dir():
        print("installing mergekit ...", flush=True)
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(PACKAGES)]
        subprocess.run([*command, "mergekit", "immutables"], check=True)
    sys.path.append(str(PACKAGES))
    from mergekit.merge_methods import registry
    from mergekit.merge_methods.base import TensorGroup

    method = registry.get("ties")
    dense = {module: [updates[name][module].dense() for name in NAMES] for module in updates[NAMES[0]]}
    shared = {"int8_mask": False, "normalize": True, "rescale": False, "lambda": 1.0}
    each = {"weight": dict(enumerate([None, *[1.0] * 4])), "density": dict(enumerate([None, *[DENSITY] * 4]))}

    def run() -> None:
        for tensors in dense.values():
            group = TensorGroup.from_tensors([torch.zeros_like(tensors[0]), *tensors], base_index=0)
            method.merge_group(group, **shared, **each)

    return run


def exactness(updates: dict[str, Any]) -> dict[str, float]:
    """Our TIES and DARE-TIES against the reference; and the cut, ours against the best possible at that rank."""
    import torch

    from grandrounds.domain.lowrank import compress
    from grandrounds.domain.merging.merge import merge_exactly

    worst, skipped, total = 0.0, 0, 0
    for module in ("layers.0.q_proj", "layers.0.k_proj"):
        for method in (TIES, DARE):
            got = merge_exactly(module, updates, {}, method)
            wanted, near = reference(module, updates, method)
            top = wanted.abs().max()
            worst = max(worst, float(((got - wanted).abs() / top)[~near].max()))
            skipped, total = skipped + int(near.sum()), total + near.numel()
    dense = merge_exactly("layers.0.k_proj", updates, {}, TIES)
    values = torch.linalg.svdvals(dense.double())
    best, ours = float(values[CUT:].norm() / values.norm()), compress(dense, CUT).error
    print(f"largest error before the cut {worst:.1e}; {skipped} of {total} entries near a tie left out")
    print(f"cut of k_proj to rank {CUT}: error {ours:.4f}, the best possible {best:.4f}")
    return {
        "max_error": worst, "entries_near_a_tie": skipped, "entries": total,
        "cut_error": round(ours, 5), "cut_error_best": round(best, 5),
    }  # fmt: skip


def reference(module: str, updates: dict[str, Any], method: Ties | DareTies) -> tuple[Any, Any]:
    """Dense, in float64, line by line as the papers say; and which entries are near a tie. Drops as ours draws them."""
    import torch

    from grandrounds.domain.merging.inputs import gather
    from grandrounds.domain.merging.sums import drop

    given = gather(module, updates, {}, DENSITY, ())
    stack = torch.stack([each.scale * (each.b.double() @ each.a.double()) for each in given.factors])
    near = torch.zeros(stack.shape[1:], dtype=torch.bool)
    if isinstance(method, DareTies):
        stack *= drop(torch.ones(stack.shape), given.densities, given.seeds(method.seed))
    else:
        for update in stack:
            size = update.numel()
            cut = update.abs().flatten().sort(descending=True).values[round(DENSITY * size) - 1]
            near |= (update.abs() - cut).abs() < NEAR * update.abs().max()
            update[update.abs() < cut] = 0
    total = stack.sum(dim=0)
    near |= (total.abs() < NEAR * total.abs().max()) & (stack != 0).any(dim=0)
    agrees = (torch.sign(stack) == torch.sign(total)) & (stack != 0)
    return (stack * agrees).sum(dim=0) / agrees.sum(dim=0).clamp(min=1), near


def peft_errors(updates: dict[str, Any]) -> dict[str, float]:
    """How far PEFT's merges are from the merge of the updates: relative Frobenius error over all modules."""
    from grandrounds.domain.merging.merge import merge_exactly

    exact = {module: merge_exactly(module, updates, {}, TIES) for module in updates[NAMES[0]]}
    found = {}
    for key, kind, config in (
        ("peft_error_ties_svd", "ties_svd", {}),
        ("peft_error_ties", "ties", {}),
        ("peft_error_ties_svd_rslora", "ties_svd", {"use_rslora": True, "lora_alpha": 2 * 8**0.5}),
    ):
        wrapped = peft_model(updates, **config)
        added = {"combination_type": kind, "density": DENSITY, "svd_rank": 128}
        wrapped.add_weighted_adapter(list(NAMES), [1.0] * len(NAMES), "merged", **added)
        gap = norm = 0.0
        for module, wanted in exact.items():
            got = wrapped.base_model.model.get_submodule(module).get_delta_weight("merged").detach()
            gap, norm = gap + float((got - wanted).square().sum()), norm + float(wanted.square().sum())
        found[key] = round((gap / norm) ** 0.5, 4)
        print(f"PEFT {kind}{' of rsLoRA adapters' if config else ''}: relative error {found[key]:.4f}")
    return found


if __name__ == "__main__":
    main()
