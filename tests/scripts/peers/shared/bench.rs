//! What the peers share: the folder that every side of the benchmark reads, the steps, and the line that is printed.
//!
//! The folder holds config.json and model.safetensors (Hugging Face's names, f32) and rows.json, a list of rows of
//! token ids, all of one length. Every token but a row's first is trained.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use safetensors::{Dtype, SafeTensors};
use serde_json::{json, Value};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What every side sets: the learning rate, Adam's constants, and the largest norm of the gradient.
pub const LR: f64 = 1e-4;
pub const BETAS: (f64, f64) = (0.9, 0.999);
pub const EPS: f64 = 1e-8;
pub const MAX_NORM: f64 = 1.0;

pub struct Options {
    pub model: PathBuf,
    steps: usize,
    threads: usize,
}

/// Reads `--model FOLDER [--steps 5] [--threads 2]`, and has the library use that many threads.
pub fn options() -> Result<Options> {
    let mut found = Options { model: PathBuf::new(), steps: 5, threads: 2 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word}: a value is missing"))?;
        match word.as_str() {
            "--model" => found.model = value.into(),
            "--steps" => found.steps = value.parse()?,
            "--threads" => found.threads = value.parse()?,
            _ => return Err(format!("{word}: expected --model, --steps or --threads").into()),
        }
    }
    if found.model.as_os_str().is_empty() || found.steps == 0 || found.threads == 0 {
        return Err("give --model FOLDER, and at least one step and thread".into());
    }
    // Both libraries compute on rayon's threads; nothing has started any yet.
    std::env::set_var("RAYON_NUM_THREADS", found.threads.to_string());
    Ok(found)
}

#[derive(Clone, Debug)]
pub struct Shape {
    pub dim: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv: usize,
    pub head_dim: usize,
    pub hidden: usize,
    pub vocab: usize,
    pub eps: f64,
    theta: f64,
}

impl Shape {
    pub fn read(folder: &Path) -> Result<Shape> {
        let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
        let number = |key: &str| config[key].as_u64().map(|n| n as usize);
        let needed = |key: &str| number(key).ok_or(format!("config.json: no number `{key}`"));
        if config["tie_word_embeddings"] == true {
            return Err(
                "config.json: the head is tied to the embeddings, which no peer trains".into()
            );
        }
        let (dim, heads) = (needed("hidden_size")?, needed("num_attention_heads")?);
        let theta = [&config["rope_theta"], &config["rope_parameters"]["rope_theta"]];
        Ok(Shape {
            dim,
            layers: needed("num_hidden_layers")?,
            heads,
            kv: number("num_key_value_heads").unwrap_or(heads),
            head_dim: number("head_dim").unwrap_or(dim / heads),
            hidden: needed("intermediate_size")?,
            vocab: needed("vocab_size")?,
            eps: config["rms_norm_eps"].as_f64().unwrap_or(1e-6),
            theta: theta.iter().find_map(|t| t.as_f64()).unwrap_or(10_000.0),
        })
    }

    /// Cosines and sines of the rotary angles, each (positions, head_dim / 2).
    pub fn rope(&self, positions: usize) -> (Vec<f32>, Vec<f32>) {
        let half = self.head_dim / 2;
        let angle = |p: usize, i: usize| p as f64 / self.theta.powf(i as f64 / half as f64);
        let angles = (0..positions).flat_map(|p| (0..half).map(move |i| angle(p, i)));
        angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip()
    }

    /// What is added to the scores: nothing, or minus infinity for what is yet to come. (positions, positions)
    pub fn mask(positions: usize) -> Vec<f32> {
        let value = |row: usize, col: usize| if col > row { f32::NEG_INFINITY } else { 0.0 };
        (0..positions).flat_map(|r| (0..positions).map(move |c| value(r, c))).collect()
    }
}

/// Rows of token ids, all of one length.
pub struct Rows {
    pub batch: usize,
    pub seq: usize,
    pub tokens: Vec<u32>,
}

