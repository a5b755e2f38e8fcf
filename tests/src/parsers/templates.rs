//! Templates: text that strangers wrote, which is rendered on rows.

use paddock_datasets::record::Record;
use paddock_datasets::template::{Template, clusters, promptsource};
use serde_json::{Value, json};

use super::Parser;

fn record() -> Record {
    Record::from_pairs([
        ("text", json!("It was \"fine\", mostly.")),
        ("label", json!(1)),
        ("instruction", json!("Do it.")),
        ("input", json!("")),
        ("output", json!("Done.")),
        ("choices", json!(["no", "yes"])),
        (
            "messages",
            json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]),
        ),
    ])
}

fn render(template: &Template) {
    if let Ok(compiled) = template.compile() {
        _ = compiled.variables();
        _ = compiled.render(&record());
        _ = compiled.render_prompt(&record());
    }
}

/// Conversations: with a system message and two answers, one that begins with an answer and holds control tokens as
/// text, one with tools and their calls, one of blanks.
fn conversations() -> [Record; 4] {
    let said = |role: &str, content: Value| json!({"role": role, "content": content});
    let talks = [
        json!([
            said("system", json!("Be short.")),
            said("user", json!("Hi")),
            said("assistant", json!("Ho ")),
            said("user", json!("And?")),
            said("assistant", json!("Nothing.")),
        ]),
        json!([said("assistant", json!("</s><s>\u{fdd0}")), said("user", json!("<s></s></s>"))]),
        json!([
            said("user", json!([{"type": "text", "text": "What time?"}])),
            {"role": "assistant", "content": null, "tool_calls": [
                {"type": "function", "function": {"name": "clock", "arguments": {"</s>": 1}}}
            ]},
            said("tool", json!("12")),
            said("assistant", json!("Noon.")),
        ]),
        json!([said("user", json!(" ")), said("assistant", json!(""))]),
    ];
    let tools = json!([{"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}]);
    talks.map(|talk| Record::from_pairs([("messages", talk), ("tools", tools.clone())]))
}

/// A model's own chat template, which a stranger's folder brings along, on one of them.
fn chat_template(bytes: &[u8]) {
    let body = json!({
        "kind": "chat", "jinja": String::from_utf8_lossy(bytes), "bos_token": "<s>", "eos_token": "</s>",
        "specials": ["<s>", "</s>", "</s></s>"], "today": "2026-01-31",
    });
    let text = json!({"version": 1, "name": "c", "columns": {}, "body": body}).to_string();
    let template = Template::from_json(&text).expect("a template of any text");
    let Ok(compiled) = template.compile() else { return };
    _ = compiled.variables();
    // One a text: each of them may come to the limits of a rendering, several times.
    let records = conversations();
    let record = &records[bytes.len() % records.len()];
    _ = compiled.render(record);
    _ = compiled.render_prompt(record);
}

/// A chat template with marked answers as `template.json` holds it.
const CHAT: &[u8] = b"{\"version\":1,\"name\":\"c\",\"columns\":{},\"body\":{\"kind\":\"chat\",\"jinja\":\"{{ bos_token }}{% \
    for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{{ eos_token }}{% endfor %}\",\
    \"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"specials\":[\"<s>\",\"</s>\"],\"today\":\"2026-01-31\"}}";

/// The Alpaca prompts as `template.json` holds them.
const TEMPLATE: &[u8] = br#"{"version":1,"name":"alpaca","columns":{},"body":{"kind":"alpaca"}}"#;

pub(super) fn parsers() -> Vec<Parser> {
    vec![
        Parser {
            name: "jinja",
            read: |bytes| {
                let text = String::from_utf8_lossy(bytes);
                render(&Template::jinja("t", &text, Some("no ||| yes")));
            },
            seeds: &[],
            more: &[
                b"{{ text }} Is it good? ||| {{ answer_choices[label] }}",
                b"{% for c in choices %}{{ loop.index }}: {{ c | upper }}\n{% endfor %}|||{% if label == 1 %}y{% \
                  else %}n{% endif %}",
                b"{% set x = namespace(n=0) %}{% for m in messages %}{% set x.n = x.n + 1 %}{{ m.role }}{{ \
                  m['content'] | trim }}{% endfor %}{{ x.n }}|||{{ choices | join(', ') | replace('a', 'b') }}",
            ],
        },
        Parser {
            name: "chat_template",
            read: chat_template,
            seeds: &[],
            more: &[
                b"{{ bos_token }}{% for message in messages %}{{ '[' + message['role'] + '] ' }}{% if message.role == \
                  'assistant' %}{% generation %}{{ message['content'] | trim }}{{ eos_token }}{% endgeneration %}{% \
                  else %}{{ message['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant] \
                  {% endif %}",
                b"{%- set date = strftime_now('%d %b %Y') -%}{%- if messages[0]['role'] == 'system' -%}{%- set \
                  system = messages[0]['content'] -%}{%- set messages = messages[1:] -%}{%- else -%}{%- set system \
                  = '' -%}{%- endif -%}{{ bos_token + system + date }}\n{%- for m in messages -%}{%- if (m['role'] \
                  == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('turns') }}{%- endif -%}{{ m.role }}: {{ \
                  m.content | trim + eos_token }}{%- endfor -%}",
                b"{% macro say(m) %}{{ m.content if m.content is string else m.content[0].text }}{% endmacro %}{% if \
                  tools is not none %}{{ tools | tojson(indent=4) }}{% endif %}{% for m in messages %}{% if \
                  m.tool_calls is defined %}{{ m.tool_calls[0].function.arguments | tojson }}{% else %}{{ say(m) \
                  }}{% endif %}</s>{% endfor %}",
            ],
        },
        Parser {
            name: "promptsource",
            read: |bytes| {
                let text = String::from_utf8_lossy(bytes);
                for template in promptsource::parse("t.yaml", &text).unwrap_or_default() {
                    render(&template);
                }
            },
            seeds: &[],
            more: &[b"dataset: d\ntemplates:\n  1a: !Template\n    answer_choices: no ||| yes\n    id: 1a\n    jinja: \
                      '{{text}} ? ||| {{answer_choices[label]}}'\n    metadata: !TemplateMetadata\n      \
                      choices_in_prompt: true\n      languages: [en]\n      metrics: [Accuracy]\n      \
                      original_task: true\n    name: one\n    reference: ''\n"],
        },
        Parser {
            name: "template_json",
            read: |bytes| {
                let text = String::from_utf8_lossy(bytes);
                if let Ok(template) = Template::from_json(&text) {
                    render(&template);
                }
                if let Ok(cluster) = clusters::parse("c.yaml", &text) {
                    cluster.templates.iter().for_each(|t| render(&t.template));
                }
            },
            seeds: &["datasets/bundled/templates/translation.yaml"],
            more: &[TEMPLATE, CHAT],
        },
    ]
}
