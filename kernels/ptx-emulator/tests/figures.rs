//! What each kernel costs on a fixed shape, counted: the figures that need no GPU, no clock and no
//! luck. They are those of `figures.txt` (PADDOCK_UPDATE=1 rewrites that file); a change of a
//! kernel shows there what it changed.

#[path = "common/bench.rs"]
mod bench;
mod common;
#[path = "common/data.rs"]
mod data;
#[path = "../../src/attention_tiles.rs"]
mod tiles;

use bench::{Bench, Job, job, long, n, per};
use common::{Arg, Gpu};
use data::Numbers;
use paddock_core::batch::Batch;
use paddock_core::forest::{Entry, Forest, Segment};
use paddock_ptx_emulator::{Counters, Element, Shape};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Rows of a batch, model width, vocabulary, heads, heads of keys, head width.
const N: usize = 64;
const C: usize = 1024;
const V: usize = 4096;
const H: usize = 4;
const K: usize = 2;
const D: usize = 128;

fn rows_jobs() -> Vec<Job> {
    let nc = format!("N {N} C {C}");
    let norm = "rms_norm";
    vec![
        job(norm, "rms_norm_forward", &nc, per(N, 4, 128), |b| {
            let (out, rstd) = (b.narrow(N * C), b.wide(N));
            vec![out, rstd, b.narrow(N * C), b.wide(C), n(N), n(C), Arg::F32(1e-5)]
        }),
        job(norm, "rms_norm_backward", &nc, per(N, 4, 128), |b| {
            let [dinp, dout, inp] = [0; 3].map(|_| b.narrow(N * C));
            vec![dinp, dout, inp, b.wide(C), b.wide(N), n(N), n(C)]
        }),
        job(norm, "rms_norm_backward_weight", &nc, ([C / 64, 1], 64, 0), |b| {
            let (partial, dout) = (b.wide(C), b.narrow(N * C));
            vec![partial, dout, b.narrow(N * C), b.wide(N), n(N), n(C)]
        }),
        job(norm, "rms_norm_add_partials", format!("P 4 C {C}"), per(C, 128, 128), |b| {
            vec![b.wide(C), b.wide(4 * C), n(4), n(C)]
        }),
        job("rope", "rope_forward", &nc, per(N * C / 16, 128, 128), |b| {
            let x = b.narrow(N * C);
            vec![x, b.wide(N * D), b.rows(N), n(N), n(C / D), n(D / 2), n(8)]
        }),
        job("rope", "rope_backward", &nc, per(N * C / 16, 128, 128), |b| {
            let x = b.narrow(N * C);
            vec![x, b.wide(N * D), b.rows(N), n(N), n(C / D), n(D / 2), n(8)]
        }),
        job("swiglu", "swiglu_forward", &nc, per(N * C, 2048, 256), |b| {
            let [out, gate, up] = [0; 3].map(|_| b.narrow(N * C));
            vec![out, gate, up, long(N * C)]
        }),
        job("swiglu", "swiglu_backward", &nc, per(N * C, 2048, 256), |b| {
            let [dgate, dup, dout, gate, up] = [0; 5].map(|_| b.narrow(N * C));
            vec![dgate, dup, dout, gate, up, long(N * C)]
        }),
        job("dropout", "dropout", &nc, per(N * C / 4, 128, 128), |b| {
            let (out, inp, hashes) = (b.narrow(N * C), b.narrow(N * C), b.rows(2 * N));
            let rest = [n(N), n(C), n(1), n(2), n(3), n(1 << 30), Arg::F32(1.5), n(1)];
            [vec![out, inp, hashes], rest.to_vec()].concat()
        }),
        job("embed", "embed_forward", &nc, per(N, 1, 128), |b| {
            vec![b.narrow(N * C), b.narrow(N * C), b.rows(N), n(C)]
        }),
        job("embed", "embed_backward", &nc, ([N, C / 128], 128, 0), |b| {
            let (dtable, dout) = (b.wide(N * C), b.narrow(N * C));
            vec![dtable, dout, b.rows(N), b.rows(N + 1), b.rows(N), n(C)]
        }),
    ]
}

