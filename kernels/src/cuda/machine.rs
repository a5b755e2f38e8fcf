//! What this machine has for CUDA, in words: the driver, the devices, and which of them to take.

use std::fmt;

use cust::device::{Device, DeviceAttribute};
use paddock_core::error::{Error, Result};

use super::driver::Code;
use super::trouble::words;

/// The oldest driver that knows the kernels' instructions (PTX 7.0).
const LEAST_DRIVER: (i32, i32) = (11, 0);
/// The oldest device that has them in f16.
const LEAST_CAPABILITY: (u32, u32) = (7, 5);
/// The oldest device with bf16.
const BF16_CAPABILITY: (u32, u32) = (8, 0);

/// A CUDA device as `doctor` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceReport {
    /// Its number, as the environment variable PADDOCK_DEVICE takes it.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Compute capability.
    pub capability: (u32, u32),
    /// Bytes of its memory.
    pub memory_bytes: u64,
    /// Multiprocessors.
    pub processors: u32,
    /// What it lacks for training, if anything.
    pub unusable: Option<String>,
}

impl DeviceReport {
    /// Whether it computes in bf16.
    pub fn has_bf16(&self) -> bool {
        self.capability >= BF16_CAPABILITY
    }
}

impl fmt::Display for DeviceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.capability;
        let gib = self.memory_bytes as f64 / f64::from(1 << 30);
        write!(f, "{}: {}, compute capability {major}.{minor}", self.number, self.name)?;
        write!(f, ", {} multiprocessors, {gib:.1} GiB", self.processors)?;
        match &self.unusable {
            Some(why) => write!(f, "; cannot be used: {why}"),
            None => write!(f, "; kernels for {}", kernels_for(self.capability)),
        }
    }
}

/// Which kernels a device runs, and why not the others.
fn kernels_for(capability: (u32, u32)) -> &'static str {
    match capability {
        (9, 0) => {
            "sm_80, and for matrix products and attention sm_90a (with a driver for CUDA 12 or later)"
        }
        older if older < BF16_CAPABILITY => {
            "sm_75, in f16 (bf16 and the faster ones need compute capability 8.0)"
        }
        _ => "sm_80 (those for sm_90a need compute capability 9.0)",
    }
}

/// What this machine has for CUDA, a line each: the driver and every device, or why there is none.
pub fn describe_devices() -> Vec<String> {
    let mut lines = Vec::new();
    match start().and_then(|version| Ok((version, devices()?))) {
        Ok(((major, minor), list)) => {
            lines.push(format!("CUDA driver for CUDA {major}.{minor}"));
            lines.extend(list.iter().map(|(_, report)| report.to_string()));
        }
        Err(error) => lines.push(error.to_string()),
    }
    lines
}

/// Every card that the driver knows.
///
/// # Errors
/// Why there is none, in one line.
pub fn cards() -> std::result::Result<Vec<crate::Card>, String> {
    let list = start().and_then(|_| devices()).map_err(|error| error.to_string())?;
    let card = |(_, report): (_, DeviceReport)| crate::Card {
        number: report.number,
        name: report.name,
        memory_bytes: report.memory_bytes,
        unusable: report.unusable,
    };
    Ok(list.into_iter().map(card).collect())
}

/// Whether a device could be opened here; if not, why, and what to use instead.
///
/// # Errors
/// One line in words.
pub fn available() -> std::result::Result<(), String> {
    let list = start().and_then(|_| devices()).map_err(|error| error.to_string())?;
    choose(&list, None).map(drop).map_err(|error| error.to_string())
}

/// Why no device can be opened here, without advice; none: one can.
pub fn why_not() -> Option<String> {
    let why = available().err()?;
    Some(why.strip_suffix(INSTEAD).map_or(why.clone(), |w| w.trim_end_matches("; ").to_owned()))
}

const INSTEAD: &str = "use --backend cpu, or --backend wgpu for another graphics card";

