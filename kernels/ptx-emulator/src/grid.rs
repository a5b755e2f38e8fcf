//! The grid as clusters of CTAs.

use crate::exec::registers::Place;
use crate::ir::Code;
use crate::machine::Shape;

/// The cluster that a launch has: its own, the text's, or one CTA.
pub(crate) fn check_cluster(
    code: &Code,
    shape: Shape,
    given: Option<[u32; 3]>,
) -> Result<[u32; 3], String> {
    let cluster = given.or(code.cluster).unwrap_or([1; 3]);
    let size = cluster.iter().fold(1_u32, |product, &axis| product.saturating_mul(axis));
    if size == 0 || size > 16 {
        return Err(format!("clusters of {cluster:?} CTAs; 1 to 16 are possible"));
    }
    if code.cluster.is_some_and(|wanted| wanted != cluster) {
        return Err(format!("clusters of {cluster:?}, but the text asks for {:?}", code.cluster));
    }
    if shape.grid.iter().zip(cluster).any(|(&axis, size)| axis % size != 0) {
        return Err(format!("grid {:?} is no multiple of the cluster {cluster:?}", shape.grid));
    }
    Ok(cluster)
}

/// The clusters of a launch, in ascending order.
pub(crate) struct Places {
    pub(crate) shape: Shape,
    pub(crate) cluster: [u32; 3],
}

impl Places {
    pub(crate) fn count(&self) -> u64 {
        let axes = self.shape.grid.iter().zip(self.cluster);
        axes.map(|(&axis, size)| u64::from(axis / size)).product()
    }

    /// The CTAs of one cluster, by rank.
    pub(crate) fn of(&self, index: u64) -> Vec<Place> {
        let [x, y, _] =
            std::array::from_fn(|axis| u64::from(self.shape.grid[axis] / self.cluster[axis]));
        let first = [index % x, index / x % y, index / x / y];
        let [width, height, depth] = self.cluster;
        (0..width * height * depth)
            .map(|rank| {
                let inside = [rank % width, rank / width % height, rank / width / height];
                Place {
                    warp: 0,
                    warps: self.shape.block.iter().product::<u32>().div_ceil(32),
                    block: self.shape.block,
                    grid: self.shape.grid,
                    cta: std::array::from_fn(|axis| {
                        first[axis] as u32 * self.cluster[axis] + inside[axis]
                    }),
                    cluster: self.cluster,
                    rank,
                    dynamic_shared: self.shape.shared,
                }
            })
            .collect()
    }
}
