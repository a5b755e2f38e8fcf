//! The rows: opened, searched, mapped, looked at as the model sees them.

use std::path::Path;
use std::sync::Arc;

use eframe::egui::Context;
use paddock_cli::bundled;
use paddock_cli::data::show::{Piece, pieces, short};
use paddock_cli::data::table::{Columns, Table, suggest};
use paddock_cli::run::config::Layers;
use paddock_cli::train::reader::{named_template, template_for};
use paddock_datasets::encode::encode;
use paddock_datasets::inspect::{Inspection, Lens, inspect, of_rows};
use paddock_datasets::prepare::Progress;
use paddock_datasets::readers::ReadOptions;
use paddock_datasets::record::{Record, scalar_text};
use paddock_datasets::template::Template;
use paddock_datasets::tokenizer::Tokenizer;

use crate::engine::Flags;
use crate::task::{Pulse, Work};

/// Rows that the table shows at most; a run uses all.
pub const MOST_ROWS: usize = 200_000;
/// Characters of a cell that are looked at when it is drawn.
const CELL: usize = 160;

/// What was read.
#[derive(Debug)]
pub struct Opened {
    /// As `--data` takes it.
    pub name: String,
    /// The rows.
    pub table: Arc<Table>,
    /// The columns guessed.
    pub guess: Columns,
}

/// A row as the model sees it.
#[derive(Debug, Default)]
pub struct Preview {
    /// The row's number.
    pub row: usize,
    /// Its tokens.
    pub pieces: Vec<Piece>,
    /// How many tokens.
    pub tokens: usize,
    /// How many of them are trained.
    pub trained: usize,
}

/// The state of the data screen.
#[derive(Debug, Default)]
pub struct Data {
    /// The rows on their way, or here.
    pub opened: Work<Opened>,
    /// What was asked for last, for the message if it fails.
    pub asked: String,
    /// Which column fills which field.
    pub columns: Columns,
    /// The template's name; none: what the columns call for.
    pub template: Option<String>,
    /// Text that rows must contain to be shown.
    pub search: String,
    /// Rows that contain it.
    pub hits: Work<Vec<u32>>,
    /// The row of the preview.
    pub row: usize,
    /// That row as the model sees it.
    pub preview: Work<Preview>,
    /// The whole file looked through.
    pub found: Work<Inspection>,
    searched: String,
    rendered: Option<(usize, Flags, usize)>,
    inspected: Option<(Flags, usize)>,
}

/// Passes on how many rows have been read.
struct Reading<'a>(&'a Pulse);

impl Progress for Reading<'_> {
    fn rows(&mut self, _: &Path, rows: u64) -> bool {
        self.0.note(format!("{rows} rows so far"));
        !self.0.cancelled()
    }
}

impl Data {
    /// Opens a file, or built-in data by its name.
    pub fn open(&mut self, ctx: &Context, name: &str) {
        *self = Data { asked: name.to_string(), ..Data::default() };
        let name = name.to_string();
        self.opened.start(ctx, move |pulse| {
            let path = bundled::data_path(&name)?;
            let table = Table::read(&path, MOST_ROWS, &mut Reading(pulse))?;
            // Labels show in the first few thousand rows.
            let head = &table.rows[..table.rows.len().min(4_000)];
            let guess = suggest(&table.detected, &of_rows(head)?);
            Ok(Opened { name, table: Arc::new(table), guess })
        });
    }

    /// The rows, if they are here.
    pub fn table(&self) -> Option<&Arc<Table>> {
        self.opened.done().map(|opened| &opened.table)
    }

    /// Settings of a run that follow from this screen.
    pub fn flags(&self) -> Flags {
        let mut flags = Flags::new();
        if let Some(opened) = self.opened.done() {
            flags.push(("data".into(), opened.name.clone()));
            if opened.table.bad.total > 0 {
                flags.push(("skip_bad".into(), "true".into()));
            }
        }
        if let Some(template) = &self.template {
            flags.push(("template".into(), template.clone()));
        }
        flags.extend(self.mapping());
        flags
    }

    /// Columns that a run has to be told, because it would not take them by itself.
    fn mapping(&self) -> Flags {
        let Some(opened) = self.opened.done() else { return Flags::new() };
        if self.by_name() {
            return Flags::new();
        }
        let own = Template::for_layout(&opened.table.detected).is_some();
        if own && self.columns == opened.guess && self.template.is_none() {
            return Flags::new();
        }
        let pair = |(field, column): (&String, &String)| {
            ("columns".to_string(), format!("{field}={column}"))
        };
        self.columns.iter().map(pair).collect()
    }

    /// Whether the template names its columns itself.
    fn by_name(&self) -> bool {
        self.template.as_deref().is_some_and(|name| !Template::BUILT_IN.contains(&name))
    }

    /// What is missing before a run can use the rows, in words.
    pub fn missing(&self) -> Option<String> {
        let Some(opened) = self.opened.done() else {
            return Some("Open some rows first: a file, or the example.".to_string());
        };
        let by_name = self.by_name();
        let own = Template::for_layout(&opened.table.detected).is_some();
        for (field, words) in [
            ("prompt", "Choose the column that goes in (the question)."),
            ("answer", "Choose the column that should come out (the answer)."),
        ] {
            if !by_name && !own && !self.columns.contains_key(field) {
                return Some(words.to_string());
            }
        }
        match &self.preview {
            Work::Failed(why) => Some(format!("This row cannot be used as it is: {why}")),
            _ => None,
        }
    }

