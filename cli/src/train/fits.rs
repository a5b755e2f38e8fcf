//! What a run would need under other settings, and which of them fit into this machine; and whether it may start.

use std::path::{Path, PathBuf};

use paddock_core::backend::Backend;
use paddock_core::config::Config;
use paddock_core::model::{LoraConfig, Method, Model};
use paddock_core::plan::{Capacity, Plan, Recompute, RegionSizes};
use serde::Serialize;

use super::capacity::capacity;
use super::report::bytes;
use super::session::{Session, recompute};
use crate::error::bad_input;
use crate::run::events;

/// A run by its shape: what its memory follows from.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The model.
    pub config: Config,
    /// What is trained.
    pub method: Method,
    /// The largest batch.
    pub capacity: Capacity,
    /// What is computed again.
    pub recompute: Recompute,
    /// Memory besides the planned regions: program, rows, frozen weights.
    pub besides: u64,
    /// Bytes of the frozen weights, which full training does not keep.
    pub weights: u64,
    /// Tokens of the longest row: a micro-batch cannot be smaller.
    pub longest: u64,
}

/// Other settings and what they would need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alternative {
    /// The flags.
    pub flags: String,
    /// Memory in all.
    pub memory_bytes: u64,
}

impl Shape {
    /// Of a run that is planned.
    pub fn of(session: &Session<'_>, plan: &events::Plan) -> Shape {
        let setup = session.setup;
        let regions = session.plan.sizes.total_bytes(&*session.b);
        let facts = setup.train.facts().chain(setup.validation.facts());
        Shape {
            config: setup.opened.folder.config.clone(),
            method: setup.method,
            capacity: capacity(setup),
            recompute: recompute(setup.config.recompute),
            besides: plan.memory_bytes.saturating_sub(regions),
            weights: mapped(session),
            longest: facts.map(|f| u64::from(f.tokens)).max().unwrap_or(1),
        }
    }

    /// Sizes of the planned regions.
    pub fn sizes(&self, b: &dyn Backend) -> anyhow::Result<RegionSizes> {
        let model = Model::new(self.config.clone(), self.method)?;
        Ok(Plan::new(&model, self.capacity, self.recompute, true, b).sizes)
    }

    /// Memory in all.
    pub fn memory(&self, b: &dyn Backend) -> anyhow::Result<u64> {
        Ok(self.besides + self.sizes(b)?.total_bytes(b))
    }

    /// Settings that need less, the mildest first.
    pub fn alternatives(&self, b: &dyn Backend) -> anyhow::Result<Vec<Alternative>> {
        let layers = |shape: &Shape| Shape { recompute: Recompute::Layers, ..shape.clone() };
        let mut list: Vec<(String, Shape)> = Vec::new();
        if self.recompute != Recompute::Layers {
            list.push(("--recompute layers".to_string(), layers(self)));
        }
        let half = (self.capacity.tokens / 2).max(self.longest);
        let mut sizes = vec![half, self.longest];
        sizes.dedup();
        sizes.retain(|tokens| *tokens < self.capacity.tokens);
        for tokens in &sizes {
            let part = self.with_tokens(*tokens);
            let flags = format!("--micro-batch-tokens {tokens}");
            list.push((flags.clone(), part.clone()));
            list.push((format!("{flags} --recompute layers"), layers(&part)));
        }
        if self.method == Method::Full {
            let c = &self.config;
            let rank = 16.min(c.dim).min(c.hidden_dim).min(c.kv_dim());
            let (alpha, targets) = (32.0, [true; 7]);
            let (rank_stabilised, dropout) = (false, 0.0);
            let lora = LoraConfig { rank, alpha, rank_stabilised, dropout, targets };
            let method = Method::Lora(lora);
            let besides = self.besides + self.weights;
            let own = ("".to_string(), self.clone());
            for (flags, shape) in std::iter::once(own).chain(list.clone()) {
                let flags = format!("--method lora {flags}").trim_end().to_string();
                list.push((flags, Shape { method, besides, ..shape }));
            }
        }
        let found = list
            .into_iter()
            .map(|(flags, shape)| Ok(Alternative { flags, memory_bytes: shape.memory(b)? }));
        let mut found = found.collect::<anyhow::Result<Vec<_>>>()?;
        let own = self.memory(b)?;
        found.retain(|other| other.memory_bytes < own);
        Ok(found)
    }

    fn with_tokens(&self, tokens: u64) -> Shape {
        let capacity = Capacity { tokens, kept: tokens, entries: 2 * tokens, ..self.capacity };
        Shape { capacity, ..self.clone() }
    }
}

/// Bytes of the model's files, which are read in place.
fn mapped(session: &Session<'_>) -> u64 {
    session.setup.opened.folder.files.iter().map(|file| file.map.len() as u64).sum()
}

/// Memory as this process sees it, in bytes; all 0 where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// What it may hold in all while others keep what they have.
    pub free: u64,
    /// What it can hold at most: the machine's memory, or the limit of its control group, and swap.
    pub most: u64,
    /// What it holds of files: the system takes that back when it needs to, and reads it again.
    pub in_files: u64,
}

