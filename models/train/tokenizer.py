"""A small tokenizer of CLIP's kind: lower-cased byte-level BPE with `</w>` word ends.

The ids follow CLIP's order: 256 byte symbols, the same at a word's end, one id per
merge, then `<|startoftext|>` and `<|endoftext|>`. All three models share one vocabulary.
"""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from .files import write_json
from .networks import CONTEXT

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\s a-z0-9]+"


def train(prompts: list[str], folder: Path) -> None:
    """Learns merges until every word of the prompts is one token; writes HF's files."""
    merges = _learn_merges(prompts)
    symbols = _byte_symbols()
    words = symbols + [s + "</w>" for s in symbols] + [a + b for a, b in merges] + [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "vocab.json", {word: i for i, word in enumerate(words)})
    lines = ["#version: 0.2"] + [f"{a} {b}" for a, b in merges]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "do_lower_case": True,
            "model_max_length": CONTEXT,
            **special,
        },
    )


def encode(tokenizer: CLIPTokenizer, prompts: list[str]):
    """Token ids, `[n, 16]`, cut or padded as the pipeline does it."""
    return tokenizer(
        prompts, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
    ).input_ids


def _learn_merges(prompts: list[str]) -> list[tuple[str, str]]:
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(WORD_PATTERN), "removed", invert=True)
    learner.train_from_iterator(
        prompts,
        trainers.BpeTrainer(vocab_size=4000, end_of_word_suffix="</w>", show_progress=False),
    )
    merges = json.loads(learner.to_str())["model"]["merges"]
    return [tuple(pair) for pair in merges]


def _byte_symbols() -> list[str]:
    """CLIP's printable stand-ins for the 256 bytes, in CLIP's order."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]
