//! Where a GPU is at hand: the same programs on it and on the emulator, compared bit by bit.
//!
//! Without a GPU a line that begins with SKIPPED says so (PADDOCK_REQUIRE=cuda makes that a
//! failure).

mod common;
#[path = "common/data.rs"]
mod data;
#[path = "common/products.rs"]
mod products;
#[path = "common/random.rs"]
mod random;

use common::{Arg, Gpu, hopper_kernel, kernel};
use cust::device::DeviceAttribute;
use cust::memory::{CopyDestination, DeviceBuffer};
use cust::prelude::*;
use cust::sys;
use data::Numbers;
use paddock_ptx_emulator::{Element, Shape, TensorMap};
use products::{LAYOUTS, Layout};
use std::ffi::c_void;
use std::sync::Mutex;

/// A tensor map over the input or the output of a program.
#[derive(Clone, Copy)]
struct Tensor {
    over_output: bool,
    element: Element,
    sizes: [u64; 2],
    stride: u64,
    boxes: [u32; 2],
    swizzle: u32,
}

struct Program {
    name: String,
    source: String,
    threads: u32,
    input: Vec<u32>,
    /// What the output holds before.
    output: Vec<u32>,
    tensor: Option<Tensor>,
}

fn on_emulator(program: &Program) -> Vec<u32> {
    let mut gpu = Gpu::hopper();
    let (input, output) = (gpu.u32s(&program.input), gpu.u32s(&program.output));
    let mut args = vec![Arg::U64(output), Arg::U64(input)];
    if program.source.contains("map_a") {
        let map = program.tensor.map_or([0; 128], |t| {
            let address = if t.over_output { output } else { input };
            TensorMap::new(t.element, address, &t.sizes, &[t.stride], &t.boxes, t.swizzle)
                .expect("a good map")
                .to_bytes()
        });
        args.extend([Arg::Map(map), Arg::Map([0; 128])]);
    }
    let shape = Shape { grid: [1, 1, 1], block: [program.threads, 1, 1], shared: 0 };
    let dynamic = Shape { shared: dynamic_bytes(program), ..shape };
    gpu.launch(&program.source, "k", dynamic, &args);
    gpu.read_u32(output, program.output.len())
}

