"""Writes tokens.json: what transformers' CLIPTokenizer makes of some prompts.

    python tests/tokens.py ../models/shapes/tokenizer > tests/tokens.json

With `!` as the token that pads, as Stable Diffusion 2 has it, `!` in a prompt is that token.
"""

import json
import sys

from transformers import CLIPTokenizer

PROMPTS = [
    "",
    "a red circle on a blue background",
    "A RED Circle,on a  blue\tbackground!!!",
    "it's 2 o'clock, they'll've said: we're done; don't 'tis",
    "12345 6.7e8 №5 ½ ٣",
    "naïve café, Ünïcödé, ǅ, ﬁne, İstanbul",
    "cafe\u0301 and café are one word in NFC",
    "猫 とイヌ 고양이 кошка γάτα חתול",
    "🐈‍⬛ 👩🏽‍🚀🎨",
    "<|startoftext|>in<|endoftext|> the middle <|ENDOFTEXT|>",
    "zero\u200bwidth, \u00a0no-break\u3000wide \ufeff mark \u202e right-to-left",
    "control \u0000\u0001\u007f\u0085 characters",
    "under_score-dash…dots—dash “quotes” `ticks` \\ / | ~ ^ § ©",
    "  leading and trailing  \n",
    "word " * 40,
    "x" * 100,
]

tokenizers = {pad: CLIPTokenizer.from_pretrained(sys.argv[1], pad_token=pad) for pad in ["<|endoftext|>", "!"]}
rows = [
    {
        "pad": pad,
        "prompt": prompt,
        "ids": tokenizer(prompt, padding="max_length", max_length=16, truncation=True).input_ids,
    }
    for pad, tokenizer in tokenizers.items()
    for prompt in PROMPTS
]
json.dump(rows, sys.stdout, indent=None, separators=(",", ":"))
