//! Every key of RUN.toml as a flag of the command line.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use super::{KEYS, Key, Kind};

/// What was said by flags, for [`super::Layers::flags`] and [`super::Layers::set`]. For use in a
/// clap struct with `#[command(flatten)]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFlags {
    /// Key and text of each flag, in the order of the keys.
    pub flags: Vec<(String, String)>,
    /// The texts behind `--set`.
    pub set: Vec<String>,
}

fn arg(key: &'static Key) -> Arg {
    let mut help = key.help();
    if let Some(default) = default_words(key) {
        help.push_str(&format!(" [default: {default}]"));
    }
    let arg = Arg::new(key.name)
        .long(key.flag())
        .value_name(key.kind.placeholder())
        .help(help)
        .help_heading("Settings (also keys of RUN.toml)")
        .allow_negative_numbers(true);
    match key.kind {
        Kind::Choice(names) => arg.value_parser(PossibleValuesParser::new(names)),
        Kind::Switch => arg.value_parser(["true", "false"]),
        Kind::Texts | Kind::Names | Kind::Sets => arg.action(ArgAction::Append),
        _ => arg,
    }
}

/// The default as a person would write it; nothing where the help says what happens without the
/// key.
fn default_words(key: &Key) -> Option<String> {
    let defaults = toml::Table::try_from(super::RunConfig::default()).ok()?;
    match defaults.get(key.name)? {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Array(items) if items.is_empty() => None,
        toml::Value::Table(_) => None,
        toml::Value::Array(items) => {
            Some(items.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(", "))
        }
        other => Some(other.to_string()),
    }
}

impl Args for ConfigFlags {
    fn augment_args(command: Command) -> Command {
        let set = Arg::new("set")
            .long("set")
            .value_name("KEY=VALUE")
            .action(ArgAction::Append)
            .help("Set any key; wins over everything else (--set columns.prompt=question)")
            .help_heading("Settings (also keys of RUN.toml)");
        KEYS.iter().fold(command, |command, key| command.arg(arg(key))).arg(set)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ConfigFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let texts = |name| matches.get_many::<String>(name).into_iter().flatten().cloned();
        let flags = KEYS
            .iter()
            .flat_map(|key| texts(key.name).map(|text| (key.name.to_string(), text)))
            .collect();
        Ok(Self { flags, set: texts("set").collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
