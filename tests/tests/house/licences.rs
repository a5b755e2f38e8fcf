//! What deny.toml says of licences, banned packages and sources, read here: `cargo deny` itself is a large program
//! that few have. Where it is installed, .ci/test runs it; public CI runs it always, with advisories.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use toml::Table;

use crate::source::root;

fn toml_file(path: &str) -> Table {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    toml::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn texts(value: &toml::Value) -> BTreeSet<String> {
    let list = value.as_array().expect("a list");
    list.iter().map(|v| v.as_str().expect("a text").to_string()).collect()
}

/// Whether an expression such as `(MIT OR Apache-2.0) AND Unicode-3.0` can be satisfied with what is allowed.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let good = either(&words, &mut at, allowed);
    good && at == words.len()
}

fn either(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut good = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        good |= both(words, at, allowed);
    }
    good
}

fn both(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut good = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        good &= one(words, at, allowed);
    }
    good
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let good = either(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return good && closed;
    }
    let mut name = (*word).to_string();
    if words.get(*at) == Some(&"WITH") {
        name.push_str(&format!(" WITH {}", words.get(*at + 1).unwrap_or(&"")));
        *at += 2;
    }
    allowed.contains(&name)
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"].map(String::from).into();
    for good in [
        "MIT",
        "MIT OR GPL-3.0",
        "MIT/GPL-3.0",
        "(GPL-3.0 OR MIT) AND Zlib",
        "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
        "GPL-3.0 OR (MIT AND Zlib)",
    ] {
        assert!(satisfied(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "", "(MIT", "MIT Zlib"] {
        assert!(!satisfied(bad, &allowed), "{bad}");
    }
}

/// Packages that are built on a system, with their licences, as cargo tells them. None where the manifest of one has
/// never been fetched here.
fn metadata(platform: &str) -> Option<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_string());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--offline", "--locked"]);
    command.args(["--filter-platform", platform]);
    let output = command.current_dir(root()).output().expect("cargo");
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let missing = said.contains("--offline") || said.contains("offline mode");
        assert!(missing, "cargo metadata for {platform}: {said}");
        return None;
    }
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The system that this is.
fn host() -> String {
    let version = Command::new("rustc").arg("-vV").output().expect("rustc");
    let version = String::from_utf8(version.stdout).expect("text");
    version.lines().find_map(|l| l.strip_prefix("host: ")).expect("a host").to_string()
}

#[test]
fn licences_are_those_that_deny_toml_allows() {
    let deny = toml_file("deny.toml");
    let licences = deny["licenses"].as_table().expect("a table");
    let allowed = texts(&licences["allow"]);
    let exceptions = licences["exceptions"].as_array().expect("a list");
    // Every system that deny.toml names, and this one.
    let platforms = texts(&deny["graph"]["targets"]).into_iter().chain([host()]);
    let mut all = BTreeMap::new();
    for platform in platforms.collect::<BTreeSet<String>>() {
        let Some(metadata) = metadata(&platform) else {
            assert_ne!(platform, host(), "what was built here is here");
            println!(
                "SKIPPED: licences of packages for {platform}: not all were fetched (cargo fetch)"
            );
            continue;
        };
        for package in metadata["packages"].as_array().expect("packages") {
            all.insert(package["id"].to_string(), package.clone());
        }
    }
    let packages: Vec<&Value> = all.values().collect();
    assert!(packages.len() > 200, "only {} packages", packages.len());
    let mut complaints = Vec::new();
    for package in packages.iter().filter(|p| !p["source"].is_null()) {
        let (name, licence) = (package["name"].as_str(), package["license"].as_str());
        let exception = exceptions.iter().find(|e| e["crate"].as_str() == name);
        let own = exception.map_or_else(|| allowed.clone(), |e| texts(&e["allow"]));
        if !licence.is_some_and(|licence| satisfied(licence, &own)) {
            complaints.push(format!("{}: {}", package["id"], package["license"]));
        }
    }
    assert!(
        complaints.is_empty(),
        "licences that deny.toml does not allow:\n{}",
        complaints.join("\n")
    );
    // No version is left open.
    for package in packages.iter().filter(|p| p["source"].is_null()) {
        for dependency in package["dependencies"].as_array().expect("a list") {
            let open = dependency["req"] == "*" && dependency["path"].is_null();
            assert!(!open, "{} depends on any version of {}", package["name"], dependency["name"]);
        }
    }
}

#[test]
fn packages_come_from_where_deny_toml_allows_and_none_is_banned() {
    let deny = toml_file("deny.toml");
    let lock = toml_file("Cargo.lock");
    let banned: BTreeSet<&str> = deny["bans"]["deny"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|entry| entry["crate"].as_str())
        .collect();
    let sources = texts(&deny["sources"]["allow-registry"]);
    let packages = lock["package"].as_array().expect("packages");
    assert!(packages.len() > 300 && banned.len() >= 5, "{} packages", packages.len());
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        assert!(!banned.contains(name), "Cargo.lock holds {name}, which deny.toml bans");
        if let Some(source) = package.get("source").and_then(|source| source.as_str()) {
            let place = source.strip_prefix("registry+").unwrap_or(source);
            assert!(sources.contains(place), "{name} comes from {source}");
        }
    }
}
