//! Every parser of bytes from outside, as a function of bytes alone, which the tests feed with random
//! changes of good input. A parser may refuse its input in any words; it must not panic or hang.

use std::path::PathBuf;

use crate::root;

mod data;
pub mod memory;
mod model;
pub mod mutate;
mod settings;
mod templates;

/// A parser under test.
pub struct Parser {
    /// Its name, which is also that of its corpus.
    pub name: &'static str,
    /// Reads bytes as a stranger would send them.
    pub read: fn(&[u8]),
    /// Files of this repository that it accepts, to start from.
    pub seeds: &'static [&'static str],
    /// Inputs that are no files of their own.
    pub more: &'static [&'static [u8]],
}

impl Parser {
    /// Inputs to start from: whole files, the kept corpus, and a few short ones.
    pub fn corpus(&self) -> Vec<Vec<u8>> {
        let mut inputs: Vec<Vec<u8>> = self.more.iter().map(|bytes| bytes.to_vec()).collect();
        for seed in self.seeds {
            let path = root().join(seed);
            inputs.push(std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        }
        let mut kept: Vec<PathBuf> =
            std::fs::read_dir(root().join("tests/fuzz/corpus").join(self.name))
                .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
                .unwrap_or_default();
        kept.sort();
        inputs.extend(kept.iter().map(|path| std::fs::read(path).expect("a readable corpus file")));
        inputs
    }
}

/// All of them.
pub fn parsers() -> Vec<Parser> {
    [data::parsers(), model::parsers(), settings::parsers(), templates::parsers()]
        .into_iter()
        .flatten()
        .collect()
}

/// One of them, by name.
///
/// # Panics
/// If there is none of that name.
pub fn parser(name: &str) -> Parser {
    let found = parsers().into_iter().find(|parser| parser.name == name);
    found.unwrap_or_else(|| panic!("no parser is called {name}"))
}

/// One of them for `tests/fuzz`. A panic that a parser catches and puts into words is no failure there either, so the
/// fuzzer's hook, which ends the program at any, is taken away; one that leaves the parser ends it as before.
///
/// # Panics
/// If there is none of that name.
pub fn for_fuzzer(name: &str) -> Parser {
    let found = parser(name);
    std::panic::set_hook(Box::new(|_| {}));
    found
}
