"""What of the package has to be seen on a GPU, tried with a small random model: does it run, and are the numbers those of the CPU?

    python benchmarks/gpu_check.py                 on a GPU
    python benchmarks/gpu_check.py --device cpu    does the script run?

The last line is one JSON object: device, which attention kernel is used, whether liger-kernel is there, and for each way of holding the
model how far its weights are, after six steps in float32, from those of the plain way on the CPU (relative, the largest of any weight).
Then six steps in bfloat16 with activation checkpointing, as a large model is trained, where the flash kernel is called again on the way
back: how far the way that the weights have gone is from that of the plain ones (relative, all weights together; the other way is 2).
Exit code 1 if one is further than 1e-4, or in bfloat16 than 0.2, or the 4 bits do not begin at their own reference.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import sys
from functools import partial
from typing import Any

import torch

FAR, FAR_IN_HALF = 1e-4, 0.2
SHAPE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 4}


def model(device: str) -> Any:
    """A random Llama of some two million weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from zephyr.train.attention import NAME

    config = AutoConfig.for_model("llama", vocab_size=2048, tie_word_embeddings=False, bos_token_id=None, eos_token_id=2, **SHAPE)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation=NAME, dtype=torch.float32).to(device).eval()


def pairs(made: Any) -> list[Any]:
    """A dozen of them, with the model's own log-probabilities as the reference."""
    from zephyr.train.batches import branching, flatten
    from zephyr.train.logprobs import sequence_sums, stream_logprobs
    from zephyr.train.tasks import Pair

    rng, found = random.Random(0), []
    for number in range(12):
        prompt, *answers = ([rng.randrange(3, 2048) for _ in range(rng.randint(5, 120))] for _ in range(3))
        example = branching(prompt, *answers)
        stream = flatten([example], str(made.device))
        chosen, rejected = sequence_sums(stream_logprobs(made, stream), stream).tolist()
        found.append(Pair(f"pair {number}", example, chosen, rejected))
    return found


def trained(
    device: str, offload: str = "none", quantize: bool = False, dtype: torch.dtype = torch.float32, recompute: bool = False
) -> tuple[dict[str, torch.Tensor], float]:
    """Weights after six steps, and with `quantize` the loss before the first.

    Without it no step forward goes before: attention's kernel is tried where a training first calls it, inside of a layer that may be
    checkpointed.
    """
    from zephyr.objectives import dpo
    from zephyr.recipe import DPOConfig, LoRAConfig
    from zephyr.train import lora, parallel, quantized
    from zephyr.train.loop import Trainer
    from zephyr.train.tasks import Preferences

    made = model("cpu" if quantize or offload == "all" else device)
    if quantize:
        quantized.quantize(made, device)
    items = pairs(made)
    if quantize:
        lora.adapt(made, LoRAConfig(rank=8, dropout=0.0))
    if recompute:
        parallel.recompute_activations(made)
    config = DPOConfig(batch_size=4, epochs=2, learning_rate=1e-4)
    with parallel.group_of_one(offload == "all"):
        trainer: Any = Trainer(made, Preferences(partial(dpo, beta=0.1), 0.1), config, dtype, 1024, 0, lambda _: None, offload=offload)
        loss = trainer.means(items)["loss"] if quantize else 0.0
        trainer.train(items, [], "check")
        return {name: w.cpu() for name, w in parallel.whole_weights(made).items()}, loss


def apart_in_moves(found: dict[str, torch.Tensor], plain: dict[str, torch.Tensor]) -> float:
    """How far two ways from the same first weights are apart, relative to the second; weights alone would hide it, they hardly move."""
    first = model("cpu").state_dict()

    def moves(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([(weights[name] - first[name]).flatten() for name in plain])

    return float((moves(found) - moves(plain)).norm() / moves(plain).norm())


def kernels(device: str) -> dict[str, Any]:
    """Which attention kernels are there, and which of them computes what it should."""
    from zephyr.train import varlen

    there = {kernel.__name__.strip("_"): kernel for kernel in varlen._there()}
    found: dict[str, Any] = {}
    for name, kernel in there.items():
        found[name] = [
            varlen.computes_attention(kernel, heads, kv, size, torch.bfloat16, device)
            for heads, kv, size in ((8, 8, 64), (32, 8, 128), (9, 3, 64))
        ]
    return found


def main() -> None:
    """Try, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    device = parser.parse_args().device
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} sees no GPU here; --device cpu says whether the script runs")
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    result: dict[str, Any] = {"device": name, "torch": torch.__version__, "attention": kernels(device)}
    result["liger"] = importlib.util.find_spec("liger_kernel") is not None
    plain, _ = trained("cpu")
    apart = {}
    for offload in ("none", "optimizer", "all"):
        weights, _ = trained(device, offload)
        apart[offload] = max(float((weights[n] - plain[n]).norm() / plain[n].norm()) for n in plain)
    result["apart"] = apart
    half, _ = trained(device, dtype=torch.bfloat16, recompute=True)
    result["apart_in_bfloat16_checkpointed"] = off = apart_in_moves(half, plain)
    if importlib.util.find_spec("bitsandbytes") is not None:
        result["loss_of_4_bits_at_first"] = trained(device, quantize=True)[1]
    fine = max(apart.values()) < FAR and off < FAR_IN_HALF and abs(result.get("loss_of_4_bits_at_first", 0.693147) - 0.693147) < 1e-5
    print(json.dumps({**result, "fine": fine}))
    sys.exit(not fine)


if __name__ == "__main__":
    main()