fn plain_jobs() -> Vec<Job> {
    let nc = format!("N {N} C {C}");
    let plain = "elementwise";
    vec![
        job(plain, "add", &nc, per(N * C, 2048, 256), |b| {
            let [out, left, right] = [0; 3].map(|_| b.narrow(N * C));
            vec![out, left, right, long(N * C)]
        }),
        job(plain, "accumulate", &nc, per(N * C, 2048, 256), |b| {
            vec![b.narrow(N * C), b.narrow(N * C), long(N * C), Arg::F32(0.5)]
        }),
        job(plain, "accumulate_f32", &nc, per(N * C, 1024, 256), |b| {
            vec![b.wide(N * C), b.wide(N * C), long(N * C), Arg::F32(0.5)]
        }),
        job(plain, "gather_rows", &nc, per(N, 1, 128), |b| {
            vec![b.narrow(N * C), b.narrow(N * C), b.rows(N), n(C)]
        }),
        job(plain, "scatter_rows", &nc, per(N, 1, 128), |b| {
            vec![b.narrow(N * C), b.narrow(N * C), b.rows(N), n(C)]
        }),
        job(plain, "cache_write", &nc, per(N, 1, 128), |b| {
            vec![b.narrow(N * C), b.narrow(N * C), b.rows(N), n(C)]
        }),
        job(plain, "norm_squared", &nc, per(N * C, 4096, 256), |b| {
            vec![b.wide(N * C / 4096), b.wide(N * C), long(N * C)]
        }),
        job(plain, "sum_partials", "16 parts", per(1, 1, 32), |b| {
            vec![b.wide(1), b.wide(16), n(16)]
        }),
        job("convert", "f32_to_bf16", &nc, per(N * C, 256, 256), |b| {
            vec![b.narrow(N * C), b.wide(N * C), long(N * C)]
        }),
        job("bf16_to_f16", "bf16_to_f16", &nc, per(N * C, 256, 256), |b| {
            vec![b.narrow(N * C), b.narrow(N * C), long(N * C)]
        }),
        job("convert", "f16_to_bf16", &nc, per(N * C, 256, 256), |b| {
            vec![b.narrow(N * C), b.narrow(N * C), long(N * C)]
        }),
        job("convert", "bf16_to_f32", &nc, per(N * C, 256, 256), |b| {
            vec![b.wide(N * C), b.narrow(N * C), long(N * C)]
        }),
        job("adamw", "adamw", &nc, per(N * C, 1024, 256), |b| {
            let lists = [0; 4].map(|_| b.wide(N * C));
            let numbers = [0.5, 0.9, 0.1, 0.95, 0.05, 0.01, 0.7, 1e-8, 0.99].map(Arg::F32);
            [lists.to_vec(), vec![b.narrow(N * C), long(N * C)], numbers.to_vec()].concat()
        }),
        job("adamw_narrow", "adamw_narrow", &nc, per(N * C, 1024, 256), |b| {
            let param = b.narrow(N * C);
            let lists = [0; 3].map(|_| b.wide(N * C));
            let numbers = [0.5, 0.9, 0.1, 0.95, 0.05, 0.01, 0.7, 1e-8, 0.99].map(Arg::F32);
            let random = [n(1), n(2), n(3), n(4)];
            let lengths = [long(N * C), long(0)];
            [&[param][..], &lists, &lengths, &numbers, &random].concat()
        }),
    ]
}

