//! Real host code through cust, on the emulator's driver.

use cust::error::CudaError;
use cust::memory::{AsyncCopyDestination, CopyDestination, DeviceBuffer, LockedBuffer};
use cust::prelude::*;
use cust::sys;
use paddock_ptx_emulator::driver::{DRIVER_VERSION, Emulation};
use paddock_ptx_emulator::{DeviceConfig, FaultKind};
use std::ffi::{CString, c_void};

const SOURCE: &str = "
    .version 7.0
    .target sm_80
    .address_size 64
    .global .u32 calls;
    .extern .shared .align 16 .b8 tile[];
    // y (n) = a * x (n) + y (n)
    .visible .entry saxpy(.param .u64 p_y, .param .u64 p_x, .param .f32 p_a, .param .u32 p_n)
    {
        .reg .b64 %y, %x, %o; .reg .f32 %a, %v, %w; .reg .b32 %i, %n, %t; .reg .pred %p;
        ld.param.u64 %y, [p_y]; ld.param.u64 %x, [p_x];
        ld.param.f32 %a, [p_a]; ld.param.u32 %n, [p_n];
        mov.u32 %i, %ctaid.x; mov.u32 %t, %ntid.x; mad.lo.u32 %i, %i, %t, 0;
        mov.u32 %t, %tid.x; add.u32 %i, %i, %t;
        setp.ge.u32 %p, %i, %n;
        @%p ret;
        mul.wide.u32 %o, %i, 4;
        add.u64 %y, %y, %o; add.u64 %x, %x, %o;
        ld.global.f32 %v, [%x]; ld.global.f32 %w, [%y];
        fma.rn.f32 %w, %a, %v, %w;
        st.global.f32 [%y], %w;
    }
    // Uses the last word of the dynamic shared memory.
    .visible .entry big(.param .u64 p_out)
    {
        .reg .b64 %out; .reg .b32 %s, %t; .reg .pred %p;
        ld.param.u64 %out, [p_out];
        mov.u32 %t, %tid.x; setp.ne.u32 %p, %t, 0;
        @%p ret;
        mov.u32 %s, tile; mov.u32 %t, %dynamic_smem_size; add.u32 %s, %s, %t;
        st.shared.u32 [%s+-4], %t; ld.shared.u32 %t, [%s+-4];
        st.global.u32 [%out], %t; st.global.u32 [calls], %t;
    }
    .visible .entry bad(.param .u64 p_out)
    {
        .reg .b64 %out;
        ld.param.u64 %out, [p_out];
        st.global.u32 [%out+2], 1;
    }";

fn emulation() -> Emulation {
    Emulation::begin(DeviceConfig::default()).expect("every name is cust's")
}

fn start() -> (Context, Module, Stream) {
    cust::init(CudaFlags::empty()).unwrap();
    let context = Context::new(Device::get_device(0).unwrap()).unwrap();
    let module = Module::from_ptx(SOURCE, &[]).unwrap();
    let stream = Stream::new(StreamFlags::NON_BLOCKING, None).unwrap();
    (context, module, stream)
}

#[test]
fn a_program_with_cust_runs() {
    let emulation = emulation();
    {
        let (_context, module, stream) = start();
        let n = 1000;
        let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let y = vec![1.0_f32; n];
        let x = DeviceBuffer::from_slice(&x).unwrap();
        let y = DeviceBuffer::from_slice(&y).unwrap();
        assert_eq!(emulation.memory_used(), 8004, "two buffers and one device variable");
        let saxpy = module.get_function("saxpy").unwrap();
        // SAFETY: the arguments are those of the kernel; both buffers have n elements.
        unsafe {
            launch!(saxpy<<<4, 256, 0, stream>>>(
                y.as_device_ptr(), x.as_device_ptr(), 2.0_f32, n as u32
            ))
            .unwrap();
        }
        stream.synchronize().unwrap();
        let mut out = vec![0.0_f32; n];
        y.copy_to(&mut out).unwrap();
        assert!(out.iter().enumerate().all(|(i, &value)| value == 2.0 * i as f32 + 1.0));
        let mut pinned = LockedBuffer::new(&0.0_f32, n).unwrap();
        // SAFETY: the buffer lives until the stream is synchronised.
        unsafe { y.async_copy_to(&mut pinned, &stream).unwrap() };
        stream.synchronize().unwrap();
        assert_eq!(pinned[999], 1999.0);
    }
    let launches = emulation.launches();
    assert_eq!(launches.len(), 1);
    assert_eq!((launches[0].kernel.as_str(), launches[0].shape.grid), ("saxpy", [4, 1, 1]));
    assert_eq!(emulation.counters().global_written, 4000);
    assert_eq!(emulation.memory_used(), 0, "dropping gives everything back");
    assert!(emulation.faults().is_empty());
}

