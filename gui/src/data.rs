//! The rows: opened, searched, mapped, looked at as the model sees them.

use std::path::Path;
use std::sync::Arc;

use eframe::egui::Context;
use paddock_cli::bundled;
use paddock_cli::data::shelf::named;
use paddock_cli::data::show::{Piece, pieces, short};
use paddock_cli::data::table::{Columns, Table, suggest};
use paddock_cli::run::config::Layers;
use paddock_cli::train::reader::template_for;
use paddock_datasets::encode::encode;
use paddock_datasets::inspect::{Inspection, Lens, inspect, of_rows};
use paddock_datasets::prepare::Progress;
use paddock_datasets::readers::ReadOptions;
use paddock_datasets::record::{Record, scalar_text};
use paddock_datasets::template::Template;
use paddock_datasets::tokenizer::Tokenizer;

use crate::engine::{Engine, Flags};
use crate::mix::{self, Chosen};
use crate::split::Split;
use crate::task::{Pulse, Work};

/// Rows that the table shows at most; a run uses all.
pub const MOST_ROWS: usize = 200_000;
/// Stands for the number of rows of a file that is longer than the table.
const MANY: u64 = 10_000_000;
/// Characters of a cell that are looked at when it is drawn.
const CELL: usize = 80;

/// What was read.
#[derive(Debug)]
pub struct Opened {
    /// As `--data` takes it.
    pub name: String,
    /// The rows.
    pub table: Arc<Table>,
    /// The columns guessed.
    pub guess: Columns,
    /// Settings that name the rows to judge by, where they come along with built-in data.
    pub own: Flags,
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
    /// The templates in use; none: what the columns call for.
    pub chosen: Vec<Chosen>,
    /// Rows to watch and to judge by.
    pub split: Split,
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
            let own = brought(&name)?;
            Ok(Opened { name, table: Arc::new(table), guess, own })
        });
    }

    /// The rows, if they are here.
    pub fn table(&self) -> Option<&Arc<Table>> {
        self.opened.done().map(|opened| &opened.table)
    }

    /// Settings of a run that follow from this screen.
    pub fn flags(&self) -> Flags {
        let mut flags = Flags::new();
        let Some(opened) = self.opened.done() else { return flags };
        if opened.table.bad.total > 0 {
            flags.push(("skip_bad".into(), "true".into()));
        }
        let columns = self.mapping();
        let most = if opened.table.more { MANY } else { opened.table.rows.len() as u64 };
        flags.extend(mix::flags(&self.chosen, self.sides(opened), &columns, most));
        if let Some(name) = self.stated() {
            flags.push(("template".into(), name));
        }
        let pair =
            |(field, column): (String, String)| ("columns".into(), format!("{field}={column}"));
        flags.extend(columns.into_iter().map(pair));
        flags
    }

    /// Settings that name the rows of each side.
    fn sides(&self, opened: &Opened) -> Flags {
        if let Some(used) = &self.split.used {
            return used.kept.flags();
        }
        let mut sides: Flags = vec![("data".into(), opened.name.clone())];
        if !mix::plain(&self.chosen) {
            // With a mixture they do not come by themselves.
            sides.extend(opened.own.iter().cloned());
        }
        sides
    }

    /// The layout's own template by its name, where the files of a split do not tell the layout any more.
    fn stated(&self) -> Option<String> {
        let opened = self.opened.done().filter(|_| self.chosen.is_empty() && self.lost_layout())?;
        let template = Template::for_layout(&opened.table.detected)?;
        Template::BUILT_IN.contains(&template.name.as_str()).then_some(template.name)
    }

    fn lost_layout(&self) -> bool {
        self.split.used.as_ref().is_some_and(|used| !used.same_layout)
    }

    /// The first template that is trained with.
    pub fn template(&self) -> Option<&str> {
        mix::trained(&self.chosen).next().map(|chosen| chosen.name.as_str())
    }

    /// Columns that a run has to be told, because it would not take them by itself.
    fn mapping(&self) -> Columns {
        let Some(opened) = self.opened.done().filter(|_| !self.by_name()) else {
            return Columns::new();
        };
        let own = Template::for_layout(&opened.table.detected).is_some();
        let usual = self.columns == opened.guess && self.chosen.is_empty() && !self.lost_layout();
        if own && usual { Columns::new() } else { self.columns.clone() }
    }

    /// Whether all templates name their columns themselves.
    fn by_name(&self) -> bool {
        self.template().is_some() && self.chosen.iter().all(Chosen::by_name)
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
    pub fn poll(&mut self, ctx: &Context, engine: &Engine, model: Option<&Arc<Tokenizer>>) {
        if self.opened.poll()
            && let Some(opened) = self.opened.done()
        {
            self.columns = opened.guess.clone();
            self.split.look(ctx, engine, opened);
        }
        self.split.poll();
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
        both || own || self.template().is_some()
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

/// Rows to watch and to judge by that built-in data bring along.
fn brought(name: &str) -> anyhow::Result<Flags> {
    let Some(built_in) = name.strip_prefix(bundled::PREFIX) else { return Ok(Flags::new()) };
    let data = bundled::data(built_in)?;
    let sides = [("validation", data.validation), ("test", data.test)];
    let named = sides.into_iter().filter_map(|(key, path)| Some((key, path?)));
    Ok(named.map(|(key, path)| (key.to_string(), path.display().to_string())).collect())
}

fn template(
    table: &Table,
    flags: &Flags,
    tokenizer: Option<&Tokenizer>,
) -> anyhow::Result<Template> {
    let (config, _) = Layers::new().flags(flags)?.build()?;
    let by_name = |name| named(name, tokenizer);
    let named = config.template.as_deref().map(by_name).transpose()?;
    template_for(&config.columns, &table.path, named, &table.detected)
}

fn preview(
    table: &Table,
    row: usize,
    flags: &Flags,
    tokenizer: Option<&Tokenizer>,
) -> anyhow::Result<Preview> {
    let rendered = template(table, flags, tokenizer)?.render(&table.rows[row])?;
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
    let template = template(table, flags, tokenizer)?.compile()?;
    let options = ReadOptions { skip_bad: true, ..ReadOptions::default() };
    let lens = Lens { template: Some(&template), tokenizer };
    Ok(inspect(&table.path, &options, lens, &mut Reading(pulse))?.1)
}

/// Files that a run can read, for the dialog.
pub const ENDINGS: [&str; 8] = ["csv", "tsv", "json", "jsonl", "parquet", "gz", "zst", "txt"];
