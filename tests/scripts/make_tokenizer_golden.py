"""Token ids of odd texts by the libraries that own each tokenizer format.

    python tests/scripts/make_tokenizer_golden.py [SHARED_DATA_FOLDER]

Reads the tokenizers beside the repository (../shared/data unless told) and writes
tests/fixtures/tokenizers.json: only ids and positions, nothing of the files themselves. Texts are
encoded without special-token parsing and without BOS or EOS. Where a tokenizer exists in two
formats both must agree.
"""

import base64
import gzip
import json
import pathlib
import sys

import sentencepiece
import tiktoken
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "fixtures" / "tokenizers.json"
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = [
    "",
    " ",
    "  ",
    "     ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    " \n ",
    "a",
    " a",
    "  a",
    "a ",
    "a  b   c    d",
    "The old mare walked slowly to the paddock.",
    "Where does it hurt?\n\nHere.",
    "### Response:\n",
    "one\r\ntwo\rthree\nfour",
    "\tindented\n\t\tmore\n    spaces",
    "def f(x):\n    return x**2  # square\n",
    "don't, DON'T, we'LL, they've, I'm, it's, she'd",
    "rock'n'roll 'quoted' ''",
    "0 12 123 1234 12345678901234567890",
    "3.14159, 1e-5, -7, +8, 0x1F, 50%",
    "v1.2.3-rc4 (2024-02-29T23:59:60Z)",
    "caf\u00e9 na\u00efve Stra\u00dfe",
    "cafe\u0301 nai\u0308ve",
    "\u00c5ngstr\u00f6m A\u030angstro\u0308m \u212bngstr\u00f6m",
    "\ufb01ne o\ufb00er \u2460\u00bd\u00b2 \uff21\uff22\uff23",
    "\u5c0f\u9a6c\u8fc7\u6cb3",
    "\u4eca\u65e5\u306f\u826f\u3044\u5929\u6c17\u3067\u3059\u306d\u3002\u30ab\u30bf\u30ab\u30ca",
    "\ub9d0\uc774 \ub2e8\ub2e4 \u1112\u1161\u11ab",
    "\u041b\u043e\u0448\u0430\u0434\u044c \u0431\u0435\u0436\u0438\u0442 \u043f\u043e \u043f\u043e\u043b\u044e.",
    "\u0627\u0644\u062d\u0635\u0627\u0646 \u0641\u064a \u0627\u0644\u062d\u0642\u0644",
    "\u05e1\u05d5\u05e1 \u05d1\u05e9\u05d3\u05d4",
    "\u0918\u094b\u0921\u093c\u093e \u0926\u094c\u0921\u093c\u0924\u093e \u0939\u0948",
    "\u0e21\u0e49\u0e32\u0e27\u0e34\u0e48\u0e07\u0e43\u0e19\u0e17\u0e38\u0e48\u0e07",
    "\U0001f40e",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 and \U0001f469\U0001f3fd\u200d\U0001f680!",
    "\U0001f3f3\ufe0f\u200d\U0001f308 \u2764\ufe0f \U0001f1eb\U0001f1f7",
    "a\U0001f600b \U0001f600\U0001f600",
    "\u0000",
    "nul\u0000inside",
    "bell\u0007 escape\u001b[31m delete\u007f",
    "\ufeffbyte order mark",
    "zero\u200bwidth soft\u00adhyphen no\u00a0break\u3000wide",
    "left\u200eright\u202eright-to-left\u202c",
    "replacement \ufffd private \ue000 last \U0010ffff",
    "\u2581",
    "a\u2581b \u2581 c",
    "<s>",
    "</s>",
    "text</s>more<s> <unk> <pad>",
    "<|eot_id|>",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>",
    "<|im_start|>system\n<|endoftext|>",
    "[INST] <<SYS>> hay <</SYS>> [/INST]",
    "<0x0A> <0xFF> \\n \\u0041",
    "|||{{ answer_choices[0] }}|||",
    "https://example.org/a?b=c&d=%20#e user@example.org",
    "Pneumonoultramicroscopicsilicovolcanoconiosis",
    "haaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaay",
    "================================================",
    "!!!???...,,,;;;:::",
    "$x_i^2 + \\frac{1}{2} \u2264 \u221e \u2200\u03b5>0$",
    "\u201ccurly\u201d \u2018quotes\u2019 \u2014 dash\u2026",
    "end with spaces   ",
    "end with newline\n",
    "\u1e9e\u0130\u0131\u017f \u01c5",
    "e" + "\u0301" * 12,
]


