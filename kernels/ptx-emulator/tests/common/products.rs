//! A `wgmma` around which tests differ: multiplicands placed by hand in every layout of the PTX ISA.
#![allow(dead_code)]

use half::bf16;

pub const N_MAX: usize = 256;

/// How a multiplicand lies in shared memory.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    /// Rows of 128 bytes: 64 of k.
    K128,
    K64,
    K32,
    KPlain,
    /// Rows of 128 bytes: 64 of m or n.
    Mn128,
    Mn64,
    Mn32,
    MnPlain,
}

impl Layout {
    /// Byte offset of element (row of m or n, k), from the figures: chunks of 16 bytes are
    /// permuted inside patterns of 8 rows, 4 pairs of rows, 2 fours of rows.
    pub fn place(self, row: usize, k: usize) -> usize {
        let inside = |element: usize| 2 * (element % 8);
        match self {
            Self::K128 => (row / 8) * 1024 + row % 8 * 128 + ((k / 8) ^ (row % 8)) * 16 + inside(k),
            Self::K64 => {
                (row / 8) * 512 + row % 8 * 64 + ((k / 8) ^ (row % 8 / 2)) * 16 + inside(k)
            }
            Self::K32 => {
                (row / 8) * 256 + row % 8 * 32 + ((k / 8) ^ (row % 8 / 4)) * 16 + inside(k)
            }
            // 8 x 8 blocks of 128 bytes, those of one k after another.
            Self::KPlain => (row / 8) * 128 + row % 8 * 16 + (k / 8) * 4096 + inside(k),
            Self::Mn128 => {
                let chunk = (row % 64 / 8) ^ (k % 8);
                (row / 64) * 4096 + (k / 8) * 1024 + k % 8 * 128 + chunk * 16 + inside(row)
            }
            Self::Mn64 => {
                let chunk = (row % 32 / 8) ^ (k % 8 / 2);
                (row / 32) * 2048 + (k / 8) * 512 + k % 8 * 64 + chunk * 16 + inside(row)
            }
            Self::Mn32 => {
                let chunk = (row % 16 / 8) ^ (k % 8 / 4);
                (row / 16) * 1024 + (k / 8) * 256 + k % 8 * 32 + chunk * 16 + inside(row)
            }
            Self::MnPlain => (row / 8) * 128 + (k / 8) * 4096 + k % 8 * 16 + inside(row),
        }
    }

    /// Leading and stride byte offset, swizzle mode.
    fn offsets(self) -> (u64, u64, u64) {
        match self {
            Self::K128 => (16, 1024, 1),
            Self::K64 => (16, 512, 2),
            Self::K32 => (16, 256, 3),
            Self::KPlain => (4096, 128, 0),
            Self::Mn128 => (4096, 1024, 1),
            Self::Mn64 => (2048, 512, 2),
            Self::Mn32 => (1024, 256, 3),
            Self::MnPlain => (4096, 128, 0),
        }
    }

    pub fn is_mn(self) -> bool {
        matches!(self, Self::Mn128 | Self::Mn64 | Self::Mn32 | Self::MnPlain)
    }

    /// The descriptor's constant part; the start is added by the kernel.
    pub fn descriptor(self, start: u64) -> u64 {
        let (leading, stride, mode) = self.offsets();
        start >> 4 | (leading >> 4) << 16 | (stride >> 4) << 32 | mode << 62
    }
}

/// Where B begins in shared memory.
pub const B_AT: usize = 16384;

/// A function of two indices.
pub type Element<'a> = &'a dyn Fn(usize, usize) -> f32;

/// Shared memory with A (m, k) at 0 and B (k, n) at `B_AT`, both from `first_k` of their rows on.
pub fn image(
    left: Layout,
    right: Layout,
    n: usize,
    first_k: usize,
    [a, b]: [Element; 2],
) -> Vec<u16> {
    let mut image = vec![0x7FFF_u16; 32768];
    let bits = |x: f32| bf16::from_f32(x).to_bits();
    for k in 0..16 {
        for m in 0..64 {
            image[left.place(m, first_k + k) / 2] = bits(a(m, k));
        }
        for column in 0..n {
            image[(B_AT + right.place(column, first_k + k)) / 2] = bits(b(k, column));
        }
    }
    image
}

pub fn list(stem: &str, count: usize) -> String {
    let names: Vec<String> = (0..count).map(|i| format!("%{stem}{i}")).collect();
    format!("{{{}}}", names.join(", "))
}

/// Copies 64 KiB into shared memory, multiplies, stores the accumulators. `{…}` are places that
/// tests change.
pub fn body(n: usize, operands: &str) -> String {
    let count = n / 2;
    let stores: String =
        (0..count).map(|i| format!("st.global.f32 [%w1+{}], %acc{i};\n", 4 * i)).collect();
    let loads: String =
        (0..count).map(|i| format!("ld.global.f32 %acc{i}, [%w2+{}];\n", 4 * i)).collect();
    format!(
        "
        .reg .f32 %acc<{count}>; .reg .b32 %x<4>;
        mov.u32 %t0, tile; mad.lo.u32 %t0, %lane, 16, %t0; mad.wide.u32 %w0, %lane, 16, %in;
        mov.u32 %t1, 0;
    COPY:
        ld.global.v4.u32 {{%a, %b, %c, %d}}, [%w0];
        st.shared.v4.u32 [%t0], {{%a, %b, %c, %d}};
        add.u32 %t0, %t0, 2048; add.u64 %w0, %w0, 2048;
        add.u32 %t1, %t1, 1; setp.lt.u32 %p, %t1, 32;
        @%p bra COPY;
        fence.proxy.async.shared::cta;
        bar.sync 0;
        mul.wide.u32 %w2, %lane, {bytes}; add.u64 %w2, %w2, 65536; add.u64 %w2, %w2, %in;
        {loads}
        setp.ne.u32 %s, %lane, 9999;
        wgmma.fence.sync.aligned;
        wgmma.mma_async.sync.aligned.m64n{n}k16.f32.bf16.bf16 {d}, {operands};
        wgmma.commit_group.sync.aligned;
        wgmma.wait_group.sync.aligned 0;
        mul.wide.u32 %w1, %lane, {bytes}; add.u64 %w1, %w1, %out;
        {stores}",
        bytes = 4 * count,
        d = list("acc", count),
    )
}

/// Row and column of accumulator `i` of thread `thread`: figure 155 of the ISA (9.0).
pub fn position(thread: usize, i: usize) -> (usize, usize) {
    let row = 16 * (thread / 32) + thread % 32 / 4 + if i % 4 >= 2 { 8 } else { 0 };
    (row, 8 * (i / 4) + 2 * (thread % 4) + i % 2)
}

pub fn shared_operands(left: Layout, right: Layout, k: u64) -> String {
    // The next sixteen of k: 32 bytes on in a row, or the next rows.
    let start = |layout: Layout, base: u64| match layout {
        Layout::K128 | Layout::K64 => layout.descriptor(base + 2 * k),
        Layout::Mn128 => layout.descriptor(base + 128 * k),
        _ => layout.descriptor(base),
    };
    let (left_at, right_at) = (start(left, 0), start(right, B_AT as u64));
    let [ta, tb] = [left, right].map(|layout| u32::from(layout.is_mn()));
    format!("{left_at}, {right_at}, %s, 1, 1, {ta}, {tb}")
}

pub const LAYOUTS: [Layout; 8] = [
    Layout::K128,
    Layout::K64,
    Layout::K32,
    Layout::KPlain,
    Layout::Mn128,
    Layout::Mn64,
    Layout::Mn32,
    Layout::MnPlain,
];
