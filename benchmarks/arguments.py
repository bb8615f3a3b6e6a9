"""The arguments that both sides of a race take."""

from __future__ import annotations

import argparse


def parser(doc: str | None, what: list[str], dtypes: list[str]) -> argparse.ArgumentParser:
    """What is run, on which model and rows, in which number format and batches."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("what", choices=what)
    made.add_argument("--model", required=True)
    made.add_argument("--pairs", help="JSONL of preference pairs")
    made.add_argument("--references", help="JSON: chosen's and rejected's log-probabilities under the reference, in the order of the pairs")
    made.add_argument("--dialogues", help="JSONL of dialogues")
    made.add_argument("--dtype", default="float32", choices=dtypes)
    made.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    made.add_argument("--checkpointing", action="store_true", help="compute activations again on the way back, where memory is short")
    made.add_argument("--batch", type=int, default=4, help="pairs a step")
    made.add_argument("--epochs", type=int, default=1, help="of the whole job")
    made.add_argument("--steps", type=int, default=3, help="of supervised training, a packed sequence each")
    made.add_argument("--warm-up", type=int, default=1, help="epochs before those that count: memory is there then")
    made.add_argument("--counted", type=int, default=2, help="epochs that count, their mean: TRL draws its batches anew in each")
    made.add_argument("--max-length", type=int, default=2048)
    return made
