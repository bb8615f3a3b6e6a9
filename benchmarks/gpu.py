"""The races on a GPU, at the shape of a 1B model and of Mistral-7B with random weights.

    python benchmarks/gpu.py                       on a GPU: bfloat16 products over float32 weights, three rounds
    python benchmarks/gpu.py --quick --device cpu  the tiny model on the CPU: does the script run?

At the shape of Mistral-7B both sides have float32 weights, gradients and Adam (116 GB), so both recompute activations there.
"""

from __future__ import annotations

import race
from race import Race

SHORT = ("--checkpointing",)  # where memory is
CHECKPOINTED = {"": SHORT, "-grouped": (*SHORT, "--group")}
STEPS = {
    "dpo-1b": Race("dpo", "1b", "synthetic", 64, race.TWO_WAYS),
    "sft-1b": Race("sft", "1b", "dialogues", 120),
    "dpo-mistral-7b": Race("dpo", "mistral-7b", "synthetic", 16, CHECKPOINTED, SHORT),
    "sft-mistral-7b": Race("sft", "mistral-7b", "dialogues", 40, {"": SHORT}, SHORT),
}


def main() -> None:
    """Parse, race, print: the last line is one JSON object."""
    args = race.parsed(__doc__, list(STEPS), device="cuda")
    chosen = {name: STEPS[name] for name in args.only or STEPS}
    race.done(race.run({name: lambda a, one=one, name=name: race.steps(name, one, a) for name, one in chosen.items()}, args))


if __name__ == "__main__":
    main()
