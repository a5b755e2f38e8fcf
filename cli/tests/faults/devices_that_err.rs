//! A device that makes mistakes, and what `self_check` makes of them.

use paddock_cli::run::config::{BackendChoice, Method, RunConfig, Validation};
use paddock_cli::train::{Session, Setup};
use paddock_core::backend::{
    AdamW, AttentionGrads, AttentionSaved, Backend, Dropout, Heads, LoraGrads, LoraMats, LoraSlots,
    LossSlots, Write,
};
use paddock_core::batch::{Batch, Rows};
use paddock_core::config::Config;
use paddock_core::error::Result;
use paddock_core::model::init;
use paddock_core::null::Null;
use paddock_core::plan::{Capacity, RegionSizes};
use paddock_core::slot::{Region, Slot};
use paddock_core::train::Outcome;
use paddock_core::weights::Mat;
use paddock_datasets::prepare::Quiet;
use paddock_tests::desk::Desk;

use crate::desk;

/// A device that computes as the one inside it, but for one bit.
struct Erring<'w> {
    inner: Box<dyn Backend + 'w>,
    /// The op whose first result in pass number `pass` has another bit.
    op: &'static str,
    /// Counted from 1.
    pass: u64,
    /// Passes begun so far.
    begun: u64,
    has_erred: bool,
}

impl Erring<'_> {
    /// A bit in the middle of a number's fraction becomes another, if it is time to.
    fn err(&mut self, op: &str, out: Slot) -> Result<()> {
        if self.has_erred || self.begun != self.pass || self.op != op {
            return Ok(());
        }
        let mut values = vec![0.0; out.len as usize];
        self.inner.download(out, &mut values)?;
        let number = values.iter_mut().find(|x| **x != 0.0).expect("not all are zero");
        *number = f32::from_bits(number.to_bits() ^ (1 << 16));
        self.has_erred = true;
        self.inner.upload(out, &values)
    }
}

/// Methods that ask the device inside; behind the arrow stands the result that may have another bit.
macro_rules! ops {
    ($($op:ident($($arg:ident: $ty:ty),*) $(=> $out:expr)?;)*) => {$(
        fn $op(&mut self, $($arg: $ty),*) -> Result<()> {
            self.inner.$op($($arg),*)?;
            $(self.err(stringify!($op), $out)?;)?
            Ok(())
        }
    )*};
}

impl Backend for Erring<'_> {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn element_bytes(&self, region: Region) -> u64 {
        self.inner.element_bytes(region)
    }
    fn has_narrow_range(&self) -> bool {
        self.inner.has_narrow_range()
    }
    fn scratch_len(&self, config: &Config, capacity: &Capacity) -> u64 {
        self.inner.scratch_len(config, capacity)
    }
    fn begin_step(&mut self) -> Result<()> {
        self.begun += 1;
        self.inner.begin_step()
    }

    ops! {
        reserve(sizes: &RegionSizes);
        upload(dst: Slot, data: &[f32]);
        download(src: Slot, data: &mut [f32]);
        set_batch(batch: &Batch);
        sync();
        end_step();
        fill(dst: Slot, value: f32);
        copy(dst: Slot, src: Slot);
        add(out: Slot, a: Slot, b: Slot);
        accumulate(dst: Slot, src: Slot, scale: f32);
        gather_rows(out: Slot, inp: Slot, dim: u32);
        scatter_rows(dinp: Slot, dout: Slot, dim: u32, write: Write);
        embed_forward(out: Slot, table: Mat);
        embed_backward(dtable: Slot, dout: Slot, dim: u32);
        rms_norm_forward(out: Slot, rstd: Slot, inp: Slot, weight: Mat, eps: f32);
        rms_norm_backward(
            dinp: Slot, dweight: Option<Slot>, dout: Slot, inp: Slot, weight: Mat, rstd: Slot
        );
        matmul_forward(out: Slot, inp: Slot, w: Mat, alpha: f32, write: Write);
        matmul_backward_input(dinp: Slot, dout: Slot, w: Mat, alpha: f32, write: Write);
        matmul_backward_weight(
            dw: Slot, dout: Slot, inp: Slot, rows: u32, cols: u32, alpha: f32
        ) => dw;
        rope_forward(x: Slot, table: Slot, head_dim: u32, rows: Rows);
        rope_backward(dx: Slot, table: Slot, head_dim: u32, rows: Rows);
        attention_forward(
            out: Slot, lse: Slot, q: Slot, k: Slot, v: Slot, heads: Heads, rows: Rows
        ) => out;
        attention_backward(grads: AttentionGrads, saved: AttentionSaved);
        cache_write(cache: Slot, inp: Slot, dim: u32);
        swiglu_forward(out: Slot, gate: Slot, up: Slot);
        swiglu_backward(dgate: Slot, dup: Slot, dout: Slot, gate: Slot, up: Slot) => dgate;
        dropout_forward(out: Slot, inp: Slot, dim: u32, d: Dropout);
        dropout_backward(dinp: Slot, dout: Slot, dim: u32, d: Dropout);
        linear_cross_entropy_forward(
            nll: Slot, lse: Slot, best: Option<Slot>, inp: Slot, w: Mat
        );
        linear_cross_entropy_backward(
            dinp: Slot, dw: Option<Slot>, coeff: Slot, lse: Slot, inp: Slot, w: Mat
        );
        norm_squared(out: Slot, x: Slot);
        adamw(param: Slot, grad: Slot, m: Slot, v: Slot, step: AdamW);
        linear_cross_entropy(out: LossSlots, inp: Slot, w: Mat) => out.nll;
        lora_linear_forward(out: Slot, inp: Slot, w: Mat, lora: LoraMats, slots: LoraSlots);
        lora_linear_backward(
            grads: LoraGrads, dout: Slot, inp: Slot, w: Mat, lora: LoraMats, slots: LoraSlots
        ) => grads.db;
    }
}

