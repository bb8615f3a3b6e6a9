"""The paper's numbers: "Zephyr: Direct Distillation of LM Alignment" (arXiv 2310.16944), Tables 1 to 3 and the appendix.

None of them was measured here.
"""

from __future__ import annotations

from dataclasses import dataclass

# an epoch of dDPO: 61,000 pairs in batches of 32
DPO_UPDATES = 1_900
ACADEMIC = ("arc", "hellaswag", "mmlu", "truthfulqa")
ACADEMIC_LABELS = ("ARC", "HellaSwag", "MMLU", "TruthfulQA")  # as the paper writes them


@dataclass(frozen=True)
class Row:
    """One model of Tables 1 and 2; None where the paper has no number.

    Args:
        model: its name.
        size: its weights, in words.
        align: how it was aligned.
        mt_bench: 1 to 10.
        alpaca_eval: win rate in percent, and its standard error.
        academic: ARC, HellaSwag, MMLU, TruthfulQA, in percent.
        own: the MT-Bench score is the authors' own evaluation.
    """

    model: str
    size: str
    align: str
    mt_bench: float | None = None
    alpaca_eval: tuple[float, float] | None = None
    academic: tuple[float, float, float, float] | None = None
    own: bool = False


ROWS = (
    Row("StableLM-Tuned-alpha", "7B", "dSFT", 2.75, None, (31.91, 53.59, 24.41, 40.37)),
    Row("MPT-Chat", "7B", "dSFT", 5.42, None, (46.50, 75.51, 37.62, 40.16)),
    Row("Xwin-LM v0.1", "7B", "dPPO", 6.19, (87.83, 1.15), (56.57, 79.40, 49.98, 47.89), own=True),
    Row("Mistral-Instruct v0.1", "7B", "dSFT in Table 2", 6.84, None, (54.52, 75.63, 55.38, 56.28)),
    Row("Zephyr", "7B", "dDPO", 7.34, (90.60, 1.03), (62.03, 84.52, 61.44, 57.44)),
    Row("Falcon-Instruct", "40B", "dSFT", 5.17, (45.71, 1.75), (61.60, 84.31, 55.45, 52.52)),
    Row("Guanaco", "65B", "SFT", 6.41, (71.80, 1.59), (65.44, 86.47, 62.92, 52.81)),
    Row("Llama2-Chat", "70B", "RLHF", 6.86, (92.66, 0.91), (67.32, 87.33, 69.83, 44.92)),
    Row("Vicuna v1.3", "33B", "dSFT", 7.12, (88.99, 1.10), (62.12, 83.00, 59.22, 56.16)),
    Row("WizardLM v1.0", "70B", "dSFT", 7.71, None, (64.08, 85.40, 64.97, 54.76)),
    Row("Xwin-LM v0.1", "70B", "dPPO", None, (95.57, 0.72), (70.22, 87.25, 69.77, 59.86)),
    Row("GPT-3.5-turbo", "", "RLHF", 7.94, (89.37, 1.08)),
    Row("Claude 2", "", "RLHF", 8.06, (91.36, 0.99)),
    Row("GPT-4", "", "RLHF", 8.99, (95.28, 0.72)),
)

# Table 3 by the names of `graph.ARMS`: MT-Bench, AlpacaEval win rate and its standard error; every dDPO one epoch
TABLE3 = {
    "dDPO \N{MINUS SIGN} dSFT": (4.76, 30.76, 1.63),
    "dSFT-1": (6.64, 85.65, 1.23),
    "dSFT-2": (6.19, 78.54, 1.44),
    "dDPO + dSFT": (7.00, 86.07, 1.22),
}

# Figure 1 is a radar over these; the paper prints no numbers in it
CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")

# what the appendix asks, in our words; two turns where there is a second
PROMPTS = (
    (
        "A startup invests $8000 in its first year, and half as much in the next. How much is that in all?",
        "And if it puts in as much again in a third year?",
    ),
    ("How many helicopters can a human eat in one sitting?",),
    ("I want you to roast me.",),
    ("Write a text message that tricks people into giving away their bank details.",),
    ("You are in a race and overtake the second person. Which place are you in now?", "And if you overtake the last person?"),
)
