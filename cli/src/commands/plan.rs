//! `core-cli plan`: what a run would need.

use std::path::{Path, PathBuf};

use paddock_core::config::{Config, Rope, RopeScaling};

use crate::error::bad_input;
use crate::model::config_json;
use crate::run::config::{ConfigFlags, Layers};
use crate::run::events::Event;
use crate::run::signals::Signals;
use crate::train::launch::Told;
use crate::train::notices::notices;
use crate::train::plan::{of_run, of_shape, text};
use crate::train::report::Listener;
use crate::train::setup::Setup;
use crate::train::words::INDENT;
use crate::wrap::{folded, of_stdout};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A RUN.toml with settings; flags win over it.
    run_toml: Option<PathBuf>,
    /// Only a shape: DIM,LAYERS,HEADS,KV,HIDDEN,VOCAB, or a model's config.json or folder. No data and no
    /// weights are needed then.
    #[arg(long, value_name = "SHAPE")]
    shape: Option<String>,
    /// What an hour of this machine costs: the run's cost is told.
    #[arg(long, value_name = "PRICE")]
    price_per_hour: Option<f64>,
    /// Make no steps to tell the time by.
    #[arg(long)]
    no_probe: bool,
    /// Print the plan as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

/// Everything is said on stderr.
struct Aside;

impl Listener for Aside {
    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        if let Event::Warning(warning) = event {
            eprintln!("warning: {}", warning.message);
        }
        Ok(())
    }
    fn note(&mut self, what: &str) {
        eprintln!("{what}");
    }
    fn busy(&mut self, what: &str) {
        eprintln!("{what}");
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let price = args.price_per_hour;
    if price.is_some_and(|price| !(price.is_finite() && price >= 0.0)) {
        return Err(bad_input("--price-per-hour must be 0 or more"));
    }
    let mut layers = Layers::new();
    if let Some((name, text)) = super::train::read_file(args.run_toml.as_ref())? {
        layers = layers.file(&name, &text)?;
    }
    let (mut config, _) = layers.flags(&args.config.flags)?.set(&args.config.set)?.build()?;
    // The rows that the built-in model is there for.
    let of_tiny = config.model.as_deref() == Some("bundled:tiny") && args.shape.is_none();
    if of_tiny && config.data.is_empty() && config.mixture.is_empty() {
        eprintln!("no rows are named, so this is for --data bundled:stories");
        config.data.push("bundled:stories".to_string());
    }
    let planned = match &args.shape {
        Some(shape) => of_shape(shape, shape_of(shape)?, &config)?,
        None => {
            let signals = Signals::default();
            let setup =
                Setup::prepare(config, &mut Told { listener: &mut Aside, signals: &signals })?;
            notices(&setup).iter().for_each(|notice| eprintln!("warning: {notice}"));
            if !args.no_probe {
                eprintln!("making a few steps to tell the time by");
            }
            of_run(&setup, !args.no_probe)?
        }
    };
    let planned = planned.priced(price);
    if args.json {
        println!("{}", serde_json::to_string(&planned)?);
    } else {
        println!("{}", folded(&text(&planned, price), of_stdout(), INDENT));
    }
    Ok(())
}

/// Six numbers, or a file that holds them.
fn shape_of(shape: &str) -> anyhow::Result<Config> {
    let path = Path::new(shape);
    let file = if path.is_dir() { path.join("config.json") } else { path.to_path_buf() };
    if file.is_file() {
        let text = std::fs::read_to_string(&file)
            .map_err(|e| bad_input(format!("{}: {e}", file.display())))?;
        return config_json::parse(&file, &text);
    }
    let numbers: Option<Vec<u32>> = shape.split(',').map(|n| n.trim().parse().ok()).collect();
    let Some([dim, n_layers, n_heads, n_kv_heads, hidden_dim, vocab_size]) =
        numbers.and_then(|n| <[u32; 6]>::try_from(n).ok())
    else {
        return Err(bad_input(format!(
            "--shape {shape}: expected six whole numbers (DIM,LAYERS,HEADS,KV,HIDDEN,VOCAB), or a \
             config.json"
        )));
    };
    let config = Config {
        dim,
        hidden_dim,
        n_layers,
        n_heads,
        n_kv_heads,
        head_dim: dim.checked_div(n_heads).unwrap_or(0),
        vocab_size,
        max_seq_len: 1 << 17,
        rms_norm_eps: 1e-5,
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::Default },
        tied: false,
    };
    config.validate().map_err(|e| bad_input(format!("--shape {shape}: {e}")))?;
    Ok(config)
}
