//! Who may know whom: dependencies of all packages, and what source files name.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{code, files, root, words};

/// Which packages of the house each may depend on.
const INSIDE: [(&str, &[&str]); 8] = [
    ("core", &[]),
    // The emulator for tests alone: see `the_emulator_is_for_tests`.
    ("kernels", &["paddock-core", "paddock-cuda-shim", "paddock-ptx-emulator"]),
    ("kernels/cuda-shim", &[]),
    ("kernels/ptx-emulator", &["paddock-core", "paddock-cuda-shim"]),
    ("datasets", &["paddock-core"]),
    // The command line's own tests train the toy model of `paddock-tests`.
    ("cli", &["paddock-core", "paddock-kernels", "paddock-datasets", "paddock-tests"]),
    ("gui", &["core-cli", "paddock-datasets"]),
    ("tests", &["paddock-core", "paddock-kernels", "paddock-datasets", "core-cli", "paddock-gui"]),
];

/// Packages from outside that only some folders may use. `tests` may use all.
const OUTSIDE: [(&str, &[&str]); 14] = [
    ("wgpu", &["kernels"]),
    ("naga", &["kernels"]),
    ("cust", &["kernels", "kernels/cuda-shim", "kernels/ptx-emulator"]),
    // Rows are read and tokenised in parallel; rayon is also what the kernels run on.
    ("rayon", &["kernels", "datasets"]),
    ("egui", &["gui"]),
    ("eframe", &["gui"]),
    ("egui_kittest", &["gui"]),
    ("egui_plot", &["gui"]),
    ("image", &["gui"]),
    ("rfd", &["gui"]),
    ("anyhow", &["cli", "gui"]),
    ("memmap2", &["cli", "kernels"]),
    ("clap", &["cli", "gui"]),
    ("serde", &["cli", "gui", "datasets"]),
];

/// The core's whole list.
const CORE: [&str; 3] = ["half", "bytemuck", "libm"];

/// (section, package) for every dependency in a folder's Cargo.toml.
fn dependencies(folder: &str) -> Option<Vec<(String, String)>> {
    let text = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).ok()?;
    Some(parse(&text))
}

fn parse(text: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            name.clone_into(&mut section);
            // `[dependencies.NAME]`
            if let Some((head, package)) = section.rsplit_once("dependencies.") {
                found.push((format!("{head}dependencies"), package.to_owned()));
            }
        } else if section.ends_with("dependencies")
            && !line.starts_with('#')
            && let Some((key, _)) = line.split_once('=')
        {
            let package = key.trim().trim_end_matches(".workspace").trim_matches('"');
            found.push((section.clone(), package.to_owned()));
        }
    }
    found
}

/// Folders of the workspace's packages.
fn members() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let list = text.split_once("members = [").expect("members").1;
    let list = list.split_once(']').expect("the end of members").0;
    list.split(',')
        .map(|m| m.trim().trim_matches('"').to_owned())
        .filter(|m| !m.is_empty())
        .collect()
}

