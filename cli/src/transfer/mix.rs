//! Rows of several clusters, each put by one of its templates, as one mixture.

use paddock_core::philox::{Philox, Stream};
use paddock_datasets::mixture::{Mixture, Rates};
use paddock_datasets::record::Record;
use paddock_datasets::template::{Compiled, Template};
use serde_json::json;

use super::spec::{Count, Transfer};
use crate::error::bad_input;
use crate::eval::rows::{Selection, read};
use crate::storage::whole::sha256_hex;
use crate::study::rows::{paths, spread};

/// A cluster, read.
pub struct Loaded {
    /// Its name.
    pub name: String,
    rows: Vec<Record>,
    templates: Vec<Template>,
    /// Hash of its rows and templates.
    pub hash: String,
}

/// Reads all clusters but the held-out one.
pub fn load(study: &Transfer) -> anyhow::Result<Vec<Loaded>> {
    let mut all = Vec::new();
    for (name, cluster) in study.cluster.iter().filter(|(n, _)| **n != study.held_out) {
        let rows = read(&paths(&cluster.data)?, &Selection::default())?.records;
        let rows = spread(rows, Some(study.most_rows));
        let templates = cluster.all_templates()?;
        let mut text = String::new();
        rows.iter().for_each(|r| text.push_str(&json!(r.columns).to_string()));
        templates.iter().for_each(|t| text.push_str(&t.hash()));
        let hash = sha256_hex(text.as_bytes());
        all.push(Loaded { name: name.clone(), rows, templates, hash });
    }
    Ok(all)
}

/// Which clusters a seed takes: of `n` the first in an order by chance, so that more are the same and others.
pub fn chosen(clusters: &[Loaded], n: usize, seed: u64) -> Vec<&Loaded> {
    let mut order: Vec<usize> = (0..clusters.len()).collect();
    Philox::new(seed, Stream::SPLIT).shuffle(0, &mut order);
    order.into_iter().take(n).map(|i| &clusters[i]).collect()
}

/// The template that puts a written-out pair together as it was rendered: between question and answer is a
/// line break, as in all templates of clusters.
pub fn pair_template() -> Template {
    Template::jinja("pairs", "{{ question }} ||| {{ answer }}", None)
}

/// The mixture as lines of question and answer: each row once, sets by size, templates by chance.
pub fn mixture(clusters: &[&Loaded], templates: Count, seed: u64) -> anyhow::Result<String> {
    let sizes: Vec<u64> = clusters.iter().map(|c| c.rows.len() as u64).collect();
    let mut compiled: Vec<Vec<Compiled>> = Vec::new();
    let random = Philox::new(seed, Stream::MIX);
    for (cluster, step) in clusters.iter().zip(2_000_000..) {
        let mut order: Vec<usize> = (0..cluster.templates.len()).collect();
        random.shuffle(step, &mut order);
        order.truncate(templates.of(order.len()));
        let list = order.into_iter().map(|i| Ok(cluster.templates[i].compile()?));
        compiled.push(list.collect::<anyhow::Result<_>>()?);
    }
    let mut mixture = Mixture::new(&sizes, &Rates::Proportional { cap: u64::MAX }, seed)?;
    let mut text = String::new();
    for number in 0..sizes.iter().sum::<u64>() {
        let (set, row) = mixture.draw();
        let own = &compiled[set];
        let template = &own[random.below(1_000_000, number, own.len() as u64) as usize];
        let parts = template
            .parts(&clusters[set].rows[row])
            .map_err(|e| bad_input(format!("cluster.{}: row {row}: {e}", clusters[set].name)))?;
        // Some templates pass over some rows.
        let Some(answer) = parts.target.filter(|t| !t.trim().is_empty()) else { continue };
        let line = json!({"question": parts.input.trim(), "answer": answer.trim()});
        text.push_str(&format!("{line}\n"));
    }
    if text.is_empty() {
        return Err(bad_input("the templates write an answer for none of the rows"));
    }
    Ok(text)
}
