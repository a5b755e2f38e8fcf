//! Whole training steps on an NVIDIA card, with random bf16 weights in LLaMA's shapes and packed rows of
//! 2,048 tokens: tokens a second, then where the time goes, kernel by kernel.
//!
//! `bench_cuda METHOD LAYERS TOKENS [STEPS] [WORDS]`: METHOD is lora or full; `cheap` computes norms and SwiGLU
//! again in the backward pass, `narrow` keeps parameters in bf16, `f16` computes in f16. The width is that of
//! LLaMA-7B; `8b` takes that of Llama-3-8B, `tiny` that of a model of three million parameters, `odd` LLaMA-7B's
//! with a vocabulary of 32,001. `bench_cuda launches` measures what it costs to queue a kernel.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = bench::run(&args) {
        eprintln!("bench_cuda: {error}");
        std::process::exit(1);
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod bench {
    use std::time::{Duration, Instant};

    use paddock_core::backend::{Backend, Write};
    use paddock_core::batch::Batch;
    use paddock_core::config::{Config, Rope, RopeScaling};
    use paddock_core::error::Result;
    use paddock_core::forest::{Entry, Forest, Segment};
    use paddock_core::model::{LoraConfig, Method, Model, Module, init, tensors};
    use paddock_core::plan::{Capacity, Plan, Recompute, RegionSizes};
    use paddock_core::slot::{Region, Slot};
    use paddock_core::train::{Adam, StepSettings, scaled_step};
    use paddock_core::weights::{Dtype, Mat, Weight, WeightView, Weights};
    use paddock_kernels::cuda::{Cuda, Gpu};
    use paddock_kernels::{Options, Precision};

    /// Tokens of a packed row.
    const ROW: u32 = 2048;

    fn config(n_layers: u32, words: &[String]) -> Config {
        let has = |word: &str| words.iter().any(|x| x == word);
        let seven = seven(n_layers);
        if has("8b") {
            Config { hidden_dim: 14_336, n_kv_heads: 8, vocab_size: 128_256, ..seven }
        } else if has("tiny") {
            let (dim, hidden_dim, n_heads, n_kv_heads, head_dim) = (192, 512, 6, 6, 32);
            let vocab_size = 4096;
            Config { dim, hidden_dim, n_heads, n_kv_heads, head_dim, vocab_size, ..seven }
        } else if has("odd") {
            Config { vocab_size: 32_001, ..seven }
        } else {
            seven
        }
    }

    fn seven(n_layers: u32) -> Config {
        Config {
            dim: 4096,
            hidden_dim: 11008,
            n_layers,
            n_heads: 32,
            n_kv_heads: 32,
            head_dim: 128,
            vocab_size: 32000,
            max_seq_len: ROW,
            rms_norm_eps: 1e-5,
            rope: Rope { theta: 10_000.0, scaling: RopeScaling::Default },
            tied: false,
        }
    }

    /// Numbers of either sign between 1/64 and 1/32, cheaply.
    fn numbers(len: usize) -> Vec<u16> {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        (0..len.div_ceil(4))
            .flat_map(|_| {
                let bits = next();
                [0, 16, 32, 48].map(|shift| ((bits >> shift) as u16 & 0x807F) | 0x3C80)
            })
            .collect()
    }

    /// Every matrix is a window of the same numbers, every norm is ones.
    fn weights<'a>(config: &Config, all: &'a [u16], ones: &'a [u16]) -> Weights<'a> {
        let mut weights = Weights::default();
        for (i, tensor) in tensors(config).into_iter().enumerate() {
            let len = tensor.rows as usize * tensor.cols as usize;
            let values = if tensor.vector { &ones[..len] } else { &all[64 * i..64 * i + len] };
            let (name, rows, cols) = (tensor.name, tensor.rows, tensor.cols);
            let bytes = bytemuck::cast_slice(values);
            weights.push(WeightView { name, dtype: Dtype::Bf16, rows, cols, bytes });
        }
        weights
    }

    /// Full rows of 2,048 tokens, every one trained but each row's last.
    fn batch(tokens: u32, vocab: u32) -> Result<Batch> {
        let token = |i: u32| (i.wrapping_mul(2_654_435_761) >> 7) % vocab;
        let mut forest = Forest { tokens: (0..tokens).map(token).collect(), ..Forest::default() };
        for start in (0..tokens).step_by(ROW as usize) {
            let len = ROW.min(tokens - start);
            forest.segments.push(Segment { start, len, parent: None });
            forest.entries.extend((start..start + len - 1).map(|position| Entry {
                position,
                target: forest.tokens[position as usize + 1],
                weight: 1.0,
            }));
        }
        Batch::from_forest(&forest, vocab)
    }

    /// Full training's parameters: the embedding is sent, every other matrix is a copy of a part of it.
    fn first_values(cuda: &mut Cuda<'_>, model: &Model, all: &[u16]) -> Result<()> {
        let mut first = None;
        for param in &model.params.items {
            match first {
                None if !param.vector => {
                    let numbers = all[..param.slot.len as usize].iter();
                    let values: Vec<f32> =
                        numbers.map(|&bits| f32::from_bits(u32::from(bits) << 16)).collect();
                    cuda.upload(param.slot, &values)?;
                    first = Some(param.slot);
                }
                Some(from) if !param.vector => cuda.copy(param.slot, from.first(param.slot.len))?,
                _ => cuda.fill(param.slot, 1.0)?,
            }
        }
        Ok(())
    }

    /// Microseconds that queueing a kernel takes, one after the other on next to no numbers: whichever is more,
    /// the processor's part or the card's.
    fn launches() -> Result<()> {
        const COUNT: u32 = 5_000;
        let numbers = numbers(64 * 64);
        let bytes = bytemuck::cast_slice(&numbers);
        let (name, dtype, rows, cols) = (String::from("small"), Dtype::Bf16, 64, 64);
        let mut weights = Weights::default();
        weights.push(WeightView { name, dtype, rows, cols, bytes });
        let mut cuda = Cuda::on(Gpu::open(&Options::default())?, weights);
        let mut sizes = RegionSizes::default();
        sizes.grow(Region::Acts, 2 * 64 * 64);
        cuda.reserve(&sizes)?;
        let [inp, out] = [0, 64 * 64].map(|offset| Slot::new(Region::Acts, offset, 64 * 64));
        let w = Mat::frozen(Weight(0), 64, 64);
        let mut time = |what: &str, run: &mut dyn FnMut(&mut Cuda<'_>) -> Result<()>| {
            run(&mut cuda)?;
            cuda.sync()?;
            let started = Instant::now();
            (0..COUNT).try_for_each(|_| run(&mut cuda))?;
            let queued = started.elapsed();
            cuda.sync()?;
            let each = |time: Duration| 1e6 * time.as_secs_f64() / f64::from(COUNT);
            println!("{what}: {:.2} us, queued in {:.2}", each(started.elapsed()), each(queued));
            Ok(())
        };
        time("add", &mut |cuda| cuda.add(out, out, inp))?;
        time("product", &mut |cuda| cuda.matmul_forward(out, inp, w, 1.0, Write::Set))
    }

    pub fn run(args: &[String]) -> Result<()> {
        if args.iter().any(|x| x == "launches") {
            return launches();
        }
        let number =
            |i: usize, other: u32| args.get(i).and_then(|x| x.parse().ok()).unwrap_or(other);
        let (layers, tokens, steps) = (number(1, 4), number(2, 8192), number(3, 3));
        let method = match args.first().map(String::as_str) {
            Some("full") => Method::Full,
            _ => Method::Lora(LoraConfig {
                rank: 16,
                alpha: 32.0,
                dropout: 0.0,
                targets: Module::ALL.map(|_| true),
                rank_stabilised: false,
            }),
        };
        let has = |word: &str| args.iter().any(|x| x == word);
        let model = Model::new(config(layers, args), method)?;
        let c = &model.config;
        let count = c.vocab_size as usize * c.dim as usize;
        let (all, ones) = (numbers(count + 64 * 400), vec![0x3F80; c.dim as usize]);
        let weights = weights(c, &all, &ones);
        let started = Instant::now();
        let precision = if has("f16") { Precision::F16 } else { Precision::Auto };
        let narrow_parameters = has("narrow");
        let gpu = Gpu::open(&Options { precision, narrow_parameters, ..Options::default() })?;
        let mut cuda = Cuda::on(gpu, weights.clone());
        let name = cuda.name().to_owned();
        println!("{name}: opened in {:.2} s", started.elapsed().as_secs_f64());
        let (tokens, n) = (u64::from(tokens), tokens);
        let (entries, positions) = (tokens, u64::from(ROW));
        let capacity =
            Capacity { tokens, kept: tokens, entries, positions, cache_rows: 0, logit_rows: 0 };
        let recompute = if has("cheap") { Recompute::Cheap } else { Recompute::Nothing };
        let plan = Plan::new(&model, capacity, recompute, true, &cuda);
        println!("planned {:.2} GiB beside frozen weights", gib(plan.sizes.total_bytes(&cuda)));
        cuda.reserve(&plan.sizes)?;
        let started = Instant::now();
        match method {
            Method::Full => first_values(&mut cuda, &model, &all)?,
            _ => init::init(&mut cuda, &model, &weights, 1)?,
        }
        init::upload_rope(&mut cuda, &model, &plan, 0)?;
        init::clear_optimizer(&mut cuda, &model)?;
        cuda.sync()?;
        println!("first values in {:.2} s", started.elapsed().as_secs_f64());
        let batches = [batch(n, c.vocab_size)?];
        let mut times = measure(&mut cuda, &model, &plan, &batches, u64::from(steps))?;
        times.sort_by(f64::total_cmp);
        let time = times[times.len() / 2];
        let flops = flops(&model, tokens as f64);
        println!(
            "RESULT {}: {time:.4} s, {:.0} tokens/s, {:.1} TFLOP/s",
            args.join(" "),
            tokens as f64 / time,
            flops / time / 1e12
        );
        table(&cuda, time)
    }

    /// Seconds of each step but the first, which sends weights; one more step is timed kernel by kernel.
    fn measure(
        cuda: &mut Cuda<'_>,
        model: &Model,
        plan: &Plan,
        batches: &[Batch],
        steps: u64,
    ) -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for i in 0..steps + 2 {
            let last = i == steps + 1;
            cuda.gpu().time_kernels(last);
            let started = Instant::now();
            let adam = Adam::default();
            let settings = StepSettings { adam, lr: 1e-5, max_grad_norm: 1.0, step: i, seed: 1 };
            let scale = if cuda.has_narrow_range() { 65_536.0 } else { 1.0 };
            let outcome = scaled_step(cuda, model, plan, batches, &settings, scale, &mut ())?;
            cuda.sync()?;
            let time = started.elapsed().as_secs_f64();
            println!("step {i}: {time:.4} s, {outcome:?}");
            if i > 0 && !last {
                times.push(time);
            }
        }
        Ok(times)
    }

    fn gib(bytes: u64) -> f64 {
        bytes as f64 / f64::from(1 << 30)
    }

    /// Arithmetic of one step: products twice or thrice, attention over half of each row.
    fn flops(model: &Model, tokens: f64) -> f64 {
        let c = &model.config;
        let matrices: f64 = tensors(c)
            .iter()
            .filter(|t| !t.vector && !t.name.contains("embed"))
            .map(|t| f64::from(t.rows) * f64::from(t.cols))
            .sum();
        let attention = 3.5 * 2.0 * f64::from(c.n_layers) * f64::from(c.dim) * f64::from(ROW);
        let (passes, adapters) = match model.method {
            Method::Full => (6.0, 0.0),
            _ => (4.0, 6.0 * model.params.all().in_region(Region::Grads).len as f64),
        };
        tokens * (passes * matrices + adapters + attention)
    }

    fn table(cuda: &Cuda<'_>, step_s: f64) -> Result<()> {
        let lines = cuda.gpu().kernel_times()?;
        let total: f64 = lines.iter().map(|line| line.milliseconds).sum();
        println!(
            "{:<28} {:>22} {:>6} {:>10} {:>9} {:>6}",
            "kernel", "grid", "calls", "ms", "us each", "%"
        );
        for line in lines.iter().take(36) {
            println!(
                "{:<28} {:>22} {:>6} {:>10.2} {:>9.1} {:>6.1}",
                line.kernel,
                format!("{:?}", line.grid),
                line.count,
                line.milliseconds,
                1e3 * line.milliseconds / line.count as f64,
                100.0 * line.milliseconds / total
            );
        }
        let count: u64 = lines.iter().map(|line| line.count).sum();
        println!(
            "all {count} kernels: {total:.2} ms with events around each; a step without them: {:.2} ms",
            1e3 * step_s
        );
        Ok(())
    }
}
