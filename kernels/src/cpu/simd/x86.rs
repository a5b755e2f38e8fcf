//! The x86-64 levels of `simd.rs` (a part of that module, apart for its length).

use core::arch::x86_64::*;

use super::{Kernel, MAX_LANES, Simd};

/// Proof that the processor has AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

/// Proof that the processor has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx512 {
    /// The proof, where it holds.
    #[inline]
    pub fn detect() -> Option<Avx512> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        (has && Avx2::detect().is_some()).then_some(Avx512(()))
    }
}

impl Avx2 {
    /// The proof, where it holds.
    #[inline]
    pub fn detect() -> Option<Avx2> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Avx2(()))
    }
}

/// Size of a core's level-2 cache, from the leaf that AMD and Intel share; 0 where it is not told.
pub(super) fn level_2_bytes() -> usize {
    const CACHES: u32 = 0x8000_0006;
    if __cpuid(0x8000_0000).eax < CACHES {
        return 0;
    }
    (__cpuid(CACHES).ecx >> 16) as usize * 1024
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) fn run_avx512<K: Kernel>(simd: Avx512, kernel: K) -> K::Out {
    kernel.run(simd)
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn run_avx2<K: Kernel>(simd: Avx2, kernel: K) -> K::Out {
    kernel.run(simd)
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn call_avx512<K: Kernel>(simd: Avx512, kernel: K) -> K::Out {
    kernel.run(simd)
}

#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
fn call_avx2<K: Kernel>(simd: Avx2, kernel: K) -> K::Out {
    kernel.run(simd)
}

/// Wraps an intrinsic call whose only demand is the processor feature that `self` proves.
macro_rules! proven {
    ($call:expr) => {
        // SAFETY: the token `self` exists only where the processor has the instruction.
        unsafe { $call }
    };
}

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Out {
        // SAFETY: `self` proves that the processor has the features of the callee.
        unsafe { call_avx512(self, kernel) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        proven!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, src: &[f32]) -> __m512 {
        let src = &src[..16];
        // SAFETY: 16 elements were just checked; the load needs no alignment.
        unsafe { _mm512_loadu_ps(src.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, dst: &mut [f32], v: __m512) {
        let dst = &mut dst[..16];
        // SAFETY: 16 elements were just checked; the store needs no alignment.
        unsafe { _mm512_storeu_ps(dst.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn load_part(self, src: &[f32]) -> __m512 {
        // SAFETY: the mask keeps the load within the slice.
        unsafe { _mm512_maskz_loadu_ps(mask16(src.len()), src.as_ptr()) }
    }
    #[inline(always)]
    fn store_part(self, dst: &mut [f32], v: __m512) {
        // SAFETY: the mask keeps the store within the slice.
        unsafe { _mm512_mask_storeu_ps(dst.as_mut_ptr(), mask16(dst.len()), v) }
    }
    #[inline(always)]
    fn load_bf16(self, src: &[u16]) -> __m512 {
        let src = &src[..16];
        // SAFETY: 16 elements were just checked; the load needs no alignment.
        let half = unsafe { _mm256_loadu_si256(src.as_ptr().cast()) };
        proven!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half))))
    }
    #[inline(always)]
    fn load_f16(self, src: &[u16]) -> __m512 {
        let src = &src[..16];
        // SAFETY: 16 elements were just checked; the load needs no alignment.
        let half = unsafe { _mm256_loadu_si256(src.as_ptr().cast()) };
        proven!(_mm512_cvtph_ps(half))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        proven!(_mm512_sqrt_ps(a))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        proven!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        proven!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn scale2(self, a: __m512, n: __m512) -> __m512 {
        proven!(_mm512_scalef_ps(a, n))
    }
    #[inline(always)]
    fn if_less(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        proven!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x))
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        let low = proven!(_mm512_castps512_ps256(a));
        let high = proven!(_mm512_extractf32x8_ps::<1>(a));
        Avx2(()).sum(proven!(_mm256_add_ps(low, high)))
    }
    #[inline(always)]
    fn max_lane(self, a: __m512) -> f32 {
        proven!(_mm512_reduce_max_ps(a))
    }
    #[inline(always)]
    fn prefetch(self, address: *const f32) {
        proven!(_mm_prefetch::<_MM_HINT_T0>(address.cast()))
    }
    #[inline(always)]
    fn prefetch_far(self, address: *const f32) {
        proven!(_mm_prefetch::<_MM_HINT_T1>(address.cast()))
    }
    #[inline(always)]
    fn transpose(self, block: &mut [__m512; MAX_LANES]) {
        let b = *block;
        // 4x4 blocks within the 128-bit lanes, then the lanes themselves in two rounds.
        let mut t = b;
        for i in 0..4 {
            let [r0, r1, r2, r3] = [b[4 * i], b[4 * i + 1], b[4 * i + 2], b[4 * i + 3]];
            let low01 = proven!(_mm512_unpacklo_ps(r0, r1));
            let high01 = proven!(_mm512_unpackhi_ps(r0, r1));
            let low23 = proven!(_mm512_unpacklo_ps(r2, r3));
            let high23 = proven!(_mm512_unpackhi_ps(r2, r3));
            t[4 * i] = proven!(_mm512_shuffle_ps::<0x44>(low01, low23));
            t[4 * i + 1] = proven!(_mm512_shuffle_ps::<0xEE>(low01, low23));
            t[4 * i + 2] = proven!(_mm512_shuffle_ps::<0x44>(high01, high23));
            t[4 * i + 3] = proven!(_mm512_shuffle_ps::<0xEE>(high01, high23));
        }
        for j in 0..4 {
            let a = proven!(_mm512_shuffle_f32x4::<0x88>(t[j], t[4 + j]));
            let c = proven!(_mm512_shuffle_f32x4::<0xDD>(t[j], t[4 + j]));
            let e = proven!(_mm512_shuffle_f32x4::<0x88>(t[8 + j], t[12 + j]));
            let g = proven!(_mm512_shuffle_f32x4::<0xDD>(t[8 + j], t[12 + j]));
            block[j] = proven!(_mm512_shuffle_f32x4::<0x88>(a, e));
            block[4 + j] = proven!(_mm512_shuffle_f32x4::<0x88>(c, g));
            block[8 + j] = proven!(_mm512_shuffle_f32x4::<0xDD>(a, e));
            block[12 + j] = proven!(_mm512_shuffle_f32x4::<0xDD>(c, g));
        }
    }
}

/// The mask of the first `n` of 16 lanes.
#[inline(always)]
fn mask16(n: usize) -> u16 {
    ((1u32 << n.min(16)) - 1) as u16
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Out {
        // SAFETY: `self` proves that the processor has the features of the callee.
        unsafe { call_avx2(self, kernel) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        proven!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, src: &[f32]) -> __m256 {
        let src = &src[..8];
        // SAFETY: 8 elements were just checked; the load needs no alignment.
        unsafe { _mm256_loadu_ps(src.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, dst: &mut [f32], v: __m256) {
        let dst = &mut dst[..8];
        // SAFETY: 8 elements were just checked; the store needs no alignment.
        unsafe { _mm256_storeu_ps(dst.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn load_part(self, src: &[f32]) -> __m256 {
        let mut full = [0.0; 8];
        full.iter_mut().zip(src).for_each(|(f, &s)| *f = s);
        self.load(&full)
    }
    #[inline(always)]
    fn store_part(self, dst: &mut [f32], v: __m256) {
        let mut full = [0.0; 8];
        self.store(&mut full, v);
        dst.iter_mut().zip(full).for_each(|(d, x)| *d = x);
    }
    #[inline(always)]
    fn load_bf16(self, src: &[u16]) -> __m256 {
        let src = &src[..8];
        // SAFETY: 8 elements were just checked; the load needs no alignment.
        let half = unsafe { _mm_loadu_si128(src.as_ptr().cast()) };
        proven!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(half))))
    }
    #[inline(always)]
    fn load_f16(self, src: &[u16]) -> __m256 {
        let src = &src[..8];
        // SAFETY: 8 elements were just checked; the load needs no alignment.
        let half = unsafe { _mm_loadu_si128(src.as_ptr().cast()) };
        proven!(_mm256_cvtph_ps(half))
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        proven!(_mm256_sqrt_ps(a))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        proven!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        proven!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn scale2(self, a: __m256, n: __m256) -> __m256 {
        // In two steps: 2^128 has no bit pattern of its own.
        let whole = proven!(_mm256_cvtps_epi32(n));
        let half = proven!(_mm256_srai_epi32::<1>(whole));
        let rest = proven!(_mm256_sub_epi32(whole, half));
        let bias = proven!(_mm256_set1_epi32(127));
        let low = proven!(_mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias)));
        let high = proven!(_mm256_slli_epi32::<23>(_mm256_add_epi32(rest, bias)));
        self.mul(self.mul(a, proven!(_mm256_castsi256_ps(low))), proven!(_mm256_castsi256_ps(high)))
    }
    #[inline(always)]
    fn if_less(self, a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        proven!(_mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)))
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        let four = proven!(_mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a)));
        let two = proven!(_mm_add_ps(four, _mm_movehl_ps(four, four)));
        proven!(_mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two))))
    }
    #[inline(always)]
    fn max_lane(self, a: __m256) -> f32 {
        let four = proven!(_mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a)));
        let two = proven!(_mm_max_ps(four, _mm_movehl_ps(four, four)));
        proven!(_mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two))))
    }
    #[inline(always)]
    fn prefetch(self, address: *const f32) {
        proven!(_mm_prefetch::<_MM_HINT_T0>(address.cast()))
    }
    #[inline(always)]
    fn prefetch_far(self, address: *const f32) {
        proven!(_mm_prefetch::<_MM_HINT_T1>(address.cast()))
    }
    #[inline(always)]
    fn transpose(self, block: &mut [__m256; MAX_LANES]) {
        let b = *block;
        let mut t = b;
        for i in 0..2 {
            let [r0, r1, r2, r3] = [b[4 * i], b[4 * i + 1], b[4 * i + 2], b[4 * i + 3]];
            let low01 = proven!(_mm256_unpacklo_ps(r0, r1));
            let high01 = proven!(_mm256_unpackhi_ps(r0, r1));
            let low23 = proven!(_mm256_unpacklo_ps(r2, r3));
            let high23 = proven!(_mm256_unpackhi_ps(r2, r3));
            t[4 * i] = proven!(_mm256_shuffle_ps::<0x44>(low01, low23));
            t[4 * i + 1] = proven!(_mm256_shuffle_ps::<0xEE>(low01, low23));
            t[4 * i + 2] = proven!(_mm256_shuffle_ps::<0x44>(high01, high23));
            t[4 * i + 3] = proven!(_mm256_shuffle_ps::<0xEE>(high01, high23));
        }
        for j in 0..4 {
            block[j] = proven!(_mm256_permute2f128_ps::<0x20>(t[j], t[4 + j]));
            block[4 + j] = proven!(_mm256_permute2f128_ps::<0x31>(t[j], t[4 + j]));
        }
    }
}