#[test]
fn questions_about_the_device() {
    let emulation = emulation();
    assert_eq!(Device::num_devices(), Err(CudaError::NotInitialized));
    cust::init(CudaFlags::empty()).unwrap();
    assert_eq!(cust::CudaApiVersion::get().unwrap().major(), DRIVER_VERSION / 1000);
    assert_eq!(Device::num_devices().unwrap(), 1);
    assert!(matches!(Device::get_device(1), Err(CudaError::InvalidDevice)));
    let device = Device::get_device(0).unwrap();
    assert_eq!(device.name().unwrap(), "Paddock PTX emulator");
    assert_eq!(device.total_memory().unwrap(), 4 << 30);
    let attribute = |which| device.get_attribute(which).unwrap();
    use cust::device::DeviceAttribute as Attribute;
    assert_eq!(attribute(Attribute::ComputeCapabilityMajor), 8);
    assert_eq!(attribute(Attribute::WarpSize), 32);
    assert_eq!(attribute(Attribute::MaxSharedMemoryPerBlock), 48 << 10);
    let no_context = DeviceBuffer::<f32>::zeroed(4).err();
    assert_eq!(no_context, Some(CudaError::InvalidContext));
    drop(emulation);
    assert_eq!(cust::init(CudaFlags::empty()), Err(CudaError::NoDevice), "the emulation is over");
}

#[test]
fn a_fault_shows_at_the_next_call_and_sticks() {
    let emulation = emulation();
    let (context, module, stream) = start();
    let out = DeviceBuffer::from_slice(&[0_u32; 4]).unwrap();
    let bad = module.get_function("bad").unwrap();
    // SAFETY: the kernel's own fault is what this test is about.
    unsafe { launch!(bad<<<1, 1, 0, stream>>>(out.as_device_ptr())).unwrap() };
    assert_eq!(stream.synchronize(), Err(CudaError::MisalignedAddress));
    let mut host = [0; 4];
    assert_eq!(out.copy_to(&mut host), Err(CudaError::MisalignedAddress));
    let faults = emulation.faults();
    assert_eq!(faults.len(), 1);
    assert!(matches!(faults[0].kind, FaultKind::Misaligned { .. }));
    assert!(faults[0].text.contains("[%out+2]"));
    // The context is lost; nothing of it can be given back.
    std::mem::forget((context, module, stream, out));
}

#[test]
fn memory_runs_out_and_bad_ranges_are_refused() {
    let config = DeviceConfig { memory_bytes: 1 << 20, ..DeviceConfig::default() };
    let _emulation = Emulation::begin(config).unwrap();
    let (_context, _module, _stream) = start();
    assert_eq!(DeviceBuffer::<u8>::zeroed(2 << 20).err(), Some(CudaError::OutOfMemory));
    let (free, total) = cust::memory::mem_get_info().unwrap();
    assert_eq!((free, total), ((1 << 20) - 4, 1 << 20));
    let buffer = DeviceBuffer::<u32>::zeroed(4).unwrap();
    let address = buffer.as_device_ptr().as_raw();
    // SAFETY: the device side is the emulator's to check; the host side has 32 bytes.
    let code = unsafe { sys::cuMemcpyHtoD_v2(address, [0_u64; 4].as_ptr().cast(), 32) };
    assert_eq!(code as u32, 1, "16 bytes cannot take 32");
    // SAFETY: no memory of the host is involved.
    unsafe {
        assert_eq!(sys::cuMemsetD32_v2(address, 0x0102_0304, 4) as u32, 0);
        assert_eq!(sys::cuMemsetD32_v2(address, 0, 5) as u32, 1);
        assert_eq!(sys::cuMemsetD16_v2(address + 2, 0xABCD, 1) as u32, 0);
        assert_eq!(sys::cuMemcpyDtoD_v2(address + 8, address, 8) as u32, 0);
        assert_eq!(sys::cuMemFree_v2(address + 4) as u32, 1);
    }
    let mut host = [0; 4];
    buffer.copy_to(&mut host).unwrap();
    assert_eq!(host, [0xABCD_0304, 0x0102_0304, 0xABCD_0304, 0x0102_0304]);
}

