//! Templates: a list, an editor, and what comes of it on real rows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use eframe::egui::Context;
use paddock_cli::data::shelf::{self, Group, named, source, written};
use paddock_cli::data::show::{Piece, pieces};
use paddock_cli::data::table::Table;
use paddock_datasets::template::Template;
use paddock_datasets::template::check::{check, unfilled};
use paddock_datasets::tokenizer::Tokenizer;

use crate::task::Work;

/// Rows that a template is tried on.
const TRIED: usize = 64;

/// What came of a template.
#[derive(Debug, Default)]
pub struct Tried {
    /// What speaks against it, each with its place.
    pub faults: Vec<String>,
    /// The row of the preview, in pieces.
    pub pieces: Vec<Piece>,
    /// Names that it reads and that are no column.
    pub unfilled: Vec<String>,
}

/// The state of the screen.
#[derive(Debug, Default)]
pub struct Studio {
    /// All templates.
    pub shelf: Work<Vec<Group>>,
    /// Words that a template's name must contain to be listed.
    pub search: String,
    /// The template that is looked at, as `--template` takes it; empty: one of one's own.
    pub chosen: String,
    /// Its name, for keeping it.
    pub name: String,
    /// Its text.
    pub jinja: String,
    /// Answers to choose from.
    pub choices: String,
    /// Whether its text can be changed: not that of the ones in the program.
    pub editable: bool,
    /// Columns that fill names which the template reads and the rows do not have.
    pub fields: BTreeMap<String, String>,
    /// Whether single tokens are told apart.
    pub single: bool,
    /// What comes of it.
    pub tried: Work<Tried>,
    /// The model's tokenizer, for templates that are the model's own.
    tokenizer: Words,
    asked: Option<Asked>,
}

/// A tokenizer, of which there is nothing to show.
#[derive(Default)]
struct Words(Option<Arc<Tokenizer>>);

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "a tokenizer" } else { "no tokenizer" })
    }
}

/// What was tried: name, text, choices, fields, row, table, tokenizer.
type Asked = (String, String, String, BTreeMap<String, String>, [usize; 3]);

impl Studio {
    /// Looks at a template.
    pub fn choose(&mut self, name: &str) -> anyhow::Result<()> {
        let template = named(name, self.tokenizer.0.as_deref())?;
        let text = source(&template);
        self.fields = template.columns.fields.clone();
        self.editable = text.is_some();
        (self.jinja, self.choices) = text.unwrap_or_default();
        self.chosen = name.to_string();
        self.name = short(&template.name);
        Ok(())
    }

    /// Begins a template of one's own, from the columns that there are.
    pub fn begin(&mut self, table: &Table, prompt: Option<&String>, answer: Option<&String>) {
        let columns = &table.detected.columns;
        let prompt = prompt.or(columns.first()).cloned().unwrap_or_default();
        let answer = answer.or(columns.last()).cloned().unwrap_or_default();
        self.write("my-template", format!("{{{{ {prompt} }}}}\n\nAnswer: ||| {{{{ {answer} }}}}"));
    }

    /// Begins one that is turned round: it asks for the question, given the answer.
    pub fn begin_inverted(&mut self, prompt: &str, answer: &str) {
        self.write("my-inverted-template", shelf::inverted(prompt, answer));
    }

    fn write(&mut self, name: &str, jinja: String) {
        self.jinja = jinja;
        self.choices.clear();
        self.chosen.clear();
        self.fields.clear();
        self.name = name.to_string();
        self.editable = true;
    }

    /// The template as it stands in the editor.
    pub fn template(&self) -> anyhow::Result<Template> {
        if !self.editable {
            return named(&self.chosen, self.tokenizer.0.as_deref());
        }
        let mut template = written(&self.name, &self.jinja, &self.choices);
        template.columns.fields = self.fields.clone();
        Ok(template)
    }

    /// Whether the text differs from that of the template that was chosen.
    pub fn changed(&self) -> bool {
        let text = (self.jinja.clone(), self.choices.trim().to_string());
        let own = named(&self.chosen, None).ok();
        let same = own.is_some_and(|own| {
            source(&own).is_some_and(|own| own == text) && own.columns.fields == self.fields
        });
        self.editable && !same
    }

    /// Takes over what workers have finished; tries the text again when it has changed.
    pub fn poll(
        &mut self,
        ctx: &Context,
        table: Option<&Arc<Table>>,
        row: usize,
        tokenizer: Option<&Arc<Tokenizer>>,
    ) {
        if matches!(self.shelf, Work::Idle) {
            self.shelf.start(ctx, |_| shelf::built_in());
        }
        self.shelf.poll();
        self.tried.poll();
        self.tokenizer.0 = tokenizer.map(Arc::clone);
        if self.chosen.is_empty() && self.jinja.is_empty() {
            return;
        }
        let place = table.map_or(0, |table| Arc::as_ptr(table) as usize);
        let (jinja, choices) = (self.jinja.clone(), self.choices.clone());
        let reader = tokenizer.map_or(0, |tokenizer| Arc::as_ptr(tokenizer) as usize);
        let place = [row, place, reader];
        let wanted = Some((self.chosen.clone(), jinja, choices, self.fields.clone(), place));
        if self.asked == wanted {
            return;
        }
        self.asked = wanted;
        let template = match self.template() {
            Ok(template) => template,
            Err(error) => {
                self.tried = Work::Failed(error.to_string());
                return;
            }
        };
        let (table, tokenizer) = (table.map(Arc::clone), tokenizer.map(Arc::clone));
        self.tried.start(ctx, move |_| {
            let table = table.as_deref();
            let rows = table.map_or(&[][..], |t| &t.rows[..t.rows.len().min(TRIED)]);
            let columns = table.map_or(&[][..], |t| &t.detected.columns[..]);
            let faults = check(&template, columns, rows, tokenizer.as_deref());
            let record = table.and_then(|t| t.rows.get(row.min(t.rows.len() - 1)));
            let rendered = record.and_then(|record| template.render(record).ok());
            let shown = rendered.map(|rendered| pieces(tokenizer.as_deref(), &rendered));
            let unfilled =
                if columns.is_empty() { Vec::new() } else { unfilled(&template, columns) };
            Ok(Tried { faults, pieces: shown.transpose()?.unwrap_or_default(), unfilled })
        });
    }

    /// Adds the templates of a file to the list.
    pub fn import(&mut self, path: &std::path::Path) -> anyhow::Result<()> {
        let group = shelf::of_file(path)?;
        if let Some(first) = group.names.first().cloned() {
            self.choose(&first)?;
        }
        if let Work::Done(groups) = &mut self.shelf {
            groups.retain(|known| known.name != group.name);
            groups.insert(0, group);
        }
        Ok(())
    }

    /// The name for `--template`: that of the template chosen, or of the file that the text is kept in.
    pub fn take(&self, folder: &std::path::Path) -> anyhow::Result<String> {
        if !self.changed() {
            return Ok(self.chosen.clone());
        }
        let path: PathBuf = shelf::keep(folder, &self.template()?)?;
        Ok(path.display().to_string())
    }
}

/// The last part of a template's name, as a name for a file.
fn short(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '-' }).collect()
}
