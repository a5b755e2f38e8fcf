//! docs/reliability.md: its table is made of tests/house/faults.txt and the names of the tests. PADDOCK_UPDATE=1
//! writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::sizes::functions;
use crate::source::{code, files, root};

const BEGIN: &str = "<!-- The table below is made by `PADDOCK_UPDATE=1 cargo test --release -p paddock-tests --test house`. -->\n";
const END: &str = "<!-- End of the table. -->\n";

/// A line of faults.txt.
struct Fault {
    number: u32,
    what: String,
    does: String,
    /// Whether there is to be a test.
    tested: bool,
}

/// Headings, each with its faults.
fn faults() -> Vec<(String, Vec<Fault>)> {
    let text = std::fs::read_to_string(root().join("tests/house/faults.txt")).expect("faults.txt");
    let mut all: Vec<(String, Vec<Fault>)> = Vec::new();
    for line in text.lines().skip(3) {
        if let Some(heading) = line.strip_prefix("# ") {
            all.push((heading.to_string(), Vec::new()));
            continue;
        }
        let tested = !line.starts_with('-');
        let parts: Vec<&str> = line.trim_start_matches('-').split(" | ").collect();
        let [number, what, does] = parts[..] else { panic!("three parts: {line}") };
        let number = number.trim_start_matches('F').parse().expect("a number");
        let (what, does) = (what.to_string(), does.to_string());
        all.last_mut().expect("a heading").1.push(Fault { number, what, does, tested });
    }
    all
}

/// The numbers at the beginning of a test's name: `f38_f39_no_power_cut...`.
fn numbers(name: &str) -> Vec<u32> {
    let number = |part: &str| part.strip_prefix('f').and_then(|digits| digits.parse().ok());
    name.split('_').map_while(number).collect()
}

/// For each fault, its tests with their files.
fn tests() -> BTreeMap<u32, Vec<(String, String)>> {
    let mut found: BTreeMap<u32, Vec<(String, String)>> = BTreeMap::new();
    for source in files(&["rs"]) {
        // There `f32` is a type of numbers.
        if source.path.starts_with("kernels/ptx-emulator/") || !source.text.contains("fn f") {
            continue;
        }
        let lines: Vec<&str> = source.text.lines().collect();
        for f in functions(&source.text) {
            let above = lines[..f.first - 1].iter().rev().take_while(|l| !l.trim().is_empty());
            if above.take(6).any(|l| l.trim() == "#[test]") {
                for number in numbers(&f.name) {
                    found.entry(number).or_default().push((f.name.clone(), source.path.clone()));
                }
            }
        }
    }
    found
}

fn table() -> String {
    let tests = tests();
    let mut text = String::new();
    for (heading, faults) in faults() {
        let _ = write!(
            text,
            "\n### {heading}\n\n| | fault | what Paddock does | tests |\n|---|---|---|---|\n"
        );
        for fault in faults {
            let links: Vec<String> = tests
                .get(&fault.number)
                .into_iter()
                .flatten()
                .map(|(name, path)| format!("[`{name}`](../{path})"))
                .collect();
            let Fault { number, what, does, .. } = fault;
            let _ = writeln!(text, "| F{number} | {what} | {does} | {} |", links.join(", "));
        }
    }
    text.push('\n');
    text
}

#[test]
fn every_fault_has_a_test() {
    let tests = tests();
    let all: Vec<Fault> = faults().into_iter().flat_map(|(_, faults)| faults).collect();
    let order: Vec<u32> = all.iter().map(|fault| fault.number).collect();
    assert_eq!(order, (1..=80).collect::<Vec<u32>>());
    let without: Vec<u32> = all
        .iter()
        .filter(|fault| fault.tested != tests.contains_key(&fault.number))
        .map(|fault| fault.number)
        .collect();
    assert!(
        without.is_empty(),
        "faults without a test, or with one that faults.txt denies: {without:?}"
    );
    assert!(tests.keys().all(|number| order.contains(number)), "{:?}", tests.keys());
}

#[test]
fn the_page_on_reliability_is_up_to_date() {
    let path = root().join("docs/reliability.md");
    let page = std::fs::read_to_string(&path).expect("docs/reliability.md");
    let (before, rest) = page.split_once(BEGIN).expect("the beginning of the table");
    let (_, after) = rest.split_once(END).expect("the end of the table");
    let wanted = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("PADDOCK_UPDATE").is_some() {
        std::fs::write(&path, &wanted).expect("docs/reliability.md");
        return;
    }
    assert!(
        page == wanted,
        "docs/reliability.md is not up to date; PADDOCK_UPDATE=1 rewrites its table"
    );
}

#[test]
fn numbers_are_read_from_names() {
    assert_eq!(numbers("f38_f39_no_power_cut"), [38, 39]);
    assert_eq!(numbers("f7_extra"), [7]);
    assert!(numbers("full_fine_tuning").is_empty() && numbers("a_f7").is_empty());
}

/// A file without its inner tests. Before anything else, such as the name of a file of tests, `#[cfg(test)]` ends
/// nothing.
fn before_tests(text: &str) -> &str {
    let mut marks = text.match_indices("#[cfg(test)]\nmod ");
    let is_inner = |&(at, mark): &(usize, &str)| {
        text[at + mark.len()..].lines().next().is_some_and(|rest| rest.ends_with('{'))
    };
    marks.find(is_inner).map_or(text, |(at, _)| &text[..at])
}

#[test]
fn inner_tests_alone_are_left_out() {
    let text = "#[cfg(test)]\nmod kill;\nfn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
    assert_eq!(before_tests(text), "#[cfg(test)]\nmod kill;\nfn a() {}\n");
    assert_eq!(before_tests("fn a() {}\n"), "fn a() {}\n");
}

/// Durations come from monotonic clocks. Where the time of day is asked for it is shown, or is a file's.
#[test]
fn f55_the_time_of_day_is_only_shown() {
    let may = [
        "cli/src/data/day.rs",
        "cli/src/run/fingerprint/kept.rs",
        "cli/src/run/lock.rs",
        "cli/src/train/cache.rs",
        "cli/src/train/outcome.rs",
        "gui/src/home_ui.rs",
    ];
    let asks = |text: &str| code(text).contains("SystemTime::now");
    let sources = files(&["rs"]);
    let found: Vec<&str> = sources
        .iter()
        .filter(|s| s.path.contains("/src/") && asks(before_tests(&s.text)))
        .map(|s| s.path.as_str())
        .collect();
    assert_eq!(found, may);
}

/// Every parser that the standard tests feed can be fuzzed by coverage too.
#[test]
fn every_parser_has_a_fuzz_target() {
    let manifest =
        std::fs::read_to_string(root().join("tests/fuzz/Cargo.toml")).expect("Cargo.toml");
    let soak = std::fs::read_to_string(root().join("tests/scripts/soak")).expect("soak");
    let soaked = std::fs::read_to_string(root().join("tests/fuzz/soaked.md")).expect("soaked.md");
    for parser in paddock_tests::parsers::parsers() {
        let name = parser.name;
        let target = root().join(format!("tests/fuzz/targets/{name}.rs"));
        let text = std::fs::read_to_string(&target).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(text.contains(&format!("for_fuzzer(\"{name}\")")), "{name}");
        assert!(soaked.contains(&format!("\n| {name} | ")), "soaked.md has no row for {name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
    assert!(soak.contains("tests/fuzz/targets/*.rs"), "soak runs them all");
}
