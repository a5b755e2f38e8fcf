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