impl Room {
    /// Looks at the machine.
    pub fn look() -> Room {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let limits = limit_files(&text("/proc/self/cgroup"));
        let limits = limits.iter().filter_map(|path| std::fs::read_to_string(path).ok());
        // Where there is no limit, the file says `max`.
        let limit = limits.filter_map(|text| text.trim().parse::<u64>().ok()).min();
        Room::of(&text("/proc/meminfo"), &text("/proc/self/status"), limit)
    }

    /// From what the system says of itself and of this process.
    fn of(machine: &str, process: &str, limit: Option<u64>) -> Room {
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kib.unwrap_or(0).saturating_mul(1024)
        };
        let limit = limit.unwrap_or(u64::MAX);
        // What is held of files counts as available already.
        let free = field(machine, "MemAvailable:") + field(process, "RssAnon:");
        let all = field(machine, "MemTotal:").min(limit);
        Room {
            free: free.min(limit),
            most: if all == 0 { 0 } else { all + field(machine, "SwapTotal:") },
            in_files: field(process, "RssFile:"),
        }
    }
}

/// Where the limits of a process's control groups and of those above them stand, by what /proc says of it: one
/// file a folder. In a container the folders may be those of the machine outside, so not all of them are there.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            all if all.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let below = Path::new(path.trim_start_matches('/')).ancestors();
        files.extend(below.map(|folder| Path::new(root).join(folder).join(name)));
    }
    files
}

/// Graphics drivers that compute on the processor, in the machine's memory.
const SOFTWARE: [&str; 4] = ["llvmpipe", "lavapipe", "swiftshader", "basic render"];

/// Whether a back-end of that name keeps its numbers in the machine's memory.
fn is_in_memory(backend: &str) -> bool {
    let name = backend.to_lowercase();
    let begins = |word: &str| name.starts_with(word);
    begins("cpu")
        || begins("reference")
        || begins("wgpu") && SOFTWARE.iter().any(|s| name.contains(s))
}

/// Before anything is reserved: memory is given as it is touched, so a run that needs more than there is would begin,
/// and the system would end it later without a word. Gives a warning where it is more than is free now.
///
/// # Errors
/// If it is more than the machine can give at all.
pub fn preflight(session: &Session<'_>, plan: &events::Plan) -> anyhow::Result<Option<String>> {
    preflight_in(Room::look(), session, plan)
}

/// The same, in so much room.
///
/// # Errors
/// If it is more than there is.
pub fn preflight_in(
    room: Room,
    session: &Session<'_>,
    plan: &events::Plan,
) -> anyhow::Result<Option<String>> {
    if !is_in_memory(&plan.backend) || room.free == 0 || plan.memory_bytes <= room.free {
        return Ok(None);
    }
    // Full training has given the files back by the time that it needs most, and the plan says so.
    let in_files = match session.setup.method {
        Method::Full => 0,
        _ => room.in_files.min(mapped(session)),
    };
    let room = Room { in_files, ..room };
    let alternatives = Shape::of(session, plan).alternatives(&*session.b)?;
    may_start(plan.memory_bytes, room, &alternatives)
}

/// What is to be said of a run that needs so much.
fn may_start(
    needed: u64,
    room: Room,
    alternatives: &[Alternative],
) -> anyhow::Result<Option<String>> {
    if room.free == 0 || needed <= room.free {
        return Ok(None);
    }
    let need = bytes(needed);
    if room.most > 0 && needed.saturating_sub(room.in_files) > room.most {
        // Best is what fits now; else what could with other programs closed.
        let fits = alternatives.iter().any(|other| other.memory_bytes <= room.free);
        let limit = if fits { room.free } else { room.most };
        return Err(bad_input(format!(
            "this run needs {need} of memory, and it can get {} at most here (swap included), so it was not started.{}",
            bytes(room.most),
            remedies(limit, alternatives)
        )));
    }
    Ok(Some(format!(
        "this run needs {need} of memory, and {} are free now: it may become very slow, or the system may end it \
         without a word. Close other programs, or stop it and take less.{}",
        bytes(room.free),
        remedies(room.free, alternatives)
    )))
}

/// Whether it fits, and what would make it fit, in words.
pub fn words(needed: u64, free: u64, alternatives: &[Alternative]) -> String {
    if free == 0 {
        return "It is not known how much memory this machine has free.".to_string();
    }
    let (need, have) = (bytes(needed), bytes(free));
    if needed <= free {
        return format!("Fits       {need} of {have} free");
    }
    format!("Does not fit: {need} are needed, {have} are free.{}", remedies(free, alternatives))
}

