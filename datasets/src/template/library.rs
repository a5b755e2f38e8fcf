//! Templates by what a person writes: a built-in name, `cluster:sentiment`,
//! `cluster:sentiment/terse`, a template.json, or a YAML file with `#NAME` behind it if it holds
//! several.

use std::path::Path;

use serde_yaml_ng::Value as Yaml;

use crate::error::{Error, Result};
use crate::template::{FlanPair, Template, clusters, promptsource};

/// What stands before the name of a cluster.
pub const CLUSTER: &str = "cluster:";

/// Every template that `wanted` names, one or more.
///
/// # Errors
/// [`Error::Template`] if there is none, with what there is.
pub fn find(wanted: &str) -> Result<Vec<Template>> {
    if let Some(template) = Template::built_in(wanted) {
        return Ok(vec![template]);
    }
    if let Some(name) = wanted.strip_prefix(CLUSTER) {
        return in_cluster(wanted, name);
    }
    if Path::new(wanted).is_file() {
        return load(Path::new(wanted));
    }
    if let Some((file, name)) = wanted.rsplit_once('#')
        && Path::new(file).is_file()
    {
        let all = load(Path::new(file))?;
        return pick(wanted, name, all, |t| t.name.as_str());
    }
    let message = format!(
        "there is none of that name. Built in are {} and {CLUSTER}NAME (core-cli data template \
         list shows them); or give a template file",
        Template::BUILT_IN.join(", ")
    );
    Err(Error::Template { name: wanted.to_string(), message })
}

/// The one template that `wanted` names.
///
/// # Errors
/// As [`find`], and where there are several.
pub fn find_one(wanted: &str) -> Result<Template> {
    let mut found = find(wanted)?;
    match (found.pop(), found.len()) {
        (Some(template), 0) => Ok(template),
        (last, _) => {
            found.extend(last);
            let separator = if wanted.starts_with(CLUSTER) { '/' } else { '#' };
            let names: Vec<&str> = found.iter().map(|t| short(&t.name)).collect();
            let first = names.first().copied().unwrap_or("NAME");
            let message = format!(
                "there are {} templates; say which one, such as {wanted}{separator}{first} (there \
                 are {})",
                names.len(),
                names.join(", ")
            );
            Err(Error::Template { name: wanted.to_string(), message })
        }
    }
}

fn short(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, short)| short)
}

fn in_cluster(wanted: &str, name: &str) -> Result<Vec<Template>> {
    let (cluster, template) = match name.split_once('/') {
        Some((cluster, template)) => (cluster, Some(template)),
        None => (name, None),
    };
    let Some(found) = clusters::bundled(cluster) else {
        let known: Vec<&str> = clusters::names().collect();
        let message = format!("there is no cluster {cluster:?}{}", list(cluster, &known));
        return Err(Error::Template { name: wanted.to_string(), message });
    };
    let all: Vec<Template> = found?.templates.into_iter().map(|t| t.template).collect();
    match template {
        None => Ok(all),
        Some(template) => pick(wanted, template, all, |t| short(&t.name)),
    }
}

/// Those called `name`.
fn pick(
    wanted: &str,
    name: &str,
    all: Vec<Template>,
    called: impl Fn(&Template) -> &str,
) -> Result<Vec<Template>> {
    let known: Vec<String> = all.iter().map(|t| called(t).to_string()).collect();
    let found: Vec<Template> = all.into_iter().filter(|t| called(t) == name).collect();
    if found.is_empty() {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let message = format!("there is no template {name:?} in it{}", list(name, &known));
        return Err(Error::Template { name: wanted.to_string(), message });
    }
    Ok(found)
}

fn list(wanted: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(wanted, name), name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().max(wanted.len()) / 2);
    let near = near.map_or(String::new(), |(_, name)| format!("; did you mean {name}?"));
    format!("{near} (there are {})", known.join(", "))
}

/// All templates of a file: template.json, promptsource's YAML, a cluster's YAML, or YAML with a
/// list called `pairs` of FLAN's kind.
pub fn load(path: &Path) -> Result<Vec<Template>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, "read", e))?;
    let name = path.display().to_string();
    if path.extension().is_some_and(|e| e == "json") {
        return Ok(vec![Template::from_json(&text)?]);
    }
    let fail = |message: String| Error::Template { name: name.clone(), message };
    let root: Yaml = serde_yaml_ng::from_str(&text).map_err(|e| fail(e.to_string()))?;
    if let Some(pairs) = root.get("pairs") {
        let pairs: Vec<FlanPair> =
            serde_yaml_ng::from_value(pairs.clone()).map_err(|e| fail(e.to_string()))?;
        return pairs.iter().map(FlanPair::to_template).collect();
    }
    let found = match root.get("templates") {
        Some(Yaml::Sequence(_)) => {
            clusters::parse(&name, &text)?.templates.into_iter().map(|t| t.template).collect()
        }
        _ => promptsource::parse(&name, &text)?,
    };
    if found.is_empty() {
        return Err(fail("holds no template".to_string()));
    }
    Ok(found)
}
