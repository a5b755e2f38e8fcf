//! The trampolines: one symbol a name, each a few instructions of assembly.
//!
//! A symbol loads the address of its row into a scratch register that carries no argument and goes
//! to `through_table`, which calls the row and sends the result through `map_code`. Arguments in
//! registers stay where they are. Arguments on the stack must be in front of the callee, so ten
//! words of them are copied; the driver's longest list (`cuLaunchKernel`, five words on the stack)
//! and its largest structure by value (64 bytes, eight words) fit.

#[cfg(all(not(windows), any(target_arch = "x86_64", target_arch = "aarch64")))]
use crate::codes::map_code;

/// Calls the table's row whose address is in r11, with the arguments that the caller set up.
#[cfg(all(not(windows), target_arch = "x86_64"))]
#[unsafe(naked)]
pub(crate) extern "C" fn through_table() {
    // rbp + 16 is the first argument on the stack; 80 bytes keep rsp a multiple of 16.
    std::arch::naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "sub rsp, 80",
        "mov r10, [rbp + 16]",
        "mov [rsp], r10",
        "mov r10, [rbp + 24]",
        "mov [rsp + 8], r10",
        "mov r10, [rbp + 32]",
        "mov [rsp + 16], r10",
        "mov r10, [rbp + 40]",
        "mov [rsp + 24], r10",
        "mov r10, [rbp + 48]",
        "mov [rsp + 32], r10",
        "mov r10, [rbp + 56]",
        "mov [rsp + 40], r10",
        "mov r10, [rbp + 64]",
        "mov [rsp + 48], r10",
        "mov r10, [rbp + 72]",
        "mov [rsp + 56], r10",
        "mov r10, [rbp + 80]",
        "mov [rsp + 64], r10",
        "mov r10, [rbp + 88]",
        "mov [rsp + 72], r10",
        "call qword ptr [r11]",
        "leave",
        "mov edi, eax",
        "jmp {map_code}",
        map_code = sym map_code,
    )
}

/// Calls the table's row whose address is in x16, with the arguments that the caller set up.
#[cfg(all(not(windows), target_arch = "aarch64"))]
#[unsafe(naked)]
pub(crate) extern "C" fn through_table() {
    // x29 + 16 is the first argument on the stack.
    std::arch::naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "mov x29, sp",
        "sub sp, sp, #80",
        "ldp x10, x11, [x29, #16]",
        "stp x10, x11, [sp]",
        "ldp x10, x11, [x29, #32]",
        "stp x10, x11, [sp, #16]",
        "ldp x10, x11, [x29, #48]",
        "stp x10, x11, [sp, #32]",
        "ldp x10, x11, [x29, #64]",
        "stp x10, x11, [sp, #48]",
        "ldp x10, x11, [x29, #80]",
        "stp x10, x11, [sp, #64]",
        "ldr x16, [x16]",
        "blr x16",
        "mov sp, x29",
        "ldp x29, x30, [sp], #16",
        "b {map_code}",
        map_code = sym map_code,
    )
}

/// One symbol. Windows on x86-64 jumps straight into the table (planned: result codes unmapped).
macro_rules! trampoline {
    ($index:literal $name:ident) => {
        /// Stands for the driver's function of this name.
        #[cfg(all(not(windows), target_arch = "x86_64"))]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn $name() {
            std::arch::naked_asm!(
                "lea r11, [rip + {table} + {offset}]",
                "jmp {through}",
                table = sym crate::table::TABLE,
                offset = const $index * 8,
                through = sym crate::trampoline::through_table,
            )
        }

        /// Stands for the driver's function of this name.
        #[cfg(all(not(windows), target_arch = "aarch64"))]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn $name() {
            std::arch::naked_asm!(
                "adrp x16, {table} + {offset}",
                "add x16, x16, :lo12:{table} + {offset}",
                "b {through}",
                table = sym crate::table::TABLE,
                offset = const $index * 8,
                through = sym crate::trampoline::through_table,
            )
        }

        /// Stands for the driver's function of this name.
        #[cfg(all(windows, target_arch = "x86_64"))]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        extern "C" fn $name() {
            std::arch::naked_asm!(
                "jmp qword ptr [rip + {table} + {offset}]",
                table = sym crate::table::TABLE,
                offset = const $index * 8,
            )
        }
    };
}

macro_rules! trampolines {
    ($($index:literal $name:ident,)*) => {
        /// Every driver function that cust declares, in alphabetical order.
        pub const NAMES: &[&str] = &[$(stringify!($name)),*];

        /// The symbols themselves. Nothing in Rust calls them by these paths.
        #[allow(non_snake_case)]
        mod symbols {
            $($crate::trampoline::trampoline!($index $name);)*
        }
    };
}

pub(crate) use {trampoline, trampolines};
