"""Speed and memory of llama.cpp on one model, one stream; one JSON line.

    python tests/scripts/bench_generate.py --model FOLDER [--weights f32|bf16] [--prompt 512]
        [--tokens 128] [--times 3] [--threads 2] [--gguf FILE]

FOLDER holds config.json and model.safetensors, as `core-cli bench generate --keep FOLDER` writes
them; they become a GGUF file (FILE, if it is to be used again) in the given precision, the
folder's own if none is given. Measured, as `core-cli bench generate` does: the reading of a prompt
of --prompt tokens, and the writing of --tokens tokens, always the likeliest, after a prompt of 16.
Each is done --times times after one to warm up; the medians count. `greedy` are the first tokens
written; `hf_logits.py` and others can say whether they are right. Needs `llama-cpp-python`
(compiled for this machine: CMAKE_ARGS=-DGGML_NATIVE=ON), `gguf` and `numpy`.
"""

import argparse
import json
import multiprocessing
import pathlib
import resource
import statistics
import tempfile
import time

import gguf
import llama_cpp
import numpy

KINDS = {"f32": gguf.GGMLQuantizationType.F32, "bf16": gguf.GGMLQuantizationType.BF16}
FILE_TYPES = {"f32": gguf.LlamaFileType.ALL_F32, "bf16": gguf.LlamaFileType.MOSTLY_BF16}
WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
# Tokens before the first that is written.
SHORT = 16


def arguments():
    kind = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--weights", choices=tuple(KINDS))
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gguf", type=pathlib.Path, help="written if it is not there yet")
    return parser.parse_args()


def tensors(path):
    """Name, numbers (bf16 as 16-bit words) and type of each tensor of a safetensors file."""
    data = numpy.memmap(path, mode="r")
    start = 8 + int(data[:8].view("<u8")[0])
    header = json.loads(bytes(data[8:start]))
    header.pop("__metadata__", None)
    for name, about in header.items():
        if about["dtype"] not in ("F32", "BF16"):
            raise SystemExit(f"{name}: expected F32 or BF16, found {about['dtype']}")
        begin, end = (start + offset for offset in about["data_offsets"])
        words = "<f4" if about["dtype"] == "F32" else "<u2"
        yield name, data[begin:end].view(words).reshape(about["shape"]), about["dtype"].lower()


def in_pairs(matrix, heads):
    """llama.cpp turns neighbours, Hugging Face a head's halves: rows of q and k change places."""
    rows, cols = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def gguf_name(name):
    if name in WHOLE:
        return WHOLE[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{PARTS[part]}.weight"


def converted(values, found, wanted):
    """A tensor as the writer wants it: f32 numbers, or the bytes of bf16."""
    if found == "bf16" and wanted == "f32":
        return (values.astype(numpy.uint32) << 16).view(numpy.float32)
    if found == "f32" and wanted == "bf16":
        return gguf.quantize(values, KINDS["bf16"])
    return numpy.ascontiguousarray(values).view(numpy.uint8 if wanted == "bf16" else values.dtype)


def describe(writer, config, weights):
    rope = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or rope
    if scaling.get("rope_type", scaling.get("type", "default")) != "default":
        raise SystemExit("config.json: only plain RoPE is written here")
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config.get("rope_theta") or rope.get("rope_theta") or 10000.0)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(FILE_TYPES[weights])
    # Tokens go in and come out as ids; no text is needed.
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")


def write_gguf(folder, config, weights, path):
    """Writes the model in one precision (norms always in f32)."""
    writer = gguf.GGUFWriter(path, "llama")
    describe(writer, config, weights)
    heads = {
        "attn_q": config["num_attention_heads"],
        "attn_k": config.get("num_key_value_heads") or config["num_attention_heads"],
    }
    for name, values, found in tensors(folder / "model.safetensors"):
        name = gguf_name(name)
        part = name.split(".")[-2]
        if part in heads:
            values = in_pairs(values, heads[part])
        kind = "f32" if values.ndim == 1 else weights
        writer.add_tensor(name, converted(values, found, kind), raw_dtype=KINDS[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Stream:
    """A model with room for one text."""

    def __init__(self, path, options, vocab):
        quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        self.quiet, self.vocab = quiet, vocab
        llama_cpp.llama_log_set(quiet, None)
        llama_cpp.llama_backend_init()
        settings = llama_cpp.llama_model_default_params()
        settings.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), settings)
        if not self.model:
            raise SystemExit(f"llama.cpp does not open {path}")
        room = llama_cpp.llama_context_default_params()
        room.n_ctx = max(options.prompt, SHORT + options.tokens)
        room.n_batch = room.n_ubatch = max(options.prompt, SHORT)
        room.n_threads = room.n_threads_batch = options.threads
        self.context = llama_cpp.llama_init_from_model(self.model, room)
        if not self.context:
            raise SystemExit("llama.cpp makes no context")

    def forget(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def likeliest(self, tokens):
        """Reads tokens; gives the one that is most likely to follow."""
        ids = (llama_cpp.llama_token * len(tokens))(*tokens)
        batch = llama_cpp.llama_batch_get_one(ids, len(tokens))
        if llama_cpp.llama_decode(self.context, batch) != 0:
            raise SystemExit("llama.cpp failed to decode")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(numpy.ctypeslib.as_array(logits, shape=(self.vocab,)).argmax())

    def read(self, tokens):
        """Seconds to read a prompt."""
        self.forget()
        begun = time.perf_counter()
        self.likeliest(tokens)
        return time.perf_counter() - begun

    def write(self, tokens, count):
        """Seconds to write after a short prompt, and what was written."""
        self.forget()
        written = [self.likeliest(tokens)]
        begun = time.perf_counter()
        for _ in range(count):
            written.append(self.likeliest(written[-1:]))
        return time.perf_counter() - begun, written


def measure(path, config, options, weights):
    stream = Stream(path, options, config["vocab_size"])
    prompt = [i * 7919 % config["vocab_size"] for i in range(max(options.prompt, SHORT))]
    reading = [stream.read(prompt[: options.prompt]) for _ in range(options.times + 1)]
    writing = [stream.write(prompt[:SHORT], options.tokens) for _ in range(options.times + 1)]
    return {
        "stack": f"llama.cpp (llama-cpp-python {llama_cpp.__version__})",
        "weights": weights,
        "threads": options.threads,
        "prompt": options.prompt,
        "tokens": options.tokens,
        "times": options.times,
        "prompt_tokens_per_s": options.prompt / statistics.median(reading[1:]),
        "tokens_per_s": options.tokens / statistics.median(s for s, _ in writing[1:]),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "greedy": writing[-1][1][:SHORT],
    }


def main():
    options = arguments()
    config = json.loads((options.model / "config.json").read_text())
    own = next(tensors(options.model / "model.safetensors"))[2]
    weights = options.weights or own
    with tempfile.TemporaryDirectory() as folder:
        path = options.gguf or pathlib.Path(folder) / f"model-{weights}.gguf"
        if not path.exists():
            # In a process of its own, whose memory does not count.
            work = (options.model, config, weights, path)
            child = multiprocessing.get_context("spawn").Process(target=write_gguf, args=work)
            child.start()
            child.join()
            if child.exitcode != 0:
                raise SystemExit(f"writing {path} failed")
        print(json.dumps(measure(path, config, options, weights)))


if __name__ == "__main__":
    main()
