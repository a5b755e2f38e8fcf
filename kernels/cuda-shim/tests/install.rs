//! A driver given by a test takes the real one's place, and arguments and results pass unchanged.

use cust::sys;
use paddock_cuda_shim::{InstallError, LoadError, State, install, last_unmapped_code};
use std::ffi::{c_int, c_uint, c_void};
use std::sync::Mutex;

/// The table belongs to the whole process: tests that change it take turns.
static TURN: Mutex<()> = Mutex::new(());
static SEEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());

extern "C" fn init(flags: c_uint) -> u32 {
    if flags == 0 { 0 } else { 12_345 }
}

#[allow(clippy::too_many_arguments)]
extern "C" fn launch(
    function: *mut c_void,
    x: c_uint,
    y: c_uint,
    z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared: c_uint,
    stream: *mut c_void,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> u32 {
    let numbers = [x, y, z, block_x, block_y, block_z, shared].map(|number| number as usize);
    let mut seen = SEEN.lock().unwrap();
    *seen = vec![function as usize];
    seen.extend(numbers);
    seen.extend([stream as usize, parameters as usize, extra as usize]);
    719
}

/// A 64-byte structure by value travels on the stack.
extern "C" fn open_handle(address: *mut u64, handle: sys::CUipcMemHandle_st, flags: c_uint) -> u32 {
    let sum: u64 = handle.reserved.iter().map(|&byte| byte as u64).sum();
    // SAFETY: the test passes a pointer to a u64 of its own.
    unsafe { *address = sum + u64::from(flags) };
    0
}

fn fake() -> Vec<(&'static str, *const c_void)> {
    vec![
        ("cuInit", init as *const c_void),
        ("cuLaunchKernel", launch as *const c_void),
        ("cuIpcOpenMemHandle_v2", open_handle as *const c_void),
    ]
}

#[test]
fn calls_reach_the_installed_driver_with_all_arguments() {
    let _turn = TURN.lock().unwrap();
    // SAFETY: the functions have the signatures of their names and live as long as the program.
    unsafe { install(&fake()) }.unwrap();
    assert_eq!(paddock_cuda_shim::state(), State::Installed);
    assert_eq!(cust::init(cust::CudaFlags::empty()), Ok(()));

    let pointer = |value: usize| value as *mut c_void;
    // SAFETY: the fake launch only looks at the numbers.
    let code = unsafe {
        sys::cuLaunchKernel(
            pointer(1).cast(),
            2,
            3,
            4,
            5,
            6,
            7,
            8,
            pointer(9).cast(),
            pointer(10).cast(),
            pointer(11).cast(),
        )
    };
    assert_eq!(code as u32, 719);
    assert_eq!(*SEEN.lock().unwrap(), (1..=11).collect::<Vec<usize>>());

    let mut address = 0;
    let handle = sys::CUipcMemHandle_st { reserved: std::array::from_fn(|index| index as _) };
    // SAFETY: the address is writable.
    let code = unsafe { sys::cuIpcOpenMemHandle_v2(&mut address, handle, 1000) };
    assert_eq!((code as u32, address), (0, (0..64).sum::<u64>() + 1000));
    paddock_cuda_shim::reset();
}

#[test]
fn what_the_installed_driver_lacks_is_not_supported() {
    let _turn = TURN.lock().unwrap();
    // SAFETY: as above.
    unsafe { install(&fake()) }.unwrap();
    let mut count: c_int = 0;
    // SAFETY: the pointer is writable.
    let code = unsafe { sys::cuDeviceGetCount(&mut count) };
    assert_eq!(code as u32, 801);
    assert!(cust::error::CudaError::NotSupported.to_string().contains("not supported"));
    assert_eq!(paddock_cuda_shim::load(), Err(LoadError::Replaced));
    paddock_cuda_shim::reset();
}

#[test]
fn a_code_that_cust_does_not_know_becomes_unknown() {
    let _turn = TURN.lock().unwrap();
    // SAFETY: as above.
    unsafe { install(&fake()) }.unwrap();
    // SAFETY: cuInit takes any flags.
    assert_eq!(unsafe { sys::cuInit(1) } as u32, 999);
    assert_eq!(last_unmapped_code(), Some(12_345));
    paddock_cuda_shim::reset();
}

#[test]
fn a_wrong_table_is_refused_and_changes_nothing() {
    let _turn = TURN.lock().unwrap();
    paddock_cuda_shim::reset();
    // SAFETY: nothing is installed.
    let unknown = unsafe { install(&[("cuNoSuch", init as *const c_void)]) };
    assert_eq!(unknown, Err(InstallError::UnknownName("cuNoSuch".into())));
    // SAFETY: nothing is installed.
    let null = unsafe { install(&[("cuInit", std::ptr::null())]) };
    assert_eq!(null, Err(InstallError::Null("cuInit".into())));
    assert_eq!(paddock_cuda_shim::state(), State::Empty);
}
