"""Makes the golden files of the template tests with Python's jinja2 and transformers.

Usage: python make.py SHARED_DATA_FOLDER OUTPUT_FOLDER

Only hashes of rendered text are kept, and for promptsource which value of VALUES each variable
took, so that nothing of the templates themselves is copied.
"""

import glob, hashlib, itertools, json, os, random, sys

import jinja2, jinja2.meta, yaml
from transformers.utils.chat_template_utils import render_jinja_template

VALUES = [
    "Some plain text.",
    1,
    0,
    ["alpha", "beta", "gamma", "delta"],
    {"text": ["alpha", "beta"], "label": ["A", "B"], "answer_start": [0, 3]},
    [{"answer": "alpha", "text": "beta", "meta": {"score": 3}}],
    [["alpha", "beta"], ["gamma", "delta"]],
    True,
    "A",
    0.5,
    "alpha",
    "1",
    {"text": "alpha", "title": ["one", "two"], "sentences": [["a b", "c"], ["d", "e"]]},
    ["it's", 'a "quote"', "back\\slash"],
]


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def most_frequent(items):
    counts = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    most = max(counts.values())
    return [item for item, count in counts.items() if count == most]


def environment():
    env = jinja2.Environment(undefined=jinja2.StrictUndefined)
    env.globals["zip"] = zip
    env.filters["most_frequent"] = most_frequent
    env.filters["choice"] = lambda items: items[0]
    return env


def parts(main, choices, row):
    variables = dict(row)
    if choices is not None:
        rendered = choices.render(**row)
        variables["answer_choices"] = [c.strip() for c in rendered.split("|||")]
    return [part.strip() for part in main.render(**variables).split("|||")]


def promptsource(shared):
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, _, node: loader.construct_mapping(node, deep=True))
    env = environment()
    found = {}
    total = 0
    root = os.path.join(shared, "promptsource")
    for path in sorted(glob.glob(os.path.join(root, "**", "*.yaml"), recursive=True)):
        templates = yaml.load(open(path, encoding="utf-8"), Loader)["templates"]
        for number, template in enumerate(templates.values()):
            total += 1
            jinja, choices = template["jinja"], template["answer_choices"]
            if "choice" in (jinja + (choices or "")).replace("answer_choices", "").replace("choices", ""):
                continue
            names = jinja2.meta.find_undeclared_variables(env.parse(jinja))
            if choices:
                names |= jinja2.meta.find_undeclared_variables(env.parse(choices))
            names = sorted(names - {"answer_choices", "zip", "range", "namespace"})
            best = None
            main = env.from_string(jinja)
            offered = env.from_string(choices) if choices else None
            luck = random.Random(total)
            for tried in range(300):
                # First the same value for all, then any.
                pick = [tried] * len(names)
                if tried >= len(VALUES):
                    pick = [luck.randrange(len(VALUES)) for _ in names]
                try:
                    row = {name: VALUES[i] for name, i in zip(names, pick)}
                    result = parts(main, offered, row)
                except Exception:
                    continue
                if all(result) and len(result) >= 2:
                    best = (pick, result)
                    break
                best = best or (pick, result)
            if best:
                pick, result = best
                key = os.path.relpath(path, root) + "#" + str(number)
                found[key] = [dict(zip(names, pick)), digest("\x1f".join(result[:2]))]
    return {"templates": total, "values": VALUES, "rendered": found}


CONVERSATIONS = [
    [{"role": "user", "content": "Hello, who are you?"}],
    [
        {"role": "user", "content": "  Add 1 and 2. \n"},
        {"role": "assistant", "content": "It is 3."},
        {"role": "user", "content": "And <b>then</b>?"},
        {"role": "assistant", "content": "\nThen\n\n  nothing.\n"},
    ],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Grüße, 世界 🙂"},
        {"role": "assistant", "content": "Hallo."},
    ],
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a place.",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string", "description": "A town"}},
                "required": ["place"],
            },
        },
    }
]


def chat(shared):
    import datetime

    # Chat templates may ask for the day: fix it.
    import transformers.utils.chat_template_utils as utils

    class Day(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 31)

    utils.datetime = Day
    found = {}
    root = os.path.join(shared, "chat_templates")
    for path in sorted(glob.glob(os.path.join(root, "**", "*.*"), recursive=True)):
        text = open(path, encoding="utf-8").read()
        if path.endswith(".json"):
            text = json.loads(text).get("chat_template")
        if not isinstance(text, str):
            continue
        entries = []
        for messages, tools, opened in itertools.product(CONVERSATIONS, [None, TOOLS], [False, True]):
            try:
                rendered, _ = render_jinja_template(
                    conversations=[messages], tools=tools, chat_template=text,
                    add_generation_prompt=opened, bos_token="<s>", eos_token="</s>",
                )
                entries.append(digest(rendered[0]))
            except Exception as error:
                entries.append("error")
        found[os.path.relpath(path, root)] = entries
    return {"conversations": CONVERSATIONS, "tools": TOOLS, "rendered": found}


if __name__ == "__main__":
    shared, out = sys.argv[1:3]
    for name, make in [("chat.json", chat), ("promptsource.json", promptsource)]:
        content = make(shared)
        with open(os.path.join(out, name), "w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False, separators=(",", ":"))
            file.write("\n")
        print(name, len(content["rendered"]))
