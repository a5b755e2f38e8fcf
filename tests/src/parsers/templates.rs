//! Templates: text that strangers wrote, which is rendered on rows.

use paddock_datasets::record::Record;
use paddock_datasets::template::{Template, clusters, promptsource};
use serde_json::json;

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
            more: &[TEMPLATE],
        },
    ]
}