/// What would fit into so much, or the least that there is, in words that follow others.
fn remedies(free: u64, alternatives: &[Alternative]) -> String {
    let mut text = String::new();
    let fitting: Vec<&Alternative> =
        alternatives.iter().filter(|a| a.memory_bytes <= free).collect();
    match (&fitting[..], alternatives.iter().min_by_key(|a| a.memory_bytes)) {
        ([], None) => text.push_str(" Nothing else here needs less; take a smaller model."),
        ([], Some(least)) => text.push_str(&format!(
            " The least, with {}, is {}; take a smaller model, or shorter rows (--max-seq-len).",
            least.flags,
            bytes(least.memory_bytes)
        )),
        (fitting, _) => {
            text.push_str(" What would make it fit:");
            for other in fitting {
                text.push_str(&format!("\n  {:>9}  {}", bytes(other.memory_bytes), other.flags));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_named_and_what_does_not_is_not() {
        let list = [("a", 50), ("b", 20)]
            .map(|(flags, memory_bytes)| Alternative { flags: flags.to_string(), memory_bytes });
        assert!(words(10, 20, &list).contains("10 bytes of 20 bytes free"));
        let text = words(100, 30, &list);
        assert!(text.contains("20 bytes  b") && !text.contains("50 bytes"), "{text}");
        let text = words(100, 10, &list);
        assert!(text.contains("The least, with b, is 20 bytes"), "{text}");
    }

    const MACHINE: &str =
        "MemTotal:  8000 kB\nMemFree:  10 kB\nMemAvailable:  3000 kB\nSwapTotal:  2000 kB\n";
    const PROCESS: &str = "VmRSS:  900 kB\nRssAnon:  200 kB\nRssFile:  700 kB\n";

    #[test]
    fn f48_memory_is_read_from_what_the_system_says() {
        let kib = |free: u64, most: u64, in_files: u64| Room {
            free: free * 1024,
            most: most * 1024,
            in_files: in_files * 1024,
        };
        assert_eq!(Room::of(MACHINE, PROCESS, None), kib(3200, 10_000, 700));
        // A control group with less, and one with more than there is.
        assert_eq!(Room::of(MACHINE, PROCESS, Some(2500 * 1024)), kib(2500, 4500, 700));
        assert_eq!(Room::of(MACHINE, PROCESS, Some(1 << 62)), kib(3200, 10_000, 700));
        assert_eq!(Room::of("", "", Some(1 << 30)), Room::default());
        let of = |groups: &str| -> Vec<String> {
            limit_files(groups).iter().map(|path| path.display().to_string()).collect()
        };
        let new = ["/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/a/memory.max"];
        assert_eq!(of("0::/a/b\n"), [new[0], new[1], "/sys/fs/cgroup/memory.max"]);
        assert_eq!(of("0::/"), ["/sys/fs/cgroup/memory.max"]);
        let old = "/sys/fs/cgroup/memory/a/memory.limit_in_bytes";
        let files = of("9:name=systemd:/\n4:cpu,memory:/a\nnonsense\n");
        assert_eq!(files, [old, "/sys/fs/cgroup/memory/memory.limit_in_bytes"]);
    }

    #[test]
    fn f48_more_than_is_free_is_warned_of_and_more_than_there_is_refused() {
        let list = [("--recompute layers", 90), ("--method lora", 30)]
            .map(|(flags, memory_bytes)| Alternative { flags: flags.to_string(), memory_bytes });
        let room = Room { free: 50, most: 100, in_files: 0 };
        let said = |needed: u64, room: Room| may_start(needed, room, &list);
        assert_eq!(said(50, room).expect("it fits"), None);
        let warning = said(51, room).expect("it may start").expect("a warning");
        for words in ["needs 51 bytes", "50 bytes are free now", "30 bytes  --method lora"] {
            assert!(warning.contains(words), "{warning}");
        }
        assert!(!warning.contains("--recompute"), "{warning}");
        assert!(said(100, room).expect("it may start").is_some());

        let error = said(101, room).expect_err("more than there is");
        assert_eq!(crate::error::exit_code(&error), 2);
        let text = error.to_string();
        for words in ["needs 101 bytes", "100 bytes at most", "was not started", "--method lora"] {
            assert!(text.contains(words), "{text}");
        }
        // Where nothing fits now, what could fit; where nothing could, the least.
        let full = Room { free: 10, ..room };
        let text = said(101, full).expect_err("more than there is").to_string();
        assert!(text.contains("90 bytes  --recompute layers"), "{text}");
        let small = Room { free: 10, most: 20, in_files: 0 };
        let text = said(101, small).expect_err("more than there is").to_string();
        assert!(text.contains("The least, with --method lora, is 30 bytes"), "{text}");
        // Pages of files can be given back, so they are no reason to refuse.
        let mapped = Room { in_files: 5, ..room };
        assert!(said(105, mapped).expect("it may start").is_some());
        assert!(said(106, mapped).is_err());
        // A system that does not say is no reason either.
        assert_eq!(said(u64::MAX, Room::default()).expect("not known"), None);
    }

    #[test]
    fn f48_only_what_computes_in_the_machines_memory_is_looked_at() {
        for name in
            ["cpu avx512", "reference f32", "wgpu llvmpipe (LLVM 15, 256 bits) (vulkan, plain)"]
        {
            assert!(is_in_memory(name), "{name}");
        }
        for name in ["cuda NVIDIA H100 (bf16)", "wgpu NVIDIA GeForce RTX 3060 (vulkan, plain)"] {
            assert!(!is_in_memory(name), "{name}");
        }
    }
}
