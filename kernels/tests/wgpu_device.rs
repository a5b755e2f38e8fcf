//! The wgpu back-end's device: lost ones become errors in words, compiled kernels are kept on disk.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use paddock_core::backend::Backend;
use paddock_core::batch::Batch;
use paddock_core::error::{Error, Result};
use paddock_core::plan::RegionSizes;
use paddock_core::slot::{Region, Slot};
use paddock_core::weights::Weights;
use paddock_kernels::Options;
use paddock_kernels::ops::draw::Size;
use paddock_kernels::ops::{Draw, table};
use paddock_kernels::wgpu::{Gpu, Wgpu};

/// A device of the test's own.
fn open(options: &Options) -> Option<Arc<Gpu>> {
    match Gpu::open(options) {
        Ok(gpu) => Some(gpu),
        Err(why) => {
            let required = std::env::var("PADDOCK_REQUIRE").unwrap_or_default();
            assert!(!required.contains("wgpu"), "PADDOCK_REQUIRE names wgpu, but {why}");
            eprintln!("SKIPPED: the wgpu back-end is not tested: {why}");
            None
        }
    }
}

type Call = fn(&mut Wgpu<'_>) -> Result<()>;

const SLOT: Slot = Slot { region: Region::Acts, offset: 0, len: 64 };

/// Whatever a run was doing when its device went away ends in an error, never in a panic or a hang.
#[test]
fn f52_a_lost_device_is_an_error_in_words() {
    let calls: [(&str, Call); 7] = [
        ("fill", |w| w.fill(SLOT, 1.0).and_then(|()| w.sync())),
        ("norm", |w| w.norm_squared(SLOT.first(1), SLOT).and_then(|()| w.sync())),
        ("upload", |w| w.upload(SLOT, &[1.0; 64]).and_then(|()| w.sync())),
        ("download", |w| w.download(SLOT, &mut [0.0; 64])),
        ("set_batch", |w| w.set_batch(&Batch::default()).and_then(|()| w.sync())),
        ("reserve", |w| w.reserve(&RegionSizes::default())),
        ("sync", |w| w.sync()),
    ];
    for (name, call) in calls {
        let Some(gpu) = open(&Options::default()) else { return };
        let mut wgpu = Wgpu::on(gpu.clone(), Weights::default()).unwrap();
        let mut sizes = RegionSizes::default();
        sizes.grow(Region::Acts, 64);
        wgpu.reserve(&sizes).unwrap();
        wgpu.fill(SLOT, 2.0).unwrap();
        gpu.destroy();
        match call(&mut wgpu) {
            Err(Error::DeviceLost(message)) => {
                assert!(
                    message.contains("lost") && message.contains("--resume"),
                    "{name}: {message}"
                );
            }
            other => panic!("{name} on a lost device: {other:?}"),
        }
    }
}

/// A temporary folder of this process.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("paddock-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Folder(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        let list = std::fs::read_dir(&self.0).map(|d| d.map(|e| e.unwrap().path()).collect());
        list.unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bits_with_cache(folder: &Path) -> Option<Vec<u32>> {
    let told = Arc::new(Mutex::new(0));
    let counter = told.clone();
    let progress: paddock_kernels::Progress =
        Arc::new(move |now| *counter.lock().unwrap() = now.done);
    let options = Options {
        kernel_cache: Some(folder.to_owned()),
        progress: Some(progress),
        ..Options::default()
    };
    let gpu = open(&options)?;
    let op = table().into_iter().find(|op| op.name == "lora_linear_backward").unwrap();
    let case = (op.draw)(&mut Draw::new(3, Size::Small));
    let mut wgpu = Wgpu::on(gpu, case.weights()).unwrap();
    let outputs = case.run(&mut wgpu).unwrap().concat();
    assert!(*told.lock().unwrap() > 2, "compiling is told");
    Some(outputs.iter().map(|x| x.to_bits()).collect())
}

#[test]
fn compiled_kernels_are_kept_and_damaged_files_passed_over() {
    let folder = Folder::new("kernels");
    let Some(first) = bits_with_cache(&folder.0) else { return };
    let Some(file) = folder.files().pop() else {
        eprintln!("SKIPPED: kept kernels are not tested: the driver does not give them");
        return;
    };
    let kept = std::fs::read(&file).unwrap();
    assert!(kept.len() > 100, "{}", kept.len());
    assert_eq!(bits_with_cache(&folder.0).unwrap(), first);
    let middle = kept.len() / 2;
    let damaged = [&kept[..middle], &[!kept[middle]], &kept[middle + 1..]].concat();
    for bad in [&damaged[..], &kept[..middle], b"", b"something else\n"] {
        std::fs::write(&file, bad).unwrap();
        assert_eq!(bits_with_cache(&folder.0).unwrap(), first);
        let repaired = std::fs::read(&file).unwrap();
        assert!(repaired.starts_with(b"paddock kernels 1 ") && repaired != bad);
    }
    assert_eq!(folder.files().len(), 1, "nothing else is left lying about");
}
