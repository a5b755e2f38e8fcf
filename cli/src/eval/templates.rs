//! Templates by name: built in, a file, one or all of a promptsource file, or Jinja on the command line.

use std::path::Path;

use paddock_datasets::template::{Template, library};

use crate::error::bad_input;
use crate::train::setup::named_template;

/// Marks a template that is written out: `jinja:QUESTION ||| ANSWER`.
pub const INLINE: &str = "jinja:";

/// The templates that a name stands for:
///
/// - a built-in name or a template.json: one;
/// - `FILE.yaml`: all of a promptsource, cluster or FLAN file that put the data set's original task;
/// - `FILE.yaml#NAME`: that one;
/// - `jinja:QUESTION ||| ANSWER`: that Jinja source, question and answer joined by a line break.
pub fn named(name: &str) -> anyhow::Result<Vec<Template>> {
    if let Some(source) = name.strip_prefix(INLINE) {
        let template = Template::jinja("jinja", source, None);
        template.compile()?;
        return Ok(vec![template]);
    }
    let (file, one) = match name.split_once('#') {
        Some((file, one)) => (file, Some(one)),
        None => (name, None),
    };
    if !file.ends_with(".yaml") && !file.ends_with(".yml") {
        return Ok(vec![named_template(name)?]);
    }
    if !Path::new(file).is_file() {
        return Err(bad_input(format!("{file}: there is no such file")));
    }
    let all = library::load(Path::new(file))?;
    let names: Vec<String> = all.iter().map(|t| t.name.clone()).collect();
    let Some(one) = one else {
        let own: Vec<Template> = all.into_iter().filter(is_original).collect();
        if own.is_empty() {
            return Err(bad_input(format!(
                "{file}: none of its templates is marked as the original task; name one as {file}#NAME \
                 ({})",
                names.join(", ")
            )));
        }
        return Ok(own);
    };
    let found: Vec<Template> = all.into_iter().filter(|t| t.name == one).collect();
    if found.is_empty() {
        let known = names.join(", ");
        return Err(bad_input(format!("{file} has no template `{one}`. It has: {known}")));
    }
    Ok(found)
}

fn is_original(template: &Template) -> bool {
    match &template.body {
        paddock_datasets::template::Body::Jinja(body) => body.original_task,
        _ => true,
    }
}