/// Finds the driver; gives the CUDA version that it serves.
pub(super) fn start() -> Result<(i32, i32)> {
    let device = |text: String| Error::Device(format!("{text}; {INSTEAD}"));
    if paddock_cuda_shim::state() == paddock_cuda_shim::State::Empty {
        paddock_cuda_shim::load().map_err(|error| device(error.to_string()))?;
    }
    cust::init(cust::CudaFlags::empty()).map_err(|e| match e as Code {
        100 => device(String::from("the CUDA driver is there, but it finds no device")),
        code => device(format!("the CUDA driver cannot be started: {}", words(code))),
    })?;
    let version = cust::CudaApiVersion::get();
    let version = version.map_err(|e| device(format!("the CUDA driver: {}", words(e as Code))))?;
    let (major, minor) = (version.major(), version.minor());
    if (major, minor) < LEAST_DRIVER {
        let (least, point) = LEAST_DRIVER;
        return Err(device(format!(
            "the CUDA driver serves CUDA {major}.{minor}, the kernels need {least}.{point} or later: \
             install a newer driver"
        )));
    }
    Ok((major, minor))
}

pub(super) fn devices() -> Result<Vec<(Device, DeviceReport)>> {
    let failed = |e: cust::error::CudaError| Error::Device(format!("CUDA: {}", words(e as Code)));
    let mut list = Vec::new();
    for number in 0..Device::num_devices().map_err(failed)? {
        let device = Device::get_device(number).map_err(failed)?;
        let attribute = |which| device.get_attribute(which).map(|x| x as u32).map_err(failed);
        let capability = (
            attribute(DeviceAttribute::ComputeCapabilityMajor)?,
            attribute(DeviceAttribute::ComputeCapabilityMinor)?,
        );
        let (least, point) = LEAST_CAPABILITY;
        let unusable = (capability < LEAST_CAPABILITY)
            .then(|| format!("the kernels need compute capability {least}.{point} or later"));
        let report = DeviceReport {
            number,
            name: device.name().map_err(failed)?,
            capability,
            memory_bytes: device.total_memory().map_err(failed)? as u64,
            processors: attribute(DeviceAttribute::MultiprocessorCount)?,
            unusable,
        };
        list.push((device, report));
    }
    Ok(list)
}

/// The device of this number or with this in its name; without a wish the one with most processors.
pub(super) fn choose<'a, D>(
    list: &'a [(D, DeviceReport)],
    wanted: Option<&str>,
) -> Result<&'a (D, DeviceReport)> {
    let names = list.iter().map(|(_, r)| r.to_string()).collect::<Vec<_>>().join("; ");
    let found = match wanted {
        Some(wanted) => {
            // A number is never a part of a name: there are cards that are called H100.
            let hit = |r: &DeviceReport| match wanted.parse() {
                Ok(number) => r.number == number,
                Err(_) => r.name.to_lowercase().contains(&wanted.to_lowercase()),
            };
            let found = list.iter().find(|(_, r)| hit(r));
            found.ok_or_else(|| {
                Error::Device(format!("no CUDA device is called \"{wanted}\"; there are: {names}"))
            })?
        }
        None => {
            let usable = list.iter().filter(|(_, r)| r.unusable.is_none());
            let best = usable.max_by_key(|(_, r)| (r.processors, std::cmp::Reverse(r.number)));
            best.or(list.first()).ok_or_else(|| {
                let text = "the CUDA driver is there, but it finds no device";
                Error::Device(format!("{text}; {INSTEAD}"))
            })?
        }
    };
    match &found.1.unusable {
        Some(_) => Err(Error::Device(format!("{}; {INSTEAD}", found.1))),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_never_a_part_of_a_name() {
        let report = |number, name: &str| DeviceReport {
            number,
            name: name.into(),
            capability: (9, 0),
            memory_bytes: 80 << 30,
            processors: 132,
            unusable: None,
        };
        let list = [((), report(0, "NVIDIA H100")), ((), report(1, "NVIDIA A40"))];
        let chosen = |wanted| choose(&list, Some(wanted)).map(|found| found.1.number);
        assert_eq!((chosen("1"), chosen("0"), chosen("a40")), (Ok(1), Ok(0), Ok(1)));
        assert!(chosen("100").is_err());
    }
}
