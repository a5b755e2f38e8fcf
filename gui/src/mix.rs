//! Which templates the rows are written with: one, or several with weights, and such as are kept for judging.

use paddock_cli::data::table::Columns;
use paddock_cli::run::config::MixtureSet;
use paddock_cli::run::config::mixture::as_flag;
use paddock_cli::train::reader::CHAT;
use paddock_datasets::template::Template;

use crate::engine::Flags;

/// A template in use.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// As `--template` takes it.
    pub name: String,
    /// How often it is drawn, beside the others.
    pub weight: f64,
    /// The model never trains with it: held-out rows are asked in its words.
    pub judges: bool,
}

impl Chosen {
    /// A template to train with.
    pub fn new(name: &str) -> Chosen {
        Chosen { name: name.to_string(), weight: 1.0, judges: false }
    }

    /// The last part of its name.
    pub fn short(&self) -> &str {
        let last = self.name.rsplit(['/', '\\', '#']).next().unwrap_or(&self.name);
        last.strip_suffix(".json").unwrap_or(last)
    }

    /// Whether it says itself which columns it reads.
    pub fn by_name(&self) -> bool {
        !Template::BUILT_IN.contains(&self.name.as_str()) && self.name != CHAT
    }
}

/// The templates that are trained with.
pub fn trained(list: &[Chosen]) -> impl Iterator<Item = &Chosen> {
    list.iter().filter(|chosen| !chosen.judges)
}

/// Whether one template, or none, is all there is.
pub fn plain(list: &[Chosen]) -> bool {
    list.len() <= 1 && list.iter().all(|chosen| !chosen.judges)
}

/// Settings of a run for these templates. Of several, each row is drawn with one; `sides` are the settings that
/// name the rows, `most` how many there are.
pub fn flags(list: &[Chosen], sides: Flags, columns: &Columns, most: u64) -> Flags {
    let first = trained(list).next().map(|chosen| ("template".to_string(), chosen.name.clone()));
    if plain(list) {
        return sides.into_iter().chain(first).collect();
    }
    let (data, mut flags): (Flags, Flags) = sides.into_iter().partition(|(key, _)| key == "data");
    let names = |judges: bool| list.iter().filter(move |c| c.judges == judges);
    let set = MixtureSet {
        data: data.into_iter().map(|(_, name)| name).collect(),
        template: names(false).map(|chosen| chosen.name.clone()).collect(),
        template_weight: names(false).map(|chosen| chosen.weight).collect(),
        judge_template: names(true).map(|chosen| chosen.name.clone()).collect(),
        max_rows: Some(most),
        columns: columns.clone(),
        ..MixtureSet::default()
    };
    flags.push(("mixture".to_string(), as_flag(&[set])));
    // One pass is as many rows as there are.
    flags.push(("mixture_cap".to_string(), most.to_string()));
    flags.extend(first);
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::config;

    fn sides() -> Flags {
        vec![("data".into(), "a \"b\".csv".into()), ("validation".into(), "held.jsonl".into())]
    }

    #[test]
    fn one_template_is_a_flag_and_several_are_a_mixture() {
        let columns = Columns::from([("prompt".to_string(), "q".to_string())]);
        let one = flags(&[Chosen::new("alpaca")], sides(), &columns, 9);
        assert_eq!(one.last(), Some(&("template".to_string(), "alpaca".to_string())));
        let mut list =
            vec![Chosen::new("alpaca"), Chosen::new("prompt"), Chosen::new("cluster:x/y")];
        (list[1].weight, list[2].judges) = (3.0, true);
        let config = config(&flags(&list, sides(), &columns, 9)).expect("valid settings");
        assert!(config.data.is_empty());
        let set = &config.mixture[0];
        assert_eq!(set.data, ["a \"b\".csv"]);
        assert_eq!(
            (&set.template[..], &set.template_weight[..]),
            (&["alpaca".to_string(), "prompt".to_string()][..], &[1.0, 3.0][..])
        );
        assert_eq!(set.judge_template, ["cluster:x/y"]);
        assert_eq!((set.max_rows, set.columns["prompt"].as_str()), (Some(9), "q"));
        assert_eq!(config.template.as_deref(), Some("alpaca"));
    }

    #[test]
    fn a_name_is_short_where_it_is_shown() {
        for (name, short) in [
            ("cluster:sentiment/terse", "terse"),
            ("/a/b/mine.json", "mine"),
            ("t.yaml#two", "two"),
        ] {
            assert_eq!(Chosen::new(name).short(), short);
        }
    }
}