fn attention_jobs() -> Vec<Job> {
    let what = format!("N {N} H {H} K {K} D {D} causal");
    let vocabulary = format!("N {N} V {V}");
    // One segment: query i sees keys 0 to i.
    fn lists(b: &mut Bench) -> [Arg; 3] {
        let visible = b.list((0..N as u32).flat_map(|row| [0, 0, 0, row]));
        let ranges = b.list([0, 0]);
        [visible, ranges, b.list((0..N as u32).flat_map(|_| [0, N as u32]))]
    }
    fn sizes() -> Vec<Arg> {
        vec![n(N), n(H), n(K), n(D), Arg::F32(0.09)]
    }
    vec![
        job("attention_any", "attention_forward", &what, ([N * H / 4, 1], 128, 16 * D), |b| {
            let (out, lse, q) = (b.narrow(N * H * D), b.wide(N * H), b.narrow(N * H * D));
            let (k, v) = (b.narrow(N * K * D), b.narrow(N * K * D));
            let [visible, ranges, _] = lists(b);
            [vec![out, lse, q, k, v, visible, ranges], sizes()].concat()
        }),
        job(
            "attention_any",
            "attention_backward_query",
            &what,
            ([N * H / 4, 1], 128, 16 * D),
            |b| {
                let (dq, delta, dout) = (b.narrow(N * H * D), b.wide(N * H), b.narrow(N * H * D));
                let (out, lse, q) = (b.narrow(N * H * D), b.wide(N * H), b.narrow(N * H * D));
                let (k, v) = (b.narrow(N * K * D), b.narrow(N * K * D));
                let [visible, ranges, _] = lists(b);
                [vec![dq, delta, dout, out, lse, q, k, v, visible, ranges], sizes()].concat()
            },
        ),
        job("attention_any", "attention_backward_key", &what, ([N * K / 4, 1], 128, 32 * D), |b| {
            let [dk, dv] = [0; 2].map(|_| b.narrow(N * K * D));
            let (delta, dout, lse) = (b.wide(N * H), b.narrow(N * H * D), b.wide(N * H));
            let (q, k, v) = (b.narrow(N * H * D), b.narrow(N * K * D), b.narrow(N * K * D));
            let [visible, _, seen] = lists(b);
            [vec![dk, dv, delta, dout, lse, q, k, v, visible, seen], sizes()].concat()
        }),
        job("linear_cross_entropy", "cross_entropy_forward", &vocabulary, per(N, 1, 256), |b| {
            let (nll, lse, best) = (b.wide(N), b.wide(N), b.rows(N));
            vec![nll, lse, best, b.wide(N * V), b.rows(N + 1), b.rows(N), n(V), n(V)]
        }),
        job("linear_cross_entropy", "cross_entropy_backward", &vocabulary, per(N, 1, 256), |b| {
            let (dlogits, coeff, lse) = (b.narrow(N * V), b.wide(N), b.wide(N));
            vec![dlogits, coeff, lse, b.wide(N * V), b.rows(N + 1), b.rows(N), n(V), n(V)]
        }),
    ]
}

/// Rows of the attention on tensor cores: one sequence.
const T: usize = 256;

/// The pointers that a kernel takes before its tables: `w` is f32, one number a query and head; `q`
/// and `k` are bf16, a row a query or a key.
fn tiled(
    file: &'static str,
    stem: &str,
    d: usize,
    by_key: bool,
    (block, shared): (u32, usize),
    pointers: &'static str,
) -> Job {
    let what = format!("T {T} H 2 K 1 D {d} causal");
    let grid = [if by_key { 1 } else { 2 }, T / 128];
    job(file, format!("{stem}_{d}"), what, (grid, block, shared), move |b| {
        let mut args = Vec::new();
        for kind in pointers.chars() {
            args.push(match kind {
                'w' => b.wide(T * 2),
                'q' => b.narrow(T * 2 * d),
                _ => b.narrow(T * d),
            });
        }
        let (segments, tokens) =
            (vec![Segment { start: 0, len: T as u32, parent: None }], vec![1; T]);
        let entries = vec![Entry { position: T as u32 - 1, target: 1, weight: 1.0 }];
        let batch =
            Batch::from_forest(&Forest { tokens, segments, entries }, 10).expect("a forest");
        let tables = match by_key {
            true => tiles::by_key(&batch.all, T as u32),
            false => tiles::by_query(&batch.all),
        };
        args.push(b.list(tables.tiles.as_flattened().iter().copied()));
        args.push(b.list(tables.entries.as_flattened().iter().copied()));
        let masks = tables.masks.iter().chain(&[0]);
        args.push(b.list(masks.flat_map(|&mask| [mask as u32, (mask >> 32) as u32])));
        args.extend([n(2), n(1), n(d), Arg::F32(0.09)]);
        args
    })
}