#[test]
fn packages_depend_on_whom_they_may() {
    let rules: BTreeMap<&str, &[&str]> = INSIDE.into_iter().collect();
    let mut complaints = Vec::new();
    for folder in members() {
        let found = dependencies(&folder).expect("a Cargo.toml");
        let inside = rules.get(folder.as_str());
        let inside =
            inside.unwrap_or_else(|| panic!("`{folder}`: add it to INSIDE, with its rule"));
        for (section, package) in found {
            let ours = package.starts_with("paddock-") || package == "core-cli";
            let rule = OUTSIDE.iter().find(|(name, _)| *name == package).map(|(_, who)| who);
            let may = match rule {
                _ if ours => inside.contains(&package.as_str()),
                Some(who) => folder == "tests" || who.contains(&folder.as_str()),
                None => true,
            };
            let may = may
                && (folder != "core"
                    || section != "dependencies"
                    || CORE.contains(&package.as_str()));
            if !may {
                complaints.push(format!("{folder}/Cargo.toml: `{package}` in [{section}]"));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn the_emulator_is_for_tests() {
    for folder in members() {
        for (section, package) in dependencies(&folder).expect("a Cargo.toml") {
            let shipped =
                package == "paddock-ptx-emulator" && !section.ends_with("dev-dependencies");
            assert!(!shipped, "{folder}/Cargo.toml: the emulator in [{section}]");
        }
    }
}

#[test]
fn manifests_are_read() {
    let text = "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\nb.workspace = true\n# c = \"1\"\n\
                [target.'cfg(unix)'.dev-dependencies]\nd = { path = \"d\" }\n[dependencies.e]\nversion = \"1\"\n";
    let found: Vec<String> = parse(text).into_iter().map(|(_, p)| p).collect();
    assert_eq!(found, ["a", "b", "d", "e"]);
}

/// Modules of `from` that are named as `from::module`, in the given source files.
fn named(folder: &str, from: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for source in files(&["rs"]).into_iter().filter(|s| s.path.starts_with(folder)) {
        let code = code(&source.text);
        for (at, _) in words(&code).filter(|(_, w)| *w == from) {
            let rest = &code[at + from.len()..];
            let Some(path) = rest.trim_start().strip_prefix("::") else { continue };
            // `use from::{a, b::C}`: every name of the list's first level.
            let path = path.trim_start();
            let list = path.strip_prefix('{').map(|l| first_level(l)).unwrap_or_else(|| vec![path]);
            for item in list {
                if let Some((_, module)) = words(item).next() {
                    found.insert((source.path.clone(), module.to_owned()));
                }
            }
        }
    }
    found
}

/// The parts of a `{…}` list, at its first level.
fn first_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (i, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&list[start..i]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts
}

#[test]
fn the_core_knows_no_std() {
    let lib = std::fs::read_to_string(root().join("core/src/lib.rs")).expect("core/src/lib.rs");
    assert!(lib.contains("#![no_std]") && lib.contains("#![forbid(unsafe_code)]"));
    assert_eq!(named("core/src", "std"), BTreeSet::new());
    for source in files(&["rs"]).iter().filter(|s| s.path.starts_with("core/src")) {
        let code = code(&source.text);
        assert!(!code.contains("extern crate std"), "{}", source.path);
    }
}

#[test]
fn datasets_know_two_modules_of_the_core() {
    let all = named("datasets/src", "paddock_core");
    let strangers: Vec<_> = all.iter().filter(|(_, m)| m != "forest" && m != "philox").collect();
    assert!(strangers.is_empty(), "datasets may use forest and philox only: {strangers:?}");
    assert!(!all.is_empty(), "the scanner finds what is there");
}

/// The app drives the command line's library: what computes is none of its business.
#[test]
fn the_app_names_no_back_end() {
    let sources = files(&["rs"]);
    let app: Vec<_> = sources.iter().filter(|s| s.path.starts_with("gui/src")).collect();
    assert!(app.len() > 10, "the scanner finds what is there");
    for source in app {
        let code = code(&source.text);
        let strange = ["paddock_core", "paddock_kernels", "Cpu", "Cuda", "Reference"];
        let found = words(&code).find(|(_, word)| strange.contains(word));
        assert!(found.is_none(), "{}: {found:?}", source.path);
    }
    assert!(named("gui/src", "paddock_cli").iter().any(|(_, module)| module == "run"));
}

/// An op has one name everywhere: `NAME.rs` in the reference and on the CPU, `NAME*.wgsl`, `NAME*.ptx`.
#[test]
fn ops_have_one_stem() {
    let stems = |folder: &str| -> Option<BTreeSet<String>> {
        let entries = std::fs::read_dir(root().join(folder)).ok()?;
        let names = entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8"));
        Some(names.map(|n| n.split('.').next().unwrap_or("").to_owned()).collect())
    };
    let mut reference = stems("core/src/reference").expect("the reference");
    for other in ["mod", "real"] {
        assert!(reference.remove(other), "reference/{other}.rs");
    }
    assert!(reference.len() >= 9, "ops: {reference:?}");
    let mut seen = 0;
    for folder in ["cpu", "wgpu", "cuda"] {
        let Some(found) = stems(&format!("kernels/src/{folder}")) else { continue };
        seen += 1;
        let missing: Vec<_> =
            reference.iter().filter(|op| !found.iter().any(|f| f.starts_with(*op))).collect();
        assert!(missing.is_empty(), "kernels/src/{folder} has no file for {missing:?}");
    }
    assert!(seen > 0, "no kernels found");
}
