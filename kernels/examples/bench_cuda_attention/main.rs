//! Attention on an NVIDIA GPU: first its errors against f64, then its times.
//!
//! `cargo run --release -p paddock-kernels --example bench_cuda_attention [check|time|all] [FOLDER]`
//!
//! FOLDER: where other texts of the Hopper kernels are, to be tried in their place.

#[path = "../../src/cuda/attention_groups.rs"]
mod attention_groups;
#[path = "../../src/attention_tiles.rs"]
mod attention_tiles;
mod device;

use attention_groups::heads_at_once;
use attention_tiles::Tiles;
use cust::memory::{CopyDestination, DeviceBuffer};
use device::{Arg, Gpu, Kernel, Outcome, address};
use half::bf16;
use paddock_core::batch::{Batch, Visibility};
use paddock_core::forest::{Entry, Forest, Segment};

const PORTABLE: [&str; 2] = [
    include_str!("../../src/cuda/attention_forward.ptx"),
    include_str!("../../src/cuda/attention_backward.ptx"),
];
const HOPPER: [&str; 2] = [
    include_str!("../../src/cuda/sm90/attention_forward.ptx"),
    include_str!("../../src/cuda/sm90/attention_backward.ptx"),
];

#[derive(Clone, Copy)]
struct Sizes {
    heads: usize,
    kv: usize,
    d: usize,
}

/// Which kernels.
#[derive(Clone, Copy, Debug)]
enum Path {
    Portable,
    Hopper,
}

impl Path {
    fn suffix(self) -> &'static str {
        match self {
            Path::Portable => "",
            Path::Hopper => "_sm90",
        }
    }
}

/// A small generator; the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / f64::from(1 << 23) - 1.0
    }

    /// Random numbers; those after the first million repeat them.
    fn bf16s(&mut self, count: usize) -> Vec<u16> {
        let first: Vec<u16> =
            (0..count.min(1_000_003)).map(|_| bf16::from_f64(self.next()).to_bits()).collect();
        first.iter().copied().cycle().take(count).collect()
    }
}

/// The lists of a [`Tiles`] on the device.
struct Tables {
    tiles: DeviceBuffer<u32>,
    entries: DeviceBuffer<u32>,
    masks: DeviceBuffer<u64>,
    count: u32,
}

impl Tables {
    fn new(tiles: &Tiles) -> Outcome<Self> {
        let masks = if tiles.masks.is_empty() { &[0][..] } else { &tiles.masks };
        Ok(Self {
            tiles: DeviceBuffer::from_slice(tiles.tiles.as_flattened())?,
            entries: DeviceBuffer::from_slice(tiles.entries.as_flattened())?,
            masks: DeviceBuffer::from_slice(masks)?,
            count: tiles.tiles.len() as u32,
        })
    }
}

/// One attention with all it reads and writes.
struct Attention {
    s: Sizes,
    queries: usize,
    rows: usize,
    /// q, k, v, dout; out, dq, dk, dv.
    inputs: [DeviceBuffer<u16>; 4],
    outputs: [DeviceBuffer<u16>; 4],
    lse: DeviceBuffer<f32>,
    delta: DeviceBuffer<f32>,
    by_query: Tables,
    by_key: Tables,
    kernels: [Kernel; 3],
    host: [Vec<u16>; 4],
}

