//! Rows to learn from, to watch and to judge by: told apart once, and kept.

use std::path::{Path, PathBuf};

use eframe::egui::Context;
use paddock_cli::data::splits::{KeptSplit, find};
use paddock_datasets::readers::{self, Detected, ReadOptions};
use paddock_datasets::template::Template;

use crate::data::Opened;
use crate::engine::Engine;
use crate::task::Work;

/// Up to so many rows near twins are looked for, and kept on one side.
const TWINS: usize = 200_000;

/// How rows are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Any rows.
    #[default]
    Random,
    /// As many of each answer on every side.
    Stratified,
    /// Rows with the same value in a column stay together.
    Group,
    /// The last rows by a column, such as a date.
    Order,
}

impl By {
    /// All of them, with a word for each.
    pub const ALL: [(By, &'static str); 4] = [
        (By::Random, "at random"),
        (By::Stratified, "at random, with the same shares of each value of"),
        (By::Group, "keeping rows together that agree in"),
        (By::Order, "the last ones by"),
    ];

    fn word(self) -> &'static str {
        match self {
            By::Random => "random",
            By::Stratified => "stratified",
            By::Group => "group",
            By::Order => "order",
        }
    }
}

/// A kept split that runs use.
#[derive(Clone, Debug, PartialEq)]
pub struct Used {
    /// The split.
    pub kept: KeptSplit,
    /// Whether its files say by themselves which column is which, as the file that was split does.
    pub same_layout: bool,
}

/// The state of the part of the data screen.
#[derive(Debug)]
pub struct Split {
    /// Rows to watch, per cent.
    pub validation: u32,
    /// Rows to judge by at the end, per cent.
    pub test: u32,
    /// How rows are told apart.
    pub by: By,
    /// The column for that.
    pub column: String,
    /// The split that runs use; none: each run holds rows out by itself.
    pub used: Option<Used>,
    /// A kept split of the rows, if there is one; looked for when they are opened.
    pub found: Work<Option<Used>>,
    /// A split that is being made.
    pub making: Work<Used>,
}

impl Default for Split {
    fn default() -> Split {
        Split {
            validation: 10,
            test: 10,
            by: By::Random,
            column: String::new(),
            used: None,
            found: Work::Idle,
            making: Work::Idle,
        }
    }
}

/// The folder of kept splits.
fn folder(engine: &Engine) -> PathBuf {
    engine.runs.join(".app").join("splits")
}

fn used(kept: KeptSplit, whole: &Detected) -> anyhow::Result<Used> {
    let first = if kept.rows[0] > 0 { kept.path(0) } else { kept.path(1) };
    let side = readers::open(&first, &ReadOptions::default())?.detected().clone();
    let same_layout = Template::for_layout(whole) == Template::for_layout(&side);
    Ok(Used { kept, same_layout })
}

impl Split {
    /// Looks whether the rows were split before.
    pub fn look(&mut self, ctx: &Context, engine: &Engine, opened: &Opened) {
        let splits = folder(engine);
        let (path, detected) = (opened.table.path.clone(), opened.table.detected.clone());
        self.found.start(ctx, move |_| {
            find(&splits, &path)?.map(|kept| used(kept, &detected)).transpose()
        });
    }

    /// Takes over what workers have finished.
    pub fn poll(&mut self) {
        if self.found.poll()
            && let Work::Done(Some(found)) = &self.found
        {
            self.used = Some(found.clone());
        }
        if self.making.poll()
            && let Work::Done(made) = &self.making
        {
            self.used = Some(made.clone());
        }
    }

    /// What is missing before a split can be made, in words.
    pub fn missing(&self) -> Option<String> {
        if self.making.busy() {
            return Some("The split is being made.".to_string());
        }
        if self.validation + self.test == 0 {
            return Some("Give at least one of the two sides some rows.".to_string());
        }
        let column = self.by != By::Random && self.column.is_empty();
        column.then(|| "Choose the column.".to_string())
    }

    /// What core-cli is asked for.
    fn arguments(&self, opened: &Opened, out: &Path) -> Vec<String> {
        let share = |percent: u32| (f64::from(percent) / 100.0).to_string();
        let mut list: Vec<String> =
            ["data", "split", &opened.name, "--by", self.by.word()].map(str::to_string).to_vec();
        let pairs = [
            ("--out", out.display().to_string()),
            ("--validation", share(self.validation)),
            ("--test", share(self.test)),
        ];
        list.extend(pairs.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]));
        if self.by != By::Random {
            list.extend(["--column".to_string(), self.column.clone()]);
        } else if opened.table.rows.len() <= TWINS && !opened.table.more {
            list.push("--keep-twins-together".to_string());
        }
        if opened.table.bad.total > 0 {
            list.push("--skip-bad".to_string());
        }
        list
    }

    /// Makes the split and keeps it.
    pub fn make(&mut self, ctx: &Context, engine: &Engine, opened: &Opened) {
        let stem = opened.name.rsplit(['/', '\\', ':']).next().unwrap_or("rows");
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let stem: String = stem.chars().map(plain).take(40).collect();
        let place = folder(engine);
        let free = |n: u32| place.join(if n == 1 { stem.clone() } else { format!("{stem}-{n}") });
        let out = (1..).map(free).find(|path| !path.exists()).unwrap_or_default();
        let (engine, list) = (engine.clone(), self.arguments(opened, &out));
        let detected = opened.table.detected.clone();
        self.making.start(ctx, move |pulse| {
            engine.ask(&list, pulse)?;
            let kept = KeptSplit::read(&out);
            used(kept.ok_or_else(|| anyhow::anyhow!("{} is not whole", out.display()))?, &detected)
        });
    }
}
