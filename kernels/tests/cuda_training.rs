//! Whole steps on the CUDA back-end (the emulator's, or the machine's own card): gradients are as near
//! to the truth as a plain implementation in bf16 brings them, the loss falls, and two runs give the same
//! bits.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "common/cuda.rs"]
mod cuda;

use cuda::{AMPERE, Device as Card, HOPPER, TURING, device, device_with};
use paddock_core::backend::Backend;
use paddock_core::config::{Config, Rope, RopeScaling};
use paddock_core::model::{LoraConfig, Method, Module};
use paddock_core::reference::Reference;
use paddock_core::train::Outcome;
use paddock_kernels::cuda::Cuda;
use paddock_kernels::ops::whole::{Toy, Trained, distance, verify_steps};
use paddock_kernels::ops::{Rounding, Storage};
use paddock_kernels::{Device, Options, Precision};

/// Widths that the kernels for tensor cores take.
fn even() -> Config {
    Config {
        dim: 64,
        hidden_dim: 96,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 16,
        vocab_size: 104,
        max_seq_len: 64,
        rms_norm_eps: 1e-5,
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::Default },
        tied: false,
    }
}

/// Widths that they do not take.
fn odd() -> Config {
    let (dim, hidden_dim, n_heads, n_kv_heads, head_dim, vocab_size) = (30, 41, 3, 1, 10, 53);
    Config { dim, hidden_dim, n_heads, n_kv_heads, head_dim, vocab_size, ..even() }
}

fn lora(rank: u32, dropout: f32) -> Method {
    let targets = Module::ALL.map(|_| true);
    Method::Lora(LoraConfig { rank, alpha: 8.0, dropout, targets, rank_stabilised: false })
}

fn check(device: &Card, config: Config, methods: &[Method]) {
    let toy = Toy::of(config, 5);
    for &method in methods {
        let run = |b: &mut dyn Backend| -> Trained { toy.train(b, method, 2).unwrap() };
        let truth = run(&mut Reference::<f64>::new(toy.weights()));
        let storage = Storage::of(&Cuda::on(device.gpu.clone(), toy.weights()));
        let plain = run(&mut Rounding::new(toy.weights(), storage));
        let found = run(&mut Cuda::on(device.gpu.clone(), toy.weights()));
        let again = run(&mut Cuda::on(device.gpu.clone(), toy.weights()));
        for (what, found, plain, truth) in [
            ("gradients", &found.grads, &plain.grads, &truth.grads),
            ("logits", &found.logits, &plain.logits, &truth.logits),
        ] {
            let (error, allowed) = (distance(found, truth), 2.0 * distance(plain, truth));
            println!("{method:?} {what}: off by {error:.2e}, {allowed:.2e} allowed");
            assert!(error < allowed, "{method:?} {what}: off by {error:e}, {allowed:e} allowed");
        }
        let loss = |run: &Trained| (run.losses[0] - truth.losses[0]).abs() / truth.losses[0];
        assert!(loss(&found) < 2.0 * loss(&plain) + 2e-3, "{:?} {:?}", found.losses, truth.losses);
        assert_eq!(found.losses, again.losses, "{method:?}");
        assert_eq!(found.grads, again.grads, "{method:?}");
        assert_eq!(found.logits, again.logits, "{method:?}");
    }
}

#[test]
fn a_step_on_the_tensor_cores_equals_the_reference() {
    check(&device(AMPERE), even(), &[Method::Full, lora(8, 0.0)]);
}

#[test]
fn a_step_on_hopper_equals_the_reference() {
    check(&device(HOPPER), even(), &[Method::Full, lora(8, 0.0)]);
}

#[test]
fn a_step_of_odd_shapes_equals_the_reference() {
    check(&device(AMPERE), odd(), &[Method::Full, lora(3, 0.2)]);
}

/// A vocabulary that is no multiple of eight, as one with an added token: the head's products take columns
/// behind it.
#[test]
fn a_step_of_an_odd_vocabulary_equals_the_reference() {
    let config = Config { vocab_size: 101, ..even() };
    check(&device(HOPPER), config.clone(), &[Method::Full]);
    let ampere = device(AMPERE);
    check(&ampere, config.clone(), &[lora(8, 0.0)]);
    check(&ampere, Config { tied: true, ..config }, &[Method::Full]);
    // The kernel for any shape computes the few logits of decoding alone.
    let launches = ampere.emulation.iter().flat_map(|emulation| emulation.launches());
    let slow = launches.filter(|launch| launch.kernel == "matmul_any");
    assert!(slow.map(|launch| launch.shape.grid[0]).max() <= Some(4));
}

#[test]
fn a_step_in_f16_equals_the_reference() {
    let options = Options { precision: Precision::F16, ..Options::default() };
    check(&device_with(AMPERE, &options), even(), &[Method::Full, lora(8, 0.0)]);
    check(&device_with(TURING, &Options::default()), even(), &[Method::Full, lora(8, 0.2)]);
}

/// A loss scale that is too large is told as such, and changes nothing; any smaller one gives the same step.
#[test]
fn gradients_that_overflow_in_f16_are_told() {
    let options = Options { precision: Precision::F16, ..Options::default() };
    let device = device_with(AMPERE, &options);
    let toy = Toy::of(even(), 5);
    let run = |scale: f64| {
        let mut cuda = Cuda::on(device.gpu.clone(), toy.weights());
        toy.first_step(&mut cuda, scale).unwrap()
    };
    let (outcome, before) = run(2.0_f64.powi(40));
    let Outcome::NotFinite { report, .. } = outcome else { panic!("{outcome:?}") };
    assert!(report.loss.is_finite() && !report.grad_norm.is_finite(), "{report:?}");
    let [(small, one), (large, other)] = [256.0, 4096.0].map(run);
    let (Outcome::Updated(small), Outcome::Updated(large)) = (small, large) else {
        panic!("no update was made")
    };
    assert_eq!(small.loss, large.loss);
    assert!((small.grad_norm / large.grad_norm - 1.0).abs() < 1e-3, "{small:?} {large:?}");
    assert!(distance(&one, &before) > 1e-3 && distance(&one, &other) < 1e-3);
}

#[test]
fn a_step_with_parameters_in_bf16_equals_the_reference() {
    let options = Options { narrow_parameters: true, ..Options::default() };
    check(&device_with(AMPERE, &options), even(), &[Method::Full]);
    check(&device_with(HOPPER, &options), odd(), &[Method::Full]);
}

/// What `core-cli verify --backend cuda` judges whole steps by, in each type.
#[test]
fn the_verified_steps_pass() {
    let f16 = Options { precision: Precision::F16, ..Options::default() };
    let narrow = Options { narrow_parameters: true, ..Options::default() };
    for options in [Options::default(), f16, narrow] {
        let cuda = device_with(AMPERE, &options);
        let mut seen = 0;
        let mut judge = |verdict: paddock_kernels::ops::Verdict| {
            assert!(verdict.passes(), "{verdict:?}");
            seen += 1;
        };
        verify_steps(&Device::Cuda(cuda.gpu.clone()), 3, &mut judge).unwrap();
        assert_eq!(seen, 4);
    }
}

#[test]
fn the_loss_falls() {
    let device = device(AMPERE);
    let toy = Toy::of(odd(), 5);
    let mut cuda = Cuda::on(device.gpu.clone(), toy.weights());
    let steps = if device.is_real() { 50 } else { 12 };
    let losses = toy.train(&mut cuda, Method::Full, steps).unwrap().losses;
    assert!(losses[steps as usize - 1] < 0.95 * losses[0], "{losses:?}");
}
