//! What a run computes with where the machine lacks the device that was asked for. It is settled, and said
//! in one line, before anything is read.

use paddock_kernels::cuda::why_not;

use crate::error::bad_input;
use crate::run::config::{BackendChoice, Parameters, Precision, RunConfig};

/// A run that asks for CUDA on a machine without it is trained on the processor; gives the line that says
/// so. `recorded` is what a resumed run was begun with: one that was begun on CUDA is not continued
/// elsewhere by itself, because it would end in other bits.
pub fn of_cuda(
    config: &mut RunConfig,
    recorded: Option<&RunConfig>,
) -> anyhow::Result<Option<String>> {
    let looks = config.backend == BackendChoice::Cuda;
    let Some(why) = looks.then(why_not).flatten() else { return Ok(None) };
    if recorded.is_some_and(|r| r.backend == BackendChoice::Cuda) {
        return Err(bad_input(format!(
            "--backend cuda: {why}. The run was begun on CUDA; to go on with it on the processor, give \
             --backend cpu --allow-changes"
        )));
    }
    config.backend = BackendChoice::Cpu;
    config.device = None;
    // The processor computes in f32.
    config.precision = Precision::Auto;
    config.parameters = Parameters::F32;
    Ok(Some(format!(
        "--backend cuda: {why}; the run is trained on the processor instead (--backend wgpu would take \
         another graphics card)"
    )))
}