impl Attention {
    fn new(gpu: &Gpu, path: Path, v: &Visibility, keys: usize, s: Sizes) -> Outcome<Self> {
        let (queries, rows) = (v.at.len() * s.heads, keys * s.kv);
        let mut numbers = Numbers(1 + queries as u64);
        let host = [queries, rows, rows, queries].map(|count| numbers.bf16s(count * s.d));
        let [q, k, v_, dout] = &host;
        let up = |list: &Vec<u16>| DeviceBuffer::from_slice(list);
        let room = |count: usize| DeviceBuffer::<u16>::zeroed(count * s.d);
        let width = if s.d <= 64 { 64 } else { 128 };
        let row = 2 * width;
        let of = |path: Path, name: &str, threads, shared| {
            gpu.kernel(&format!("attention_{name}{}_{width}", path.suffix()), threads, shared)
        };
        let kernel = |name: &str, threads, shared| of(path, name, threads, shared);
        let forward = || of(Path::Portable, "forward", 128, 256 * row);
        let query = || of(Path::Portable, "backward_query", 128, 384 * row + 512);
        let kernels = match (path, width) {
            (Path::Portable, _) => {
                [forward()?, query()?, kernel("backward_key", 256, 384 * row + 1024)?]
            }
            (Path::Hopper, 64) => {
                [forward()?, query()?, kernel("backward_key", 256, 512 * row + 1024)?]
            }
            (Path::Hopper, _) => [
                kernel("forward", 256, 448 * row)?,
                kernel("backward_query", 256, 512 * row + 512)?,
                kernel("backward_key", 256, 512 * row + 1024)?,
            ],
        };
        Ok(Self {
            s,
            queries,
            rows,
            inputs: [up(q)?, up(k)?, up(v_)?, up(dout)?],
            outputs: [room(queries)?, room(queries)?, room(rows)?, room(rows)?],
            lse: DeviceBuffer::zeroed(queries)?,
            delta: DeviceBuffer::zeroed(queries)?,
            by_query: Tables::new(&attention_tiles::by_query(v))?,
            by_key: Tables::new(&attention_tiles::by_key(v, keys as u32))?,
            kernels,
            host,
        })
    }

    /// `groups`: heads by groups, as the back-end launches them; else all side by side.
    fn launch(&self, gpu: &Gpu, which: usize, groups: bool) -> Outcome<()> {
        let [q, k, v, dout] = self.inputs.each_ref().map(address);
        let [out, dq, dk, dv] = self.outputs.each_ref().map(address);
        let (lse, delta) = (address(&self.lse), address(&self.delta));
        let Sizes { heads, kv, d } = self.s;
        let (pointers, tables, x) = match which {
            0 => (vec![out, lse, q, k, v], &self.by_query, heads),
            1 => (vec![dq, delta, dout, out, lse, q, k, v], &self.by_query, heads),
            _ => (vec![dk, dv, delta, dout, lse, q, k, v], &self.by_key, kv),
        };
        let lists = [address(&tables.tiles), address(&tables.entries), address(&tables.masks)];
        let numbers = [heads, kv, d].map(|number| Arg::Number(number as u32));
        let scale = Arg::Float(1.0 / (d as f32).sqrt());
        let args: Vec<Arg> = pointers
            .into_iter()
            .chain(lists)
            .map(Arg::Pointer)
            .chain(numbers)
            .chain([scale])
            .collect();
        let (x, tiles) = (x as u32, u64::from(tables.count));
        let all = if groups { heads_at_once(x, tiles, gpu.processors) } else { x };
        gpu.launch(self.kernels[which], [all, tables.count, x / all], &args)
    }

    /// out, dq, dk, dv as they are on the device.
    fn results(&self) -> Outcome<[Vec<u16>; 4]> {
        let mut lists = [self.queries, self.queries, self.rows, self.rows]
            .map(|count| vec![0_u16; count * self.s.d]);
        for (list, buffer) in lists.iter_mut().zip(&self.outputs) {
            buffer.copy_to(list)?;
        }
        Ok(lists)
    }
}

/// Root segments of `length` rows each, `rows` in all.
fn packed(rows: u32, lengths: impl Iterator<Item = u32>) -> Outcome<Batch> {
    let mut segments = Vec::new();
    let mut start = 0;
    for length in lengths {
        let len = length.min(rows - start);
        segments.push(Segment { start, len, parent: None });
        start += len;
        if start == rows {
            break;
        }
    }
    finished(rows, segments)
}

fn finished(rows: u32, segments: Vec<Segment>) -> Outcome<Batch> {
    let entries = (0..rows).filter(|row| row % 3 == 1 || rows == 1);
    let entries = entries.map(|position| Entry { position, target: 1, weight: 1.0 }).collect();
    let forest = Forest { tokens: vec![1; rows as usize], segments, entries };
    Batch::from_forest(&forest, 10).map_err(|error| format!("{error:?}").into())
}