    /// Takes over what workers have finished, and starts what is due. `model` is the tokenizer in use.
    pub fn poll(&mut self, ctx: &Context, model: Option<&Arc<Tokenizer>>) {
        if self.opened.poll()
            && let Some(opened) = self.opened.done()
        {
            self.columns = opened.guess.clone();
        }
        self.hits.poll();
        self.preview.poll();
        self.found.poll();
        let Some(table) = self.table().map(Arc::clone) else { return };
        self.search(ctx, &table);
        let flags = self.flags();
        let tokenizer = model.map(Arc::clone);
        let token_set = tokenizer.as_ref().map_or(0, |t| Arc::as_ptr(t) as usize);
        let row = self.row.min(table.rows.len() - 1);
        let wanted = Some((row, flags.clone(), token_set));
        if self.rendered != wanted && self.mapped() {
            self.rendered = wanted;
            let (table, flags, tokenizer) = (Arc::clone(&table), flags.clone(), tokenizer.clone());
            self.preview.start(ctx, move |_| preview(&table, row, &flags, tokenizer.as_deref()));
        }
        let wanted = Some((flags.clone(), token_set));
        if self.inspected != wanted && tokenizer.is_some() && self.mapped() {
            self.inspected = wanted;
            self.found.start(ctx, move |pulse| look(&table, &flags, tokenizer.as_deref(), pulse));
        }
    }

    /// Whether it is known what goes in and what comes out.
    fn mapped(&self) -> bool {
        let both = ["prompt", "answer"].iter().all(|field| self.columns.contains_key(*field));
        let own = self.table().is_some_and(|t| Template::for_layout(&t.detected).is_some());
        both || own || self.template.is_some()
    }

    fn search(&mut self, ctx: &Context, table: &Arc<Table>) {
        if self.search == self.searched {
            return;
        }
        self.searched.clone_from(&self.search);
        let wanted = self.search.to_lowercase();
        if wanted.is_empty() {
            self.hits = Work::Idle;
            return;
        }
        let table = Arc::clone(table);
        self.hits.start(ctx, move |pulse| {
            let mut hits = Vec::new();
            for (i, row) in table.rows.iter().enumerate() {
                if i % 1_000 == 0 && pulse.cancelled() {
                    break;
                }
                if row.columns.values().any(|value| holds(value, &wanted)) {
                    hits.push(i as u32);
                }
            }
            Ok(hits)
        });
    }
}

/// Whether a value's text contains what is looked for, whatever the case of its letters.
fn holds(value: &serde_json::Value, wanted: &str) -> bool {
    match value {
        serde_json::Value::String(text) => text.to_lowercase().contains(wanted),
        other => other.to_string().to_lowercase().contains(wanted),
    }
}

/// A cell on one line.
pub fn cell(row: &Record, column: &str) -> String {
    let text = match row.get(column) {
        None | Some(serde_json::Value::Null) => return String::new(),
        Some(serde_json::Value::String(text)) => short(head(text), CELL),
        Some(value) => short(head(&scalar_text(value).unwrap_or_else(|| value.to_string())), CELL),
    };
    // The sign for a line's end is in few fonts.
    text.replace('\u{23ce}', " ")
}

/// The beginning of a text: a cell need not read a whole book to show its first line.
fn head(text: &str) -> &str {
    let end = text.char_indices().nth(CELL + 1).map_or(text.len(), |(i, _)| i);
    &text[..end]
}

fn template(table: &Table, flags: &Flags) -> anyhow::Result<Template> {
    let (config, _) = Layers::new().flags(flags)?.build()?;
    let named = config.template.as_deref().map(named_template).transpose()?;
    template_for(&config.columns, &table.path, named, &table.detected)
}

fn preview(
    table: &Table,
    row: usize,
    flags: &Flags,
    tokenizer: Option<&Tokenizer>,
) -> anyhow::Result<Preview> {
    let rendered = template(table, flags)?.render(&table.rows[row])?;
    let pieces = pieces(tokenizer, &rendered)?;
    let (mut tokens, mut trained) = (0, 0);
    if let Some(tokenizer) = tokenizer {
        let encoding = encode(tokenizer, &rendered)?;
        tokens = encoding.tokens.len();
        trained = encoding.trained.iter().filter(|t| **t).count();
    }
    Ok(Preview { row, pieces, tokens, trained })
}

fn look(
    table: &Table,
    flags: &Flags,
    tokenizer: Option<&Tokenizer>,
    pulse: &Pulse,
) -> anyhow::Result<Inspection> {
    let template = template(table, flags)?.compile()?;
    let options = ReadOptions { skip_bad: true, ..ReadOptions::default() };
    let lens = Lens { template: Some(&template), tokenizer };
    Ok(inspect(&table.path, &options, lens, &mut Reading(pulse))?.1)
}

/// Files that a run can read, for the dialog.
pub const ENDINGS: [&str; 8] = ["csv", "tsv", "json", "jsonl", "parquet", "gz", "zst", "txt"];
