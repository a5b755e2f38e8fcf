//! The Jinja interpreter with its limits. A template can read the row and nothing else: no files,
//! no other templates, no host objects; its steps, its nesting and its output are limited.

use std::cell::Cell;
use std::io;
use std::sync::OnceLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error as JinjaError, ErrorKind, State, UndefinedBehavior};

use crate::error::{Error, Result};
use crate::template::jinja::{lists, python};

/// Steps of one rendering.
const FUEL: u64 = 5_000_000;
/// Bytes of one rendering.
pub const MAX_OUTPUT: usize = 64 << 20;
/// Bytes of text that filters make of one row: one that doubles a text fills the memory in few steps.
const MAX_MADE: usize = 1 << 20;
/// Bytes of a template's source.
pub const MAX_SOURCE: usize = 1 << 20;
/// Nested calls of macros.
const MAX_NESTING: usize = 64;

/// Whose habits are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Plain Jinja: blocks leave their line breaks; a missing variable is an error everywhere.
    Plain,
    /// Chat templates: blocks take their line along, and a missing variable is empty, as Hugging
    /// Face has it. Their variables are the program's own; what comes from rows is checked before.
    Chat,
}

thread_local! {
    /// Bytes that filters have made in the rendering at hand.
    static MADE: Cell<usize> = const { Cell::new(0) };
}

static WATCH: OnceLock<fn(bool)> = OnceLock::new();

/// Calls `watcher` before (true) and after (false) each rendering, on its thread: a program that
/// counts memory limits it there. The first watcher stays.
pub fn watch(watcher: fn(bool)) {
    let _ = WATCH.set(watcher);
}

/// A rendering that is being watched.
struct Watched;

impl Watched {
    fn begin() -> Self {
        if let Some(watcher) = WATCH.get() {
            watcher(true);
        }
        Self
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(watcher) = WATCH.get() {
            watcher(false);
        }
    }
}

/// A compiled template.
pub struct Engine {
    env: Environment<'static>,
    name: String,
}

const MAIN: &str = "main";

impl Engine {
    /// Compiles `source`; a fault is named by line and column with a caret.
    pub fn new(name: &str, source: &str, style: Style) -> Result<Self> {
        if source.len() > MAX_SOURCE {
            let message = format!("is longer than {MAX_SOURCE} bytes");
            return Err(Error::Template { name: name.to_string(), message });
        }
        let mut env = environment(style);
        env.add_template_owned(MAIN, lists::growing(source).into_owned())
            .map_err(|error| at_place(name, source, &error))?;
        Ok(Self { env, name: name.to_string() })
    }

    /// Lets the caller add functions.
    pub fn env_mut(&mut self) -> &mut Environment<'static> {
        &mut self.env
    }

    /// Names that the source reads and does not set itself.
    pub fn variables(&self) -> Vec<String> {
        let template = self.env.get_template(MAIN);
        template.map(|t| t.undeclared_variables(false).into_iter().collect()).unwrap_or_default()
    }

    /// Renders with the given variables; `row` is for messages.
    pub fn render(&self, row: u64, context: Value) -> Result<String> {
        let fail = |error: JinjaError| Error::Render {
            template: self.name.clone(),
            row,
            message: explain(&error),
        };
        let _watched = Watched::begin();
        MADE.set(0);
        let template = self.env.get_template(MAIN).map_err(fail)?;
        let mut out = Bounded { bytes: Vec::new() };
        template.render_captured_to(context, &mut out).map_err(fail)?;
        String::from_utf8(out.bytes).map_err(|e| Error::Render {
            template: self.name.clone(),
            row,
            message: e.to_string(),
        })
    }
}

/// Output that stops at the limit.
struct Bounded {
    bytes: Vec<u8>,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other(format!("the output is longer than {MAX_OUTPUT} bytes")));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn environment(style: Style) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(match style {
        Style::Plain => UndefinedBehavior::Strict,
        Style::Chat => UndefinedBehavior::Lenient,
    });
    if style == Style::Chat {
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        if let Ok(syntax) = syntax {
            env.set_syntax(syntax);
        }
    }
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(MAX_NESTING);
    env.set_debug(true);
    env.set_formatter(move |out, _, value| {
        let written = match value.as_str() {
            // A row's null is nothing to learn: promptsource would write "None".
            _ if value.is_none() && style == Style::Plain => Ok(()),
            Some(text) => out.write_str(text),
            None => out.write_str(&python::text(value)),
        };
        written.map_err(|_| JinjaError::new(ErrorKind::WriteFailure, "the output is too long"))
    });
    env.set_unknown_method_callback(methods);
    env.add_filter("string", |value: Value| made(python::text(&value)));
    env.add_filter("pprint", |value: Value| made(minijinja::filters::pprint(&value)));
    env.add_filter("replace", replace);
    env.add_filter("int", |value: Value, default: Option<i64>| {
        whole_number(&value).unwrap_or(default.unwrap_or(0))
    });
    env.add_filter("float", |value: Value, default: Option<f64>| {
        float(&value).unwrap_or(default.unwrap_or(0.0))
    });
    env.add_filter("join", join);
    env.add_filter("tojson", tojson);
    env.add_function("zip", zip);
    env.add_function(lists::MAKE, || Value::from_object(lists::Growing::default()));
    env.add_function("raise_exception", |message: String| -> std::result::Result<Value, _> {
        Err(JinjaError::new(ErrorKind::InvalidOperation, message))
    });
    env
}

