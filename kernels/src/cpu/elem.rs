//! Elements of weights: f32, bf16 and f16, widened to f32 where they are loaded.

use super::simd::{MAX_LANES, Simd};

/// Elements that a right operand may consist of, widened to f32 on loading.
pub trait Elem: Copy + Send + Sync {
    /// S::LANES elements.
    fn load<S: Simd>(s: S, src: &[Self]) -> S::V;
    /// One element.
    fn widen(self) -> f32;

    /// At most S::LANES elements, the rest zero.
    #[inline(always)]
    fn load_part<S: Simd>(s: S, src: &[Self]) -> S::V {
        let mut full = [0.0; MAX_LANES];
        full.iter_mut().zip(src).for_each(|(f, x)| *f = x.widen());
        s.load(&full)
    }
}

impl Elem for f32 {
    #[inline(always)]
    fn load<S: Simd>(s: S, src: &[f32]) -> S::V {
        s.load(src)
    }
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Elem for half::bf16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, src: &[half::bf16]) -> S::V {
        s.load_bf16(bytemuck::cast_slice(src))
    }
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

impl Elem for half::f16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, src: &[half::f16]) -> S::V {
        s.load_f16(bytemuck::cast_slice(src))
    }
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
}
