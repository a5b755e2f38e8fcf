//! The matrix products on a real NVIDIA GPU: right, and how fast.
//!
//! ```text
//! cargo run --release -p paddock-kernels --example bench_cuda_matmul -- check   PRODUCT
//! cargo run --release -p paddock-kernels --example bench_cuda_matmul -- compare PRODUCT
//! cargo run --release -p paddock-kernels --example bench_cuda_matmul -- speed   PRODUCT [VARIANT] [TOKENS,IN,OUT]…
//! ```
//!
//! PRODUCT is `forward`, `input` or `weight`. `check` compares small shapes with a loop in f64,
//! `compare` larger ones with the portable kernel, `speed` prints TFLOP/s. VARIANT is `sm90`,
//! `portable`, `groupN` (N rows of tiles side by side), `secondN` (a second pair of N terms), or
//! `in=FOLDER` (other texts of the kernels); `speed` takes several, with commas, and without layers
//! it reads them from standard input.

mod device;
#[path = "../../src/cuda/matmul_sm90.rs"]
mod matmul_sm90;
mod numbers;
#[path = "../../src/cuda/tensor_map.rs"]
mod tensor_map;
mod variant;

use std::process::ExitCode;

use device::{Gpu, Outcome, Room};
use matmul_sm90::{Operands, Product, Second};
use numbers::{Numbers, product, wide};
use variant::{Variant, name_of, variant};

/// What follows the result in memory and must not change.
const GUARD: usize = 4096;

/// Runs a product on random numbers; gives the result, what was in its place before, A and B.
fn run(
    gpu: &Gpu,
    kind: Product,
    by: &Variant,
    o: &mut Operands,
    seed: u64,
) -> Outcome<[Vec<f64>; 2]> {
    let (m, n, k) = (o.m as usize, o.n as usize, o.k as usize);
    let mut numbers = Numbers(seed);
    let more = o.second.map_or(0, |second| second.k as usize);
    let rooms = [
        Room::holding(&numbers.bf16s(m * k))?,
        Room::holding(&numbers.bf16s(n * k))?,
        Room::holding(&numbers.bf16s((m * more).max(8)))?,
        Room::holding(&numbers.bf16s((n * more).max(8)))?,
        if o.wide {
            Room::holding(&numbers.f32s(m * n + GUARD))?
        } else {
            Room::holding(&numbers.bf16s(m * n + GUARD))?
        },
    ];
    let [a, b, a2, b2, out] = rooms;
    (o.a, o.b, o.out) = (a.address, b.address, out.address);
    if let Some(second) = &mut o.second {
        (second.a, second.b) = (a2.address, b2.address);
    }
    let read = |room: Room| -> Outcome<Vec<f64>> {
        Ok(if o.wide {
            room.read::<f32>()?.into_iter().map(f64::from).collect()
        } else {
            room.read::<u16>()?.into_iter().map(wide).collect()
        })
    };
    let mut before = read(out)?;
    by.launch(gpu, kind, o)?;
    gpu.wait()?;
    let mut after = read(out)?;
    if before[m * n..] != after[m * n..] {
        return Err(format!("{m} {n} {k}: memory behind the result was written").into());
    }
    before.truncate(m * n);
    after.truncate(m * n);
    for room in rooms {
        room.free()?;
    }
    Ok([after, before])
}

/// The largest error beside what rounding explains, and where it is.
fn worst(o: &Operands, got: &[f64], product: &[f64], before: &[f64]) -> (f64, usize) {
    // bf16 rounds the product and, when adding, the sum; f32 sums lose a little each.
    let unit = if o.wide { 2.0_f64.powi(-22) } else { 2.0_f64.powi(-8) };
    let slack = 2.0_f64.powi(-22) * f64::from(o.k) * f64::from(o.alpha.abs()).max(1.0);
    let mut worst = (0.0, 0);
    for (at, (&got, &product)) in got.iter().zip(product).enumerate() {
        let expected = if o.add { product + before[at] } else { product };
        let bound = unit * (expected.abs() + if o.add { product.abs() } else { 0.0 }) + slack;
        let off = (got - expected).abs() / bound;
        // NaN is the worst of all.
        if off.is_nan() || off > worst.0 {
            worst = (if off.is_nan() { f64::INFINITY } else { off }, at);
        }
    }
    worst
}

fn operands(kind: Product, m: u32, n: u32, k: u32, at: usize) -> Operands {
    let wide = match kind {
        Product::Forward => at % 4 >= 2,
        Product::BackwardInput => false,
        Product::BackwardWeight => true,
    };
    let alpha = if at % 3 == 2 { 0.5 } else { 1.0 };
    Operands {
        out: 0,
        a: 0,
        b: 0,
        m,
        n,
        k,
        alpha,
        add: at % 2 == 1,
        wide,
        second: None,
        parts: None,
    }
}