/// More than 48 KB must be dynamic on a device.
fn dynamic_bytes(program: &Program) -> u32 {
    if program.source.contains(".extern .shared") { 65536 + 1024 } else { 0 }
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Map([u8; 128]);

type Encode = unsafe extern "C" fn(
    *mut Map,
    u32,
    u32,
    u64,
    *const u64,
    *const u64,
    *const u32,
    *const u32,
    u32,
    u32,
    u32,
    u32,
) -> u32;

fn encode(tensor: &Tensor, address: u64) -> Map {
    let found = paddock_cuda_shim::resolve("cuTensorMapEncodeTiled").expect("a driver of 12.0");
    let swizzle = [0, 32, 64, 128].iter().position(|&span| span == tensor.swizzle).unwrap() as u32;
    let (mut map, strides, steps) = (Map([0; 128]), [tensor.stride], [1, 1]);
    // SAFETY: the function has this signature; the lists have two, one, two and two values.
    let code = unsafe {
        let encode: Encode = std::mem::transmute(found);
        encode(
            &mut map,
            tensor.element as u32,
            2,
            address,
            tensor.sizes.as_ptr(),
            strides.as_ptr(),
            tensor.boxes.as_ptr(),
            steps.as_ptr(),
            0,
            swizzle,
            0,
            0,
        )
    };
    assert_eq!(code, 0, "cuTensorMapEncodeTiled");
    map
}

fn on_device(program: &Program) -> Vec<u32> {
    let module = Module::from_ptx(&program.source, &[]);
    let module = module.unwrap_or_else(|error| panic!("{}: {error}", program.name));
    let function = module.get_function("k").unwrap();
    let input = DeviceBuffer::from_slice(&program.input).unwrap();
    let output = DeviceBuffer::from_slice(&program.output).unwrap();
    let (p_out, p_in) = (output.as_device_ptr(), input.as_device_ptr());
    let map = program.tensor.map_or(Map([0; 128]), |tensor| {
        encode(&tensor, if tensor.over_output { p_out } else { p_in }.as_raw())
    });
    let none = Map([0; 128]);
    let mut parameters: [*mut c_void; 4] = [
        (&raw const p_out).cast_mut().cast(),
        (&raw const p_in).cast_mut().cast(),
        (&raw const map).cast_mut().cast(),
        (&raw const none).cast_mut().cast(),
    ];
    let shared = dynamic_bytes(program);
    let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    // SAFETY: the parameters are those of the kernel, or more; both buffers live to the end.
    unsafe {
        assert_eq!(sys::cuFuncSetAttribute(function.to_raw(), most, shared as i32) as u32, 0);
        let (threads, stream) = (program.threads, std::ptr::null_mut());
        let (list, none) = (parameters.as_mut_ptr(), std::ptr::null_mut());
        let code = sys::cuLaunchKernel(
            function.to_raw(),
            1,
            1,
            1,
            threads,
            1,
            1,
            shared,
            stream,
            list,
            none,
        );
        assert_eq!(code as u32, 0, "{}", program.name);
        assert_eq!(sys::cuCtxSynchronize() as u32, 0, "{}", program.name);
    }
    let mut found = vec![0; program.output.len()];
    output.copy_to(&mut found).unwrap();
    found
}

/// The context and whether the device is an sm_90.
fn device() -> Option<(Context, bool)> {
    let found = paddock_cuda_shim::load().map_err(|error| error.to_string()).and_then(|_| {
        cust::init(CudaFlags::empty()).map_err(|error| error.to_string())?;
        let device = Device::get_device(0).map_err(|error| error.to_string())?;
        let major = device.get_attribute(DeviceAttribute::ComputeCapabilityMajor);
        let hopper = major.map_err(|error| error.to_string())? == 9;
        let context = Context::new(device).map_err(|error| error.to_string())?;
        Ok((context, hopper))
    });
    match found {
        Ok(found) => Some(found),
        Err(error) => {
            let required = std::env::var("PADDOCK_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|name| name == "cuda"), "no GPU: {error}");
            println!("SKIPPED: no GPU to compare with ({error})");
            None
        }
    }
}

/// The tests take turns at the device.
static TURN: Mutex<()> = Mutex::new(());

/// Runs the programs on both; each result must be equal, or as near as `near` says.
fn compare(programs: Vec<Program>, hopper: bool, near: fn(u32, u32) -> bool) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some((_context, is_hopper)) = device() else {
        // The programs run at least on the emulator.
        programs.iter().for_each(|program| drop(on_emulator(program)));
        return;
    };
    if hopper && !is_hopper {
        println!("SKIPPED: the GPU is no sm_90");
        return;
    }
    let mut bad = Vec::new();
    for program in &programs {
        let (ours, theirs) = (on_emulator(program), on_device(program));
        let equal = ours.iter().zip(&theirs).filter(|(a, b)| a == b).count();
        let far = ours.iter().zip(&theirs).filter(|(a, b)| !near(**a, **b)).count();
        println!("{:<40} {equal} of {} words equal, {far} wrong", program.name, ours.len());
        if far > 0 {
            let at = ours.iter().zip(&theirs).position(|(a, b)| !near(*a, *b)).unwrap();
            bad.push(format!(
                "{}: word {at} is {:#x}, on the device {:#x}",
                program.name, ours[at], theirs[at]
            ));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

fn equal(a: u32, b: u32) -> bool {
    a == b
}

/// The shared memory of a [`hopper_kernel`] as dynamic memory: a device has 48 KB of the other.
fn with_dynamic_tile(source: &str) -> String {
    source
        .replace(".visible .entry", ".extern .shared .align 1024 .b8 tile[];\n.visible .entry")
        .replace(".shared .align 1024 .b8 tile[65536];", "")
}

/// Input of a product: the image of shared memory and the accumulators before.
fn product_input(image: &[u16], n: usize, numbers: &mut Numbers) -> Vec<u32> {
    let words = image.chunks(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16);
    let before = (0..64 * n).map(|_| (numbers.next() as f32).to_bits());
    words.chain(before).collect()
}

fn random_product(left: Layout, right: Layout, n: usize, numbers: &mut Numbers) -> Program {
    let a: Vec<f32> = numbers.f32s(64 * 16);
    let b: Vec<f32> = numbers.f32s(n * 16);
    let (a, b) = (|m: usize, k: usize| a[m * 16 + k], |k: usize, j: usize| b[j * 16 + k]);
    let image = products::image(left, right, n, 0, [&a, &b]);
    // The tile is not at 0 here: the descriptors' starts are added to its address.
    let operands = products::shared_operands(left, right, 0);
    let [start_a, start_b, rest] = operands.splitn(3, ", ").collect::<Vec<_>>().try_into().unwrap();
    let body = products::body(n, &format!("%wa, %wb, {rest}")).replace(
        "wgmma.fence",
        &format!(
            "mov.u32 %t2, tile; shr.u32 %t2, %t2, 4; cvt.u64.u32 %wc, %t2;
             add.u64 %wa, %wc, {start_a}; add.u64 %wb, %wc, {start_b};
             wgmma.fence"
        ),
    );
    let source = hopper_kernel(".maxntid 128", &body);
    Program {
        name: format!("wgmma n = {n} {left:?} x {right:?}"),
        source: with_dynamic_tile(&source),
        threads: 128,
        input: product_input(&image, n, numbers),
        output: vec![0; 64 * n],
        tensor: None,
    }
}

/// Sums of 16 products and the accumulator, of size up to about 8: within two units of the last
/// place of a sum of that size.
fn near_sum(a: u32, b: u32) -> bool {
    let (a, b) = (f32::from_bits(a), f32::from_bits(b));
    (a - b).abs() <= 2.0_f32.powi(-20)
}

#[test]
fn products_in_every_layout() {
    let mut numbers = Numbers(11);
    let mut programs = Vec::new();
    for (at, left) in LAYOUTS.into_iter().enumerate() {
        for right in [left, LAYOUTS[(at + 4) % 8]] {
            programs.push(random_product(left, right, 128, &mut numbers));
        }
    }
    for n in [8, 24, 256] {
        programs.push(random_product(Layout::K128, Layout::K128, n, &mut numbers));
    }
    compare(programs, true, near_sum);
}

/// Loads a box of 8 rows and shows shared memory, or stores or adds one.
fn box_program(name: &str, tensor: Tensor, op: &str, at: (i32, i32)) -> Program {
    let (x, y) = at;
    let bytes = tensor.boxes[0] * tensor.element.bytes() * tensor.boxes[1];
    let body = if tensor.over_output {
        format!(
            "mov.u32 %t0, tile; mad.lo.u32 %t0, %lane, 16, %t0;
             mad.wide.u32 %w0, %lane, 16, %in; ld.global.v4.u32 {{%a, %b, %c, %d}}, [%w0];
             st.shared.v4.u32 [%t0], {{%a, %b, %c, %d}};
             fence.proxy.async.shared::cta; bar.sync 0;
             setp.eq.u32 %p, %lane, 0; mov.b64 %wa, map_a; cvta.param.u64 %wa, %wa;
             @%p {op} [%wa, {{{x}, {y}}}], [tile];
             @%p cp.async.bulk.commit_group; @%p cp.async.bulk.wait_group 0;"
        )
    } else {
        format!(
            "setp.eq.u32 %p, %lane, 0;
             @%p mbarrier.init.shared::cta.b64 [first], 1;
             fence.mbarrier_init.release.cluster; bar.sync 0;
             mov.b64 %wa, map_a; cvta.param.u64 %wa, %wa;
             @%p mbarrier.arrive.expect_tx.shared::cta.b64 _, [first], {bytes};
             @%p cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes \
                 [tile], [%wa, {{{x}, {y}}}], [first];
         WAIT:
             mbarrier.try_wait.parity.shared::cta.b64 %q, [first], 0;
             @!%q bra WAIT;
             mov.u32 %t0, tile; mad.lo.u32 %t0, %lane, 16, %t0;
             ld.shared.v4.u32 {{%a, %b, %c, %d}}, [%t0];
             mad.wide.u32 %w0, %lane, 16, %out; st.global.v4.u32 [%w0], {{%a, %b, %c, %d}};"
        )
    };
    let mut numbers = Numbers(u64::from(bytes) + x as u64 * 7 + y as u64);
    let mut bf16s = |count: usize| -> Vec<u32> {
        let bits = numbers.bf16s(2 * count);
        bits.chunks(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16).collect()
    };
    let (input, output) = (bf16s(4096), bf16s(4096));
    let source = with_dynamic_tile(&hopper_kernel("", &body));
    let threads = bytes / 16;
    Program {
        name: format!("{name} at {at:?}"),
        source,
        threads,
        input,
        output,
        tensor: Some(tensor),
    }
}

#[test]
fn bulk_copies() {
    let mut programs = Vec::new();
    for (swizzle, columns) in [(0, 64), (32, 16), (64, 32), (128, 64)] {
        let base = Tensor {
            over_output: false,
            element: Element::Bf16,
            sizes: [100, 30],
            stride: 208,
            boxes: [columns, 16],
            swizzle,
        };
        for at in [(0, 0), (88, 20), (-8, -3), (40, 7)] {
            programs.push(box_program(&format!("load, swizzle {swizzle}"), base, "", at));
            // A store may not begin before the tensor, nor end inside 16 bytes.
            if at.0 < 0 {
                continue;
            }
            let out = Tensor { over_output: true, sizes: [96, 30], ..base };
            let plain = "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group";
            programs.push(box_program(&format!("store, swizzle {swizzle}"), out, plain, at));
            let add = "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group";
            programs.push(box_program(&format!("add bf16, swizzle {swizzle}"), out, add, at));
            let wide =
                Tensor { element: Element::F32, sizes: [48, 30], boxes: [columns / 2, 16], ..out };
            let at = (at.0 / 2, at.1);
            programs.push(box_program(&format!("add f32, swizzle {swizzle}"), wide, add, at));
        }
    }
    compare(programs, true, equal);
}

fn random_program(seed: u64) -> Program {
    let (body, input) = random::program(seed);
    let (threads, output) = (32, vec![0; 256]);
    let name = format!("random program {seed}");
    Program { name, source: kernel(&body), threads, input, output, tensor: None }
}

#[test]
fn random_programs() {
    compare((1..=200).map(random_program).collect(), false, equal);
}