/// out, dq, dk, dv in f64, by the formulas; backward reads the out that was found.
fn exact(
    v: &Visibility,
    keys: usize,
    s: Sizes,
    host: &[Vec<u16>; 4],
    out: &[u16],
) -> [Vec<f64>; 4] {
    let wide = |list: &[u16]| -> Vec<f64> {
        list.iter().map(|&bits| bf16::from_bits(bits).to_f64()).collect()
    };
    let [q, k, v_, dout] = host.each_ref().map(|list| wide(list));
    let found = wide(out);
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let Sizes { heads, kv, d } = s;
    let scale = 1.0 / (d as f64).sqrt();
    let [mut e_out, mut dq] = [0, 1].map(|_| vec![0.0; q.len()]);
    let [mut dk, mut dv] = [0, 1].map(|_| vec![0.0; keys * kv * d]);
    for span in &v.spans {
        let ranges = &v.ranges[span.first_range as usize..][..span.n_ranges as usize];
        for query in span.q_start..span.q_start + span.q_len {
            let own = span.self_start..v.at[query as usize] + 1;
            let ranges = ranges.iter().map(|range| range.start..range.start + range.len);
            let seen: Vec<usize> = ranges.chain([own]).flatten().map(|key| key as usize).collect();
            for head in 0..heads {
                let at = (query as usize * heads + head) * d..;
                let at = at.start..at.start + d;
                let row = |key: usize| (key * kv + head / (heads / kv)) * d;
                let scores: Vec<f64> = seen
                    .iter()
                    .map(|&key| dot(&q[at.clone()], &k[row(key)..row(key) + d]) * scale)
                    .collect();
                let sum: f64 = scores.iter().map(|score| score.exp()).sum();
                let delta = dot(&dout[at.clone()], &found[at.clone()]);
                for (&key, score) in seen.iter().zip(&scores) {
                    let (weight, key) = (score.exp() / sum, row(key));
                    let ds = weight * (dot(&dout[at.clone()], &v_[key..key + d]) - delta) * scale;
                    for c in 0..d {
                        e_out[at.start + c] += weight * v_[key + c];
                        dq[at.start + c] += ds * k[key + c];
                        dk[key + c] += ds * q[at.start + c];
                        dv[key + c] += weight * dout[at.start + c];
                    }
                }
            }
        }
    }
    [e_out, dq, dk, dv]
}

/// Errors against f64, as a share of the largest value; and whether a second run gives the same bits.
fn check(gpu: &Gpu, path: Path) -> Outcome<()> {
    println!("{path:?}");
    println!("| rows | heads | D | queries | out | dq | dk | dv | again |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let tree = vec![
        Segment { start: 0, len: 300, parent: None },
        Segment { start: 300, len: 90, parent: Some(0) },
        Segment { start: 390, len: 33, parent: Some(1) },
        Segment { start: 423, len: 150, parent: Some(0) },
        Segment { start: 573, len: 127, parent: None },
    ];
    let mut good = true;
    for (rows, heads, kv, d) in
        [(1, 2, 1, 128), (700, 4, 2, 128), (700, 2, 2, 64), (700, 3, 1, 96), (513, 2, 1, 128)]
    {
        let segments = if rows == 700 {
            tree.clone()
        } else {
            vec![Segment { start: 0, len: rows, parent: None }]
        };
        let batch = finished(rows, segments)?;
        for (name, v) in [("all", &batch.all), ("kept", &batch.kept)] {
            let s = Sizes { heads, kv, d };
            let attention = Attention::new(gpu, path, v, rows as usize, s)?;
            (0..3).try_for_each(|which| attention.launch(gpu, which, true))?;
            gpu.wait()?;
            let first = attention.results()?;
            (0..3).try_for_each(|which| attention.launch(gpu, which, false))?;
            gpu.wait()?;
            let again = if attention.results()? == first { "same" } else { "DIFFERS" };
            let wanted = exact(v, rows as usize, s, &attention.host, &first[0]);
            let mut line = format!("| {rows} | {heads}/{kv} | {d} | {name}");
            for (found, wanted) in first.iter().zip(&wanted) {
                let most = wanted.iter().fold(1e-3_f64, |most, x| most.max(x.abs()));
                let error = found
                    .iter()
                    .zip(wanted)
                    .map(|(&bits, x)| (bf16::from_bits(bits).to_f64() - x).abs())
                    .fold(0.0, |most: f64, x| if x <= most { most } else { x });
                good &= error / most < 0.01;
                line += &format!(" | {:.1e}", error / most);
            }
            good &= again == "same";
            println!("{line} | {again} |");
        }
    }
    if good { Ok(()) } else { Err("wrong results".into()) }
}