/// Small shapes, odd ones among them, against a loop in f64.
fn check(gpu: &Gpu, kind: Product, name: &str) -> Outcome<bool> {
    let by = variant(gpu, kind, name)?;
    let shapes: [(u32, u32, u32); 12] = [
        (128, 256, 64),
        (256, 256, 256),
        (1, 8, 8),
        (5, 16, 64),
        (64, 64, 72),
        (130, 136, 200),
        (257, 264, 320),
        (300, 520, 328),
        (512, 512, 512),
        (129, 1032, 648),
        (520, 24, 1000),
        (768, 768, 128),
    ];
    let mut fine = true;
    for (at, (m, n, k)) in shapes.into_iter().cycle().take(24).enumerate() {
        let by_k = kind == Product::BackwardWeight;
        let (m, k) = if by_k { (m.next_multiple_of(8), k - at as u32 % 8) } else { (m, k) };
        let mut o = operands(kind, m, n, k, at + at / 12);
        let more =
            if at % 4 == 3 && !name.starts_with("portable") { 8 * (1 + at as u32 % 17) } else { 0 };
        o.second = (more > 0).then_some(Second { a: 0, b: 0, k: more });
        let seed = 1 + at as u64;
        let [got, before] = run(gpu, kind, &by, &mut o, seed)?;
        let mut numbers = Numbers(seed);
        let (a, b) = (numbers.bf16s((m * k) as usize), numbers.bf16s((n * k) as usize));
        let mut expected = product(kind, &o, &a, &b);
        let (a, b) = (numbers.bf16s((m * more) as usize), numbers.bf16s((n * more) as usize));
        let second = product(kind, &Operands { k: more, ..o }, &a, &b);
        expected.iter_mut().zip(second).for_each(|(sum, more)| *sum += more);
        let (off, place) = worst(&o, &got, &expected, &before);
        let right = off <= 1.0;
        fine &= right;
        println!(
            "check {} {name} {m} {n} {k} add {} wide {} alpha {}: {off:.3} of the bound {}",
            name_of(kind),
            o.add,
            o.wide,
            o.alpha,
            if right { "ok" } else { "WRONG" },
        );
        if !right {
            let (row, column) = (place / n as usize, place % n as usize);
            println!(
                "  at ({row},{column}): {} for {} (before {})",
                got[place], expected[place], before[place]
            );
            picture(&o, &got, &expected, &before);
        }
    }
    Ok(fine)
}

/// Which pieces of 64 rows and 32 columns are wrong: the shape of an error tells its cause.
fn picture(o: &Operands, got: &[f64], expected: &[f64], before: &[f64]) {
    let (m, n) = (o.m as usize, o.n as usize);
    for top in (0..m.min(256)).step_by(64) {
        let mut line = String::new();
        for left in (0..n.min(512)).step_by(32) {
            let cells = (top..m.min(top + 64))
                .flat_map(|row| (left..n.min(left + 32)).map(move |column| row * n + column));
            let (mut all, mut wrong) = (0, 0);
            for at in cells {
                let want = expected[at] + if o.add { before[at] } else { 0.0 };
                all += 1;
                // Written so that NaN counts as wrong.
                let near = (got[at] - want).abs() <= 0.02 * want.abs() + 0.05;
                wrong += usize::from(!near);
            }
            line += &format!(" {:3}", 100 * wrong / all);
        }
        println!("  rows {top:4}, % wrong by 32 columns:{line}");
    }
}

/// Larger shapes against the portable kernel, twice, which must also give the same bits.
fn compare(gpu: &Gpu, kind: Product, name: &str) -> Outcome<bool> {
    let (by, plain) = (variant(gpu, kind, name)?, variant(gpu, kind, "portable")?);
    let mut fine = true;
    for (at, (m, n, k)) in [
        (2048, 4096, 4096),
        (1000, 4104, 520),
        (3000, 2056, 8200),
        (16, 4096, 16_384),
        (4096, 16, 5000),
    ]
    .into_iter()
    .enumerate()
    {
        for at in [at, at + 1] {
            let mut o = operands(kind, m, n, k, at);
            let [expected, _] = run(gpu, kind, &plain, &mut o, 7)?;
            let [got, before] = run(gpu, kind, &by, &mut o, 7)?;
            let [again, _] = run(gpu, kind, &by, &mut o, 7)?;
            let same = got.iter().zip(&again).all(|(x, y)| x.to_bits() == y.to_bits());
            // The portable result is off by as much, and tensor cores cut each sum toward zero: the
            // two cut in different places.
            let before = if o.add { before } else { vec![0.0; before.len()] };
            let product: Vec<f64> = expected.iter().zip(&before).map(|(sum, x)| sum - x).collect();
            let (off, place) = worst(&o, &got, &product, &before);
            let right = off <= 4.0 && same;
            fine &= right;
            println!(
                "compare {} {name} {m} {n} {k} add {} wide {}: {off:.3} of the bound, bits {} {}",
                name_of(kind),
                o.add,
                o.wide,
                if same { "repeat" } else { "DIFFER" },
                if right { "ok" } else { "WRONG" },
            );
            if !right {
                println!("  element {place}: {} for {}", got[place], expected[place]);
            }
        }
    }
    Ok(fine)
}

