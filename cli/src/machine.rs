//! What this machine can do, in words and numbers.

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Processor, cores and instructions.
    pub processor: String,
    /// All memory, in bytes; 0 where the system does not say.
    pub memory_bytes: u64,
    /// Memory that is free now.
    pub memory_free_bytes: u64,
}

impl Machine {
    /// Looks at the machine.
    pub fn look() -> Machine {
        let (memory_bytes, memory_free_bytes) = memory();
        Machine { processor: paddock_kernels::describe_machine(), memory_bytes, memory_free_bytes }
    }
}

/// Memory of the machine: (all, free now), in bytes.
pub fn memory() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    (field("MemTotal:"), field("MemAvailable:"))
}

/// Memory that a process uses now, in bytes; 0 where the system does not say.
pub fn process_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
