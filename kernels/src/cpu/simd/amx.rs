//! Intel's matrix instructions (AMX) for bf16: tiles of 16 rows of 64 bytes, multiplied and added in f32.
//!
//! A panel is a row of pairs of tiles, one pair for each 32 terms of the sums: 2 x 16 rows of 32 bf16 of the left
//! operand, or 16 pairs of terms by 2 x 16 columns of the right one. Panels are kept as 32-bit words, two bf16 each.

use core::arch::asm;
use core::arch::x86_64::*;
use std::sync::OnceLock;

use super::x86::Avx512;

/// Rows of a pair of tiles, and columns.
pub const SIDE: usize = 32;
/// Terms of the sums that one step adds.
pub const TERMS: usize = 32;
/// 32-bit words of a tile.
pub const TILE: usize = 16 * 16;
/// 32-bit words of a pair of tiles.
pub const PAIR: usize = 2 * TILE;

/// The sums of a block of `SIDE` x `SIDE`, tile by tile: left above, right above, left below, right below.
#[repr(C, align(64))]
pub struct Sums(pub [[[f32; 16]; 16]; 4]);

impl Default for Sums {
    fn default() -> Sums {
        Sums([[[0.0; 16]; 16]; 4])
    }
}

/// Sixteen 32-bit words, of two bf16 each.
pub type Words = __m512i;

/// Proof that the processor has AVX-512 with bf16, and AMX with bf16 which the system lets this process use.
#[derive(Clone, Copy, Debug)]
pub struct Amx(Avx512);

impl Amx {
    /// The proof, where it holds.
    pub fn detect() -> Option<Amx> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        let avx512 = Avx512::detect()?;
        FOUND.get_or_init(|| offered() && allowed()).then_some(Amx(avx512))
    }

    /// The vectors that the processor has as well.
    pub fn avx512(self) -> Avx512 {
        self.0
    }

    /// Runs `kernel`, which packs panels, compiled with these instructions.
    pub fn run<K: PackKernel>(self, kernel: K) {
        // SAFETY: `self` proves that the processor has the features of `run_pack`.
        unsafe { run_pack(self, kernel) }
    }

    /// sums = Σ_steps left (32 x 32) · right (32 x 32), from panels of `steps` pairs of tiles each.
    pub fn multiply(self, left: &[f32], right: &[f32], steps: usize, sums: &mut Sums) {
        assert!(left.len() >= steps * PAIR && right.len() >= steps * PAIR);
        if steps == 0 {
            *sums = Sums::default();
            return;
        }
        // SAFETY: `self` proves that the instructions exist and may be used. Each step reads PAIR words of both
        // panels, which were just checked; what is written are the four tiles of `sums`. All tile registers are
        // named as overwritten, and are released at the end.
        unsafe {
            asm!(
                "ldtilecfg [{shape}]",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{left} + {line}*1]",
                "tileloadd tmm6, [{right} + {line}*1]",
                "tileloadd tmm7, [{right} + {line}*1 + 1024]",
                "tileloadd tmm5, [{left} + {line}*1 + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {left}, 2048",
                "add {right}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{sums} + {line}*1], tmm0",
                "tilestored [{sums} + {line}*1 + 1024], tmm1",
                "tilestored [{sums} + {line}*1 + 2048], tmm2",
                "tilestored [{sums} + {line}*1 + 3072], tmm3",
                "tilerelease",
                shape = in(reg) &raw const SHAPE,
                left = inout(reg) left.as_ptr() => _,
                right = inout(reg) right.as_ptr() => _,
                sums = in(reg) sums.0.as_mut_ptr(),
                line = in(reg) 64usize,
                steps = inout(reg) steps => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    /// 16 and 16 f32 rounded to bf16, to the nearest, ties to even.
    #[inline(always)]
    pub fn narrow(self, low: &[f32; 16], high: &[f32; 16]) -> Words {
        // SAFETY: `self` proves the feature, and the arrays have the elements that are read.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(low.as_ptr()), _mm512_loadu_ps(high.as_ptr()));
            bits(_mm512_cvtne2ps_pbh(high, low))
        }
    }

    /// 16 and 16 f16 rounded to bf16.
    #[inline(always)]
    pub fn narrow_f16(self, low: &[u16; 16], high: &[u16; 16]) -> Words {
        // SAFETY: `self` proves the feature, and the arrays have the elements that are read.
        unsafe {
            let low = _mm512_cvtph_ps(_mm256_loadu_si256(low.as_ptr().cast()));
            let high = _mm512_cvtph_ps(_mm256_loadu_si256(high.as_ptr().cast()));
            bits(_mm512_cvtne2ps_pbh(high, low))
        }
    }

    /// 16 and 16 bf16 as they are.
    #[inline(always)]
    pub fn load(self, low: &[u16; 16], high: &[u16; 16]) -> Words {
        // SAFETY: `self` proves the feature, and the arrays have the elements that are read.
        unsafe {
            let low = _mm256_loadu_si256(low.as_ptr().cast());
            let high = _mm256_loadu_si256(high.as_ptr().cast());
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
        }
    }

    /// Word i: element i and element 16 + i.
    #[inline(always)]
    pub fn pair(self, both: Words) -> Words {
        const ORDER: [u16; 32] = {
            let mut order = [0; 32];
            let mut i = 0;
            while i < 32 {
                order[i] = (i / 2 + 16 * (i % 2)) as u16;
                i += 1;
            }
            order
        };
        // SAFETY: `self` proves the feature.
        unsafe { _mm512_permutexvar_epi16(_mm512_loadu_si512(ORDER.as_ptr().cast()), both) }
    }

    /// Writes a row of a tile.
    #[inline(always)]
    pub fn store(self, dst: &mut [f32; 16], words: Words) {
        // SAFETY: `self` proves the feature, and the array has the 16 words that are written.
        unsafe { _mm512_storeu_si512(dst.as_mut_ptr().cast(), words) }
    }

    /// Sixteen words as a vector, whose lanes may be moved but not computed with.
    #[inline(always)]
    pub fn lanes(self, words: Words) -> __m512 {
        // SAFETY: `self` proves the feature.
        unsafe { _mm512_castsi512_ps(words) }
    }

    /// And back.
    #[inline(always)]
    pub fn words(self, lanes: __m512) -> Words {
        // SAFETY: `self` proves the feature.
        unsafe { _mm512_castps_si512(lanes) }
    }
}