def read_bytes(path):
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def char_ends(text):
    """end[i] = the byte where the character that holds byte i ends."""
    ends, position = [], 0
    for char in text:
        size = len(char.encode())
        position += size
        ends += [position] * size
    return ends


def ends_of_pieces(text, pieces):
    """Byte end of each token's last character, from the bytes that the tokens spell."""
    assert b"".join(pieces) == text.encode(), (text, pieces)
    ends, position, out = char_ends(text), 0, []
    for piece in pieces:
        position += len(piece)
        out.append(ends[position - 1] if position else 0)
    return out


def hugging_face(data):
    """Ids and ends of a tokenizer.json; ends are the library's own offsets, in bytes."""
    tokenizer = Tokenizer.from_str(data.decode())
    tokenizer.encode_special_tokens = True
    for text in TEXTS:
        encoded = tokenizer.encode(text, add_special_tokens=False)
        yield encoded.ids, [len(text[:end].encode()) for _, end in encoded.offsets]


def sentence_piece(data):
    """Ids and ends of a Llama tokenizer.model, which puts a space before the text."""
    model = sentencepiece.SentencePieceProcessor(model_proto=data)
    for text in TEXTS:
        ids, pieces = model.encode(text), []
        for token in ids:
            piece = model.id_to_piece(token)
            byte = model.is_byte(token)
            pieces.append(bytes([int(piece[1:-1], 16)]) if byte else piece.encode())
        raw = b"".join(pieces)
        marked = text.replace("\u2581", " ").encode()
        pieces = [piece.replace("\u2581".encode(), b" ") for piece in pieces]
        assert raw == b"" or raw.startswith("\u2581".encode())
        if pieces:
            pieces[0] = pieces[0][1:]
        assert b"".join(pieces) == marked, (text, pieces)
        yield ids, marked_ends(text, pieces)


def marked_ends(text, pieces):
    """As ends_of_pieces, where U+2581 of the text came back as a space of one byte.

    A first token that is nothing but the added space counts as the first character's.
    """
    ends = [0]
    position = 0
    for char in text:
        position += len(char.encode())
        ends += [position] * (1 if char == "\u2581" else len(char.encode()))
    total, out = 0, []
    for piece in pieces:
        total += len(piece)
        out.append(ends[total] or ends[1])
    return out


def rank_file(data):
    """Ids and ends of a tiktoken rank file with the pattern of Llama 3."""
    lines = [line.split() for line in data.splitlines() if line.strip()]
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    encoding = tiktoken.Encoding(
        name="ranks", pat_str=LLAMA3_PATTERN, mergeable_ranks=ranks, special_tokens={}
    )
    for text in TEXTS:
        ids = encoding.encode_ordinary(text)
        yield ids, ends_of_pieces(text, encoding.decode_tokens_bytes(ids))


SOURCES = {
    "llama2": {
        "tokenizers/llama2/tokenizer.json.gz": hugging_face,
        "tokenizers/llama2/tokenizer.model": sentence_piece,
    },
    "llama3": {"tokenizers/llama3/tokenizer.model.gz": rank_file},
    "gpt2": {"tokenizers/gpt2/tokenizer.json.gz": hugging_face},
    "torchtune_json": {"tokenizers/torchtune_test/tokenizer.json": hugging_face},
    "torchtune_ranks": {"tokenizers/torchtune_test/tiktoken_small.model": rank_file},
    "torchtitan": {"tokenizers/torchtitan_test/tokenizer.json": hugging_face},
    "stories260K": {"models/stories260K-hf/tokenizer.json": hugging_face},
}


def main():
    shared = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data"
    lines = []
    for name, files in SOURCES.items():
        results = [list(read(read_bytes(shared / path))) for path, read in files.items()]
        for text, *rows in zip(TEXTS, *results):
            assert all(row == rows[0] for row in rows), (name, text, rows)
        entry = {
            "files": list(files),
            "ids": [ids for ids, _ in results[0]],
            "ends": [ends for _, ends in results[0]],
        }
        lines.append(f"{json.dumps(name)}: {json.dumps(entry, separators=(',', ':'))}")
    texts = ",\n".join(json.dumps(text) for text in TEXTS)
    body = ",\n".join(lines)
    OUT.write_text(f'{{"texts": [\n{texts}\n],\n"tokenizers": {{\n{body}\n}}}}\n')


if __name__ == "__main__":
    main()