impl Rows {
    pub fn read(folder: &Path) -> Result<Rows> {
        let bytes = std::fs::read(folder.join("rows.json"))?;
        let rows: Vec<Vec<u32>> = serde_json::from_slice(&bytes)?;
        let seq = rows.first().map_or(0, Vec::len);
        if seq < 2 || rows.iter().any(|row| row.len() != seq) {
            return Err("rows.json: expected rows of one length, two tokens or more".into());
        }
        Ok(Rows { batch: rows.len(), seq, tokens: rows.concat() })
    }

    /// The token behind each token but the last of its row, row after row.
    pub fn targets(&self) -> Vec<u32> {
        self.tokens.chunks(self.seq).flat_map(|row| &row[1..]).copied().collect()
    }
}

/// The weights of a folder's model.safetensors.
pub struct Weights(Vec<u8>);

impl Weights {
    pub fn read(folder: &Path) -> Result<Weights> {
        Ok(Weights(std::fs::read(folder.join("model.safetensors"))?))
    }

    /// Calls back with a reader of tensors: (name, rows, columns) to numbers, row by row.
    pub fn with<T>(
        &self,
        make: impl FnOnce(&dyn Fn(&str) -> Result<Matrix>) -> Result<T>,
    ) -> Result<T> {
        let file = SafeTensors::deserialize(&self.0)?;
        make(&|name| {
            let view = file.tensor(name)?;
            if view.dtype() != Dtype::F32 {
                return Err(format!("{name}: expected f32, found {:?}", view.dtype()).into());
            }
            let bytes = view.data().chunks_exact(4);
            let values = bytes.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            let cols = *view.shape().last().ok_or("a tensor without dimensions")?;
            Ok(Matrix { cols, values })
        })
    }
}

/// A matrix, or a vector as a matrix of one row.
pub struct Matrix {
    pub cols: usize,
    pub values: Vec<f32>,
}

impl Matrix {
    pub fn rows(&self) -> usize {
        self.values.len() / self.cols
    }

    /// (outputs, inputs) becomes (inputs, outputs), which is what both libraries multiply by fastest.
    pub fn transposed(&self) -> Matrix {
        let rows = self.rows();
        let column = |c: usize| (0..rows).map(move |r| self.values[r * self.cols + c]);
        Matrix { cols: rows, values: (0..self.cols).flat_map(column).collect() }
    }
}

/// Times of one step's parts, in seconds.
pub struct Clock(Instant, Vec<f64>);

impl Clock {
    pub fn start() -> Clock {
        Clock(Instant::now(), Vec::new())
    }

    pub fn lap(&mut self) {
        self.1.push(self.0.elapsed().as_secs_f64());
        self.0 = Instant::now();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        return values[middle];
    }
    (values[middle - 1] + values[middle]) / 2.0
}

fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

/// Makes one step to warm up and then the measured ones; prints the line. A step gives the loss before its update
/// and laps its clock after forward, backward and update.
pub fn run(
    stack: &str,
    options: &Options,
    shape: &Shape,
    rows: &Rows,
    mut step: impl FnMut(&mut Clock) -> Result<f64>,
) -> Result<()> {
    let (mut losses, mut laps) = (Vec::new(), Vec::new());
    for _ in 0..=options.steps {
        let mut clock = Clock::start();
        losses.push(step(&mut clock)?);
        laps.push(clock.1);
    }
    let phase = |i: usize| median(laps[1..].iter().map(|l| l[i]).collect());
    let seconds = median(laps[1..].iter().map(|l| l.iter().sum()).collect());
    let s = shape;
    let line = json!({
        "stack": stack,
        "shape": format!("{},{},{},{},{},{}", s.dim, s.layers, s.heads, s.kv, s.hidden, s.vocab),
        "method": "full",
        "weights": "f32",
        "batch": rows.batch,
        "seq": rows.seq,
        "threads": options.threads,
        "steps": options.steps,
        "tokens_per_s": rows.tokens.len() as f64 / seconds,
        "step_s": seconds,
        "forward_s": phase(0),
        "backward_s": phase(1),
        "optimizer_s": phase(2),
        "peak_rss_bytes": peak_rss_bytes(),
        "first_loss": losses[0],
        "loss": losses[options.steps],
    });
    println!("{line}");
    Ok(())
}
