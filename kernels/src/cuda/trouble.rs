//! The driver's result codes in words. (cust's own texts ask the driver and panic if it has none.)

use std::time::Duration;

use super::driver::Code;

/// What happened, and what a person can do about it.
pub fn words(code: Code) -> String {
    let text = match code {
        1 => "the driver refused a value",
        2 => {
            "the device is out of memory; use a smaller --micro-batch-tokens, --recompute layers or \
             LoRA, or close other programs that use the card"
        }
        3 | 4 => "the driver is not initialised or is shutting down",
        100 => "there is no CUDA device",
        101 => "there is no device with this number",
        200 | 209 | 218 | 222 => "the driver cannot assemble the kernels for this device",
        201 => "the device's context is gone",
        214 => {
            "the card reports a memory error that it cannot correct (ECC; the kernel's log has it as Xid \
             48, 94 or 95): restart the machine, and have the card replaced if it comes again"
        }
        220 => {
            "a link between cards reports an error (NVLink; Xid 74 in the kernel's log); restart the \
             machine"
        }
        713 | 714 => "a part of the card reports an error; restart the machine",
        500 => "the driver does not know what was asked for; a newer driver is needed",
        700 => "a kernel used memory that is not its own",
        701 => "a kernel needs more registers or shared memory than the device has",
        702 => "a kernel ran longer than the system allows (a display's watchdog)",
        709 | 719 => "a kernel failed, or the device was reset (look for Xid in the kernel's log)",
        715 => "a kernel held an instruction that the device does not know",
        716 => "a kernel used a misaligned address",
        801 => "the driver does not support what was asked for",
        802 | 803 => "the driver's parts do not fit together; restart the machine after the update",
        804 => "this driver is too old for this device",
        999 => return unknown(),
        _ => "the driver reports an error",
    };
    format!("{text} (CUDA error {code})")
}

fn unknown() -> String {
    match paddock_cuda_shim::last_unmapped_code() {
        Some(code) => format!("the driver reports an error (CUDA error {code})"),
        None => String::from(
            "the driver reports an unknown error, or the device was lost (fallen off the bus: Xid 79 in the \
             kernel's log; CUDA error 999)",
        ),
    }
}

/// What a wait that came to no end means.
pub fn hung(limit: Duration, newest: &str) -> String {
    format!(
        "it has not finished within {} s (the newest kernel queued is {newest}), so the card or its driver \
         hangs. Look for \"Xid\" in the kernel's log (dmesg), restart the machine if it comes again; the \
         environment variable PADDOCK_DEVICE_WAIT=SECONDS sets another limit",
        limit.as_secs()
    )
}

/// Whether the context is lost after this error: every later call fails too.
pub fn is_lasting(code: Code) -> bool {
    matches!(code, 4 | 201 | 214 | 220 | 700..=702 | 709 | 710 | 713..=719 | 999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_words() {
        for &code in paddock_cuda_shim::KNOWN_CODES.iter().filter(|&&code| code != 0) {
            let text = words(code);
            assert!(text.contains("CUDA error") && text.len() > 20, "{text}");
        }
        assert!(words(2).contains("--micro-batch-tokens"));
        assert!(is_lasting(700) && is_lasting(214) && !is_lasting(2));
    }
}
