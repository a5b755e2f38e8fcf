"""Text rows to token rows, by the rules of Paddock's data page, with Hugging Face's `tokenizers`.

A text row is {"prompt": …, "completion": …}. The two are joined as they are and tokenised once as
a whole, without special-token parsing; a token is trained if its last character lies in the
completion. BOS comes first if the model defines one; EOS comes last and is trained.
"""

import json
import pathlib

from tokenizers import Tokenizer


def token_text(value):
    """The text of a special token, which tokenizer_config.json writes in two ways."""
    return value["content"] if isinstance(value, dict) else value


def special_id(folder, tokenizer, kind):
    """The id of "bos" or "eos": from tokenizer_config.json, else from config.json, else None."""
    path = folder / "tokenizer_config.json"
    if path.exists():
        settings = json.loads(path.read_text(encoding="utf-8"))
        text = token_text(settings.get(f"{kind}_token"))
        if text is not None:
            return tokenizer.token_to_id(text)
    value = json.loads((folder / "config.json").read_text()).get(f"{kind}_token_id")
    return value[0] if isinstance(value, list) else value


def open_tokenizer(folder):
    """The tokenizer of a model folder, set so that text never becomes a special token."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def token_row(tokenizer, bos, eos, prompt, completion):
    encoded = tokenizer.encode(prompt + completion, add_special_tokens=False)
    tokens, trained = ([] if bos is None else [bos]), []
    for token, (_, end) in zip(encoded.ids, encoded.offsets):
        if end > len(prompt):
            trained.append(len(tokens))
        tokens.append(token)
    if eos is not None:
        trained.append(len(tokens))
        tokens.append(eos)
    return {"tokens": tokens, "trained": [p for p in trained if p > 0]}


def read_text_rows(model_folder, path):
    """Token rows of a JSONL file of text rows."""
    folder = pathlib.Path(model_folder)
    tokenizer = open_tokenizer(folder)
    bos, eos = (special_id(folder, tokenizer, kind) for kind in ("bos", "eos"))
    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    return [token_row(tokenizer, bos, eos, row["prompt"], row["completion"]) for row in rows]