/// TFLOP/s of one layer's product: tokens, input features, output features. Several variants take
/// turns, so that all meet the device in the same state.
fn speed(gpu: &Gpu, kind: Product, names: &[&str], by: &[Variant], layer: [u32; 3]) -> Outcome<()> {
    let [tokens, input, output] = layer;
    let (m, n, k) = match kind {
        Product::Forward => (tokens, output, input),
        Product::BackwardInput => (tokens, input, output),
        Product::BackwardWeight => (output, input, tokens),
    };
    let wide = kind == Product::BackwardWeight;
    let o = Operands {
        out: 0,
        a: 0,
        b: 0,
        m,
        n,
        k,
        alpha: 1.0,
        add: wide,
        wide,
        second: None,
        parts: None,
    };
    let [m, n, k] = [m, n, k].map(|x| x as usize);
    let bytes = [m * k * 2, n * k * 2, m * n * if wide { 4 } else { 2 }];
    let pattern = Room::holding(&Numbers(3).bf16s(1 << 20))?;
    // As many sets of operands as fill the L2 cache several times.
    let sets = (256_usize << 20).div_ceil(bytes.iter().sum()).max(2);
    let mut rooms = Vec::new();
    for _ in 0..sets {
        let set = [Room::new(bytes[0])?, Room::new(bytes[1])?, Room::new(bytes[2])?];
        for room in set {
            room.fill(pattern)?;
        }
        rooms.push(set);
    }
    let flops = 2.0 * m as f64 * n as f64 * k as f64;
    let rounds = ((3e12 / flops) as usize).clamp(2, 20);
    let mut times = vec![Vec::new(); by.len()];
    let mut turn = 0;
    for batch in 0..6 {
        for (variant, times) in by.iter().zip(&mut times) {
            let ms = gpu.time(rounds, || {
                let [a, b, out] = rooms[turn % sets].map(|room| room.address);
                turn += 1;
                let second = (variant.second > 0).then_some(Second { a, b, k: variant.second });
                variant.launch(gpu, kind, &Operands { a, b, out, second, ..o })
            })?;
            if batch > 0 {
                times.push(ms);
            }
        }
    }
    for (name, mut times) in names.iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let ms = times[times.len() / 2];
        let tflops = flops / ms / 1e9;
        println!("speed,{},{name},{tokens},{input},{output},{ms:.4},{tflops:.1}", name_of(kind));
    }
    for room in rooms.into_iter().flatten() {
        room.free()?;
    }
    pattern.free()
}

/// The layers that the command names, or those that come line by line on standard input.
fn speeds(gpu: &Gpu, kind: Product, names: &str, layers: &[String]) -> Outcome<()> {
    let names: Vec<&str> = names.split(',').collect();
    let by: Outcome<Vec<Variant>> = names.iter().map(|name| variant(gpu, kind, name)).collect();
    let by = by?;
    for word in layers {
        speed(gpu, kind, &names, &by, layer(word)?)?;
    }
    if layers.is_empty() {
        for line in std::io::stdin().lines() {
            speed(gpu, kind, &names, &by, layer(line?.trim())?)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_cuda_matmul: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: bench_cuda_matmul check|compare|speed forward|input|weight [VARIANT] \
                 [TOKENS,IN,OUT]...";
    let [task, kind, rest @ ..] = &words[..] else { return Err(usage.into()) };
    let kind = match kind.as_str() {
        "forward" => Product::Forward,
        "input" => Product::BackwardInput,
        "weight" => Product::BackwardWeight,
        _ => return Err(usage.into()),
    };
    let name = rest.first().map_or("sm90", String::as_str);
    let gpu = Gpu::open()?;
    eprintln!("{}, {} multiprocessors", gpu.name, gpu.processors);
    let fine = match task.as_str() {
        "check" => check(&gpu, kind, name)?,
        "compare" => compare(&gpu, kind, name)?,
        "speed" => {
            speeds(&gpu, kind, name, rest.get(1..).unwrap_or(&[]))?;
            true
        }
        _ => return Err(usage.into()),
    };
    if fine { Ok(()) } else { Err("some results are wrong".into()) }
}

/// `TOKENS,IN,OUT`.
fn layer(word: &str) -> Result<[u32; 3], String> {
    let sizes: Result<Vec<u32>, _> = word.split(',').map(str::parse).collect();
    sizes.ok().and_then(|s| s.try_into().ok()).ok_or(format!("`{word}` is not TOKENS,IN,OUT"))
}