fn tiled_jobs() -> Vec<Job> {
    let (mut jobs, query, key) = (Vec::new(), "qwqqwqkk", "kkwqwqkk");
    for d in [64, 128] {
        let row = 2 * d;
        let (there, back) = ("attention_forward", "attention_backward");
        let mut add = |file, stem: &str, by_key, launch, pointers| {
            jobs.push(tiled(file, stem, d, by_key, launch, pointers));
        };
        add(there, "attention_forward", false, (128, 256 * row), "qwqkk");
        add(back, "attention_backward_query", false, (128, 384 * row + 512), query);
        add(back, "attention_backward_key", true, (256, 384 * row + 1024), key);
        let (there, back) = ("sm90/attention_forward", "sm90/attention_backward");
        if d == 128 {
            add(there, "attention_forward_sm90", false, (256, 448 * row), "qwqkk");
            add(back, "attention_backward_query_sm90", false, (256, 512 * row + 512), query);
        }
        add(back, "attention_backward_key_sm90", true, (256, 512 * row + 1024), key);
    }
    jobs
}

/// The matrix products.
const M: usize = 256;
const KK: usize = 512;

fn product_jobs() -> Vec<Job> {
    let what = format!("M {M} N {M} K {KK}");
    let tiles = ([M / 128, M / 128], 128, 98_304);
    fn sizes() -> Vec<Arg> {
        vec![n(M), n(M), n(KK), Arg::F32(1.0), n(0)]
    }
    vec![
        job("matmul_forward", "matmul_forward", &what, tiles, |b| {
            let args = vec![b.narrow(M * M), b.narrow(M * KK), b.narrow(KK * M)];
            [args, sizes(), vec![n(0)]].concat()
        }),
        job("matmul_backward_input", "matmul_backward_input", &what, tiles, |b| {
            let args = vec![b.narrow(M * M), b.narrow(M * KK), b.narrow(KK * M)];
            [args, sizes()].concat()
        }),
        job("matmul_backward_weight", "matmul_backward_weight", &what, tiles, |b| {
            let args = vec![b.wide(M * M), b.narrow(M * KK), b.narrow(KK * M)];
            [args, sizes()].concat()
        }),
        job("matmul_f16", "matmul_f16", "M 64 N 64 K 64", ([1, 1], 128, 0), |b| {
            let lists = vec![b.narrow(4096), b.narrow(4096), b.narrow(4096)];
            let sizes = [64, 64, 64, 64, 1, 1, 64].map(n);
            [lists, sizes.to_vec(), vec![Arg::F32(1.0), n(0), n(0)]].concat()
        }),
        job("matmul_any", "matmul_any", "M 64 N 64 K 64", per(64 * 64, 128, 128), |b| {
            let lists = vec![b.narrow(4096), b.narrow(4096), b.narrow(4096)];
            let sizes = [64, 64, 64, 64, 1, 1, 64].map(n);
            [lists, sizes.to_vec(), vec![Arg::F32(1.0), n(0), n(0)]].concat()
        }),
    ]
}

