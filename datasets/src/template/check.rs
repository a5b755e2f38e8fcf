//! What is wrong with a template, before anything is trained with it.

use crate::encode::{encode, prompt_tokens};
use crate::error::{Error, Result};
use crate::record::Record;
use crate::report::Counted;
use crate::template::columns::hint;
use crate::template::{Body, Columns, Compiled, Template};
use crate::tokenizer::Tokenizer;

/// Names that the interpreter has by itself.
const GLOBALS: [&str; 12] = [
    "range",
    "dict",
    "namespace",
    "zip",
    "raise_exception",
    "cycler",
    "joiner",
    "debug",
    "loop",
    "self",
    "caller",
    "super",
];

/// Everything that speaks against a template, in words; empty if nothing does.
///
/// `columns` are the data's, `rows` some of its rows; both may be empty, then only what needs no
/// data is looked at. With a tokenizer, tokens are looked at too.
pub fn check(
    template: &Template,
    columns: &[String],
    rows: &[Record],
    tokenizer: Option<&Tokenizer>,
) -> Vec<String> {
    let compiled = match template.compile() {
        Ok(compiled) => compiled,
        Err(error) => return vec![error.to_string()],
    };
    let mut faults = Vec::new();
    if let Body::Jinja(body) = &template.body {
        if !body.jinja.contains("|||") {
            let end = body.jinja.trim_end().len();
            let what = "there is no ||| before an answer, so nothing would be learned";
            faults.push(at(&template.name, &body.jinja, end, what));
        }
        let sources = [Some(&body.jinja), body.answer_choices.as_ref()];
        if !columns.is_empty() {
            for source in sources.into_iter().flatten() {
                unknown_columns(template, &compiled, source, columns, &mut faults);
            }
        }
    }
    if faults.is_empty() {
        check_rows(template, &compiled, rows, tokenizer, &mut faults);
    }
    faults
}

/// Names that a template reads and that are no column, in their order; empty for a template that cannot be
/// compiled or is not written in Jinja. Each may be filled by another column: `template.columns.fields`.
pub fn unfilled(template: &Template, columns: &[String]) -> Vec<String> {
    let Body::Jinja(body) = &template.body else { return Vec::new() };
    let bare = Template { columns: Columns::default(), ..template.clone() };
    let Ok(compiled) = bare.compile() else { return Vec::new() };
    strangers(&bare, &compiled, &body.jinja, columns)
}

fn strangers(
    template: &Template,
    compiled: &Compiled,
    source: &str,
    columns: &[String],
) -> Vec<String> {
    let stranger = |name: &String| {
        let mapped = template.columns.fields.get(name);
        let known = columns.contains(mapped.unwrap_or(name))
            || GLOBALS.contains(&name.as_str())
            || name == "answer_choices"
            || name.starts_with("__");
        let asked = source.contains(&format!("{name} is defined"))
            || source.contains(&format!("{name} is not defined"));
        !known && !asked
    };
    compiled.variables().into_iter().filter(stranger).collect()
}

/// Names that are no column, each with its place. A name that is asked for with `is defined` may
/// be absent.
fn unknown_columns(
    template: &Template,
    compiled: &Compiled,
    source: &str,
    columns: &[String],
    faults: &mut Vec<String>,
) {
    for name in strangers(template, compiled, source, columns) {
        if let Some(place) = find_name(source, &name) {
            let names = columns.iter().map(String::as_str);
            let what = format!("there is no column {name:?}{}", hint(&name, names));
            faults.push(at(&template.name, source, place, &what));
        }
    }
}

/// Where a variable of that name is first used inside `{{ }}` or `{% %}`.
fn find_name(source: &str, name: &str) -> Option<usize> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    source.match_indices(name).map(|(place, _)| place).find(|place| {
        let (before, after) = (&source[..*place], &source[place + name.len()..]);
        let last = |marks: [&str; 2]| marks.iter().filter_map(|m| before.rfind(m)).max();
        let inside = match (last(["{{", "{%"]), last(["}}", "%}"])) {
            (Some(open), Some(close)) => open > close,
            (open, _) => open.is_some(),
        };
        let whole = !before.ends_with(|c| word(c) || c == '.' || c == '"' || c == '\'')
            && !after.starts_with(word);
        inside && whole
    })
}

fn at(name: &str, source: &str, place: usize, message: &str) -> String {
    let before = source.get(..place).unwrap_or_default();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let line = before.matches('\n').count() + 1;
    let text = source.split('\n').nth(line - 1).unwrap_or_default();
    Error::TemplateAt {
        name: name.to_string(),
        line,
        column,
        message: message.to_string(),
        excerpt: format!("  {text}\n  {}^", " ".repeat(column - 1)),
    }
    .to_string()
}

/// What was seen in rendered rows.
#[derive(Default)]
struct Seen {
    unrendered: Counted,
    first_error: String,
    empty: Counted,
    two_bos: Counted,
    no_prefix: Counted,
    untrained: Counted,
}

fn check_rows(
    template: &Template,
    compiled: &Compiled,
    rows: &[Record],
    tokenizer: Option<&Tokenizer>,
    faults: &mut Vec<String>,
) {
    let mut seen = Seen::default();
    for record in rows {
        if let Err(error) = look_at(compiled, record, tokenizer, &mut seen) {
            if seen.unrendered.total == 0 {
                seen.first_error = error.to_string();
            }
            seen.unrendered.push(record.row);
        }
    }
    let all = rows.len();
    let mut say = |counted: &Counted, what: &str| {
        if counted.total > 0 {
            let first: Vec<String> = counted.first.iter().map(u64::to_string).collect();
            let more = if counted.total > first.len() as u64 { ", …" } else { "" };
            let (name, total, first) = (&template.name, counted.total, first.join(", "));
            faults.push(format!(
                "template {name}: {total} of {all} rows {what} (rows {first}{more})"
            ));
        }
    };
    let error = format!("cannot be rendered: {}", seen.first_error);
    say(&seen.unrendered, &error);
    say(&seen.empty, "have an empty answer");
    say(
        &seen.two_bos,
        "begin with two BOS tokens: the template writes one and the model adds none",
    );
    say(&seen.untrained, "have no trained token");
    say(
        &seen.no_prefix,
        "have a prompt whose own tokens do not begin the whole row's: end the prompt with a line \
         break or a full stop",
    );
}

fn look_at(
    compiled: &Compiled,
    record: &Record,
    tokenizer: Option<&Tokenizer>,
    seen: &mut Seen,
) -> Result<()> {
    let rendered = compiled.render(record)?;
    if rendered.has_empty_answer() {
        seen.empty.push(record.row);
        return Ok(());
    }
    let Some(tokenizer) = tokenizer else { return Ok(()) };
    let encoding = encode(tokenizer, &rendered)?;
    if let (Some(bos), [first, second, ..]) = (tokenizer.bos(), &encoding.tokens[..])
        && *first == bos
        && *second == bos
    {
        seen.two_bos.push(record.row);
    }
    if !encoding.trained.iter().skip(1).any(|t| *t) {
        seen.untrained.push(record.row);
    }
    if !encoding.tokens.starts_with(&prompt_tokens(tokenizer, &rendered)?) {
        seen.no_prefix.push(record.row);
    }
    Ok(())
}
