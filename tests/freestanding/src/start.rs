//! The only file that knows the machine: Linux on x86-64, by two bare system calls. Another machine
//! needs these four: the entry, [`Out`], [`exit`], [`stack_used`].
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;

/// Bytes of the stack.
const STACK: usize = 256 << 10;

#[repr(align(64))]
struct Stack(UnsafeCell<[u8; STACK]>);

// SAFETY: one thread; read only by `stack_used`, below the part in use.
unsafe impl Sync for Stack {}

/// Our own stack, all zero at first, so that its use can be read off afterwards.
#[unsafe(no_mangle)]
static PADDOCK_STACK: Stack = Stack(UnsafeCell::new([0; STACK]));

global_asm!(
    ".globl _start",
    "_start:",
    "lea rsp, [rip + PADDOCK_STACK + {size}]",
    "xor ebp, ebp",
    "call {entry}",
    "ud2",
    size = const STACK,
    entry = sym entry,
);

extern "C" fn entry() -> ! {
    exit(crate::main())
}

/// Ends the process.
pub fn exit(status: i32) -> ! {
    // SAFETY: exit_group(status) does not return.
    unsafe { asm!("syscall", in("rax") 231, in("rdi") status, options(noreturn, nostack)) }
}

/// Standard output.
pub struct Out;

impl core::fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let written: isize;
            // SAFETY: write(1, rest) reads `rest` only; the kernel overwrites rax, rcx and r11.
            unsafe {
                asm!("syscall", inlateout("rax") 1isize => written, in("rdi") 1,
                     in("rsi") rest.as_ptr(), in("rdx") rest.len(),
                     lateout("rcx") _, lateout("r11") _, options(nostack));
            }
            if written <= 0 {
                return Err(core::fmt::Error);
            }
            rest = &rest[written as usize..];
        }
        Ok(())
    }
}

/// The deepest the stack has been, in bytes.
pub fn stack_used() -> usize {
    let bottom = PADDOCK_STACK.0.get().cast::<u8>();
    let mut untouched = 0;
    // SAFETY: inside the array; volatile, since the stack in use is written behind Rust's back.
    while untouched < STACK && unsafe { bottom.add(untouched).read_volatile() } == 0 {
        untouched += 1;
    }
    STACK - untouched
}
