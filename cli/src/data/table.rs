//! A data file as a table to look at, with a first guess at which column is which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use paddock_datasets::Error;
use paddock_datasets::inspect::Inspection;
use paddock_datasets::prepare::Progress;
use paddock_datasets::readers::{self, Detected, ReadOptions};
use paddock_datasets::record::{BadRows, Record};
use paddock_datasets::template::Template;

/// Rows between two words of progress.
const TELL_EVERY: usize = 2_000;

/// Rows of a file in memory.
#[derive(Clone, Debug)]
pub struct Table {
    /// The file.
    pub path: PathBuf,
    /// What it turned out to be.
    pub detected: Detected,
    /// What was noticed on opening.
    pub notes: Vec<String>,
    /// The rows that could be read, at most as many as asked for.
    pub rows: Vec<Record>,
    /// Those that could not.
    pub bad: BadRows,
    /// Whether there are more rows than were asked for.
    pub more: bool,
}

impl Table {
    /// Reads at most `most` rows. Bad ones are counted, not an error.
    ///
    /// # Errors
    /// What opening reports; a file without any row; [`Error::Interrupted`] if `progress` says so.
    pub fn read(path: &Path, most: usize, progress: &mut dyn Progress) -> anyhow::Result<Table> {
        let options = ReadOptions { skip_bad: true, ..ReadOptions::default() };
        let mut reading = readers::open(path, &options)?;
        progress.opened(path, reading.detected(), reading.notes());
        let (mut rows, mut more) = (Vec::new(), false);
        for item in reading.by_ref() {
            match item {
                Ok(_) if rows.len() >= most => {
                    more = true;
                    break;
                }
                Ok(record) => rows.push(record),
                Err(bad) if bad.fatal => return Err(Error::BadRow(Box::new(bad)).into()),
                Err(_) => {}
            }
            if rows.len() % TELL_EVERY == 0 && !progress.rows(path, rows.len() as u64) {
                return Err(Error::Interrupted.into());
            }
        }
        let bad = reading.bad().clone();
        if rows.is_empty() {
            let why = if bad.total > 0 { bad.to_string() } else { "it is empty".to_string() };
            let name = path.display();
            return Err(crate::error::bad_input(format!(
                "{name} holds no row to learn from: {why}"
            )));
        }
        let (detected, notes) = (reading.detected().clone(), reading.notes().to_vec());
        Ok(Table { path: path.to_path_buf(), detected, notes, rows, bad, more })
    }
}

/// Which columns fill which field of a template: `prompt`, `input`, `answer`.
pub type Columns = BTreeMap<String, String>;

/// The columns that the layout's own template reads, or for other tables a guess: labels, or short texts, are
/// answers; the longest text is the prompt. What cannot be guessed is left out.
pub fn suggest(detected: &Detected, found: &Inspection) -> Columns {
    let mut columns = Columns::new();
    let mut set = |field: &str, column: &str| {
        if detected.columns.iter().any(|name| name == column) {
            columns.insert(field.to_string(), column.to_string());
        }
    };
    if let Some(template) = Template::for_layout(detected) {
        let c = &template.columns;
        let alpaca = template.name == "alpaca";
        set("prompt", c.prompt_or(if alpaca { "instruction" } else { "prompt" }));
        set("answer", c.answer_or(if alpaca { "output" } else { "completion" }));
        if alpaca {
            set("input", c.input_or("input"));
        }
        return columns;
    }
    let is_text = |c: &&paddock_datasets::inspect::Column| c.types.keys().all(|t| *t == "text");
    let mut texts: Vec<_> = found.columns.iter().filter(is_text).collect();
    texts.sort_by_key(|c| std::cmp::Reverse(c.longest));
    let Some(longest) = texts.first() else { return columns };
    let second = texts.get(1).map(|c| c.name.as_str());
    let answer = found.label_column().map(|c| c.name.as_str()).or(second);
    let Some(answer) = answer.filter(|name| *name != longest.name) else { return columns };
    set("prompt", &longest.name);
    set("answer", answer);
    columns
}

#[cfg(test)]
mod tests {
    use paddock_datasets::inspect::{Lens, inspect};
    use paddock_datasets::prepare::Quiet;

    use super::*;

    fn guess(name: &str) -> anyhow::Result<Columns> {
        let path = crate::bundled::data(name)?.train;
        let (detected, found) =
            inspect(&path, &ReadOptions::default(), Lens::default(), &mut Quiet)?;
        Ok(suggest(&detected, &found))
    }

    #[test]
    fn built_in_data_need_no_hand() -> anyhow::Result<()> {
        let reviews = guess("reviews")?;
        assert_eq!(reviews["prompt"], "review");
        assert_eq!(reviews["answer"], "label");
        let stories = guess("stories")?;
        assert_eq!(stories["prompt"], "instruction");
        assert_eq!(stories["input"], "input");
        assert_eq!(stories["answer"], "output");
        Ok(())
    }

    #[test]
    fn a_table_is_read_up_to_its_limit() -> anyhow::Result<()> {
        let path = crate::bundled::data("reviews")?.train;
        let table = Table::read(&path, 100, &mut Quiet)?;
        assert!(table.more && table.rows.len() == 100);
        let whole = Table::read(&path, 10_000, &mut Quiet)?;
        assert!(!whole.more && whole.rows.len() > 900);
        Ok(())
    }
}