/// Jinja's `int`: text and floats are cut to whole numbers; what is no number has none.
fn whole_number(value: &Value) -> Option<i64> {
    if let Some(text) = value.as_str()
        && let Ok(whole) = text.trim().parse()
    {
        return Some(whole);
    }
    if value.kind() == ValueKind::Number && value.is_integer() {
        return i64::try_from(value.clone()).ok();
    }
    let float = float(value)?.trunc();
    // 2^63 and above do not fit.
    (float.abs() < 9.2e18).then_some(float as i64)
}

/// Jinja's `float`.
fn float(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::String => value.as_str()?.trim().parse().ok(),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        _ => None,
    }
}

/// Python's methods of strings, dictionaries and lists.
fn methods(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> std::result::Result<Value, JinjaError> {
    if value.kind() == ValueKind::Seq && method == "index" {
        let [wanted] = args else {
            return Err(JinjaError::new(ErrorKind::MissingArgument, "index() takes one value"));
        };
        let found = value.try_iter()?.position(|item| item == *wanted);
        return found.map(Value::from).ok_or_else(|| {
            let message = format!("{} is not in the list", python::text(wanted));
            JinjaError::new(ErrorKind::InvalidOperation, message)
        });
    }
    if let (Some(_), "replace", [from, to]) = (value.as_str(), method, args) {
        return replace(value.clone(), from.clone(), to.clone()).map(Value::from);
    }
    if let (Some(text), "index", [wanted]) = (value.as_str(), method, args) {
        let wanted = wanted.as_str().unwrap_or_default();
        return match text.find(wanted) {
            Some(byte) => Ok(Value::from(text[..byte].chars().count())),
            None => Err(JinjaError::new(ErrorKind::InvalidOperation, "substring not found")),
        };
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

/// A text that a filter made, if that is not more in all than one row may take.
fn made(text: String) -> std::result::Result<String, JinjaError> {
    makes(text.len()).map(|()| text)
}

fn makes(bytes: usize) -> std::result::Result<(), JinjaError> {
    MADE.set(MADE.get().saturating_add(bytes));
    if MADE.get() <= MAX_MADE {
        return Ok(());
    }
    let message = format!("its filters make more than {MAX_MADE} bytes of text");
    Err(JinjaError::new(ErrorKind::InvalidOperation, message))
}

fn replace(value: Value, from: Value, to: Value) -> std::result::Result<String, JinjaError> {
    let [text, from, to] = [&value, &from, &to].map(python::text);
    let places = text.matches(from.as_str()).count();
    // A text that grows no longer is only another one.
    if to.len() > from.len() {
        makes(text.len() + places * (to.len() - from.len()))?;
    }
    Ok(text.replace(&from, &to))
}

fn join(
    value: Value,
    separator: Option<String>,
    kwargs: Kwargs,
) -> std::result::Result<String, JinjaError> {
    let attribute: Option<String> = kwargs.get("attribute")?;
    kwargs.assert_all_used()?;
    let mut parts = Vec::new();
    for item in value.try_iter()? {
        let item = match &attribute {
            Some(name) => item.get_attr(name)?,
            None => item,
        };
        parts.push(python::text(&item));
    }
    made(parts.join(separator.as_deref().unwrap_or_default()))
}

fn tojson(value: Value, kwargs: Kwargs) -> std::result::Result<String, JinjaError> {
    let indent: Option<usize> = kwargs.get("indent")?;
    // Accepted because templates pass it; text is never escaped to ASCII.
    let _: Option<bool> = kwargs.get("ensure_ascii")?;
    kwargs.assert_all_used()?;
    if indent.is_some_and(|width| width > 16) {
        return Err(JinjaError::new(ErrorKind::InvalidOperation, "tojson: indent above 16"));
    }
    let json = serde_json::to_value(&value)
        .map_err(|e| JinjaError::new(ErrorKind::BadSerialization, e.to_string()))?;
    made(python::json(&json, indent))
}

fn zip(left: Value, right: Value) -> std::result::Result<Value, JinjaError> {
    let pairs = left.try_iter()?.zip(right.try_iter()?);
    Ok(pairs.map(|(a, b)| Value::from(vec![a, b])).collect())
}

/// A fault found when compiling, with its place.
fn at_place(name: &str, source: &str, error: &JinjaError) -> Error {
    let line = error.line().unwrap_or(1).max(1);
    let text = source.lines().nth(line - 1).unwrap_or_default();
    let column = match error.range() {
        Some(range) => {
            let before = source.get(..range.start).unwrap_or_default();
            before.rsplit('\n').next().unwrap_or_default().chars().count() + 1
        }
        None => 1,
    };
    let caret = format!("{}^", " ".repeat(column.saturating_sub(1)));
    Error::TemplateAt {
        name: name.to_string(),
        line,
        column,
        message: reason(error),
        excerpt: format!("  {text}\n  {caret}"),
    }
}

fn reason(error: &JinjaError) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// A fault found when rendering: what, which expression, where.
fn explain(error: &JinjaError) -> String {
    let mut message = reason(error);
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(inner) = source {
        message = format!("{message}: {inner}");
        source = inner.source();
    }
    let expression = error
        .template_source()
        .zip(error.range())
        .and_then(|(text, range)| text.get(range).map(str::to_string));
    if let Some(expression) = expression.filter(|e| !e.is_empty()) {
        message = format!("{message} (in `{}`)", expression.trim());
    }
    match error.line() {
        Some(line) => format!("{message}, line {line} of the template"),
        None => message,
    }
}
