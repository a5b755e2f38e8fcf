"""Writes tests/fuzz/seeds: small whole files of formats that nobody writes by hand, for the fuzzer to start from.

    python tests/scripts/make_fuzz_seeds.py        (needs tokenizers, sentencepiece, pyarrow, zstandard)

Everything in them is made from the text below.
"""

import base64
import gzip
import io
import pathlib

import pyarrow
import pyarrow.parquet
import sentencepiece
import zstandard
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent.parent / "fuzz" / "seeds"
TEXT = [
    "The fox ran to the river and saw a small boat.",
    "\"Will you come with me?\" asked the fox, and the boat said nothing.",
    "So the fox went home, made a cup of tea, and told the story to the owl.",
    "The owl laughed and said that boats never answer questions about rivers.",
]
ROWS = [{"prompt": text, "completion": text[::-1], "label": i} for i, text in enumerate(TEXT)]


def tokenizer_json():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=80, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer.to_str().encode()


def tokenizer_model():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 8), model_writer=model, vocab_size=320, model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0, normalization_rule_name="identity", minloglevel=2, hard_vocab_limit=False)
    return model.getvalue()


def tiktoken_model():
    pieces = [bytes([i]) for i in range(256)] + [b"th", b"the", b" the", b"fo", b"fox", b" fox"]
    return b"".join(base64.b64encode(piece) + b" %d\n" % rank for rank, piece in enumerate(pieces))


def parquet():
    sink = io.BytesIO()
    table = pyarrow.Table.from_pylist([row | {"list": [1, 2], "maybe": None if row["label"] % 2 else 0.5} for row in ROWS])
    pyarrow.parquet.write_table(table, sink, compression="snappy", row_group_size=3)
    return sink.getvalue()


def main():
    HERE.mkdir(parents=True, exist_ok=True)
    lines = "".join('{"prompt":"%d","completion":"%s"}\n' % (i, text[:9]) for i, text in enumerate(TEXT)).encode()
    files = {
        "tokenizer.json": tokenizer_json(),
        "tokenizer.model": tokenizer_model(),
        "tiktoken.model": tiktoken_model(),
        "rows.parquet": parquet(),
        "rows.jsonl.gz": gzip.compress(lines, mtime=0),
        "rows.jsonl.zst": zstandard.compress(lines),
    }
    for name, data in files.items():
        (HERE / name).write_bytes(data)
        print(name, len(data))


main()