#[test]
fn large_shared_memory_must_be_asked_for() {
    let _emulation = emulation();
    let (_context, module, stream) = start();
    let out = DeviceBuffer::from_slice(&[0_u32]).unwrap();
    let big = module.get_function("big").unwrap();
    let run = |bytes: u32| {
        // SAFETY: the argument is the kernel's.
        unsafe { launch!(big<<<1, 32, bytes, stream>>>(out.as_device_ptr())) }
    };
    assert_eq!(run(48 << 10), Ok(()));
    assert_eq!(run(100 << 10), Err(CudaError::InvalidValue));
    let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    // SAFETY: the function is loaded.
    let code = unsafe { sys::cuFuncSetAttribute(big.to_raw(), attribute, 100 << 10) };
    assert_eq!(code as u32, 0);
    assert_eq!(run(100 << 10), Ok(()));
    let mut host = [0];
    out.copy_to(&mut host).unwrap();
    assert_eq!(host, [100 << 10]);
    let calls = module.get_global::<u32>(&CString::new("calls").unwrap()).unwrap();
    calls.copy_to(&mut host[0]).unwrap();
    assert_eq!(host, [100 << 10]);
}

#[test]
fn bad_ptx_is_explained_in_the_error_log() {
    let _emulation = emulation();
    let (_context, module, _stream) = start();
    assert!(matches!(module.get_function("absent"), Err(CudaError::NotFound)));
    let text = CString::new(SOURCE.replace("fma.rn.f32", "fma.sideways.f32")).unwrap();
    assert!(matches!(Module::from_ptx_cstr(&text, &[]), Err(CudaError::InvalidPtx)));
    let mut log = [0_u8; 256];
    use sys::CUjit_option_enum as Option;
    let mut options = [Option::CU_JIT_ERROR_LOG_BUFFER, Option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
    let mut handle = std::ptr::null_mut();
    // SAFETY: two options with their values; the log has the length that is told.
    let code = unsafe {
        sys::cuModuleLoadDataEx(
            &mut handle,
            text.as_ptr().cast(),
            2,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    assert_eq!(code as u32, 218);
    let length = values[1] as usize;
    let message = String::from_utf8_lossy(&log[..length - 1]).into_owned();
    assert!(message.starts_with("line 20: fma.sideways.f32: "), "{message}");
}

#[test]
fn events_and_what_is_not_there() {
    let _emulation = emulation();
    let (_context, _module, stream) = start();
    let (first, second) =
        (Event::new(EventFlags::DEFAULT).unwrap(), Event::new(EventFlags::DEFAULT).unwrap());
    first.record(&stream).unwrap();
    second.record(&stream).unwrap();
    second.synchronize().unwrap();
    assert!(second.elapsed_time_f32(&first).unwrap() >= 0.0);
    let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_GLOBAL;
    // SAFETY: the stream lives.
    let code = unsafe { sys::cuStreamBeginCapture_v2(stream.as_inner(), mode) };
    assert_eq!(code as u32, 801);
    assert!(CudaError::NotSupported.to_string().contains("not supported"));
}

/// Copies an 8 x 64 tile through shared memory above 48 KB; each CTA tells its rank.
const HOPPER: &str = "
    .version 8.0
    .target sm_90a
    .address_size 64
    .extern .shared .align 1024 .b8 tiles[];
    .visible .entry tile(.param .u64 p_out, .param .align 64 .b8 map[128])
    {
        .reg .b64 %out, %map, %w; .reg .b32 %s, %bar, %t, %a, %b, %c, %d, %i; .reg .pred %p, %q;
        ld.param.u64 %out, [p_out];
        mov.b64 %map, map; cvta.param.u64 %map, %map;
        mov.u32 %s, tiles; add.u32 %s, %s, 65536; add.u32 %bar, %s, 1024;
        mov.u32 %t, %tid.x; setp.eq.u32 %p, %t, 0;
        @%p mbarrier.init.shared::cta.b64 [%bar], 1;
        fence.mbarrier_init.release.cluster;
        bar.sync 0;
        @%p mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar], 1024;
        @%p cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes \
            [%s], [%map, {0, 0}], [%bar];
    WAIT:
        mbarrier.try_wait.parity.shared::cta.b64 %q, [%bar], 0;
        @!%q bra WAIT;
        mad.lo.u32 %s, %t, 16, %s;
        ld.shared.v4.u32 {%a, %b, %c, %d}, [%s];
        mov.u32 %i, %cluster_ctarank; mad.lo.u32 %a, %i, 1000, %a;
        mov.u32 %i, %ctaid.x; mad.lo.u32 %i, %i, 64, %t;
        mad.wide.u32 %w, %i, 16, %out;
        st.global.v4.u32 [%w], {%a, %b, %c, %d};
    }";

#[repr(C, align(64))]
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

/// `CUlaunchAttribute` and `CUlaunchConfig`, as cuda.h has them.
#[repr(C)]
struct Attribute {
    id: u32,
    pad: u32,
    value: [u32; 16],
}

#[repr(C)]
struct Config {
    sizes: [u32; 7],
    stream: *mut c_void,
    attributes: *const Attribute,
    count: u32,
}

type LaunchEx = unsafe extern "C" fn(
    *const Config,
    sys::CUfunction,
    *const *const c_void,
    *const *const c_void,
) -> u32;

#[test]
fn tensor_maps_and_clusters_by_the_newer_calls() {
    let _emulation = Emulation::begin(DeviceConfig::hopper()).unwrap();
    cust::init(CudaFlags::empty()).unwrap();
    let _context = Context::new(Device::get_device(0).unwrap()).unwrap();
    let module = Module::from_ptx(HOPPER, &[]).unwrap();
    let function = module.get_function("tile").unwrap();
    let values: Vec<u32> = (0..256).collect();
    let input = DeviceBuffer::from_slice(&values).unwrap();
    let out = DeviceBuffer::from_slice(&[0_u32; 4 * 256]).unwrap();
    assert!(paddock_cuda_shim::resolve("cuNoSuchCall").is_none());
    assert!(paddock_cuda_shim::resolve("cuMemAlloc").is_some(), "asked for without its version");
    let encode = paddock_cuda_shim::resolve("cuTensorMapEncodeTiled").unwrap();
    let launch = paddock_cuda_shim::resolve("cuLaunchKernelEx").unwrap();
    let mut map = Map([0; 128]);
    let address = input.as_device_ptr().as_raw();
    // SAFETY: both functions have these signatures; lists and attributes live through the calls.
    unsafe {
        let encode: Encode = std::mem::transmute(encode);
        let make = |map: *mut Map, stride: u64| {
            let (sizes, strides, boxes, steps) = ([64, 8], [stride], [64, 8], [1, 1]);
            let (sizes, strides) = (sizes.as_ptr(), strides.as_ptr());
            encode(map, 9, 2, address, sizes, strides, boxes.as_ptr(), steps.as_ptr(), 0, 0, 2, 0)
        };
        assert_eq!(make(&mut map, 100), 1, "a stride that is no multiple of 16");
        assert_eq!(make(&mut map, 128), 0);
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        assert_eq!(sys::cuFuncSetAttribute(function.to_raw(), attribute, 70_000) as u32, 0);
        let launch: LaunchEx = std::mem::transmute(launch);
        let mut value = [0; 16];
        value[..3].copy_from_slice(&[2, 1, 1]);
        let attributes = [Attribute { id: 4, pad: 0, value }];
        let pointer = out.as_device_ptr();
        let parameters = [(&raw const pointer).cast::<c_void>(), (&raw const map).cast()];
        let run = |grid: u32| {
            let sizes = [grid, 1, 1, 64, 1, 1, 70_000];
            let (stream, attributes) = (std::ptr::null_mut(), attributes.as_ptr());
            let config = Config { sizes, stream, attributes, count: 1 };
            launch(&config, function.to_raw(), parameters.as_ptr(), std::ptr::null())
        };
        assert_eq!(run(3), 1, "three CTAs make no clusters of two");
        assert_eq!(run(4), 0);
    }
    let mut host = vec![0; 1024];
    out.copy_to(&mut host).unwrap();
    for (at, found) in host.into_iter().enumerate() {
        let rank = if at % 4 == 0 { (at / 256 % 2) as u32 * 1000 } else { 0 };
        assert_eq!(found, (at % 256) as u32 + rank, "word {at}");
    }
}