/// TFLOP/s as they are usually counted for causal attention: forward 4 D for each query and key seen,
/// backward two and a half times as many, however many products the kernels do.
fn time(gpu: &Gpu, path: Path) -> Outcome<()> {
    println!("{path:?}");
    println!(
        "| shape | heads | D | forward ms | TFLOP/s | backward ms | TFLOP/s | dq ms | dk, dv ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut numbers = Numbers(5);
    let mut short = || (20.0 + 90.0 * (numbers.next() + 1.0)) as u32;
    let shapes = [
        ("1 x 512", packed(512, std::iter::repeat(512))?),
        ("1 x 2048", packed(2048, std::iter::repeat(2048))?),
        ("1 x 8192", packed(8192, std::iter::repeat(8192))?),
        ("32 x 512", packed(16384, std::iter::repeat(512))?),
        ("8 x 2048", packed(16384, std::iter::repeat(2048))?),
        ("2 x 8192", packed(16384, std::iter::repeat(8192))?),
        ("16,384 in rows of 20 to 200", packed(16384, std::iter::from_fn(|| Some(short())))?),
    ];
    for (heads, kv, d) in [(32, 32, 128), (32, 8, 128), (32, 32, 64)] {
        for (name, batch) in &shapes {
            let s = Sizes { heads, kv, d };
            let attention = Attention::new(gpu, path, &batch.all, batch.rows() as usize, s)?;
            for groups in [false, true] {
                let mut ms = [0.0; 3];
                for (which, ms) in ms.iter_mut().enumerate() {
                    *ms = gpu.time(|| attention.launch(gpu, which, groups))?;
                }
                let name = if groups { format!("{name}, by groups") } else { (*name).to_owned() };
                line(&name, &batch.all, s, ms);
            }
        }
    }
    Ok(())
}

/// One line of the table.
fn line(name: &str, v: &Visibility, s: Sizes, [forward, query, key]: [f64; 3]) {
    let own = v.spans.iter().map(|span| f64::from(span.q_len) * f64::from(span.q_len) / 2.0);
    let Sizes { heads, kv, d } = s;
    let flops = 4.0 * own.sum::<f64>() * (heads * d) as f64;
    let backward = query + key;
    println!(
        "| {name} | {heads}/{kv} | {d} | {forward:.3} | {:.0} | {backward:.3} | {:.0} | {query:.3} | \
         {key:.3} |",
        flops / forward / 1e9,
        2.5 * flops / backward / 1e9
    );
}

fn main() -> Outcome<()> {
    let what = std::env::args().nth(1).unwrap_or_default();
    let mut gpu = Gpu::open(&PORTABLE)?;
    println!("{}", gpu.name);
    let mut paths = vec![Path::Portable];
    if gpu.hopper {
        match std::env::args().nth(2) {
            None => gpu.load(&HOPPER)?,
            Some(folder) => {
                paths.clear();
                for name in ["attention_forward.ptx", "attention_backward.ptx"] {
                    let path = std::path::Path::new(&folder).join(name);
                    gpu.load(&[&std::fs::read_to_string(path)?])?;
                }
            }
        }
        paths.push(Path::Hopper);
    }
    if what != "time" {
        paths.iter().try_for_each(|&path| check(&gpu, path))?;
    }
    if what != "check" {
        paths.iter().try_for_each(|&path| time(&gpu, path))?;
    }
    Ok(())
}