/// Work compiled with AVX-512 and its bf16; `run` and all it calls must be `#[inline(always)]`.
pub trait PackKernel {
    /// The work.
    fn run(self, amx: Amx);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
fn run_pack<K: PackKernel>(amx: Amx, kernel: K) {
    kernel.run(amx);
}

#[inline(always)]
fn bits(pairs: __m512bh) -> Words {
    // SAFETY: both are 64 bytes without any meaning of their own.
    unsafe { core::mem::transmute(pairs) }
}

/// What `ldtilecfg` reads: palette 1, and eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Shape([u8; 64]);

static SHAPE: Shape = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64;
        bytes[48 + tile] = 16;
        tile += 1;
    }
    Shape(bytes)
};

/// Whether the processor has the instructions.
fn offered() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    let leaf = __cpuid_count(7, 0).edx;
    is_x86_feature_detected!("avx512bf16") && leaf & BF16 != 0 && leaf & TILE != 0
}

/// Asks Linux for the tiles' place in the state of this process's threads, which is not given unasked.
#[cfg(target_os = "linux")]
fn allowed() -> bool {
    const ARCH_PRCTL: usize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XFEATURE_XTILEDATA: usize = 18;
    let mut answer = ARCH_PRCTL;
    // SAFETY: a system call of two numbers, which touches no memory of ours; Linux overwrites rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inout("rax") answer,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    answer == 0
}

/// Elsewhere the tiles have not been tried.
#[cfg(not(target_os = "linux"))]
fn allowed() -> bool {
    false
}
