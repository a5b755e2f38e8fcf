"""Draws a random LLaMA in transformers, with a tokenizer and rows to train it on.

    python tests/scripts/random_llama.py --seed N --out DIR [--rope KIND] [--dtype f32|bf16|f16]

Heads, widths, head_dim, RoPE, tied or own head, dtype, shards, tokenizer and the words of
config.json all come from the seed (a flag fixes one). DIR becomes a Hugging Face folder with
`data.jsonl` ({"prompt", "completion"} rows) and `rows.json` (the same rows as token ids). Prints
what was drawn.
"""

import json
import pathlib
import random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig

import make_fixtures
import peer
import text_rows

ANIMALS = ("mare", "foal", "pony", "donkey", "goat", "hen", "Größe", "café", "馬", "🐎")
PLACES = ("stable", "meadow", "paddock", "orchard", "river bank", "hill", "smithy")
TASKS = (
    "Where does the {a} sleep?",
    "Name the animal: {a}, {b} or neither?",
    "The {a} and the {b} walk to the {p}.\nWho comes first?",
    "Repeat: {a} {a} {b}",
    "Write the word {a} once more.",
)
ANSWERS = (" The {a}.", " In the {p}.", " {b}", " {a} {b}", " First the {a},\n then the {b}.")


def draw_rows(draw, count):
    """Text rows; some share their beginning, as real instructions do."""
    rows = []
    for _ in range(count):
        words = {"a": draw.choice(ANIMALS), "b": draw.choice(ANIMALS), "p": draw.choice(PLACES)}
        head = draw.choice(("", "", "### Task:\nAnswer in a word.\n\n"))
        prompt = head + draw.choice(TASKS).format(**words)
        rows.append({"prompt": prompt, "completion": draw.choice(ANSWERS).format(**words)})
    return rows


def draw_tokenizer(draw, rows):
    """A byte-level BPE or a word-level tokenizer over the rows' own text."""
    specials = ["<unk>", "<s>", "</s>"]
    texts = [row["prompt"] + row["completion"] for row in rows]
    if draw.random() < 0.7:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=259 + draw.randrange(100),
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        kind = "byte-level BPE"
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordLevelTrainer(special_tokens=specials, show_progress=False)
        kind = "word-level"
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer, kind


def draw_rope(draw, kind):
    kind = kind or draw.choice(("default", "linear", "dynamic", "llama3"))
    theta = draw.choice((10000.0, 500000.0, 1234.5))
    if kind == "default":
        return make_fixtures.rope(kind, theta)
    if kind == "llama3":
        return dict(make_fixtures.LLAMA3, rope_theta=theta)
    return make_fixtures.rope(kind, theta, factor=draw.choice((2.0, 2.5, 4.0)))


def draw_config(draw, options, tokens):
    """Any heads and widths; head_dim is even because RoPE turns pairs.

    Dynamic RoPE divides by head_dim - 2 and so needs 4 at least.
    """
    rope = draw_rope(draw, options.rope)
    narrowest = 2 if rope["rope_type"] == "dynamic" else 1
    heads = draw.choice((1, 2, 3, 4, 5, 6, 8))
    kv = draw.choice([n for n in range(1, heads + 1) if heads % n == 0])
    head_dim = 2 * draw.randrange(narrowest, 13)
    config = {
        "hidden_size": heads * head_dim,
        "intermediate_size": draw.randrange(9, 120),
        "num_hidden_layers": draw.randrange(1, 5),
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": tokens + draw.choice((0, 0, 1, 13)),
        "max_position_embeddings": 16 if rope["rope_type"] == "dynamic" else 512,
        "rms_norm_eps": draw.choice((1e-5, 1e-6)),
        "rope_parameters": rope,
        "tie_word_embeddings": draw.random() < 0.5,
    }
    if draw.random() < 0.3:
        config["head_dim"] = 2 * draw.randrange(narrowest, 13)
    return config


def tokenizer_settings(draw):
    """Either way of writing a special token; sometimes no file, so that config.json must do."""
    if draw.random() < 0.3:
        return None
    if draw.random() < 0.5:
        return {"bos_token": "<s>", "eos_token": "</s>"}
    texts = {"bos_token": "<s>", "eos_token": "</s>"}
    return {key: {"content": text, "special": True} for key, text in texts.items()}


def arguments():
    parser = peer.argument_parser(__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="a new folder")
    parser.add_argument("--rope", choices=("default", "linear", "dynamic", "llama3"))
    parser.add_argument("--dtype", choices=tuple(make_fixtures.DTYPES))
    parser.add_argument("--rows", type=int, default=24)
    return parser.parse_args()


def main():
    options = arguments()
    draw = random.Random(options.seed)
    options.out.mkdir(parents=True)
    rows = draw_rows(draw, options.rows)
    tokenizer, tokenizer_kind = draw_tokenizer(draw, rows)
    spec = draw_config(draw, options, tokenizer.get_vocab_size())
    dtype = options.dtype or draw.choice(("f32", "f32", "bf16", "f16"))
    shard = draw.choice(("1GB", "1GB", "60KB"))
    older_words = draw.random() < 0.5
    config = LlamaConfig(bos_token_id=1, eos_token_id=2, **spec)
    model = make_fixtures.draw_model(config, torch.Generator().manual_seed(options.seed))
    model.to(make_fixtures.DTYPES[dtype]).save_pretrained(options.out, max_shard_size=shard)
    (options.out / "generation_config.json").unlink(missing_ok=True)
    path = options.out / "config.json"
    if older_words:
        make_fixtures.write_json(path, make_fixtures.older_config(json.loads(path.read_text())))
    tokenizer.save(str(options.out / "tokenizer.json"))
    settings = tokenizer_settings(draw)
    if settings:
        make_fixtures.write_json(options.out / "tokenizer_config.json", settings)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (options.out / "data.jsonl").write_text(lines, encoding="utf-8")
    ids = text_rows.read_text_rows(options.out, options.out / "data.jsonl")
    (options.out / "rows.json").write_text(json.dumps(ids))
    peer.load_model(options.out)  # what was written can be opened
    drawn = spec | {"dtype": dtype, "shard": shard, "older_words": older_words}
    print(json.dumps(drawn | {"tokenizer": tokenizer_kind, "tokenizer_config": settings}))


if __name__ == "__main__":
    main()
