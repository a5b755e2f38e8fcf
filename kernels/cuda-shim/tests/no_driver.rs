//! A program with cust inside starts and goes on where there is no CUDA driver.

use cust::error::CudaError;
use paddock_cuda_shim::{LoadError, State, load, state};
use std::process::Command;
use std::sync::Mutex;

/// The table belongs to the whole process: tests that look at it take turns.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn before_loading_each_call_says_no_device() {
    let _turn = TURN.lock().unwrap();
    paddock_cuda_shim::reset();
    assert_eq!(state(), State::Empty);
    assert_eq!(cust::init(cust::CudaFlags::empty()), Err(CudaError::NoDevice));
    assert_eq!(cust::device::Device::num_devices(), Err(CudaError::NoDevice));
    assert!(matches!(cust::quick_init(), Err(CudaError::NoDevice)));
}

#[test]
fn printing_an_error_does_not_panic_without_a_driver() {
    let _turn = TURN.lock().unwrap();
    paddock_cuda_shim::reset();
    let text = CudaError::NoDevice.to_string();
    assert!(text.contains("no CUDA driver"), "{text}");
    assert!(!CudaError::LaunchTimeout.to_string().is_empty());
}

#[test]
fn loading_finds_the_driver_or_says_why_not() {
    let _turn = TURN.lock().unwrap();
    paddock_cuda_shim::reset();
    match load() {
        Ok(loaded) => {
            println!("driver {} found, {} names missing", loaded.library, loaded.missing.len());
            assert_eq!(state(), State::Driver);
            assert!(paddock_cuda_shim::resolve("cuGetProcAddress").is_some());
        }
        Err(error @ LoadError::NotFound { .. }) => {
            println!("no driver on this machine: {error}");
            assert!(error.to_string().contains("libcuda.so.1"));
            assert_eq!(state(), State::Empty);
            assert_eq!(cust::init(cust::CudaFlags::empty()), Err(CudaError::NoDevice));
        }
        Err(error) => panic!("{error}"),
    }
    paddock_cuda_shim::reset();
}

#[test]
#[cfg(target_os = "linux")]
fn the_program_does_not_need_libcuda() {
    let program = std::env::current_exe().expect("this test's path");
    let output = match Command::new("ldd").arg(&program).output() {
        Ok(output) => output,
        Err(error) => return println!("SKIPPED: ldd cannot be started ({error})"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let libraries = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(libraries.contains("libc.so"), "{libraries}");
    assert!(!libraries.contains("libcuda"), "{libraries}");
}
