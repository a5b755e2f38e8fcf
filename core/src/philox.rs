//! Philox 4x32-10: random numbers as a pure function of integers (Salmon et al., "Parallel random
//! numbers: as easy as 1, 2, 3", SC 2011). No state to save: the same (seed, stream, step, index)
//! gives the same number on every device, in every thread, after every resume.

/// What a stream of random numbers is for. The low half may be numbered by the user of the stream
/// (a layer, a module), so that no two purposes share numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(pub u32);

impl Stream {
    /// Initial values of trained parameters; `part` is the parameter's number.
    pub const fn init(part: u16) -> Stream {
        Stream(0x0001_0000 | part as u32)
    }
    /// The order of rows in an epoch.
    pub const SHUFFLE: Stream = Stream(0x0002_0000);
    /// Dropout; `part` is the module's number.
    pub const fn dropout(part: u16) -> Stream {
        Stream(0x0003_0000 | part as u32)
    }
    /// Sampling of new tokens.
    pub const SAMPLE: Stream = Stream(0x0004_0000);
    /// Splitting data into training and validation rows.
    pub const SPLIT: Stream = Stream(0x0005_0000);
    /// Mixing data sets, drawing templates and exemplars.
    pub const MIX: Stream = Stream(0x0006_0000);
    /// Data made by a generator.
    pub const GENERATE: Stream = Stream(0x0007_0000);
    /// Random rounding of parameters.
    pub const ROUND: Stream = Stream(0x0009_0000);
    /// Resampling in statistics.
    pub const BOOTSTRAP: Stream = Stream(0x0008_0000);
}

/// A counter-based generator: a key and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
    stream: u32,
}

impl Philox {
    /// The generator of one purpose under one seed.
    pub const fn new(seed: u64, stream: Stream) -> Philox {
        Philox { key: [seed as u32, (seed >> 32) as u32], stream: stream.0 }
    }

    /// Four random words for (step, index).
    pub fn block(&self, step: u32, index: u64) -> [u32; 4] {
        philox4x32_10([index as u32, (index >> 32) as u32, step, self.stream], self.key)
    }

    /// One random word for (step, index).
    pub fn word(&self, step: u32, index: u64) -> u32 {
        self.block(step, index / 4)[(index % 4) as usize]
    }

    /// Uniform in [0, 1), with 24 random bits.
    pub fn uniform(&self, step: u32, index: u64) -> f32 {
        unit_f32(self.word(step, index))
    }

    /// Uniform in `0..n` (n > 0), without bias worth measuring: 64 random bits times n, high part.
    pub fn below(&self, step: u32, index: u64, n: u64) -> u64 {
        let [a, b, _, _] = self.block(step, index);
        let word = (u64::from(a) << 32) | u64::from(b);
        ((u128::from(word) * u128::from(n)) >> 64) as u64
    }

    /// Standard normal (Box-Muller on two words).
    pub fn normal(&self, step: u32, index: u64) -> f32 {
        let [a, b, _, _] = self.block(step, index);
        // u in (0, 1]: the logarithm stays finite.
        let u = (f64::from(a) + 1.0) / 4_294_967_296.0;
        let v = f64::from(b) / 4_294_967_296.0;
        let radius = libm::sqrt(-2.0 * libm::log(u));
        (radius * libm::cos(2.0 * core::f64::consts::PI * v)) as f32
    }

    /// Shuffles `items` in place (Fisher-Yates); `step` tells one shuffle from another (the epoch).
    pub fn shuffle<T>(&self, step: u32, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(step, i as u64, i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }
}

/// A word as a float in [0, 1): its upper 24 bits.
pub fn unit_f32(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// The bare function: ten rounds of two 32x32 multiplications.
pub fn philox4x32_10(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = u64::from(c[0]) * 0xD251_1F53;
        let p1 = u64::from(c[2]) * 0xCD9E_8D57;
        c = [
            (p1 >> 32) as u32 ^ c[1] ^ k[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ c[3] ^ k[1],
            p0 as u32,
        ];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the reference implementation (Random123, kat_vectors).
    #[test]
    fn known_answers() {
        assert_eq!(
            philox4x32_10([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32_10([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32_10(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn moments_of_the_normal() {
        let p = Philox::new(7, Stream::init(0));
        let n = 20_000;
        let (mut sum, mut square) = (0.0f64, 0.0f64);
        for i in 0..n {
            let x = f64::from(p.normal(0, i));
            sum += x;
            square += x * x;
        }
        assert!((sum / n as f64).abs() < 0.03);
        assert!((square / n as f64 - 1.0).abs() < 0.05);
    }

    #[test]
    fn shuffle_is_a_permutation_and_depends_on_the_epoch() {
        let p = Philox::new(1, Stream::SHUFFLE);
        let mut a: [u32; 50] = core::array::from_fn(|i| i as u32);
        let mut b = a;
        p.shuffle(0, &mut a);
        p.shuffle(1, &mut b);
        assert_ne!(a, b);
        a.sort_unstable();
        assert_eq!(a, core::array::from_fn(|i| i as u32));
    }
}