fn setup(desk: &Desk, method: Method, self_check: u64) -> Setup {
    let path = |name: &str| desk.path(name).display().to_string();
    let config = RunConfig {
        model: Some(path("model")),
        data: vec![path("rows.json")],
        method,
        backend: BackendChoice::Cpu,
        lr: Some(0.01),
        batch_size: 8,
        micro_batch_tokens: 96,
        max_steps: Some(4),
        lora_rank: 4,
        validation: Validation::None,
        threads: Some(1),
        token_cache: false,
        self_check,
        ..RunConfig::default()
    };
    Setup::prepare(config, &mut Quiet).expect("a good set-up")
}

/// A run that has made one step.
fn begun(setup: &Setup) -> Session<'_> {
    let mut session = Session::plan(setup).expect("a plan");
    session.begin().expect("memory");
    made(&mut session);
    session
}

/// A step that is made.
fn made(session: &mut Session<'_>) {
    let outcome = session.step(&mut ()).expect("a step").outcome;
    assert!(matches!(outcome, Outcome::Updated(_)), "{outcome:?}");
}

/// From now on the session computes on a device that errs.
fn err_at(session: &mut Session<'_>, op: &'static str, pass: u64) {
    let inner = std::mem::replace(&mut session.b, Box::new(Null::default()));
    session.b = Box::new(Erring { inner, op, pass, begun: 0, has_erred: false });
}

/// Every bit of parameters and moments.
fn bits(session: &mut Session<'_>) -> Vec<u32> {
    let params = session.model.params.all();
    let moments = Slot::new(Region::Moments, 0, 2 * params.len);
    let read = |slot| init::read(&mut *session.b, slot).expect("numbers");
    [params, moments].into_iter().flat_map(read).map(f32::to_bits).collect()
}

/// Ops in which any bit shows in losses or gradients: of the forward pass, the loss, and the way back.
const OPS: [(Method, [&str; 4]); 2] = [
    (
        Method::Lora,
        ["attention_forward", "linear_cross_entropy", "swiglu_backward", "lora_linear_backward"],
    ),
    (
        Method::Full,
        ["attention_forward", "linear_cross_entropy", "swiglu_backward", "matmul_backward_weight"],
    ),
];

#[test]
fn f54_one_wrong_bit_of_the_device_stops_the_step_and_changes_nothing() {
    let desk = desk();
    for (method, ops) in OPS {
        let setup = setup(&desk, method, 1);
        let mut well = begun(&setup);
        let before = (well.run, bits(&mut well));
        made(&mut well);
        let after = (well.run, bits(&mut well));
        assert!(before != after);
        for op in ops {
            let mut session = begun(&setup);
            // The self-check makes the first two passes of a step.
            err_at(&mut session, op, 2);
            let error = session.step(&mut ()).err().unwrap_or_else(|| panic!("{op}: not noticed"));
            let text = format!("{error:#}");
            for words in
                ["step 1: cpu", "twice and got other numbers", "core-cli verify", "--resume"]
            {
                assert!(text.contains(words), "{op}: expected {words:?} in {text}");
            }
            assert!((session.run, bits(&mut session)) == before, "{op}: something was changed");
            // It erred once. The step is made from where it was, with nothing left over of the failed one.
            made(&mut session);
            assert!((session.run, bits(&mut session)) == after, "{op}: other bits");
        }
    }
}

/// What the test above is worth: without the self-check the same mistakes go into the numbers.
#[test]
fn f54_without_the_self_check_a_wrong_bit_goes_unnoticed() {
    let desk = desk();
    for (method, ops) in OPS {
        let setup = setup(&desk, method, 0);
        let mut well = begun(&setup);
        made(&mut well);
        let after = bits(&mut well);
        // A loss that is told wrongly is no wrong gradient.
        for op in ops.into_iter().filter(|op| *op != "linear_cross_entropy") {
            let mut session = begun(&setup);
            err_at(&mut session, op, 1);
            made(&mut session);
            assert!(bits(&mut session) != after, "{op}: it did not err");
        }
    }
}
