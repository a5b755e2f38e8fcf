//! What goes wrong with CUDA devices, in words, and what the back-end promises about memory. On the
//! emulator, whose driver can be made to be old, small or broken.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::ops::Deref;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};

use half::{bf16, f16};
use paddock_core::backend::Backend;
use paddock_core::batch::Batch;
use paddock_core::error::{Error, Result};
use paddock_core::forest::{Entry, Forest, Segment};
use paddock_core::plan::RegionSizes;
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::{Dtype, Mat, Weight, WeightView, Weights};
use paddock_kernels::cuda::{Cuda, Gpu, available, describe_devices};
use paddock_kernels::{Options, Precision};
use paddock_ptx_emulator::DeviceConfig;
use paddock_ptx_emulator::driver::Emulation;

/// The driver's table belongs to the whole process: tests take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An emulated device, as long as it lives.
struct Emulated(Emulation, #[allow(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

impl Deref for Emulated {
    type Target = Emulation;

    fn deref(&self) -> &Emulation {
        &self.0
    }
}

fn emulation(config: DeviceConfig) -> Emulated {
    let turn = turn();
    Emulated(Emulation::begin(config).unwrap(), turn)
}

fn gpu(device: Option<&str>) -> Result<Rc<Gpu>> {
    Gpu::open(&Options { device: device.map(str::to_owned), ..Options::default() })
}

/// The one line of an error.
fn message<T>(result: Result<T>) -> String {
    let Err(error) = result else { panic!("it was not refused") };
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn f53_without_a_driver_there_is_one_line() {
    let _turn = turn();
    match available() {
        Ok(()) => println!("SKIPPED: this machine has a CUDA device"),
        Err(why) => {
            assert!(why.contains("CUDA") && why.contains("--backend cpu"), "{why}");
            assert_eq!(message(gpu(None)), why);
            assert_eq!(describe_devices(), [why]);
        }
    }
}

#[test]
fn f53_an_old_device_is_refused() {
    let config = DeviceConfig { capability: (7, 0), ..DeviceConfig::default() };
    let _emulation = emulation(config);
    let text = message(gpu(None));
    assert!(
        text.contains("compute capability 7.0") && text.contains("need compute capability 7.5")
    );
    assert!(text.contains("--backend cpu"), "{text}");
    assert!(describe_devices()[1].contains("cannot be used"));
}

#[test]
fn f53_an_old_driver_is_refused_with_what_is_needed() {
    let emulation = emulation(DeviceConfig::default());
    emulation.set_driver_version(10_020);
    let text = message(gpu(None));
    assert!(text.contains("serves CUDA 10.2") && text.contains("need 11.0"), "{text}");
    assert!(text.contains("newer driver") && text.contains("--backend cpu"), "{text}");
    assert_eq!(describe_devices(), [text]);
    // One that does not know the newest instructions runs the portable kernels.
    emulation.set_driver_version(11_040);
    assert!(gpu(None).is_ok());
}

/// A card without bf16 computes in f16, and says so where something else was asked for.
#[test]
fn f53_a_card_without_bf16_computes_in_f16() {
    let config = DeviceConfig { capability: (7, 5), ..DeviceConfig::default() };
    let _emulation = emulation(config);
    assert!(gpu(None).unwrap().name().ends_with("in f16"));
    assert!(describe_devices()[1].contains("f16"), "{:?}", describe_devices());
    let asked = |options: Options| message(Gpu::open(&options));
    let text = asked(Options { precision: Precision::Bf16, ..Options::default() });
    assert!(text.contains("has no bf16") && text.contains("--precision f16"), "{text}");
    let text = asked(Options { narrow_parameters: true, ..Options::default() });
    assert!(text.contains("--parameters f32"), "{text}");
}

#[test]
fn devices_are_described_and_chosen() {
    let _emulation = emulation(DeviceConfig::default());
    let lines = describe_devices();
    assert!(lines[0].contains("CUDA 12.4"), "{lines:?}");
    assert!(lines[1].starts_with("0: Paddock PTX emulator, compute capability 8.0"), "{lines:?}");
    assert!(gpu(Some("ptx EMULATOR")).is_ok() && gpu(Some("0")).is_ok());
    let text = message(gpu(Some("RTX")));
    assert!(text.contains("\"RTX\"") && text.contains("Paddock PTX emulator"), "{text}");
}

fn sizes(region: Region, len: u64) -> RegionSizes {
    let mut sizes = RegionSizes::default();
    sizes.grow(region, len);
    sizes
}

#[test]
fn f49_more_than_the_device_has_is_refused_before_anything_is_allocated() {
    let emulation = emulation(DeviceConfig { memory_bytes: 1 << 20, ..DeviceConfig::default() });
    let mut cuda = Cuda::on(gpu(None).unwrap(), Weights::default());
    let text = message(cuda.reserve(&sizes(Region::Acts, 1 << 20)));
    assert!(text.contains("the plan needs") && text.contains("--micro-batch-tokens"), "{text}");
    assert_eq!(emulation.memory_used(), 0);
    cuda.reserve(&sizes(Region::Acts, 1 << 18)).unwrap();
}

/// One tensor of 2 MiB.
fn big(bytes: &[u8]) -> Weights<'_> {
    let mut weights = Weights::default();
    let (name, dtype) = (String::from("big"), Dtype::Bf16);
    weights.push(WeightView { name, dtype, rows: 1024, cols: 1024, bytes });
    weights
}

#[test]
fn f49_frozen_weights_count_before_anything_is_allocated() {
    let emulation = emulation(DeviceConfig { memory_bytes: 1 << 20, ..DeviceConfig::default() });
    let bytes = vec![0; 2 << 20];
    let mut cuda = Cuda::on(gpu(None).unwrap(), big(&bytes));
    let text = message(cuda.reserve(&sizes(Region::Acts, 4096)));
    for words in ["the plan needs 0.00 GiB and the model 0.00 GiB", "or a smaller model"] {
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(emulation.memory_used(), 0);
}

#[test]
fn weights_that_do_not_fit_are_refused_in_words() {
    // Trained as a whole, a model is not sent a second time, so nobody has counted the tensor that is.
    let _emulation = emulation(DeviceConfig { memory_bytes: 7 << 20, ..DeviceConfig::default() });
    let bytes = vec![0; 2 << 20];
    let mut cuda = Cuda::on(gpu(None).unwrap(), big(&bytes));
    let mut all = sizes(Region::Acts, 4096);
    all.grow(Region::Params, 1 << 20);
    cuda.reserve(&all).unwrap();
    let (out, inp) = (Slot::new(Region::Acts, 0, 1024), Slot::new(Region::Acts, 1024, 1024));
    let w = Mat::frozen(Weight(0), 1024, 1024);
    let write = paddock_core::backend::Write::Set;
    let text = message(cuda.matmul_forward(out, inp, w, 1.0, write));
    assert!(text.contains("out of memory") && text.contains("2 MiB"), "{text}");
    cuda.fill(out, 1.0).unwrap();
    cuda.sync().unwrap();
}

/// A batch of one root of these tokens.
fn batch(tokens: &[u32], vocab: u32) -> Batch {
    let segments = vec![Segment { start: 0, len: tokens.len() as u32, parent: None }];
    let entries = vec![Entry { position: 0, target: 0, weight: 1.0 }];
    let forest = Forest { tokens: tokens.to_vec(), segments, entries };
    Batch::from_forest(&forest, vocab).unwrap()
}

#[test]
fn f51_a_lost_device_is_said_and_stays_lost() {
    let emulation = emulation(DeviceConfig::default());
    let bytes = [0; 128];
    let mut weights = Weights::default();
    let (name, dtype) = (String::from("small"), Dtype::Bf16);
    weights.push(WeightView { name, dtype, rows: 8, cols: 8, bytes: &bytes });
    let mut cuda = Cuda::on(gpu(None).unwrap(), weights);
    cuda.reserve(&sizes(Region::Acts, 64)).unwrap();
    // A token far beyond the table: the kernel reads what is not its own.
    cuda.set_batch(&batch(&[900_000], 1_000_000)).unwrap();
    let out = Slot::new(Region::Acts, 0, 8);
    let _ = cuda.embed_forward(out, Mat::frozen(Weight(0), 8, 8));
    let first = message(cuda.sync());
    assert!(first.contains("memory that is not its own") && first.contains("--resume"), "{first}");
    assert_eq!(message(cuda.download(out, &mut [0.0; 8])), first);
    assert_eq!(message(cuda.fill(out, 0.0)), first);
    assert_eq!(emulation.faults().len(), 1);
}

/// What a wait says, and what follows it: nothing more is asked of the device, and nothing hangs.
#[test]
fn f51_a_device_that_hangs_is_said_after_the_limit() {
    let emulation = emulation(DeviceConfig::default());
    let wait_limit = Some(std::time::Duration::from_millis(20));
    let gpu = Gpu::open(&Options { wait_limit, ..Options::default() }).unwrap();
    let mut cuda = Cuda::on(gpu, Weights::default());
    cuda.reserve(&sizes(Region::Acts, 64)).unwrap();
    let slot = Slot::new(Region::Acts, 0, 32);
    cuda.add(slot, slot, slot).unwrap();
    emulation.hang();
    let Err(error) = cuda.sync() else { panic!("it waits no longer than it should") };
    assert!(matches!(error, Error::DeviceLost(_)), "{error:?}");
    let text = error.to_string();
    for part in ["waiting for the device", "within 0 s", "newest kernel queued is add", "Xid"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.contains("PADDOCK_DEVICE_WAIT") && text.contains("--resume"), "{text}");
    assert_eq!(cuda.download(slot, &mut [0.0; 32]).unwrap_err().to_string(), text);
    assert_eq!(cuda.add(slot, slot, slot).unwrap_err().to_string(), text);
    assert_eq!(cuda.upload(slot, &[0.0; 32]).unwrap_err().to_string(), text);
    // What belongs to the device is left to the end of the process: giving it back would wait.
    let used = emulation.memory_used();
    drop(cuda);
    assert_eq!(emulation.memory_used(), used);
}

/// So many launches are never under way that the driver's queue fills, in which a launch would hang.
#[test]
fn f51_launches_into_a_hanging_device_stop() {
    let emulation = emulation(DeviceConfig::default());
    let wait_limit = Some(std::time::Duration::from_millis(20));
    let gpu = Gpu::open(&Options { wait_limit, ..Options::default() }).unwrap();
    let mut cuda = Cuda::on(gpu, Weights::default());
    cuda.reserve(&sizes(Region::Acts, 64)).unwrap();
    let slot = Slot::new(Region::Acts, 0, 32);
    emulation.hang();
    let launches = (0..1024).take_while(|_| cuda.add(slot, slot, slot).is_ok()).count();
    assert!(launches < 1000, "{launches}");
}

#[test]
fn f51_faults_of_the_card_are_named() {
    for (code, words) in [(214, "ECC"), (220, "NVLink"), (719, "Xid"), (999, "lost")] {
        let emulation = emulation(DeviceConfig::default());
        let mut cuda = Cuda::on(gpu(None).unwrap(), Weights::default());
        emulation.fail_with(code);
        let Err(error) = cuda.sync() else { panic!("{code} is no error") };
        assert!(matches!(error, Error::DeviceLost(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(words) && text.contains("--resume"), "{text}");
    }
}

#[test]
fn slots_beyond_their_region_and_of_another_type_are_refused() {
    let _emulation = emulation(DeviceConfig::default());
    let mut cuda = Cuda::on(gpu(None).unwrap(), Weights::default());
    let slot = Slot::new(Region::Acts, 0, 10);
    assert!(matches!(cuda.fill(slot, 1.0), Err(Error::OutOfRegion { end: 10, len: 0, .. })));
    let mut all = sizes(Region::Acts, 20);
    all.grow(Region::Stats, 20);
    cuda.reserve(&all).unwrap();
    let beyond = Slot::new(Region::Acts, 15, 10);
    assert!(matches!(cuda.fill(beyond, 1.0), Err(Error::OutOfRegion { end: 25, len: 20, .. })));
    let stats = slot.in_region(Region::Stats);
    assert!(message(cuda.swiglu_forward(slot, stats, stats)).contains("4 bytes"));
    let write = paddock_core::backend::Write::Set;
    let w = Mat::trained(stats, 1, 10);
    assert!(message(cuda.matmul_forward(slot.first(1), slot, w, 1.0, write)).contains("Stats"));
}

#[test]
fn copies_and_fills_convert() {
    let _emulation = emulation(DeviceConfig::default());
    let mut cuda = Cuda::on(gpu(None).unwrap(), Weights::default());
    let mut all = RegionSizes::default();
    for region in [Region::Acts, Region::ActGrads, Region::Stats, Region::Params] {
        all.grow(region, 40);
    }
    cuda.reserve(&all).unwrap();
    let values: Vec<f32> = (0..40).map(|i| i as f32 * 1.01 - 7.3).collect();
    let rounded: Vec<f32> = values.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
    let slot = |region| Slot::new(region, 0, 40);
    let read = |cuda: &mut Cuda<'_>, region| {
        let mut out = vec![0.0; 40];
        cuda.download(slot(region), &mut out).unwrap();
        out
    };
    cuda.upload(slot(Region::Stats), &values).unwrap();
    cuda.copy(slot(Region::Acts), slot(Region::Stats)).unwrap();
    assert_eq!(read(&mut cuda, Region::Acts), rounded);
    cuda.copy(slot(Region::ActGrads), slot(Region::Acts)).unwrap();
    cuda.copy(slot(Region::Params), slot(Region::ActGrads)).unwrap();
    assert_eq!(read(&mut cuda, Region::Params), rounded);
    cuda.add(slot(Region::Params), slot(Region::Stats), slot(Region::Stats)).unwrap();
    let doubled: Vec<f32> = values.iter().map(|x| 2.0 * x).collect();
    assert_eq!(read(&mut cuda, Region::Params), doubled);
    cuda.fill(slot(Region::Acts), 1.7).unwrap();
    assert_eq!(read(&mut cuda, Region::Acts), [bf16::from_f32(1.7).to_f32(); 40]);
    cuda.fill(slot(Region::Params), 1.7).unwrap();
    assert_eq!(read(&mut cuda, Region::Params), [1.7; 40]);
}

/// Rows 0 to 7 of a table, through the embedding: how products read it.
fn rows_of(gpu: Rc<Gpu>, dtype: Dtype, bytes: &[u8], cols: u32) -> Vec<f32> {
    let mut weights = Weights::default();
    weights.push(WeightView { name: String::from("table"), dtype, rows: 8, cols, bytes });
    let mut cuda = Cuda::on(gpu, weights);
    let out = Slot::new(Region::Acts, 0, 8 * u64::from(cols));
    cuda.reserve(&sizes(Region::Acts, out.len)).unwrap();
    cuda.set_batch(&batch(&[0, 1, 2, 3, 4, 5, 6, 7], 8)).unwrap();
    cuda.embed_forward(out, Mat::frozen(Weight(0), 8, cols)).unwrap();
    let mut values = vec![0.0; out.len as usize];
    cuda.download(out, &mut values).unwrap();
    values
}

#[test]
fn weights_of_every_type_are_converted_as_rounding_to_bf16_does() {
    let _emulation = emulation(DeviceConfig::default());
    let gpu = gpu(None).unwrap();
    // More than one piece of an upload, in f32.
    let cols = 140_000;
    let values: Vec<f32> = (0..8 * cols).map(|i| ((i as f32) * 0.37).sin() * 3.0).collect();
    let wide: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let rounded: Vec<f32> = values.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
    assert_eq!(rows_of(gpu.clone(), Dtype::F32, &wide, cols), rounded);
    let few = &values[..8 * 33];
    let halves = few.iter().map(|&x| f16::from_f32(x));
    let bytes: Vec<u8> = halves.clone().flat_map(|x| x.to_le_bytes()).collect();
    let rounded: Vec<f32> = halves.map(|x| bf16::from_f32(x.to_f32()).to_f32()).collect();
    assert_eq!(rows_of(gpu.clone(), Dtype::F16, &bytes, 33), rounded);
    let narrow: Vec<u8> = few.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
    let rounded: Vec<f32> = few.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
    assert_eq!(rows_of(gpu, Dtype::Bf16, &narrow, 33), rounded);
}

#[test]
fn memory_is_what_the_plan_says_and_no_step_takes_more() {
    let emulation = emulation(DeviceConfig::default());
    let mut cuda = Cuda::on(gpu(None).unwrap(), Weights::default());
    let mut all = RegionSizes::default();
    for (i, region) in Region::ALL.into_iter().enumerate() {
        all.grow(region, 64 * i as u64);
    }
    let planned = all.total_bytes(&cuda);
    cuda.reserve(&all).unwrap();
    assert_eq!(emulation.memory_used(), planned);
    cuda.set_batch(&batch(&[1, 2, 3], 8)).unwrap();
    let used = emulation.memory_used();
    for tokens in [&[1, 2, 3, 4, 5][..], &[7]] {
        cuda.set_batch(&batch(tokens, 8)).unwrap();
        assert_eq!(emulation.memory_used(), used);
    }
    drop(cuda);
    assert_eq!(emulation.memory_used(), 0, "everything is given back");
}