/// Hopper's products: two clusters, each with one tile of 256 x 256.
fn hopper_jobs() -> Vec<Job> {
    let what = "M 512 N 256 K 512";
    let launch = ([4, 1], 384, 229_440);
    fn args(b: &mut Bench, out: Element, shapes: [[usize; 2]; 2], wide: Option<usize>) -> Vec<Arg> {
        let out = b.matrix(out, 512, 256);
        let [left, right] = shapes.map(|[rows, columns]| b.matrix(Element::Bf16, rows, columns));
        let none = Arg::Map([0; 128]);
        let sizes = [512, 256, 512, 0, 2, 1, 512].map(n);
        let mut args = vec![out, left, right, none, none];
        args.extend(sizes.into_iter().chain([Arg::F32(1.0), n(0)]).chain(wide.map(n)));
        args
    }
    vec![
        job("sm90/matmul_forward", "matmul_forward_sm90", what, launch, |b| {
            args(b, Element::Bf16, [[512, 512], [256, 512]], Some(0))
        }),
        job("sm90/matmul_backward_input", "matmul_backward_input_sm90", what, launch, |b| {
            args(b, Element::Bf16, [[512, 512], [512, 256]], Some(0))
        }),
        job("sm90/matmul_backward_weight", "matmul_backward_weight_sm90", what, launch, |b| {
            args(b, Element::F32, [[512, 512], [512, 256]], None)
        }),
        job("matmul_sum", "matmul_sum", "4 parts M 64 N 256", per(64 * 64, 256, 256), |b| {
            let (out, parts) = (b.wide(64 * 256), b.wide(4 * 64 * 256));
            [vec![out, parts], [4, 64, 64, 256, 0, 1].map(n).to_vec()].concat()
        }),
    ]
}

/// All launches of the table.
fn jobs() -> Vec<Job> {
    let parts = [rows_jobs(), plain_jobs(), attention_jobs(), tiled_jobs()];
    parts.into_iter().flatten().chain(product_jobs()).chain(hopper_jobs()).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/cuda")
}

fn run(job: &Job) -> Counters {
    let source = std::fs::read_to_string(folder().join(format!("{}.ptx", job.file)));
    let source = source.unwrap_or_else(|error| panic!("{}.ptx: {error}", job.file));
    let mut bench = Bench { gpu: Gpu::hopper(), numbers: Numbers(1) };
    let args = (job.args)(&mut bench);
    let [x, y] = job.grid.map(|axis| axis as u32);
    let shape = Shape { grid: [x, y, 1], block: [job.block, 1, 1], shared: job.shared as u32 };
    bench.gpu.launch(&source, &job.entry, shape, &args).counters
}

#[test]
fn every_kernel_costs_what_it_did() {
    let mut table = String::from(
        "# kernel; shape; CTAs; warp instructions; floating point operations of tensor cores; bytes read\n\
         # from device memory, and 32-byte sectors; bytes written, and sectors; passes through the banks of\n\
         # shared memory, and how many of them are conflicts\n",
    );
    for job in jobs() {
        let c = run(&job);
        let name = format!("{} {}", job.file, job.entry);
        let name = if job.file == job.entry { job.entry.clone() } else { name };
        writeln!(
            table,
            "{name}; {}; {}; {}; {}; {}, {}; {}, {}; {}, {}",
            job.what,
            c.ctas,
            c.total(),
            c.mma_flops,
            c.global_read,
            c.sectors_read,
            c.global_written,
            c.sectors_written,
            c.shared_passes,
            c.bank_conflicts,
        )
        .expect("a string");
    }
    let kept = folder().join("../../ptx-emulator/tests/figures.txt");
    if std::env::var_os("PADDOCK_UPDATE").is_some() {
        std::fs::write(&kept, &table).expect("the table can be written");
    }
    let known = std::fs::read_to_string(&kept).unwrap_or_default();
    for (now, before) in table.lines().zip(known.lines()).filter(|(now, before)| now != before) {
        println!("was {before}\nis  {now}");
    }
    assert_eq!(known, table, "a kernel's figures changed; PADDOCK_UPDATE=1 accepts it");
}

fn ptx_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the kernels") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            ptx_files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "ptx") {
            out.push(path);
        }
    }
}

/// Every kernel has a row, or the table would say less than it seems to.
#[test]
fn every_kernel_has_figures() {
    let known: Vec<String> = jobs().into_iter().map(|job| job.entry).collect();
    let (mut files, mut seen) = (Vec::new(), 0);
    ptx_files(&folder(), &mut files);
    for path in files {
        let source = std::fs::read_to_string(&path).expect("text");
        for line in source.lines().filter_map(|line| line.strip_prefix(".visible .entry ")) {
            let name = line.split('(').next().unwrap_or("").trim();
            let there = known.iter().any(|entry| entry == name);
            assert!(there, "{}: {name} has no row in tests/figures.rs", path.display());
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen} kernels");
}
